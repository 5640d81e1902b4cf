//! The process table, read from `/proc/<pid>/stat`.
//!
//! `/proc/<pid>/task/<tid>/children` would be shorter, but kernels without `CONFIG_PROC_CHILDREN` do not have
//! it. A scan reads one small file for each process of the machine. So it is made only if processes of the
//! command are left or must be signalled, and not for a command that just ends.
//!
//! A scan is not a snapshot: a process that starts meanwhile may be missing. A scan is complete if certainly no
//! process started, and every process in it has its parent in it. Only a complete scan may prove that a process
//! does *not* exist.
//!
//! A process is identified by its pid **and** its start. A signal goes through a pidfd that is opened first and
//! checked afterwards, so that a reused pid is never hit. Without `/proc`, or with the `/proc` of another pid
//! namespace, every call here fails. The callers then wait for children and the process group. Only names, and
//! processes that have left the group, are then unknown.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;

use rustix::process::{Pid, Signal};

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its pid.
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
    /// Whether it has ended, and only its status is left. A process whose main thread ended first has other
    /// threads.
    pub(super) fn gone(&self) -> bool {
        matches!(self.state, b'Z' | b'X') && self.threads <= 1
    }

    /// Whether it is stopped until it is continued. A process between vfork and the child's exec does not look
    /// stopped: it waits in the kernel for its stopped child.
    pub(super) fn stopped(&self) -> bool {
        matches!(self.state, b'T' | b't')
    }

    /// Sends it a signal, if the pid was not reused. A process that has ended or belongs to another user is no error:
    /// the callers check again.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            send(self, pid, signal);
        }
    }
}

/// The visible processes of the machine.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    /// One for each process.
    pub(super) entries: Vec<Entry>,
    /// Whether no process that lived at the end of the scan is missing.
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
    // A /proc without this process is not usable.
    if entries.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    // A parent that ended during the scan hides that its child descends from us. 0 is outside of our namespace.
    let known = |parent| parent == 0 || entries.iter().any(|entry| entry.pid == parent);
    let complete = before.is_some()
        && before == last_born()
        && entries.iter().all(|entry| known(entry.parent));
    Ok(Scan { entries, complete })
}

/// Whether `/proc` shows our own pid namespace. In an outer one we have another pid, or several.
fn ours() -> bool {
    let number = std::process::id().to_string();
    let named = fs::read_link("/proc/self").is_ok_and(|name| name.as_os_str() == number.as_str());
    // Linux before 4.1 does not list the pids.
    let one = |status: String| {
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        numbers.is_none_or(|numbers| numbers.split_ascii_whitespace().count() == 1)
    };
    named && fs::read_to_string("/proc/self/status").is_ok_and(one)
}

/// The program's name, as `ps` shows it.
pub(super) fn name(pid: i32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end_matches('\n').to_owned())
}

/// The values of `name` in the initial environments of our ancestors, nearest first. The parent of a command that
/// clears its environment still has the variable. Unreadable environments are skipped.
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
        // The first process of a namespace has the parent 0.
        next = read(pid)
            .map(|entry| entry.parent)
            .filter(|parent| *parent > 0);
    }
    found
}

/// The pid that was assigned last. It changes with every new process and thread.
fn last_born() -> Option<i32> {
    fs::read_to_string("/proc/loadavg")
        .ok()?
        .split_ascii_whitespace()
        .nth(4)?
        .parse()
        .ok()
}

/// The descendants of `root`, nearest first. Children of `root` that `skip` picks are left out, with their
/// descendants.
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
        // A reused pid could make a circle in a scan, so no process is added twice.
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

/// One process; `None` if it has ended.
fn read(pid: i32) -> Option<Entry> {
    parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The second field, the name in parentheses, may contain parentheses and blanks. Fields count from the last
/// parenthesis.
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
        // Linux before 5.3, a sandbox, or no descriptors left: a signal by pid is better than none.
        Err(error) if error != Errno::SRCH => None,
        Err(_) => return,
    };
    if read(entry.pid).is_none_or(|now| now.started != entry.started) {
        return;
    }
    // A failure means that it has ended or belongs to another user.
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
