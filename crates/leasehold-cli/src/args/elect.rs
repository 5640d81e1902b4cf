//! The arguments of `elect`.

use std::time::Duration;

use clap::Args;

use super::{LockArgs, StopArgs, StoreArg, VerbosityArgs, What};
use crate::text::duration;

#[derive(Debug, Args)]
#[command(mut_arg("data", |data| data
    .help("A text in the record during a term, such as the leader's address; `leasehold watch` shows it")))]
#[command(mut_arg("call_timeout", |timeout| timeout
    .help("Warn and try again when all requests have failed for this long [default: 10s]")))]
#[command(mut_arg("grace", |grace| grace
    .help("How long the command has between --signal and KILL after a lost term or --max-hold \
        [default: 5s, or less if --lease is too short]")))]
pub(crate) struct ElectArgs {
    /// The name of the election, which is that of a lock: 1 to 1024 bytes
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) what: What,

    /// End after one term, with the command's code
    #[arg(long)]
    pub(crate) once: bool,

    #[command(flatten)]
    pub(crate) lock: LockArgs,

    /// Stop the command after this long, which ends the term
    #[arg(long, value_name = "DUR", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(crate) max_hold: Option<Duration>,

    #[command(flatten)]
    pub(crate) stop: StopArgs,

    #[command(flatten)]
    pub(crate) store: StoreArg,

    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
}
