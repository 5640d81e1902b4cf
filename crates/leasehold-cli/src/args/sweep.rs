//! The arguments of `sweep`.

use std::time::Duration;

use clap::Args;

use super::{StoreArg, VerbosityArgs};
use crate::text::duration;

#[derive(Debug, Args)]
pub(crate) struct SweepArgs {
    /// Only records whose retention ended so long ago [default: 0s]
    #[arg(long, value_name = "DUR", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(crate) older_than: Option<Duration>,

    /// Delete this many records at most; the next call deletes the rest
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) limit: u64,

    #[command(flatten)]
    pub(crate) store: StoreArg,

    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
}
