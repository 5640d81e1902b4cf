//! Signals that arrive, as a stream.
//!
//! [`Signals::install`] comes first thing in `main`, before anything waits: from then on no signal ends us by default, each one is
//! told to whoever calls [`Signals::next`]. A thread of its own reads what the handlers wrote, so that the runtime needs no I/O
//! driver. SIGCHLD is not in the stream; it wakes the [`Group`](super::Group).
//!
//! - A signal that was ignored when we were started stays ignored, for us and for the command: `nohup leasehold run …` must
//!   do what it says, and a shell without job control ignores INT for what it starts with `&`.
//! - CHLD and CONT are listened to even where they were ignored: without them an end is never seen, and what Ctrl-Z stopped is never
//!   continued. What was blocked when we were started is let through. The command gets both back as they came, see [`inherited`].
//! - Signals of the same kind that arrive faster than they are read may be merged, as the system does it too.

use std::io;
use std::sync::Arc;
use std::thread;

use rustix::process::Signal;
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};
use tokio::sync::{Notify, mpsc};

use super::inherited;

/// What we listen to, with the names `--signal` knows. KILL and STOP cannot be caught.
const HANDLED: [(&str, Signal); 11] = [
    ("INT", Signal::INT),
    ("TERM", Signal::TERM),
    ("HUP", Signal::HUP),
    ("QUIT", Signal::QUIT),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
    ("WINCH", Signal::WINCH),
    ("CONT", Signal::CONT),
    ("TSTP", Signal::TSTP),
    // For reading from a terminal, or setting it, in its background. They come to our whole group.
    ("TTIN", Signal::TTIN),
    ("TTOU", Signal::TTOU),
];

/// A signal that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// Which one.
    pub(crate) signal: Signal,
    /// It came from the terminal driver, which sent it to the whole foreground group, not to us alone.
    pub(crate) from_terminal: bool,
}

impl Received {
    /// It asks us to stop until CONT comes, as Ctrl-Z does.
    pub(crate) fn suspends(&self) -> bool {
        [Signal::TSTP, Signal::TTIN, Signal::TTOU].contains(&self.signal)
    }
}

/// The stream of signals. Lives as long as the process: without it they would be swallowed, not back at their defaults.
#[derive(Debug)]
pub(crate) struct Signals {
    received: mpsc::UnboundedReceiver<Received>,
    children: Arc<Notify>,
}

impl Signals {
    /// Installs the handlers and starts the thread that reads from them.
    ///
    /// # Errors
    ///
    /// When the system refuses a handler, a socket pair or a thread.
    pub(crate) fn install() -> io::Result<Self> {
        // CHLD in any case: where a parent left it ignored, the system would throw the statuses away.
        let wanted: Vec<i32> = HANDLED
            .iter()
            .map(|(_, signal)| *signal)
            .filter(|signal| *signal == Signal::CONT || !inherited::is_ignored(signal.as_raw()))
            .chain([Signal::CHILD])
            .map(Signal::as_raw)
            .collect();
        let mut origins = SignalsInfo::<WithOrigin>::new(&wanted)?;
        // Before any thread starts: each begins with the mask of the one that starts it.
        inherited::unblock(&wanted);

        let (sender, received) = mpsc::unbounded_channel();
        let children = Arc::new(Notify::new());
        let woken = Arc::clone(&children);
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for origin in origins.forever() {
                    match Signal::from_named_raw(origin.signal) {
                        // P6: one stored wake-up is enough, because whoever wakes looks at everything.
                        Some(Signal::CHILD) => woken.notify_one(),
                        // Nobody listens any more: the process is about to end.
                        Some(signal)
                            if sender
                                .send(Received {
                                    signal,
                                    from_terminal: from_terminal(&origin),
                                })
                                .is_err() =>
                        {
                            break;
                        }
                        _ => {}
                    }
                }
            })?;
        Ok(Self { received, children })
    }

    /// Waits for the next signal. CHLD is not among them.
    ///
    /// What [suspends](Received::suspends) and CONT are the caller's to act on: see [`Group::suspend`](super::Group::suspend). Everything else goes to
    /// [`Group::forward`](super::Group::forward) while a command runs.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a signal is either returned or still to come.
    pub(crate) async fn next(&mut self) -> Received {
        match self.received.recv().await {
            Some(received) => received,
            // The thread ends only after us. Should it ever have died, there are no signals, which is not one.
            None => std::future::pending().await,
        }
    }

    /// What SIGCHLD wakes.
    pub(super) fn children(&self) -> Arc<Notify> {
        Arc::clone(&self.children)
    }
}

/// The signal called `name`, with or without `SIG`, in any case; also by number. For `--signal`.
pub(crate) fn named(name: &str) -> Option<Signal> {
    if let Ok(number) = name.parse() {
        return Signal::from_named_raw(number);
    }
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    let known = [
        ("KILL", Signal::KILL),
        ("ABRT", Signal::ABORT),
        ("ALRM", Signal::ALARM),
    ];
    HANDLED
        .iter()
        .chain(&known)
        .find(|(known, _)| *known == bare)
        .map(|(_, signal)| *signal)
}

/// Whether the terminal driver sent it. Linux says so; elsewhere it is the signal nobody sent.
fn from_terminal(origin: &Origin) -> bool {
    match origin.cause {
        Cause::Kernel => true,
        Cause::Unknown => cfg!(not(target_os = "linux")) && origin.process.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_signals() {
        for name in ["TERM", "SIGTERM", "term", "sigterm", "15"] {
            assert_eq!(named(name), Some(Signal::TERM), "{name}");
        }
        assert_eq!(named("KILL"), Some(Signal::KILL));
        assert_eq!(named("SIG"), None);
        assert_eq!(named("0"), None);
        assert_eq!(named("TERMINATE"), None);
    }
}
