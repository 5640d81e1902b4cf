//! The arguments of `forget`.

use clap::Args;

use super::{StoreArg, VerbosityArgs};

#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    /// The name of the work
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) store: StoreArg,

    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
}
