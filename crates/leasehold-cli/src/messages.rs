//! What we say: everything goes to standard error, for standard output is the command's.
//!
//! `leasehold: ` and a lowercase fragment, then a `hint:` line where there is something to do. `-q` leaves only errors, `-v` adds
//! details. On a terminal there may be one passing line about the wait; whoever speaks wipes it first. Names and
//! labels come from others, so each message is one line, and control characters never reach the terminal. That standard error is gone is no reason to fail, and that
//! nobody reads it no reason to wait: the [`outlet`](crate::outlet) writes.

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

/// How long the end of this process waits for standard error. Nothing is locked any more, so it may be more than a busy machine needs.
const AT_END: Duration = Duration::from_secs(2);

/// How long the start of the command waits for it, so that our messages stand before those of the command. Under the lock, so it is short.
const BEFORE_COMMAND: Duration = Duration::from_millis(250);

/// How much is said.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Verbosity {
    /// Errors.
    Quiet,
    /// Errors, warnings, and why nothing was run.
    Normal,
    /// Also every request.
    Verbose,
}

/// The one who speaks.
#[derive(Debug)]
pub(crate) struct Messages {
    verbosity: Verbosity,
    terminal: bool,
    outlet: Outlet,
}

impl Messages {
    /// A messages of this verbosity.
    pub(crate) fn new(verbosity: Verbosity) -> Self {
        Self {
            verbosity,
            terminal: io::stderr().is_terminal(),
            outlet: Outlet::new(),
        }
    }

    /// Whether the passing line is seen by anyone.
    pub(crate) fn has_line(&self) -> bool {
        self.terminal && self.verbosity > Verbosity::Quiet
    }

    /// An error; nothing silences it.
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

    /// A panic: an error of this program, or of something that it uses. Does not wait either.
    pub(crate) fn panicked(&self, panic: &PanicHookInfo<'_>) {
        self.say(&format!("leasehold: internal error: {panic}\n"), true);
    }

    /// Something that went wrong without stopping us, or a result that nobody should be mailed about with `-q`.
    pub(crate) fn note(&self, message: impl Display) {
        if self.verbosity > Verbosity::Quiet {
            let message = one_line(&message.to_string());
            self.say(&format!("leasehold: {message}\n"), false);
        }
    }

    /// As [`Messages::note`], with what to do.
    pub(crate) fn note_failure(&self, failure: &Failure) {
        if self.verbosity > Verbosity::Quiet {
            self.failure(failure);
        }
    }

    /// A detail, for `-v`.
    pub(crate) fn detail(&self, message: impl Display) {
        if self.verbosity == Verbosity::Verbose {
            let message = one_line(&message.to_string());
            self.say(&format!("leasehold: {message}\n"), false);
        }
    }

    /// Puts the passing line on the screen, in place of the one before.
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

    /// Wipes the passing line.
    pub(crate) fn wipe(&self) {
        self.outlet.wipe();
    }

    /// Whether nobody who speaks has to wait for standard error.
    pub(crate) fn is_free(&self) -> bool {
        self.outlet.has_thread()
    }

    /// What was said is written, or standard error takes nothing.
    pub(crate) fn end(&self) {
        self.outlet.flush(AT_END);
    }

    /// As [`Messages::end`], with a shorter bound: before the command starts, or we stop.
    pub(crate) fn pause(&self) {
        self.outlet.flush(BEFORE_COMMAND);
    }

    fn say(&self, text: &str, needed: bool) {
        self.outlet.text(plain(text), needed);
    }
}

/// Passes the library's own warnings on: lost renewals, a wrong clock, answers without a date. Nothing of other crates.
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
    /// Starts to pass them on, as loud as the messages are. Whoever holds the lease tells of its loss, with what is done about it.
    pub(crate) fn start(messages: Arc<Messages>) {
        let level = match messages.verbosity {
            Verbosity::Quiet => LevelFilter::OFF,
            Verbosity::Normal => LevelFilter::WARN,
            Verbosity::Verbose => LevelFilter::DEBUG,
        };
        let targets = Targets::new()
            .with_target("leasehold", level)
            .with_target("leasehold::lost", LevelFilter::OFF);
        let subscriber =
            tracing_subscriber::registry().with(Warnings(messages).with_filter(targets));
        // It can only have been set before, and nobody does that.
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
