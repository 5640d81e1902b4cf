//! The arguments of `ls` and `show`.

use clap::Args;

use super::{StoreArg, VerbosityArgs};

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Only names that begin with this
    ///
    /// A table is read in whole all the same, unless its store URL has `sort_after`, and this has that character: then one
    /// partition of it is read.
    pub(crate) prefix: Option<String>,

    /// Only locks that are held now: not those whose lease has run out
    #[arg(long, conflicts_with = "all")]
    pub(crate) held: bool,

    /// Also list free locks whose records still exist
    #[arg(short = 'a', long)]
    pub(crate) all: bool,

    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) store: StoreArg,

    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The name of the lock
    pub(crate) name: String,

    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) store: StoreArg,

    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
}
