//! The definition of the command line and its help.
//!
//! The arguments are raw; [`plan`](crate::plan) resolves them. Usage errors end with 64, not with clap's 2, and have
//! a `hint:` line like every other message.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use rustix::process::Signal;

use crate::failure::Failure;
use crate::messages::Verbosity;
use crate::store::url::Location;
use crate::text::duration;
use crate::{exit_codes, help, process};

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
    /// List locks with holder, start and end
    #[command(after_long_help = help::LOOK)]
    Ls(LsArgs),
    /// Show one lock
    #[command(after_long_help = help::LOOK)]
    Show(ShowArgs),
    /// Create the file or table for the locks, or print the table's definition
    #[command(after_long_help = help::INIT)]
    Init(InitArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The name of the lock, 1 to 1024 bytes
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) what: What,

    #[command(flatten)]
    pub(crate) lock: LockArgs,

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

/// How the lock is acquired and held.
#[derive(Debug, Args)]
#[command(next_help_heading = "Lock")]
pub(crate) struct LockArgs {
    /// Do not wait: end with 75 when another holds the lock
    #[arg(short = 'n', long, conflicts_with = "wait")]
    pub(crate) nonblock: bool,

    /// Wait at most this long; 0 is --nonblock [default: for ever]
    ///
    /// For a store that does not answer, see below.
    #[arg(short = 'w', long, value_name = "DUR", value_parser = duration::parse_wait, allow_hyphen_values = true)]
    pub(crate) wait: Option<Duration>,

    /// End with this code instead of 75 when another holds the lock
    #[arg(short = 'E', long, value_name = "N")]
    pub(crate) conflict_exit_code: Option<u8>,

    /// How long the lock stays held if leasehold dies; it is renewed every third of this
    /// [default: 20s, or more if --grace needs it]
    ///
    /// A renewal, --grace and a margin must fit into it: with a grace of 5s, 12s are too short.
    #[arg(long, value_name = "DUR", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(crate) lease: Option<Duration>,

    /// Poll a held lock this often [default: with growing random delays]
    #[arg(long, value_name = "DUR", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(crate) check_delay: Option<Duration>,

    /// Keep the lock at least this long, even if the command ends earlier: for cron jobs on hosts
    /// whose clocks disagree
    #[arg(long, value_name = "DUR", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(crate) hold_at_least: Option<Duration>,

    /// Stop the command after this long, and end with 124
    #[arg(long, value_name = "DUR", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(crate) max_hold: Option<Duration>,

    /// Take the lock from a dead holder only after watching it for a whole lease, trusting no wall clock
    #[arg(long)]
    pub(crate) strict: bool,

    /// The holder's label, which others see [default: host, program and pid]
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,
}

/// How the command is stopped.
#[derive(Debug, Args)]
#[command(next_help_heading = "Command")]
pub(crate) struct ChildArgs {
    /// How long the command has between --signal and KILL after a lost lock or --max-hold
    /// [default: 5s, or less if --lease is too short]
    #[arg(long, value_name = "DUR", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(crate) grace: Option<Duration>,

    /// The signal that stops the command
    #[arg(long, value_name = "NAME", default_value = "TERM", value_parser = signal)]
    pub(crate) signal: Signal,

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

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
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

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Print the table's definition for this tool to standard output, and create nothing
    #[arg(long, value_name = "TOOL", value_enum)]
    pub(crate) print: Option<Tool>,

    #[command(flatten)]
    pub(crate) store: StoreArg,

    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
}

/// A tool that creates tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Tool {
    /// A CloudFormation template
    Cloudformation,
    /// A Terraform resource
    Terraform,
    /// The AWS CDK, in TypeScript
    Cdk,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Store")]
pub(crate) struct StoreArg {
    /// The store of the locks: sqlite:PATH or dynamodb://TABLE[?region=…&endpoint=…&profile=…]
    /// [default: a SQLite file in your state directory]
    ///
    /// `~/` before a PATH is your home.
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

#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Messages")]
pub(crate) struct VerbosityArgs {
    /// Write only errors
    #[arg(short = 'q', long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Write every request with its units; of polls while waiting, only those that find a new holder
    #[arg(short = 'v', long)]
    pub(crate) verbose: bool,
}

/// Reads the command line.
///
/// # Errors
///
/// After help and version, and after a usage error.
pub(crate) fn parse() -> Result<Cli, Stop> {
    Cli::try_parse().map_err(|error| stop(&error))
}

/// Why no verb is carried out.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Everything is printed; the code to end with.
    Printed(u8),
    /// A usage error, code 64.
    Failed(Box<Failure>),
}

fn stop(error: &clap::Error) -> Stop {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A closed pipe is no error.
            let _printed = error.print();
            Stop::Printed(0)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _printed = error.print();
            Stop::Printed(exit_codes::USAGE)
        }
        _ => {
            let mut failure = usage(error, &std::env::args_os().nth(1).unwrap_or_default());
            let ours = std::env::args_os().take_while(|word| word != "--");
            let mut ours = ours.map(|word| word.to_string_lossy().into_owned());
            if !ours.any(|word| word == "--store" || word.starts_with("--store=")) {
                failure.message = failure
                    .message
                    .replace("'--store <URL>'", "LEASEHOLD_STORE");
            }
            Stop::Failed(Box::new(failure))
        }
    }
}

/// Clap's message in our form: the problem, then a hint.
fn usage(error: &clap::Error, verb: &OsStr) -> Failure {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    // What follows is a usage line and "For more information", which the hint replaces.
    let text = text.split("\n\nUsage:").next().unwrap_or(text);
    let text = text
        .split("\n\nFor more information")
        .next()
        .unwrap_or(text);
    let verbs = ["run", "ls", "show", "init"];
    let help = match verbs.iter().find(|known| OsStr::new(known) == verb) {
        Some(verb) => format!("see `leasehold {verb} --help`"),
        None => "see `leasehold --help`".to_owned(),
    };
    let (message, hint) = match text.split_once("\nhint: ") {
        Some((message, hint)) => (message, hint.to_owned()),
        None if error.kind() == ErrorKind::UnknownArgument && verb == "run" => {
            (text, format!("put the command after `--`; {help}"))
        }
        None => (text, help),
    };
    Failure::new(exit_codes::USAGE, joined(message)).hint(hint)
}

/// Clap's lines as one: a message is one line.
fn joined(message: &str) -> String {
    let mut line = String::new();
    for part in message
        .lines()
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        if !line.is_empty() {
            line.push_str(if line.ends_with(':') { " " } else { "; " });
        }
        line.push_str(part);
    }
    line
}

fn signal(name: &str) -> Result<Signal, String> {
    process::named(name).ok_or_else(|| {
        "unknown signal\nhint: use a name such as `TERM`, `INT` or `KILL`".to_owned()
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn messages_are_fragments_with_a_hint() {
        for (words, message, hint) in [
            (
                vec!["run", "x", "--lease", "15", "--", "true"],
                "needs a unit",
                "`15s`",
            ),
            (
                vec!["run", "x", "true"],
                "unexpected argument 'true'",
                "after `--`",
            ),
            (
                vec!["run", "x"],
                "required arguments were not provided",
                "run --help",
            ),
            (
                vec!["ls", "--store", "redis://x"],
                "unknown store scheme",
                "sqlite:PATH",
            ),
            (vec!["lock"], "unrecognized subcommand", "leasehold --help"),
        ] {
            let all = ["leasehold"].iter().chain(&words);
            let error = Cli::try_parse_from(all).expect_err("a usage error");
            let failure = usage(&error, OsStr::new(words[0]));
            assert!(failure.message.contains(message), "{failure:?}");
            assert!(
                !failure.message.ends_with('.') && !failure.message.contains("error:"),
                "{failure:?}"
            );
            assert!(
                failure.hint.as_deref().is_some_and(|h| h.contains(hint)),
                "{failure:?}"
            );
        }
    }
}
