//! Signals that arrive, as a stream.
//!
//! [`Signals::install`] is called early in `main`, before anything waits. From then on no signal ends this
//! process by default: [`Signals::next`] returns each one. A separate thread reads from the handlers, so that
//! the runtime needs no I/O driver. SIGCHLD is not in the stream; it wakes the [`Group`](super::Group).
//!
//! - A signal that was ignored at the start stays ignored, for us and for the command, as `nohup leasehold run …`
//!   requires. A shell without job control ignores INT for commands with `&`.
//! - CHLD and CONT have handlers even if they were ignored: without them the end of the command is never seen,
//!   and a stopped command is never continued. Blocked signals are unblocked. The command gets the inherited
//!   state back, see [`inherited`].
//! - Signals of the same kind may be merged if they arrive faster than they are read, as in the system.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use leasehold::clock::Elapsed;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::flag;
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};
use tokio::sync::{Notify, mpsc};

use super::{inherited, now};

/// The handled signals, with their names for `--signal`. KILL and STOP cannot be caught.
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
    // For a use of the terminal from the background. They come to our whole group.
    ("TTIN", Signal::TTIN),
    ("TTOU", Signal::TTOU),
];

/// A signal that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// The signal.
    pub(crate) signal: Signal,
    /// Whether the terminal driver sent it, which sends to the whole foreground group.
    pub(crate) from_terminal: bool,
}

impl Received {
    /// Whether it asks for a stop until CONT comes, as Ctrl-Z does.
    pub(crate) fn suspends(&self) -> bool {
        SUSPEND.contains(&self.signal)
    }
}

/// The signals that ask for a stop.
const SUSPEND: [Signal; 3] = [Signal::TSTP, Signal::TTIN, Signal::TTOU];

/// Which of CONT and the signals that ask for a stop came last. The handlers set it, so it is ahead of the stream.
static LAST_ORDER: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);
const STOP: usize = 1;
const GO_ON: usize = 2;

/// Whether CONT has come since the last request to stop. The stop is then out of date, and nobody would end it.
pub(super) fn continued() -> bool {
    LAST_ORDER.load(Ordering::Acquire) == GO_ON
}

/// The stream of signals. It must live as long as the process: after its drop, signals are lost, and do not
/// return to their defaults.
#[derive(Debug)]
pub(crate) struct Signals {
    received: mpsc::UnboundedReceiver<Received>,
    sender: mpsc::UnboundedSender<Received>,
    children: Arc<Notify>,
    /// The last signal that asks for the end, and when it came.
    end: Option<(Signal, Elapsed)>,
}

/// The signals that ask for the end of this process, whatever the command makes of them.
const END: [Signal; 2] = [Signal::TERM, Signal::KILL];

/// Those that ask for it if the command ends soon after them. A HUP may be a reload, a QUIT a dump of threads.
const PERHAPS: [Signal; 3] = [Signal::INT, Signal::QUIT, Signal::HUP];

/// How soon. Too short: who closes the terminal leaves an election behind. Too long: a reload of the command ends its
/// election.
const SOON: Duration = Duration::from_secs(10);

impl Signals {
    /// Installs the handlers and starts the thread that reads from them.
    ///
    /// # Errors
    ///
    /// When the operating system refuses a handler, a socket pair or a thread.
    pub(crate) fn install() -> io::Result<Self> {
        // CHLD in any case: if a parent left it ignored, the system would discard the statuses.
        let wanted: Vec<i32> = HANDLED
            .iter()
            .map(|(_, signal)| *signal)
            .filter(|signal| *signal == Signal::CONT || !inherited::is_ignored(signal.as_raw()))
            .chain([Signal::CHILD])
            .map(Signal::as_raw)
            .collect();
        for signal in &wanted {
            let order = match Signal::from_named_raw(*signal) {
                Some(Signal::CONT) => GO_ON,
                Some(signal) if SUSPEND.contains(&signal) => STOP,
                _ => continue,
            };
            // Before the stream: what is in the stream is known here.
            flag::register_usize(*signal, Arc::clone(&LAST_ORDER), order)?;
        }
        let mut origins = SignalsInfo::<WithOrigin>::new(&wanted)?;
        // Before any thread starts: a thread inherits the mask.
        inherited::unblock(&wanted);

        let (sender, received) = mpsc::unbounded_channel();
        let children = Arc::new(Notify::new());
        let woken = Arc::clone(&children);
        let theirs = sender.clone();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                let mut twins = Twins::new();
                for origin in origins.forever() {
                    if origin.signal == Signal::CONT.as_raw() {
                        twins.continue_guardian(&origin);
                    }
                    if twins.is_twin(&origin) {
                        continue;
                    }
                    match Signal::from_named_raw(origin.signal) {
                        // P6: one stored wake-up is enough, because the woken task checks everything.
                        Some(Signal::CHILD) => woken.notify_one(),
                        // The stream was dropped: the process is about to end.
                        Some(signal)
                            if theirs
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
        Ok(Self {
            received,
            sender,
            children,
            end: None,
        })
    }

    /// Waits for the next signal except for CHLD.
    ///
    /// The caller handles signals that [suspend](Received::suspends), and CONT: see
    /// [`Group::suspend`](super::Group::suspend). Other signals go to [`Group::forward`](super::Group::forward)
    /// while a command runs.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no signal is lost.
    pub(crate) async fn next(&mut self) -> Received {
        match self.received.recv().await {
            Some(received) => {
                let asked = self.end.is_some_and(|(signal, _)| END.contains(&signal));
                let perhaps = PERHAPS.contains(&received.signal) && !asked;
                if END.contains(&received.signal) || perhaps {
                    self.end = Some((received.signal, now()));
                }
                received
            }
            // The thread ends only with the process. If it has ended, no signals come.
            None => std::future::pending().await,
        }
    }

    /// Whether [`next`](Signals::next) has returned a signal that asks for the end, handled here or elsewhere. A HUP, QUIT or
    /// INT asks for that if it has just come: the command has other uses for it.
    pub(crate) fn asked_to_end(&self) -> bool {
        self.end
            .is_some_and(|(signal, at)| asks(signal, now().since(at)))
    }

    /// A call that puts a KILL into the stream, for the death of the guardian.
    pub(crate) fn killed(&self) -> impl FnOnce() + Send + 'static {
        let sender = self.sender.clone();
        move || {
            // If the stream was dropped, the process is about to end.
            let _sent = sender.send(Received {
                signal: Signal::KILL,
                from_terminal: false,
            });
        }
    }

    /// The notification that SIGCHLD wakes.
    pub(super) fn children(&self) -> Arc<Notify> {
        Arc::clone(&self.children)
    }
}

/// Whether a signal that came so long ago asks for the end.
fn asks(signal: Signal, ago: Duration) -> bool {
    END.contains(&signal) || (PERHAPS.contains(&signal) && ago <= SOON)
}

/// The signal `name` of `--signal`: with or without `SIG`, in upper or lower case, or a number.
pub(crate) fn named(name: &str) -> Option<Signal> {
    if let Ok(number) = name.parse() {
        // STOP stops nothing for good.
        return Signal::from_named_raw(number).filter(|signal| *signal != Signal::STOP);
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

/// How far apart the two copies of a signal to our whole process group arrive at most. Too short: the command gets it twice. Too long:
/// two signals become one.
const TWIN: Duration = Duration::from_millis(100);

/// Finds second copies of signals. A signal to our process group, as `timeout` sends, comes to us directly, and once
/// more from the guardian, which cannot know that.
#[derive(Debug)]
struct Twins {
    guardian: i32,
    /// The last of each kind: whether the guardian sent it, and when it came.
    last: HashMap<i32, (bool, Elapsed)>,
}

impl Twins {
    fn new() -> Self {
        Self {
            guardian: inherited::guardian().map_or(0, Pid::as_raw_pid),
            last: HashMap::new(),
        }
    }

    /// The guardian stops with us, and must not stay stopped if CONT comes to us alone.
    fn continue_guardian(&self, origin: &Origin) {
        let forwarded = origin.process.is_some_and(|by| by.pid == self.guardian);
        if let Some(parent) = inherited::guardian()
            && !forwarded
        {
            let _sent = kill_process(parent, Signal::CONT);
        }
    }

    fn is_twin(&mut self, origin: &Origin) -> bool {
        let Some(sender) = origin.process else {
            return false;
        };
        self.is_second(origin.signal, sender.pid == self.guardian, now())
    }

    fn is_second(&mut self, signal: i32, by_guardian: bool, now: Elapsed) -> bool {
        match self.last.get(&signal) {
            Some((other, at)) if *other != by_guardian && now.since(*at) < TWIN => {
                self.last.remove(&signal);
                true
            }
            _ => {
                self.last.insert(signal, (by_guardian, now));
                false
            }
        }
    }
}

/// Whether the terminal driver sent it. Linux reports that; on other systems the signal has no sender.
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
    fn a_signal_to_the_group_counts_once() {
        let start = now();
        let ms = |ms| start.plus(Duration::from_millis(ms));
        let (direct, forwarded) = (false, true);
        let mut twins = Twins::new();
        // `timeout` signals its child, and then the group.
        assert!(!twins.is_second(15, forwarded, ms(0)));
        assert!(twins.is_second(15, direct, ms(1)));
        assert!(!twins.is_second(15, forwarded, ms(2)));
        // Others, and later ones, are signals of their own.
        assert!(!twins.is_second(2, direct, ms(3)));
        assert!(!twins.is_second(15, direct, ms(102)));
        assert!(!twins.is_second(15, direct, ms(103)));
        assert!(twins.is_second(15, forwarded, ms(104)));
    }

    #[test]
    fn some_signals_ask_for_the_end_for_a_while() {
        for (signal, seconds, asked) in [
            (Signal::TERM, 0, true),
            (Signal::TERM, 86_400, true),
            (Signal::INT, 9, true),
            (Signal::QUIT, 11, false),
            (Signal::KILL, 0, true),
            (Signal::HUP, 9, true),
            (Signal::HUP, 11, false),
            (Signal::USR1, 0, false),
        ] {
            assert_eq!(
                asks(signal, Duration::from_secs(seconds)),
                asked,
                "{signal:?}"
            );
        }
    }

    #[test]
    fn names_of_signals() {
        for name in ["TERM", "SIGTERM", "term", "sigterm", "15"] {
            assert_eq!(named(name), Some(Signal::TERM), "{name}");
        }
        assert_eq!(named("KILL"), Some(Signal::KILL));
        assert_eq!(named("SIG"), None);
        assert_eq!(named("0"), None);
        for stop in ["STOP", "19"] {
            assert_eq!(named(stop), None, "{stop}");
        }
        assert_eq!(named("TERMINATE"), None);
    }
}
