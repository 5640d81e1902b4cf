//! Who descends from whom, read from `/proc/<pid>/stat`.
//!
//! `/proc/<pid>/task/<tid>/children` would be shorter, but kernels built without `CONFIG_PROC_CHILDREN` do not have it. A scan
//! reads one small file for each process of the machine, so it is made only when something is left of the command, or to
//! signal it, never on the way of a command that just ends.
//!
//! A scan is not a snapshot: what is born while it runs may be missing. A scan is called complete when it can be proved that
//! nothing was born, and when every process in it has its parent in it. Only a complete one may prove that somebody is *not* there.
//!
//! A process is identified by its number **and** its start, and a signal is sent through a handle that is opened first and compared
//! after, so that a number that was given away in between is never hit. Where there is no `/proc`, or one of another pid namespace, whose
//! numbers are other processes', every call here fails. The callers then wait for children and the process group, which needs
//! no table; only names and what has left the group are out of reach.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;

use rustix::process::{Pid, Signal};

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its number.
    pub(super) pid: i32,
    /// Its parent.
    pub(super) parent: i32,
    /// Its process group.
    pub(super) group: i32,
    /// Its session.
    pub(super) session: i32,
    state: u8,
    threads: u32,
    started: u64,
}

impl Entry {
    /// It has ended, and only its status is left. A main thread that ended before the others looks the same but for their number.
    pub(super) fn gone(&self) -> bool {
        matches!(self.state, b'Z' | b'X') && self.threads <= 1
    }

    /// It is stopped and will do nothing until it is continued. One that was stopped between vfork and the child's exec does not
    /// look so: it waits in the kernel for the child, which is stopped.
    pub(super) fn stopped(&self) -> bool {
        matches!(self.state, b'T' | b't')
    }

    /// Sends it a signal, if it still is the process it was. One that is gone or not ours to signal is not an error here:
    /// the callers look again at who is left.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            send(self, pid, signal);
        }
    }
}

/// The processes of the machine that we may see.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    /// One for each process.
    pub(super) entries: Vec<Entry>,
    /// Nobody who lived at the end of the scan is missing.
    pub(super) complete: bool,
}

/// Reads the process table.
///
/// # Errors
///
/// When there is no `/proc`.
pub(super) fn scan() -> io::Result<Scan> {
    if !cfg!(target_os = "linux") {
        return Err(io::ErrorKind::Unsupported.into());
    }
    if !ours() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let before = last_born();
    let numbers = fs::read_dir("/proc")?
        .flatten()
        .filter_map(|file| file.file_name().to_str()?.parse().ok());
    let entries: Vec<Entry> = numbers.filter_map(read).collect();
    // A /proc without even ourselves is not one.
    if entries.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    // A parent that died during the scan hides that its child descends from us. 0 is outside of our world.
    let known = |parent| parent == 0 || entries.iter().any(|entry| entry.pid == parent);
    let complete = before.is_some()
        && before == last_born()
        && entries.iter().all(|entry| known(entry.parent));
    Ok(Scan { entries, complete })
}

/// Whether `/proc` shows our own pid namespace. In that of an outer one we have another number, or by chance the same and a second one.
fn ours() -> bool {
    let number = std::process::id().to_string();
    let named = fs::read_link("/proc/self").is_ok_and(|name| name.as_os_str() == number.as_str());
    // Linux before 4.1 does not list the numbers.
    let one = |status: String| {
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        numbers.is_none_or(|numbers| numbers.split_ascii_whitespace().count() == 1)
    };
    named && fs::read_to_string("/proc/self/status").is_ok_and(one)
}

/// The program's name, as `ps` has it.
pub(super) fn name(pid: i32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end_matches('\n').to_owned())
}

/// What `name` is in the environments that our ancestors were started with, nearest first. A command that clears its environment
/// still has a parent that did not. Those that we may not read are passed over.
pub(crate) fn of_ancestors(name: &str) -> Vec<OsString> {
    let mut found = Vec::new();
    if !ours() {
        return found;
    }
    let mut next = rustix::process::getppid().map(Pid::as_raw_pid);
    while let Some(pid) = next {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let value = environment
            .split(|byte| *byte == 0)
            .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
        found.extend(value.map(|value| OsStr::from_bytes(value).to_owned()));
        // The first process has the parent 0, and one of an outer namespace, too.
        next = read(pid)
            .map(|entry| entry.parent)
            .filter(|parent| *parent > 0);
    }
    found
}

/// The number that was given away last; it moves with every process and thread that is born.
fn last_born() -> Option<i32> {
    fs::read_to_string("/proc/loadavg")
        .ok()?
        .split_ascii_whitespace()
        .nth(4)?
        .parse()
        .ok()
}

/// The descendants of `root` without itself, nearest first. Children of `root` that `skip` picks are left out with all of theirs.
pub(super) fn descendants(
    entries: &[Entry],
    root: Pid,
    skip: impl Fn(&Entry) -> bool,
) -> Vec<Entry> {
    let root = root.as_raw_pid();
    let mut found: Vec<Entry> = entries
        .iter()
        .filter(|entry| entry.parent == root && !skip(entry))
        .copied()
        .collect();
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|entry| entry.pid) {
        next += 1;
        // A scan that is torn by the reuse of a number could hold a circle: nobody enters twice.
        for entry in entries
            .iter()
            .filter(|entry| entry.parent == parent && entry.pid != root)
        {
            if !found.iter().any(|known| known.pid == entry.pid) {
                found.push(*entry);
            }
        }
    }
    found
}

/// One process; `None` when it is gone.
fn read(pid: i32) -> Option<Entry> {
    parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The second field is the name, in parentheses, and may hold anything, parentheses and blanks included. We count from the last one.
fn parse(pid: i32, stat: &str) -> Option<Entry> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Field N of proc(5) is fields[N - 3].
    Some(Entry {
        pid,
        state: *fields.first()?.as_bytes().first()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        threads: fields.get(17)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(target_os = "linux")]
fn send(entry: &Entry, pid: Pid, signal: Signal) {
    use rustix::io::Errno;
    use rustix::process::{PidfdFlags, kill_process, pidfd_open, pidfd_send_signal};

    let handle = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => Some(handle),
        // Linux before 5.3, a sandbox that forbids it, or no descriptors left: still better a signal than none.
        Err(error) if error != Errno::SRCH => None,
        Err(_) => return,
    };
    if read(entry.pid).is_none_or(|now| now.started != entry.started) {
        return;
    }
    // Failure means gone or another user's; see above.
    let _sent = match handle {
        Some(handle) => pidfd_send_signal(&handle, signal),
        None => kill_process(pid, signal),
    };
}

#[cfg(not(target_os = "linux"))]
fn send(_entry: &Entry, pid: Pid, signal: Signal) {
    let _sent = rustix::process::kill_process(pid, signal);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(pid: i32, parent: i32) -> Entry {
        Entry {
            pid,
            parent,
            group: pid,
            session: 1,
            state: b'S',
            threads: 1,
            started: 0,
        }
    }

    fn pids(entries: &[Entry]) -> Vec<i32> {
        entries.iter().map(|entry| entry.pid).collect()
    }

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "7 (a) Z 1 (b) R) S 3 4 5 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 9 0 1234 1 1";
        let parsed = parse(7, stat).unwrap();
        assert_eq!(
            (
                parsed.parent,
                parsed.group,
                parsed.session,
                parsed.threads,
                parsed.started
            ),
            (3, 4, 5, 9, 1234)
        );
        assert!(!parsed.gone());
    }

    #[test]
    fn a_zombie_whose_threads_live_is_not_gone() {
        let mut zombie = Entry {
            state: b'Z',
            ..entry(7, 1)
        };
        assert!(zombie.gone());
        zombie.threads = 3;
        assert!(!zombie.gone());
    }

    #[test]
    fn descendants_skip_whole_branches() {
        let root = Pid::from_raw(10).unwrap();
        let entries = [
            entry(10, 1),
            entry(11, 10),
            entry(12, 10),
            entry(13, 11),
            entry(14, 12),
            entry(15, 13),
            entry(16, 1),
        ];
        assert_eq!(
            pids(&descendants(&entries, root, |_| false)),
            [11, 12, 13, 14, 15]
        );
        assert_eq!(
            pids(&descendants(&entries, root, |entry| entry.pid == 12)),
            [11, 13, 15]
        );
    }

    #[test]
    fn a_torn_scan_with_a_circle_ends() {
        let root = Pid::from_raw(10).unwrap();
        let entries = [entry(10, 12), entry(11, 10), entry(12, 11), entry(11, 12)];
        assert_eq!(pids(&descendants(&entries, root, |_| false)), [11, 12]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn we_find_ourselves() {
        let ourselves = rustix::process::getpid().as_raw_pid();
        let entries = scan().unwrap().entries;
        let entry = entries.iter().find(|entry| entry.pid == ourselves).unwrap();
        assert!(!entry.gone());
        assert_eq!(entry.group, rustix::process::getpgrp().as_raw_pid());
    }
}
