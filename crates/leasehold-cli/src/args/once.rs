//! The arguments of `once`.

use std::time::Duration;

use clap::Args;

use super::RunArgs;
use crate::text::duration;

#[derive(Debug, Args)]
pub(crate) struct OnceArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,

    #[command(flatten)]
    pub(crate) memory: Memory,
}

/// For how long a run is remembered, and what of it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Once")]
pub(crate) struct Memory {
    #[command(flatten)]
    pub(crate) period: Period,

    /// By how much the hosts may start it early or late [default: a quarter of --every, at most 5m]
    #[arg(long, value_name = "DUR", value_parser = duration::parse, allow_hyphen_values = true)]
    #[arg(conflicts_with = "keep")]
    pub(crate) tolerance: Option<Duration>,

    /// Keep what the command prints, and print what the run that did it has printed; end with its code
    #[arg(long)]
    pub(crate) replay: bool,

    /// Remember a command that fails, too, and end with its code
    #[arg(long)]
    pub(crate) remember_failures: bool,
}

/// How long: one of the two.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Period {
    /// Run it once in each such period, as cron does on many hosts: it is remembered for this long, less the tolerance
    #[arg(long, value_name = "DUR", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(crate) every: Option<Duration>,

    /// Remember a run for this long, counted from its beginning
    #[arg(long, value_name = "DUR", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(crate) keep: Option<Duration>,
}
