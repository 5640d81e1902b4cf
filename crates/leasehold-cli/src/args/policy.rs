//! The options for settings that are rarely changed. They are in the long help only.

use std::time::Duration;

use clap::Args;

use crate::text::duration;

/// Each has the name of the library's setting.
#[derive(Debug, Args)]
#[command(next_help_heading = "Policy")]
pub(crate) struct PolicyArgs {
    /// How long before its end a lease counts as lost, in addition to --grace
    /// [default: the larger of 1s and 5 % of --lease]
    #[arg(long, value_name = "DUR", value_parser = duration::parse, allow_hyphen_values = true, hide_short_help = true)]
    pub(crate) margin: Option<Duration>,

    /// How long a request may take before another one is sent
    /// [default: the smaller of 2s and a sixth of --lease]
    #[arg(long, value_name = "DUR", value_parser = duration::parse, allow_hyphen_values = true, hide_short_help = true)]
    pub(crate) request_timeout: Option<Duration>,

    /// End with 69 when all requests have failed for this long [default: 10s]
    #[arg(long, value_name = "DUR", value_parser = duration::parse, allow_hyphen_values = true, hide_short_help = true)]
    pub(crate) call_timeout: Option<Duration>,

    /// What is added to each published end of a lease, for clients of FSharp.DynamoDbLock
    /// [default: 1s on DynamoDB, else 0s]
    #[arg(long, value_name = "DUR", value_parser = duration::parse_wait, allow_hyphen_values = true, hide_short_help = true)]
    pub(crate) expiry_padding: Option<Duration>,

    /// How long the record, and with it the last token, is kept after its last use [default: 7 days]
    ///
    /// At least 24h: otherwise tokens could fall back.
    #[arg(long, value_name = "DUR", value_parser = duration::parse, allow_hyphen_values = true, hide_short_help = true)]
    pub(crate) retention: Option<Duration>,

    /// At most this many polls a second while waiting [default: 100, in a SQLite file 2000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), hide_short_help = true)]
    pub(crate) max_polls_per_second: Option<u32>,

    /// FSharp.DynamoDbLock uses the table, too: wait by writing, without a place in the queue
    #[arg(long, hide_short_help = true)]
    pub(crate) shared_with_fsharp: bool,
}
