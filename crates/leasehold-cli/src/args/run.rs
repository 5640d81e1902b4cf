//! The arguments of `run`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use rustix::process::Signal;

use super::{LockArgs, SlotArgs, StoreArg, VerbosityArgs, WaitArgs};
use crate::process;
use crate::text::duration;

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The name of the lock, 1 to 1024 bytes
    pub(crate) name: String,

    /// Another lock, repeated for more: all of them or none
    #[arg(short = 'k', long = "key", value_name = "NAME")]
    pub(crate) keys: Vec<String>,

    #[command(flatten)]
    pub(crate) what: What,

    #[command(flatten)]
    pub(crate) wait: WaitArgs,

    #[command(flatten)]
    pub(crate) slots: SlotArgs,

    #[command(flatten)]
    pub(crate) lock: LockArgs,

    #[command(flatten)]
    pub(crate) hold: HoldArgs,

    #[command(flatten)]
    pub(crate) stop: StopArgs,

    #[command(flatten)]
    pub(crate) child: ChildArgs,

    #[command(flatten)]
    pub(crate) store: StoreArg,

    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,

    /// Write a JSON object about the run to this file at the end, acquired or not
    ///
    /// Only an invalid command line (64) writes none. A file that cannot be written is a warning, and does not change the
    /// exit code.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
}

/// The command: one of the two.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct What {
    /// Run a line with /bin/sh instead of a command
    #[arg(short = 'c', long = "command", value_name = "LINE")]
    pub(crate) line: Option<OsString>,

    /// The command with its arguments, run without a shell
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// How long the lock is held.
#[derive(Debug, Args)]
#[command(next_help_heading = "Lock")]
pub(crate) struct HoldArgs {
    /// Keep the lock at least this long, even if the command ends earlier: for cron jobs on hosts
    /// whose clocks disagree
    #[arg(long, value_name = "DUR", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(crate) hold_at_least: Option<Duration>,

    /// Stop the command after this long, and end with 124
    #[arg(long, value_name = "DUR", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(crate) max_hold: Option<Duration>,
}

/// How the command is stopped.
#[derive(Debug, Args)]
#[command(next_help_heading = "Command")]
pub(crate) struct StopArgs {
    /// How long the command has between --signal and KILL after a lost lock or --max-hold
    /// [default: 5s, or less if --lease is too short]
    #[arg(long, value_name = "DUR", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(crate) grace: Option<Duration>,

    /// The signal that stops the command
    #[arg(long, value_name = "NAME", default_value = "TERM", value_parser = signal)]
    pub(crate) signal: Signal,
}

/// When the command is stopped, and what is waited for.
#[derive(Debug, Args)]
#[command(next_help_heading = "Command")]
pub(crate) struct ChildArgs {
    /// What to do when the lock is lost
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = OnLost::Kill)]
    pub(crate) on_lost: OnLost,

    /// Release the lock when the command ends, even if processes that it started run on
    #[arg(long)]
    pub(crate) detach_ok: bool,
}

/// What to do when the lock is lost while the command runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum OnLost {
    /// Stop the command, and end with 76
    Kill,
    /// Warn, and let it run on without the lock
    Warn,
}

fn signal(name: &str) -> Result<Signal, String> {
    process::named(name).ok_or_else(|| {
        "unknown signal\nhint: use a name such as `TERM`, `INT` or `KILL`".to_owned()
    })
}
