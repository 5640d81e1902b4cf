//! The arguments of `watch`.

use std::time::Duration;

use clap::Args;

use super::{StoreArg, VerbosityArgs};
use crate::text::duration;

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// The names of the locks [default: every lock of the store]
    pub(crate) names: Vec<String>,

    /// Read the locks this often [default: 1s; 5s for every lock of a table]
    #[arg(long, value_name = "DUR", value_parser = interval, allow_hyphen_values = true)]
    pub(crate) interval: Option<Duration>,

    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) store: StoreArg,

    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
}

/// The shortest interval. A shorter one would be a busy loop of requests.
const LEAST: Duration = Duration::from_millis(10);

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration::parse(text)?;
    if interval < LEAST {
        return Err("shorter than 10ms\nhint: write it as `500ms` or `1s`".to_owned());
    }
    Ok(interval)
}
