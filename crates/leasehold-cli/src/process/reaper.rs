//! Collects ended children: the command, and orphans that came to this process as subreaper.
//!
//! `waitpid(-1)` would also take the statuses of other code's children (P4). The AWS SDK may run
//! `credential_process` through tokio while the command runs, and a lost status is a failed renewal. So:
//!
//! - The command is collected by its pid.
//! - Zombies in the command's process group are collected by that group, which has no other children.
//! - Zombies that are neither there nor in *our* group are collected in a sweep: other code's children never
//!   leave our group.
//! - Zombies in our group are collected if they were zombies [`SWEEP`] ago: tokio collects its own as soon as
//!   they end, so these are orphans. Until then a zombie costs an entry in the process table.
//!
//! If no other code starts processes (SQLite), every zombie is collected at once.
//!
//! A sweep gets the ended children from the system one by one. If one is in doubt, a scan of the process table
//! finds those behind it; without a table they wait until they are first. A call to [`Reaper::reap`] without
//! ended children costs three system calls.

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use leasehold::clock::Elapsed;
use leasehold::clock::{Clock, SystemClock};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpid, waitid, waitpgid, waitpid,
};

use super::numbers::{group_of, our_group};
use super::status::Status;
use super::table;

/// How long a zombie is left to other code that may have started it. Too short: a status is taken from that
/// code on a busy machine. Too long: more entries in the process table.
const SWEEP: Duration = Duration::from_secs(1);

/// Collects the ended processes of one command.
#[derive(Debug)]
pub(super) struct Reaper {
    child: Pid,
    group: Option<Pid>,
    /// Whether other code of this process may start processes (P4).
    others: bool,
    status: Option<Status>,
    /// The zombies of the last sweep.
    suspects: Vec<Pid>,
    next_sweep: Option<Elapsed>,
}

impl Reaper {
    /// A reaper for the command `child`, and its own process group if it has one. `others`: other code may start
    /// processes.
    pub(super) fn new(child: Pid, group: Option<Pid>, others: bool) -> Self {
        Self {
            child,
            group,
            others,
            status: None,
            suspects: Vec::new(),
            next_sweep: None,
        }
    }

    /// How the command ended, if [`Reaper::reap`] has seen it.
    pub(super) fn status(&self) -> Option<Status> {
        self.status
    }

    /// When to call [`Reaper::reap`] again without a signal.
    pub(super) fn next_sweep(&self) -> Option<Elapsed> {
        self.next_sweep
    }

    /// Collects the zombies that may be collected now. Returns false if there are no children, ended or not, which
    /// proves that there are no descendants.
    pub(super) fn reap(&mut self) -> bool {
        if self.status.is_none() {
            // P1: the command first, by its pid.
            match waitpid(Some(self.child), WaitOptions::NOHANG) {
                Ok(Some((_, status))) => self.status = Some(status.into()),
                // Other code took the status. An unknown status is better than a wait for ever.
                Err(Errno::CHILD) => self.status = Some(Status::Unknown),
                Ok(None) | Err(_) => {}
            }
        }
        if let Some(group) = self.group {
            while let Ok(Some((pid, status))) = waitpgid(group, WaitOptions::NOHANG) {
                // It ended between the two calls.
                if pid == self.child {
                    self.status = Some(status.into());
                }
            }
        }
        self.sweep()
    }

    /// Whether the command has been stopped since the last call, and by which signal.
    pub(super) fn stopped(&self) -> Option<Signal> {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        let status = waitid(WaitId::Pid(self.child), options).ok()??;
        Signal::from_named_raw(status.stopping_signal()?)
    }

    fn sweep(&mut self) -> bool {
        let mut found = dead();
        while let Ok(Some(pid)) = found {
            if self.is_doubtful(pid) || !self.collect(pid) {
                break;
            }
            found = dead();
        }
        if let Ok(Some(front)) = found {
            let now = SystemClock.elapsed();
            let due = self.next_sweep.is_none_or(|due| due <= now);
            // After the command's end, the caller waits for the last of its processes.
            if due || self.status.is_some() {
                self.collect_behind(front, due);
                found = dead();
            }
            if due {
                self.next_sweep = Some(now.plus(SWEEP));
            }
        }
        if !matches!(found, Ok(Some(_))) {
            self.suspects.clear();
            self.next_sweep = None;
        }
        !matches!(found, Err(Errno::CHILD))
    }

    /// Whether other code may have started it and needs its status.
    fn is_doubtful(&self, pid: Pid) -> bool {
        self.others
            && pid != self.child
            && group_of(Some(pid)).is_ok_and(|group| group == our_group())
    }

    fn collect(&mut self, pid: Pid) -> bool {
        match waitpid(Some(pid), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => {
                // It ended after the check by its pid.
                if pid == self.child {
                    self.status = Some(status.into());
                }
                true
            }
            _ => false,
        }
    }

    /// Collects the zombies that are certainly not other code's, behind a doubtful one at the `front`. In a `due`
    /// sweep, this includes zombies that were in doubt at the last sweep.
    fn collect_behind(&mut self, front: Pid, due: bool) {
        let ourselves = getpid().as_raw_pid();
        let mut zombies = vec![front];
        if let Ok(scan) = table::scan() {
            let entries = scan.entries.iter();
            let dead = entries.filter(|entry| entry.parent == ourselves && entry.gone());
            zombies = dead.filter_map(|entry| Pid::from_raw(entry.pid)).collect();
        }
        let (doubtful, certain): (Vec<Pid>, Vec<Pid>) =
            zombies.into_iter().partition(|pid| self.is_doubtful(*pid));
        for pid in certain {
            self.collect(pid);
        }
        if due {
            // A pid is not reused before the zombie is collected.
            let suspects = std::mem::take(&mut self.suspects);
            self.suspects = doubtful
                .into_iter()
                .filter(|pid| !suspects.contains(pid) || !self.collect(*pid))
                .collect();
        }
    }
}

/// A child that has ended, without collecting it. `Err(CHILD)`: there are no children, ended or not.
#[expect(
    unsafe_code,
    reason = "rustix does not return the pid that `waitid` found"
)]
fn dead() -> Result<Option<Pid>, Errno> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let look = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: zeroed information is valid, and the system overwrites it or does not change it. After a successful call the field
    // for the pid is the one in use: 0 if no child has ended.
    unsafe {
        if libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), look) != 0 {
            return Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INTR));
        }
        Ok(Pid::from_raw(info.assume_init_ref().si_pid()))
    }
}
