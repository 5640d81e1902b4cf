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
//! Where no other code starts processes (SQLite), every zombie is ours at once.
//!
//! A sweep asks the system for its dead children one by one. Only where one is in doubt it scans the process table, for those behind it;
//! without a table they wait for their turn at the front. A call to [`Reaper::reap`] that finds nothing left costs three system calls.

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

/// How long a zombie is left to those who may have started it. Too short steals from them when the machine is busy; too long keeps
/// more entries of the process table.
const SWEEP: Duration = Duration::from_secs(1);

/// Collects the dead of one command.
#[derive(Debug)]
pub(super) struct Reaper {
    child: Pid,
    group: Option<Pid>,
    /// Other code of this process may start processes (P4).
    others: bool,
    status: Option<Status>,
    /// Zombies that were there at the last sweep.
    suspects: Vec<Pid>,
    next_sweep: Option<Elapsed>,
}

impl Reaper {
    /// For the command `child`, and its process group if it has one of its own; `others` when other code may start processes.
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

    /// How the command ended, once [`Reaper::reap`] has seen it.
    pub(super) fn status(&self) -> Option<Status> {
        self.status
    }

    /// When to call [`Reaper::reap`] again though no signal comes.
    pub(super) fn next_sweep(&self) -> Option<Elapsed> {
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
            // After the command's end somebody waits for the last of its processes.
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

    /// It may have been started by other code, which wants its status.
    fn is_doubtful(&self, pid: Pid) -> bool {
        self.others
            && pid != self.child
            && group_of(Some(pid)).is_ok_and(|group| group == our_group())
    }

    fn collect(&mut self, pid: Pid) -> bool {
        match waitpid(Some(pid), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => {
                // It died after it was asked for by its number.
                if pid == self.child {
                    self.status = Some(status.into());
                }
                true
            }
            _ => false,
        }
    }

    /// Collects the zombies that are certainly not other code's, though the one at the `front` may be. When the sweep is `due`, those
    /// that were in doubt at the last one are collected, too.
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
            // A number cannot have changed hands in between: it is taken until we collect it.
            let suspects = std::mem::take(&mut self.suspects);
            self.suspects = doubtful
                .into_iter()
                .filter(|pid| !suspects.contains(pid) || !self.collect(*pid))
                .collect();
        }
    }
}

/// A child that has ended. Nothing is collected, it is only a look. `Err(CHILD)`: there are no children, dead or alive.
#[expect(
    unsafe_code,
    reason = "rustix does not tell whose status `waitid` found"
)]
fn dead() -> Result<Option<Pid>, Errno> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let look = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the information is zeroed, which is a valid one, and the system overwrites it or leaves it alone. When the call has
    // succeeded the field for the number is the one in use: 0 when nobody has ended.
    unsafe {
        if libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), look) != 0 {
            return Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INTR));
        }
        Ok(Pid::from_raw(info.assume_init_ref().si_pid()))
    }
}
