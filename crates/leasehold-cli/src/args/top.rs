//! The arguments of `top`.

use std::time::Duration;

use clap::Args;

use super::StoreArg;
use crate::text::duration;

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Only names that begin with this
    pub(crate) prefix: Option<String>,

    /// Read the store this often, 100ms or more
    ///
    /// A DynamoDB table is scanned each time, which costs half a read unit for 4 KB of it.
    #[arg(long, value_name = "DUR", default_value = "1s", value_parser = duration::parse)]
    pub(crate) interval: Duration,

    #[command(flatten)]
    pub(crate) store: StoreArg,
}
