//! The arguments of `force-release`.

use clap::Args;
use leasehold::FencingToken;

use super::{StoreArg, VerbosityArgs};

#[derive(Debug, Args)]
pub(crate) struct ForceArgs {
    /// The name of the lock
    pub(crate) name: String,

    /// The token of the grant or slot to end, as `leasehold show` has it; no other is ended
    #[arg(long, value_name = "N")]
    pub(crate) token: FencingToken,

    /// Why, in one line of at most 256 bytes; it stays in the record, as `leasehold show` has it
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,

    /// Who you are, for others to see [default: user@host]
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,

    #[command(flatten)]
    pub(crate) store: StoreArg,

    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
}
