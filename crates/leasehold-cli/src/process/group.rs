//! The command with everything it starts, as one thing: signal it, wait for it, stop it.
//!
//! Where we are not in the foreground of a terminal, the command leads a process group of its own, and a signal goes to that
//! group at once. In the foreground it stays in our group, as do the other members of a pipeline: what is typed reaches it
//! from the terminal driver and is not sent again (P3), and anything else is sent process by process to what descends from us. What
//! moved to a session of its own gets no forwarded signals in either case while the command lives; only [`Group::stop`] and Ctrl-Z
//! reach it. When the command has ended, every signal reaches all that is left.
//!
//! # How P2 is kept
//!
//! We are a subreaper: a process whose parent dies becomes our child, however often it forks and whatever session it opens. So the last
//! descendant to go is a child of ours, and its end is a SIGCHLD. "No children" from the system is the proof that nothing is left, and
//! costs no scan. Children that are not the command's are kept away by the [`relay`](super::relay), except those that the AWS SDK starts: where
//! such remain, a complete scan of the [`table`](super::table) can prove that none is the command's. A scan that is
//! not complete proves nothing: a process that forks and ends in a circle hides from it (tried), so we look again.
//!
//! # What it does not do
//!
//! - On DynamoDB, a child of ours in *our* group while the command has its own is taken for other code's (P4). In the foreground the
//!   two cannot be told apart: a credential helper that happens to run then is waited for, and killed by `stop`.
//! - In the foreground the shell's `fg` continues the whole group, and the command may run for an instant before we stop it
//!   again for the check of the lease. Only a group of its own could be held back, at the price of breaking pipelines.
//! - A command that was started in the background has a group of its own for good: `fg` brings it signals, but not the terminal. When it
//!   reads from there it is stopped, which [`Change::WantsTerminal`] tells.
//! - A signal that someone sends with `kill -- -GROUP` to our foreground group is seen twice by the command: nothing tells us.
//! - Without `/proc` there are no descendants to find: signals reach the group, and in the foreground only the command itself. The end
//!   of what is left is seen all the same, on Linux; macOS has only the group.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use leasehold::clock::{Clock, SystemClock};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, getpid, kill_process, kill_process_group, test_kill_process_group,
};
use tokio::sync::Notify;

use super::command::{Command, SpawnError};
use super::living::{Living, Where};
use super::numbers::{our_group, our_session};
use super::reaper::Reaper;
use super::remaining::Remaining;
use super::signals::{Received, Signals};
use super::status::{Status, Stopped};
use super::table::Entry;
use super::{before, now, terminal};

/// First and longest pause between looks at processes whose end sends us no signal.
const LOOK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));

/// How long programs have after Ctrl-Z to put the terminal in order before they are stopped for good.
const SUSPEND_PATIENCE: Duration = Duration::from_millis(200);

/// The longest time without a look: SIGCHLD comes long before, unless something took it from us.
const LOOK_ANYWAY: Duration = Duration::from_secs(5);

/// How long `stop` waits before the next KILL. Short, because what forks and flees must be outrun; a scan lies between any two.
const KILL_AGAIN: Duration = Duration::from_millis(5);

/// How a command is to be looked after.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    /// `--detach-ok`: [`Group::finished`] waits for the command alone, not for what it left running.
    pub(crate) detach_ok: bool,
    /// Other code of this process starts processes, too: the AWS SDK runs `credential_process` (P4).
    pub(crate) others: bool,
}

/// A running command with everything it started. Dropping it kills what is left, except what `detach_ok` lets live.
#[derive(Debug)]
pub(crate) struct Group {
    child: Pid,
    /// The command's own process group; `None` while it shares ours, and once it is empty: its number may then be given away.
    group: Option<Pid>,
    shared: bool,
    options: Options,
    reaper: Reaper,
    children: Arc<Notify>,
    /// [`Change::Left`] was returned.
    left: bool,
}

/// What has become of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It has ended, but not what it has started.
    Left,
    /// The system has stopped it: it reads from the terminal, or sets it, and its group is in the background.
    WantsTerminal,
    /// It and everything that descends from it is gone; with `detach_ok`, it alone.
    Gone(Status),
}

/// What a look at the command found.
#[derive(Clone, Copy, Debug)]
enum Look {
    /// Nothing is left of what was asked for.
    Gone,
    /// Look again when SIGCHLD comes; with `poll` also after a while, because what is left may end without one.
    Wait { poll: bool },
}

impl Group {
    /// Starts the command. Returns when it was executed, or could not be. Call it on the main thread.
    ///
    /// # Errors
    ///
    /// See [`SpawnError`]; nothing runs then.
    pub(crate) fn spawn(
        command: &Command,
        options: Options,
        signals: &Signals,
    ) -> Result<Self, SpawnError> {
        command.check()?;
        let shared = terminal::in_foreground();
        adopt_orphans();
        let child = command.start(!shared)?;
        let group = (!shared).then_some(child);
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

    /// How the command ended; `None` while it runs. Known at once, even while others of the group live on.
    pub(crate) fn command_status(&mut self) -> Option<Status> {
        self.reaper.reap();
        self.reaper.status()
    }

    /// How it ended, if [`Group::finished`] would not have to wait. Asks the system: the news of an end comes through a thread,
    /// and after a stop of ours other news may overtake it.
    pub(crate) fn finished_already(&mut self) -> Option<Status> {
        let gone = matches!(self.look(!self.options.detach_ok), Look::Gone);
        gone.then(|| self.status())
    }

    /// Of a command that is gone.
    fn status(&self) -> Status {
        self.reaper.status().unwrap_or(Status::Unknown)
    }

    /// Passes a signal on. Those of [`Group::suspend`] and [`Group::resume`] are not passed on. Once the command has ended, a signal reaches
    /// what it left behind, in whatever session that is.
    pub(crate) fn forward(&self, received: &Received) {
        if received.suspends() || received.signal == Signal::CONT {
            return;
        }
        let ended = self.reaper.status().is_some();
        // P3: one by one in our own group, because it holds us, and perhaps the rest of a pipeline; and not to those whom the terminal
        // has told.
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

    /// The next thing that becomes of the command.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is forgotten, a new call goes on.
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

    /// Stops everything, `detach_ok` or not: `signal`, and CONT so that stopped processes see it; KILL after `grace`. Returns when all are
    /// gone, and at the latest when they have outlived KILL for `kill_wait`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was sent stays sent. A new call begins again with `signal` and a whole `grace`.
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
            // P2: again and again: a process that was being born during the scan was in nobody's list.
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

    /// Ctrl-Z: stops everything, then ourselves; returns when we were continued, with the command stopped still. The caller
    /// checks the lease and calls [`Group::resume`] or [`Group::stop`]. The CONT that woke us also comes out of [`Signals::next`].
    ///
    /// Programs get a moment to put the terminal in order first. What ignores TSTP is stopped all the same: it must not run
    /// while nobody renews. Returns false, with nothing stopped, where no shell could continue us.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a part may be stopped already. [`Group::resume`] puts it right.
    pub(crate) async fn suspend(&mut self, received: &Received) -> bool {
        if terminal::orphaned() {
            // The terminal may have stopped the command nevertheless: only the system knows for certain who can be continued.
            self.resume();
            return false;
        }
        if !(self.shared && received.from_terminal) {
            self.signal_everybody(Signal::TSTP);
        }
        // There is no /proc to see it elsewhere: everyone gets the whole time.
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

    /// Continues everything that [`Group::suspend`] stopped. Harmless at any other time.
    pub(crate) fn resume(&self) {
        self.signal_everybody(Signal::CONT);
    }

    /// Waits until the command is gone, or `everybody` is. Cancel safe: each turn looks afresh before it waits.
    async fn gone(&mut self, everybody: bool) {
        let mut pause = LOOK.0;
        while let Look::Wait { poll } = self.look(everybody) {
            self.next_look(poll, &mut pause).await;
        }
    }

    /// Waits until it is worth while to look again.
    async fn next_look(&self, poll: bool, pause: &mut Duration) {
        // P6: a SIGCHLD that is lost must not be waited for.
        let wait = if poll { *pause } else { LOOK_ANYWAY };
        let at = now().plus(wait);
        let at = self.reaper.next_sweep().map_or(at, |sweep| at.min(sweep));
        if before(at, self.children.notified()).await.is_none() && poll {
            *pause = LOOK.1.min(*pause * 2);
        }
    }

    fn look(&mut self, everybody: bool) -> Look {
        // Without a subreaper no orphan of the command ever becomes ours.
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
            // P6: the end of a descendant comes to us as a SIGCHLD, that of a stranger in the group does not.
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

    /// What is left, when not all are known to be gone.
    pub(crate) fn remaining(&self) -> Remaining {
        self.living().map_or_else(
            |_| Remaining::unknown(),
            |living| Remaining::of(living.all()),
        )
    }

    /// To the group at once, which no fork escapes, and then to everyone outside of it.
    fn signal_everybody(&self, signal: Signal) {
        self.signal_group(signal);
        let group = self.group.map(Pid::as_raw_pid);
        self.signal_each(signal, |entry| Some(entry.group) != group);
    }

    fn signal_group(&self, signal: Signal) {
        if let Some(group) = self.group {
            // Gone, or not ours to signal: whoever waits will see.
            let _sent = kill_process_group(group, signal);
        }
    }

    fn signal_each(&self, signal: Signal, which: impl Fn(&Entry) -> bool) {
        match self.living() {
            Ok(living) => living
                .all()
                .filter(|entry| which(entry))
                .for_each(|entry| entry.signal(signal)),
            // Its number is its own until we collect its status.
            Err(_) if self.reaper.status().is_none() && self.group.is_none() => {
                let _sent = kill_process(self.child, signal);
            }
            Err(_) => {}
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // P5: also when a panic unwinds through us. What `detach_ok` lets live is what the command left behind at its end.
        let everybody = !self.options.detach_ok;
        if matches!(self.look(everybody), Look::Wait { .. }) {
            self.signal_everybody(Signal::KILL);
        }
    }
}

/// Makes us the parent of every descendant whose own parent dies. It stays so: we run nothing else.
#[cfg(target_os = "linux")]
fn adopt_orphans() {
    // Linux has it since 3.4. Where a sandbox forbids it the group is still waited for, as elsewhere.
    let _done = rustix::process::set_child_subreaper(Some(getpid()));
}

/// There are no subreapers elsewhere: the group is what is waited for.
#[cfg(not(target_os = "linux"))]
fn adopt_orphans() {}
