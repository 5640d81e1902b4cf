//! `completions` and `man`, generated from the definition of the command line.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::args::{Cli, CompletionsArgs, ManArgs};
use crate::exit_codes;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::store::own_failure;
use crate::text::quoted;
use crate::verbs::list::print;

const NAME: &str = "leasehold";

/// Prints a script by which a shell completes verbs and options.
///
/// # Errors
///
/// When standard output cannot be written.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Prints a manual page, or writes all of them.
///
/// # Errors
///
/// When there is no such verb, or a file cannot be written.
pub(crate) fn man(args: &ManArgs, messages: &Arc<Messages>) -> Result<(), Failure> {
    let mut whole = Cli::command();
    // It names the verbs in full: `leasehold-run`.
    whole.build();
    if let Some(directory) = &args.dir {
        let pages = write(&whole, directory)?;
        messages.note(format_args!(
            "{pages} manual pages are in {}",
            directory.display()
        ));
        return Ok(());
    }
    let command = match &args.verb {
        None => &whole,
        Some(verb) => verbs(&whole)
            .find(|command| command.get_name() == verb)
            .ok_or_else(|| {
                let known: Vec<_> = verbs(&whole).map(Command::get_name).collect();
                Failure::new(exit_codes::USAGE, format!("there is no verb `{verb}`"))
                    .hint(format!("the verbs are {}", known.join(", ")))
            })?,
    };
    print(&page(command)?)
}

fn verbs(whole: &Command) -> impl Iterator<Item = &Command> {
    whole.get_subcommands().filter(|verb| !verb.is_hide_set())
}

fn write(whole: &Command, directory: &Path) -> Result<usize, Failure> {
    let mut count = 0;
    for command in std::iter::once(whole).chain(verbs(whole)) {
        let path = directory.join(format!("{}.1", full_name(command)));
        fs::write(&path, page(command)?).map_err(|error| {
            let message = format!("cannot write `{}`: {error}", path.display());
            let shell = quoted(&directory.to_string_lossy());
            Failure::new(exit_codes::CONFIG, message)
                .hint(format!("create the directory: `mkdir -p {shell}`"))
        })?;
        count += 1;
    }
    Ok(count)
}

fn full_name(command: &Command) -> &str {
    command.get_display_name().unwrap_or(NAME)
}

/// A page: what the definition says, and the text of `--help` below the options as sections.
fn page(command: &Command) -> Result<String, Failure> {
    let after = command
        .get_after_long_help()
        .or(command.get_after_help())
        .map(ToString::to_string)
        .unwrap_or_default();
    let bare = command
        .clone()
        .after_help(None::<&str>)
        .after_long_help(None::<&str>);
    let mut text = Vec::new();
    Man::new(bare)
        .title(full_name(command).to_uppercase())
        .source(concat!("leasehold ", env!("CARGO_PKG_VERSION")))
        .manual("leasehold")
        .render(&mut text)
        .and_then(|()| sections(&after).to_writer(&mut text))
        .map_err(|error| own_failure("cannot make a manual page", &error))?;
    String::from_utf8(text)
        .map_err(|error| own_failure("cannot make a manual page", &io::Error::other(error)))
}

/// Paragraphs become notes; a line that ends with a colon is the heading of the list below it.
fn sections(help: &str) -> Roff {
    let mut roff = Roff::new();
    let mut in_notes = false;
    for block in help.split("\n\n") {
        let mut lines = block.lines();
        let first = lines.next().unwrap_or_default();
        match first.strip_suffix(':') {
            Some(heading) => {
                roff.control("SH", [heading.to_uppercase().as_str()]);
                in_notes = false;
                for line in lines {
                    entry(&mut roff, line.trim());
                }
            }
            None if first.is_empty() => {}
            None => {
                if !std::mem::replace(&mut in_notes, true) {
                    roff.control("SH", ["NOTES"]);
                }
                roff.control("PP", []);
                roff.text([roman(block)]);
            }
        }
    }
    roff
}

/// `64   the command line is invalid`, or `NAME: text`.
fn entry(roff: &mut Roff, line: &str) {
    match line.split_once("  ").or_else(|| line.split_once(": ")) {
        Some((term, text)) => {
            roff.control("TP", []);
            roff.text([bold(term)]);
            roff.text([roman(text.trim())]);
        }
        None => {
            roff.control("PP", []);
            roff.text([roman(line)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of a page without the escapes of roff.
    fn plain(command: &Command) -> String {
        page(command).expect("a page").replace('\\', "")
    }

    #[test]
    fn every_option_and_argument_is_in_the_page_of_its_verb() {
        let mut whole = Cli::command();
        whole.build();
        let mut options = 0;
        for command in std::iter::once(&whole).chain(verbs(&whole)) {
            let text = plain(command);
            for argument in command.get_arguments().filter(|a| !a.is_hide_set()) {
                let name = match (argument.get_long(), argument.get_value_names()) {
                    (Some(long), _) => format!("--{long}"),
                    (None, Some(names)) => names.join(" "),
                    (None, None) => panic!("{argument} has no name"),
                };
                // In the synopsis and in a list.
                let count = text.matches(&name).count();
                assert!(count >= 2, "{}: `{name}` in\n{text}", full_name(command));
                options += 1;
            }
        }
        assert!(options > 30, "{options}");
    }

    #[test]
    fn lists_of_the_help_become_lists_of_the_page() {
        let mut text = Vec::new();
        let help = "Exit codes:\n  0    done\n  A, B: both\n  alone\n\nA note.\n\nAnother.";
        sections(help).to_writer(&mut text).expect("written");
        let text = String::from_utf8(text).expect("text");
        let lines: Vec<_> = text
            .lines()
            .skip_while(|line| !line.starts_with(".SH"))
            .collect();
        assert_eq!(
            lines,
            [
                ".SH \"EXIT CODES\"",
                ".TP",
                "\\fB0\\fR",
                "done",
                ".TP",
                "\\fBA, B\\fR",
                "both",
                ".PP",
                "alone",
                ".SH NOTES",
                ".PP",
                "A note.",
                ".PP",
                "Another."
            ]
        );
    }
}
