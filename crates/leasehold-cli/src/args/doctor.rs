//! The arguments of `doctor`.

use clap::Args;

use super::{StoreArg, VerbosityArgs};

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) store: StoreArg,

    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
}
