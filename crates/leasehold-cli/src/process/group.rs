//! The command and all processes that it starts: signals, waits, the stop.
//!
//! Outside of the foreground of a terminal, the command leads its own process group, and a signal goes to
//! that group. In the foreground it stays in our group, like the other members of a pipeline. There the
//! terminal driver sends typed signals, which are not sent again (P3); other signals go to each of our
//! descendants. While the command lives, a process in another session gets no forwarded signals; only
//! [`Group::stop`] and Ctrl-Z reach it. After the end of the command, every signal reaches all processes
//! that are left.
//!
//! # How P2 is kept
//!
//! We are a subreaper: a process whose parent dies becomes our child, whatever its session. So the last
//! descendant is a child of ours, and its end is a SIGCHLD. "No children" from the system proves, without a
//! scan, that no process is left. The `relay` keeps other children away, except those that
//! the AWS SDK starts. If such children remain, a complete scan of the [`table`](super::table) can prove that
//! none is the command's. An incomplete scan proves nothing, because a process that forks and ends in a loop
//! hides from it, so the scan is repeated.
//!
//! # What it does not do
//!
//! - On DynamoDB, if the command has its own group, a child of ours in *our* group counts as other code's (P4).
//!   In the foreground the two cannot be distinguished: a running credential helper is waited for, and killed
//!   by `stop`.
//! - In the foreground the shell's `fg` continues the whole group. The command may run for an instant before it
//!   is stopped again for the check of the lease. A separate group would break pipelines.
//! - A command that was started in the background keeps its own group: `fg` sends it signals, but does not
//!   give it the terminal. A read from the terminal stops it ([`Change::WantsTerminal`]).
//! - A signal by `kill -- -GROUP` to our foreground group reaches the command twice.
//! - Without `/proc` no descendants can be found: signals reach the group, and in the foreground only the
//!   command itself. On Linux the end of all processes is still seen; macOS has only the group.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use leasehold::clock::{Clock, SystemClock};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};
use tokio::sync::Notify;

use super::command::{Command, SpawnError};
use super::guardian::Guardian;
use super::living::{Living, Where};
use super::numbers::{our_group, our_session};
use super::reaper::Reaper;
use super::remaining::Remaining;
use super::signals::{Received, Signals};
use super::status::{Status, Stopped};
use super::table::Entry;
use super::{before, now, terminal};

/// First and longest pause between checks of processes whose end sends no signal.
const LOOK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));

/// How long programs have after Ctrl-Z to restore the terminal before they get STOP.
const SUSPEND_PATIENCE: Duration = Duration::from_millis(200);

/// The longest time without a check: SIGCHLD comes long before, unless it was lost.
const LOOK_ANYWAY: Duration = Duration::from_secs(5);

/// How long `stop` waits before the next scan and KILL. It is short, to be faster than processes that fork.
const KILL_AGAIN: Duration = Duration::from_millis(5);

/// How the processes of a command are treated.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    /// `--detach-ok`: [`Group::change`] waits for the command alone, not for other processes.
    pub(crate) detach_ok: bool,
    /// Whether other code of this process starts processes: the AWS SDK runs `credential_process` (P4).
    pub(crate) others: bool,
}

/// A running command and all processes that it started. Its drop kills them, except with `detach_ok`.
#[derive(Debug)]
pub(crate) struct Group {
    child: Pid,
    /// The command's own process group. `None` if it shares ours, or is empty: its number may then be reused.
    group: Option<Pid>,
    shared: bool,
    options: Options,
    reaper: Reaper,
    children: Arc<Notify>,
    /// Whether [`Change::Left`] was returned.
    left: bool,
}

/// A change of the command's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It has ended, but processes that it started have not.
    Left,
    /// The system has stopped it, because it uses the terminal and its group is in the background.
    WantsTerminal,
    /// It and all its descendants have ended; with `detach_ok`, it alone.
    Gone(Status),
}

/// The result of a check of the command.
#[derive(Clone, Copy, Debug)]
enum Look {
    /// All processes have ended.
    Gone,
    /// Check again at SIGCHLD; with `poll` also after a while, since a process may end without one.
    Wait { poll: bool },
}

impl Group {
    /// Starts the command, and returns when it was executed. It must be called on the main thread.
    ///
    /// # Errors
    ///
    /// See [`SpawnError`]; no process runs then.
    pub(crate) fn spawn(
        command: &Command,
        options: Options,
        signals: &Signals,
        guardian: &Guardian,
    ) -> Result<Self, SpawnError> {
        command.check()?;
        let shared = terminal::in_foreground();
        adopt_orphans();
        let child = command.start(!shared)?;
        let group = (!shared).then_some(child);
        if let Some(group) = group {
            guardian.send_group(group);
        }
        Ok(Self {
            child,
            group,
            shared,
            options,
            reaper: Reaper::new(child, group, options.others),
            children: signals.children(),
            left: false,
        })
    }

    /// How the command ended; `None` while it runs. It does not wait for other processes.
    pub(crate) fn command_status(&mut self) -> Option<Status> {
        self.reaper.reap();
        self.reaper.status()
    }

    /// How it ended, if [`Group::change`] would return [`Change::Gone`] now. It asks the system: SIGCHLD comes through a thread, and after a
    /// stop of this process other signals may overtake it.
    pub(crate) fn finished_already(&mut self) -> Option<Status> {
        let gone = matches!(self.look(!self.options.detach_ok), Look::Gone);
        gone.then(|| self.status())
    }

    /// The status of a command that has ended.
    fn status(&self) -> Status {
        self.reaper.status().unwrap_or(Status::Unknown)
    }

    /// Forwards a signal, except for those of [`Group::suspend`] and [`Group::resume`]. After the end of the
    /// command, it reaches all left-over processes in any session.
    pub(crate) fn forward(&self, received: &Received) {
        if received.suspends() || received.signal == Signal::CONT {
            return;
        }
        let ended = self.reaper.status().is_some();
        // P3: one by one in our own group, because it contains us and perhaps the rest of a pipeline. Processes
        // that got the signal from the terminal are left out.
        let told = |entry: &Entry| match self.group {
            Some(group) => entry.group == group.as_raw_pid(),
            None => self.shared && received.from_terminal && entry.group == our_group(),
        };
        let session = our_session();
        let meant = |entry: &Entry| {
            ended || (self.shared && !received.from_terminal && entry.session == session)
        };
        self.signal_group(received.signal);
        if ended || self.shared {
            self.signal_each(received.signal, |entry| meant(entry) && !told(entry));
        }
    }

    /// The next change of the command.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a new call goes on.
    pub(crate) async fn change(&mut self) -> Change {
        let mut pause = LOOK.0;
        loop {
            let look = self.look(!self.options.detach_ok);
            let Look::Wait { poll } = look else {
                return Change::Gone(self.status());
            };
            if self.reaper.status().is_none() {
                let stopped = self.group.and_then(|_| self.reaper.stopped());
                if stopped.is_some_and(|by| [Signal::TTIN, Signal::TTOU].contains(&by)) {
                    return Change::WantsTerminal;
                }
            } else if !std::mem::replace(&mut self.left, true) {
                return Change::Left;
            }
            self.next_look(poll, &mut pause).await;
        }
    }

    /// Stops all processes, also with `detach_ok`. It sends `signal`, CONT for stopped processes, and KILL after
    /// `grace`. It returns when all have ended, and at the latest `kill_wait` after KILL.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. A new call begins again with `signal` and a whole `grace`.
    pub(crate) async fn stop(
        &mut self,
        signal: Signal,
        grace: Duration,
        kill_wait: Duration,
    ) -> Stopped {
        self.signal_everybody(signal);
        self.signal_everybody(Signal::CONT);
        let kill_at = now().plus(grace);
        let mut gone = before(kill_at, self.gone(true)).await.is_some();
        let give_up = now().plus(kill_wait);
        while !gone && now() < give_up {
            // P2: repeated, because a process that was born during the scan may be missing in it.
            self.signal_everybody(Signal::KILL);
            let next = now().plus(KILL_AGAIN);
            gone = before(next, self.gone(true)).await.is_some();
        }
        Stopped {
            status: self.command_status(),
            survivors: if gone {
                Remaining::default()
            } else {
                self.remaining()
            },
        }
    }

    /// Ctrl-Z: stops all processes, then this one. It returns when this one was continued, with the command still
    /// stopped. The caller checks the lease, and calls [`Group::resume`] or [`Group::stop`]. [`Signals::next`]
    /// also returns the CONT.
    ///
    /// Programs first get a moment to restore the terminal. A process that ignores TSTP is also stopped: it must
    /// not run while the lease is not renewed. Returns false, without a stop, if no shell could continue us.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: some processes may be stopped already. [`Group::resume`] continues them.
    pub(crate) async fn suspend(&mut self, received: &Received) -> bool {
        if terminal::orphaned() {
            // The terminal may still have stopped the command.
            self.resume();
            return false;
        }
        if !(self.shared && received.from_terminal) {
            self.signal_everybody(Signal::TSTP);
        }
        // Without /proc the stop cannot be seen, so all processes get the whole time.
        let stopped = async {
            let mut pause = Duration::from_millis(2);
            while !self
                .living()
                .is_ok_and(|living| living.all().all(Entry::stopped))
            {
                SystemClock.sleep_until(now().plus(pause)).await;
                pause *= 2;
            }
        };
        let _late = before(now().plus(SUSPEND_PATIENCE), stopped).await;
        self.signal_everybody(Signal::STOP);
        let suspended = terminal::suspend_ourselves();
        if suspended && self.shared {
            // The shell continued the whole foreground group, the command included.
            self.signal_everybody(Signal::STOP);
        } else if !suspended {
            self.resume();
        }
        suspended
    }

    /// Continues all processes that [`Group::suspend`] stopped. It is harmless at any other time.
    pub(crate) fn resume(&self) {
        self.signal_everybody(Signal::CONT);
    }

    /// Waits until the command has ended, or with `everybody` all processes. Cancel safe: each turn checks before
    /// it waits.
    async fn gone(&mut self, everybody: bool) {
        let mut pause = LOOK.0;
        while let Look::Wait { poll } = self.look(everybody) {
            self.next_look(poll, &mut pause).await;
        }
    }

    /// Waits until the next check.
    async fn next_look(&self, poll: bool, pause: &mut Duration) {
        // P6: a SIGCHLD may be lost.
        let wait = if poll { *pause } else { LOOK_ANYWAY };
        let at = now().plus(wait);
        let at = self.reaper.next_sweep().map_or(at, |sweep| at.min(sweep));
        if before(at, self.children.notified()).await.is_none() && poll {
            *pause = LOOK.1.min(*pause * 2);
        }
    }

    fn look(&mut self, everybody: bool) -> Look {
        // Without a subreaper, orphans of the command do not become ours.
        let children = self.reaper.reap() && cfg!(target_os = "linux");
        if self.reaper.status().is_none() {
            return Look::Wait { poll: false };
        }
        if !everybody {
            return Look::Gone;
        }
        if let Some(group) = self.group
            && matches!(test_kill_process_group(group), Err(Errno::SRCH))
        {
            self.group = None;
        }
        // P2: no child and an empty group prove it, where there are subreapers.
        if !children && self.group.is_none() {
            return Look::Gone;
        }
        match self.living() {
            Ok(living) if living.proves_nobody(children) => Look::Gone,
            // P6: the end of a descendant sends a SIGCHLD; that of another process in the group does not.
            Ok(living) => Look::Wait {
                poll: living.descendants.is_empty(),
            },
            Err(_) => Look::Wait { poll: true },
        }
    }

    /// The processes of the command that have not ended.
    fn living(&self) -> io::Result<Living> {
        Living::find(Where {
            child: self.child,
            group: self.group,
            spare_our_group: self.options.others && !self.shared,
        })
    }

    /// The left-over processes, if not all are known to have ended.
    pub(crate) fn remaining(&self) -> Remaining {
        self.living().map_or_else(
            |_| Remaining::unknown(),
            |living| Remaining::of(living.all()),
        )
    }

    /// Signals the group, which no fork escapes, and then each process outside of it.
    fn signal_everybody(&self, signal: Signal) {
        self.signal_group(signal);
        let group = self.group.map(Pid::as_raw_pid);
        self.signal_each(signal, |entry| Some(entry.group) != group);
    }

    fn signal_group(&self, signal: Signal) {
        if let Some(group) = self.group {
            // The processes have ended, or belong to another user: the wait finds out.
            let _sent = kill_process_group(group, signal);
        }
    }

    fn signal_each(&self, signal: Signal, which: impl Fn(&Entry) -> bool) {
        match self.living() {
            Ok(living) => living
                .all()
                .filter(|entry| which(entry))
                .for_each(|entry| entry.signal(signal)),
            // Its pid is not reused until its status is collected.
            Err(_) if self.reaper.status().is_none() && self.group.is_none() => {
                let _sent = kill_process(self.child, signal);
            }
            Err(_) => {}
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // P5: also during a panic. With `detach_ok`, processes may outlive a command that has ended.
        let everybody = !self.options.detach_ok;
        if matches!(self.look(everybody), Look::Wait { .. }) {
            self.signal_everybody(Signal::KILL);
        }
    }
}

/// Makes this process the parent of every descendant whose own parent dies.
#[cfg(target_os = "linux")]
fn adopt_orphans() {
    // Linux has it since 3.4. If a sandbox forbids it, the group is waited for, as on other systems.
    let _done = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// Other systems have no subreapers: only the group is waited for.
#[cfg(not(target_os = "linux"))]
fn adopt_orphans() {}
