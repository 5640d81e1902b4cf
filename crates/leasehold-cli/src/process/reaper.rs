//! Collecting the dead: the command's status, and the orphans that came to us as subreaper.
//!
//! `waitpid(-1)` would be the short way, and would take statuses that are not ours (P4): the AWS SDK may run
//! `credential_process` through tokio while the command runs, and a stolen status is a failed renewal. So:
//!
//! - the command is waited for by its number;
//! - what died in the command's process group, by that group: nobody else's child can be in it;
//! - other zombies that are not in *our* group, at a sweep: other code's children never leave it;
//! - zombies in our group only when they were zombies already [`SWEEP`] ago. Tokio collects its own as soon as they die; whatever is
//!   still there is an orphan nobody will ever ask for. Until then a zombie costs an entry in the process table, no more.
//!
//! A sweep scans the process table. While the command runs there is one every [`SWEEP`] at most, and none when nothing died but
//! in its group; a call to [`Reaper::reap`] that finds nothing left costs three system calls.

use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, WaitId, WaitIdOptions, WaitOptions, getpgrp, getpid, waitid, waitpgid, waitpid,
};
use tokio::time::Instant;

use super::now;
use super::status::Status;
use super::table::{self, Entry};

/// How long a zombie is left to those who may have started it. Too short steals from them when the machine is busy; too long keeps
/// more entries of the process table.
const SWEEP: Duration = Duration::from_secs(1);

/// Collects the dead of one command.
#[derive(Debug)]
pub(super) struct Reaper {
    child: Pid,
    group: Option<Pid>,
    status: Option<Status>,
    /// Zombies that were there at the last sweep.
    suspects: Vec<i32>,
    next_sweep: Option<Instant>,
}

impl Reaper {
    /// For the command `child`, and its process group if it has one of its own.
    pub(super) fn new(child: Pid, group: Option<Pid>) -> Self {
        Self {
            child,
            group,
            status: None,
            suspects: Vec::new(),
            next_sweep: None,
        }
    }

    /// How the command ended, once [`Reaper::reap`] has seen it.
    pub(super) fn status(&self) -> Option<Status> {
        self.status
    }

    /// When to call [`Reaper::reap`] again though no signal comes.
    pub(super) fn next_sweep(&self) -> Option<Instant> {
        self.next_sweep
    }

    /// Collects what may be collected now. Returns false when we have no children left, dead or alive, which proves
    /// that nothing descends from us.
    pub(super) fn reap(&mut self) -> bool {
        if self.status.is_none() {
            // P1: by its number first, whatever else has died.
            match waitpid(Some(self.child), WaitOptions::NOHANG) {
                Ok(Some((_, status))) => self.status = Some(status.into()),
                // Somebody took it. Waiting for ever would be worse than not knowing.
                Err(Errno::CHILD) => self.status = Some(Status::Unknown),
                Ok(None) | Err(_) => {}
            }
        }
        if let Some(group) = self.group {
            while let Ok(Some((pid, status))) = waitpgid(group, WaitOptions::NOHANG) {
                // It died between the two calls.
                if pid == self.child {
                    self.status = Some(status.into());
                }
            }
        }
        self.sweep()
    }

    fn sweep(&mut self) -> bool {
        // NOWAIT: only a look, nothing is collected.
        let look = || {
            waitid(
                WaitId::All,
                WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT,
            )
        };
        let mut found = look();
        if let Ok(Some(_)) = found {
            let now = now();
            let due = self.next_sweep.is_none_or(|due| due <= now);
            // After the command's end somebody waits for the last of its processes.
            if due || self.status.is_some() {
                self.collect(due);
                found = look();
            }
            if due {
                self.next_sweep = Some(now + SWEEP);
            }
        }
        if !matches!(found, Ok(Some(_))) {
            self.suspects.clear();
            self.next_sweep = None;
        }
        !matches!(found, Err(Errno::CHILD))
    }

    /// Collects the zombies that are certainly not other code's. When the sweep is `due`, the others of the last one are among them.
    fn collect(&mut self, due: bool) {
        let ourselves = getpid().as_raw_pid();
        let our_group = getpgrp().as_raw_pid();
        let entries = table::scan().map(|scan| scan.entries).unwrap_or_default();
        let zombies = entries.iter().filter(|entry| {
            entry.parent == ourselves && entry.gone() && entry.pid != self.child.as_raw_pid()
        });
        let (doubtful, certain): (Vec<&Entry>, Vec<&Entry>) =
            zombies.partition(|entry| entry.group == our_group);
        for entry in certain {
            collected(entry.pid);
        }
        if due {
            // A number cannot have changed hands in between: it is taken until we collect it.
            let left = |pid: &i32| !self.suspects.contains(pid) || !collected(*pid);
            self.suspects = doubtful
                .iter()
                .map(|entry| entry.pid)
                .filter(left)
                .collect();
        }
    }
}

fn collected(pid: i32) -> bool {
    Pid::from_raw(pid)
        .is_some_and(|pid| matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(Some(_))))
}
