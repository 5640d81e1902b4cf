//! The arguments of `hold`.

use std::time::Duration;

use clap::Args;

use super::{LockArgs, SlotArgs, StoreArg, VerbosityArgs, WaitArgs};
use crate::text::duration;

#[derive(Debug, Args)]
#[command(mut_arg("lease", |lease| lease
    .help("How long the lock stays held if leasehold cannot renew it; it is renewed every third of this [default: 20s]")
    .long_help("How long the lock stays held if leasehold cannot renew it; it is renewed every third of this \
        [default: 20s]\n\nIn a SQLite file the lock is free at once when leasehold dies.")))]
pub(crate) struct HoldArgs {
    /// The name of the lock, 1 to 1024 bytes
    pub(crate) name: String,

    /// Another lock, repeated for more: all of them or none
    #[arg(short = 'k', long = "key", value_name = "NAME")]
    pub(crate) keys: Vec<String>,

    #[command(flatten)]
    pub(crate) wait: WaitArgs,

    #[command(flatten)]
    pub(crate) slots: SlotArgs,

    #[command(flatten)]
    pub(crate) lock: LockArgs,

    /// Release the lock after this long, and end with 124
    #[arg(long, value_name = "DUR", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(crate) max_hold: Option<Duration>,

    #[command(flatten)]
    pub(crate) store: StoreArg,

    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
}
