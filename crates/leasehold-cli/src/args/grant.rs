//! The arguments of `acquire`, `renew` and `release`: leases that live on without a process.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use leasehold::LeaseId;

use super::{LockArgs, SlotArgs, StoreArg, VerbosityArgs, WaitArgs};
use crate::text::duration;

#[derive(Debug, Args)]
#[command(mut_arg("label", |label| label.help("The holder's label, which others see [default: user@host]")))]
#[command(mut_arg("lease", |lease| lease
    .help("How long the lock stays held unless it is renewed or released [default: 5m]")
    .long_help("How long the lock stays held unless it is renewed or released [default: 5m]\n\nNo process renews it: \
        make it longer than the longest step between two `leasehold renew`.")))]
pub(crate) struct AcquireArgs {
    /// The name of the lock, 1 to 1024 bytes
    pub(crate) name: String,

    /// Another lock, repeated for more: all of them or none
    #[arg(short = 'k', long = "key", value_name = "NAME")]
    pub(crate) keys: Vec<String>,

    /// What to write to standard output: the grant as JSON, only its id, or only its token
    #[arg(short = 'o', long, value_name = "WHAT", value_enum, default_value_t)]
    pub(crate) output: Output,

    /// Write the id to this file, which only you may read, instead of standard output
    ///
    /// An older id of the same lock in it is replaced. Nothing else is overwritten. The ids of several locks are lines.
    #[arg(long, value_name = "FILE")]
    pub(crate) id_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) wait: WaitArgs,

    #[command(flatten)]
    pub(crate) slots: SlotArgs,

    #[command(flatten)]
    pub(crate) lock: LockArgs,

    #[command(flatten)]
    pub(crate) store: StoreArg,

    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
}

/// What `acquire` writes to standard output.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(crate) enum Output {
    /// A JSON object: see below
    #[default]
    Json,
    /// The id, for `renew` and `release`
    Id,
    /// The fencing token
    Token,
}

#[derive(Debug, Args)]
pub(crate) struct RenewArgs {
    /// The name of the lock
    pub(crate) name: String,

    /// Another lock, repeated for more; each has its id
    #[arg(short = 'k', long = "key", value_name = "NAME")]
    pub(crate) keys: Vec<String>,

    #[command(flatten)]
    pub(crate) id: IdArg,

    /// How long the lock stays held from now on, at least [default: as before]
    ///
    /// The end never moves back: a shorter one than before has no effect.
    #[arg(long, value_name = "DUR", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(crate) lease: Option<Duration>,

    #[command(flatten)]
    pub(crate) store: StoreArg,

    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// The name of the lock
    pub(crate) name: String,

    /// Another lock, repeated for more; each has its id
    #[arg(short = 'k', long = "key", value_name = "NAME")]
    pub(crate) keys: Vec<String>,

    #[command(flatten)]
    pub(crate) id: IdArg,

    #[command(flatten)]
    pub(crate) store: StoreArg,

    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
}

/// The id of a grant, or of each of several: one of the two.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct IdArg {
    /// The id that `leasehold acquire` has written; repeated, with each --key
    #[arg(long = "id", value_name = "ID", value_parser = id)]
    pub(crate) ids: Vec<LeaseId>,

    /// The file with the id, of `leasehold acquire --id-file`
    #[arg(long, value_name = "FILE")]
    pub(crate) id_file: Option<PathBuf>,
}

fn id(text: &str) -> Result<LeaseId, String> {
    // A key may end with blanks, but not the ids of most.
    let id = text.parse().or_else(|_| text.trim().parse());
    id.map_err(|_: leasehold::Error| {
        "not an id\nhint: pass the id that `leasehold acquire` has written, unchanged".to_owned()
    })
}
