//! The definition of the command line and its help.
//!
//! The arguments are raw; [`plan`](crate::plan) resolves them. Each verb has its file; [`lock`] has the options of
//! every verb that acquires a lock, and [`usage`] the errors.

mod doctor;
mod elect;
mod force;
mod forget;
mod generate;
mod grant;
mod hold;
mod init;
mod lock;
mod look;
mod once;
mod policy;
mod run;
mod sweep;
mod top;
mod usage;
mod watch;

use std::ffi::OsString;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

pub(crate) use self::doctor::DoctorArgs;
pub(crate) use self::elect::ElectArgs;
pub(crate) use self::force::ForceArgs;
pub(crate) use self::forget::ForgetArgs;
pub(crate) use self::generate::{CompletionsArgs, ManArgs};
pub(crate) use self::grant::{AcquireArgs, IdArg, Output, ReleaseArgs, RenewArgs};
pub(crate) use self::hold::HoldArgs;
pub(crate) use self::init::{InitArgs, Tool};
pub(crate) use self::lock::{LockArgs, SlotArgs, WaitArgs};
pub(crate) use self::look::{LsArgs, ShowArgs};
pub(crate) use self::once::{Memory, OnceArgs};
pub(crate) use self::run::{OnLost, RunArgs, StopArgs, What};
pub(crate) use self::sweep::SweepArgs;
pub(crate) use self::top::TopArgs;
pub(crate) use self::usage::{Stop, parse};
pub(crate) use self::watch::WatchArgs;
use crate::help;
use crate::messages::Verbosity;
use crate::store::url::Location;

/// Run a command under a distributed lock
#[derive(Debug, Parser)]
#[command(
    name = "leasehold",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
#[command(after_help = "Without --store, locks are in a SQLite file of this machine.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a command under a lock
    #[command(after_long_help = help::RUN)]
    Run(Box<RunArgs>),
    /// Run a command once, and remember that: for cron on many hosts
    #[command(after_long_help = help::ONCE)]
    #[command(mut_arg("conflict_exit_code", |arg| arg.help("End with this code instead of 0 when the work is done already")))]
    #[command(mut_arg("hold_at_least", |arg| arg.hide(true)))]
    #[command(mut_arg("keys", |arg| arg.hide(true)))]
    Once(Box<OnceArgs>),
    /// Let the work of a name run again
    #[command(after_long_help = help::FORGET)]
    Forget(ForgetArgs),
    /// Stand for election, and run a command for each term won
    #[command(after_long_help = help::ELECT)]
    Elect(Box<ElectArgs>),
    /// Acquire a lock and return: it stays held without a process
    #[command(after_long_help = help::ACQUIRE)]
    Acquire(Box<AcquireArgs>),
    /// Renew an acquired lock by its id
    #[command(after_long_help = help::BY_ID)]
    Renew(RenewArgs),
    /// Release an acquired lock by its id
    #[command(after_long_help = help::BY_ID)]
    Release(ReleaseArgs),
    /// Hold a lock until a signal
    #[command(after_long_help = help::HOLD)]
    Hold(Box<HoldArgs>),
    /// End the grant of a stuck holder
    #[command(after_long_help = help::FORCE)]
    ForceRelease(ForceArgs),
    /// List locks with holder, start and end
    #[command(after_long_help = help::LOOK)]
    Ls(LsArgs),
    /// Show one lock
    #[command(after_long_help = help::LOOK)]
    Show(ShowArgs),
    /// Write a line for each change of locks
    #[command(after_long_help = help::WATCH)]
    Watch(WatchArgs),
    /// Show locks, leases and what happens to them on a live screen
    #[command(after_long_help = help::TOP)]
    Top(TopArgs),
    /// Create the file or table for the locks, or print the table's definition
    #[command(after_long_help = help::INIT)]
    Init(InitArgs),
    /// Check the store and the way to it, and say what to do
    #[command(after_long_help = help::DOCTOR)]
    Doctor(DoctorArgs),
    /// Delete the records past their retention of a table without TTL
    #[command(after_long_help = help::SWEEP)]
    Sweep(SweepArgs),
    /// Print the completions for a shell
    #[command(after_long_help = help::COMPLETIONS)]
    Completions(CompletionsArgs),
    /// Print a manual page, or write all of them
    #[command(after_long_help = help::MAN)]
    Man(ManArgs),
}

impl Verb {
    /// The verbosity that was asked for.
    pub(crate) fn verbosity(&self) -> VerbosityArgs {
        match self {
            Verb::Run(args) => args.verbosity,
            Verb::Once(args) => args.run.verbosity,
            Verb::Forget(args) => args.verbosity,
            Verb::Elect(args) => args.verbosity,
            Verb::Acquire(args) => args.verbosity,
            Verb::Renew(args) => args.verbosity,
            Verb::Release(args) => args.verbosity,
            Verb::Hold(args) => args.verbosity,
            Verb::ForceRelease(args) => args.verbosity,
            Verb::Ls(args) => args.verbosity,
            Verb::Show(args) => args.verbosity,
            Verb::Watch(args) => args.verbosity,
            Verb::Init(args) => args.verbosity,
            Verb::Doctor(args) => args.verbosity,
            Verb::Sweep(args) => args.verbosity,
            // A message would be in the middle of the screen.
            Verb::Top(_) => VerbosityArgs {
                quiet: true,
                verbose: false,
            },
            Verb::Completions(_) | Verb::Man(_) => VerbosityArgs::default(),
        }
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Store")]
pub(crate) struct StoreArg {
    /// The store of the locks: sqlite:PATH or dynamodb://TABLE[?region=…&endpoint=…&profile=…]
    /// [default: a SQLite file in your state directory]
    ///
    /// `~/` before a PATH is your home.
    ///
    /// Of a table with other items, the URL names the keys: `key=PK`, a text before every name by `prefix=LOCK%23`,
    /// the TTL by `ttl=NAME`, and a sort key by `sort=SK`. That has `sort_value=LOCK`, or `sort_after=/` where a
    /// lock's name is split there. `mrsc=true` says that the table is one of multi-Region strong consistency.
    ///
    /// The credentials of `profile` come before those of the environment. The region is that of the URL, else AWS_REGION, else
    /// the profile's.
    #[arg(
        long,
        value_name = "URL",
        env = "LEASEHOLD_STORE",
        hide_env_values = true
    )]
    #[arg(value_parser = OsStringValueParser::new().try_map(|url: OsString| Location::parse(&url)))]
    pub(crate) store: Option<Location>,
}

#[derive(Clone, Copy, Default, Debug, Args)]
#[command(next_help_heading = "Messages")]
pub(crate) struct VerbosityArgs {
    /// Write only errors
    #[arg(short = 'q', long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Write every request with its units; of polls while waiting, only those that find a new holder
    #[arg(short = 'v', long)]
    pub(crate) verbose: bool,
}

impl From<VerbosityArgs> for Verbosity {
    fn from(args: VerbosityArgs) -> Self {
        match args {
            VerbosityArgs { quiet: true, .. } => Verbosity::Quiet,
            VerbosityArgs { verbose: true, .. } => Verbosity::Verbose,
            _ => Verbosity::Normal,
        }
    }
}
