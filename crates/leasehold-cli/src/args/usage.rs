//! The parsing of the command line, and clap's errors as failures: usage errors end with 64, not with clap's 2, and have a `hint:` line.

use std::ffi::OsStr;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use super::Cli;
use crate::exit_codes;
use crate::failure::Failure;

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
    let cli = Cli::command();
    let known = cli
        .get_subcommands()
        .find(|known| OsStr::new(known.get_name()) == verb);
    let help = match known {
        Some(known) => format!("see `leasehold {} --help`", known.get_name()),
        None => "see `leasehold --help`".to_owned(),
    };
    let (message, hint) = match text.split_once("\nhint: ") {
        Some((message, hint)) => (message, hint.to_owned()),
        None if error.kind() == ErrorKind::UnknownArgument
            && ["run", "once", "elect"].iter().any(|known| verb == *known) =>
        {
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

#[cfg(test)]
mod tests {
    use super::*;

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
