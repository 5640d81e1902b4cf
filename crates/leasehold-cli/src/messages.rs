//! Messages, which go to standard error: standard output belongs to the command.
//!
//! A message is `leasehold: ` and a lowercase fragment, and a `hint:` line if the user can act. `-q` leaves only errors,
//! `-v` adds details. On a terminal there may be one status line about the wait, which a message wipes first. Names and
//! labels come from others, so each message is one line, and control characters never reach the terminal. A closed
//! standard error is no failure, and an unread one delays nothing: the [`outlet`](crate::outlet) writes.

use std::fmt::{self, Display, Write as _};
use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::failure::Failure;
use crate::outlet::Outlet;
use crate::text::{one_line, plain};

/// How long the end of this process waits for standard error, without a lock.
const AT_END: Duration = Duration::from_secs(2);

/// How long the start of the command waits for standard error, so that our messages come before the command's. It is
/// short, because the lock is held.
const BEFORE_COMMAND: Duration = Duration::from_millis(250);

/// Which messages are written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Verbosity {
    /// Errors.
    Quiet,
    /// Errors, warnings, and why nothing was run.
    Normal,
    /// Also every request.
    Verbose,
}

/// Whether the terminal can only write lines, one below the other, as in Emacs: `TERM` is `dumb`.
pub(crate) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// Writes messages.
#[derive(Debug)]
pub(crate) struct Messages {
    verbosity: Verbosity,
    /// Whether a status line can be wiped.
    terminal: bool,
    outlet: Outlet,
}

impl Messages {
    /// Messages of this verbosity.
    pub(crate) fn new(verbosity: Verbosity) -> Self {
        Self {
            verbosity,
            terminal: io::stderr().is_terminal() && !is_dumb(),
            outlet: Outlet::new(),
        }
    }

    /// Whether the status line is visible.
    pub(crate) fn has_line(&self) -> bool {
        self.terminal && self.verbosity > Verbosity::Quiet
    }

    /// Writes an error, at every verbosity.
    pub(crate) fn failure(&self, failure: &Failure) {
        let mut text = format!("leasehold: {}\n", one_line(&failure.message));
        if self.verbosity == Verbosity::Verbose {
            // The message itself often ends with its cause.
            for cause in failure
                .causes
                .iter()
                .filter(|c| !failure.message.contains(*c))
            {
                let _infallible = writeln!(text, "caused by: {}", one_line(cause));
            }
        }
        if let Some(hint) = &failure.hint {
            let _infallible = writeln!(text, "hint: {}", one_line(hint));
        }
        self.say(&text, true);
    }

    /// Writes a panic of this program or of a dependency. It does not wait, either.
    pub(crate) fn panicked(&self, panic: &PanicHookInfo<'_>) {
        self.say(&format!("leasehold: internal error: {panic}\n"), true);
    }

    /// Writes a warning or a result, except with `-q`.
    pub(crate) fn note(&self, message: impl Display) {
        if self.verbosity > Verbosity::Quiet {
            let message = one_line(&message.to_string());
            self.say(&format!("leasehold: {message}\n"), false);
        }
    }

    /// As [`Messages::note`], with a hint.
    pub(crate) fn note_failure(&self, failure: &Failure) {
        if self.verbosity > Verbosity::Quiet {
            self.failure(failure);
        }
    }

    /// Writes a detail, with `-v`.
    pub(crate) fn detail(&self, message: impl Display) {
        if self.verbosity == Verbosity::Verbose {
            let message = one_line(&message.to_string());
            self.say(&format!("leasehold: {message}\n"), false);
        }
    }

    /// Shows the status line, and replaces an older one.
    pub(crate) fn line(&self, text: &str) {
        if !self.has_line() {
            return;
        }
        // A terminal that does not know its width says 0.
        let columns = match rustix::termios::tcgetwinsize(io::stderr()) {
            Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
            _ => 80,
        };
        // A line that wraps could not be wiped.
        let fitting: String = one_line(text)
            .chars()
            .take(columns.saturating_sub(1))
            .collect();
        self.outlet.line(fitting);
    }

    /// Wipes the status line.
    pub(crate) fn wipe(&self) {
        self.outlet.wipe();
    }

    /// Whether no message waits for standard error.
    pub(crate) fn is_free(&self) -> bool {
        self.outlet.has_thread()
    }

    /// Waits until all messages are written, within a bound.
    pub(crate) fn end(&self) {
        self.outlet.flush(AT_END);
    }

    /// As [`Messages::end`], with a shorter bound: before the command starts, or this process stops.
    pub(crate) fn pause(&self) {
        self.outlet.flush(BEFORE_COMMAND);
    }

    fn say(&self, text: &str, needed: bool) {
        self.outlet.text(plain(text), needed);
    }
}

/// Forwards the library's warnings: failed renewals, a wrong clock, answers without a date. Events of other crates are
/// ignored.
#[derive(Debug)]
pub(crate) struct Warnings(Arc<Messages>);

impl<S: Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        self.0.note(format_args!("{}{}", text.message, text.fields));
    }
}

impl Warnings {
    /// Starts to forward them, at the verbosity of the messages. The loss of a lease and a forced release have messages of
    /// their own.
    pub(crate) fn start(messages: Arc<Messages>) {
        let level = match messages.verbosity {
            Verbosity::Quiet => LevelFilter::OFF,
            Verbosity::Normal => LevelFilter::WARN,
            Verbosity::Verbose => LevelFilter::DEBUG,
        };
        let steps = match messages.verbosity {
            Verbosity::Normal => LevelFilter::INFO,
            _ => level,
        };
        let targets = Targets::new()
            .with_target("leasehold", level)
            .with_target("leasehold::client::force", LevelFilter::OFF)
            // The steps of `init`.
            .with_target("leasehold::store::dynamodb::table", steps)
            .with_target("leasehold::lost", LevelFilter::OFF);
        let subscriber =
            tracing_subscriber::registry().with(Warnings(messages).with_filter(targets));
        // It fails only if a subscriber is set already.
        let _set = tracing::subscriber::set_global_default(subscriber);
    }
}

/// An event as a line.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _infallible = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, "; {name}: {value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}
