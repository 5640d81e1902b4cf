//! The terminal: whether this process is in its foreground, and Ctrl-Z.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::tcgetpgrp;

use super::inherited::{guardian, started_by};
use super::numbers::{group_of, our_group, our_session, session_of};
use super::signals::continued;
use super::table::{self, Entry};

/// Whether our process group is the foreground group of a controlling terminal. Standard input may still be a
/// file: ssh, sudo and gpg use `/dev/tty`.
pub(super) fn in_foreground() -> bool {
    // For a terminal that is not our controlling one, tcgetpgrp fails.
    let ours = |terminal: BorrowedFd<'_>| match tcgetpgrp(terminal) {
        Ok(group) => group.as_raw_pid() == our_group(),
        // A group of another pid namespace, which ours may be.
        Err(Errno::OPNOTSUPP) => our_group() == 0,
        Err(_) => false,
    };
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match open("/dev/tty", flags, Mode::empty()) {
        Ok(terminal) => ours(terminal.as_fd()),
        // There is no controlling terminal.
        Err(Errno::NXIO) => false,
        // There is no such file, as in a minimal container, or no descriptor is left.
        Err(_) => {
            ours(io::stdin().as_fd()) || ours(io::stdout().as_fd()) || ours(io::stderr().as_fd())
        }
    }
}

/// Whether this process has a controlling terminal, which may hang up.
pub(crate) fn has_terminal() -> bool {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    open("/dev/tty", flags, Mode::empty()).is_ok()
}

/// Stops this process as Ctrl-Z does by default, and returns when it was continued. Returns false, without a stop,
/// if no shell could continue it: the system also ignores TSTP in an orphaned process group. The same holds if CONT has
/// come since.
pub(crate) fn suspend_ourselves() -> bool {
    // The call returns after the stop: a signal to the own process is delivered before it returns.
    !orphaned() && !continued() && kill_process(getpid(), Signal::STOP).is_ok()
}

/// Whether no shell could continue us: no process of our group has a parent in another group of the session.
pub(super) fn orphaned() -> bool {
    match table::scan() {
        Ok(scan) => orphaned_in(&scan.entries, job()),
        // Without a table only the parent of the started process is known. In doubt there is no stop, which might last for
        // ever.
        Err(_) => !started_by().is_some_and(|parent| {
            let other_group = group_of(Some(parent)).is_ok_and(|group| group != our_group());
            other_group && session_of(Some(parent)).ok() == Some(our_session())
        }),
    }
}

/// The process group that a shell knows as its job: the guardian's, which may not be ours.
fn job() -> i32 {
    match guardian() {
        Some(guardian) => group_of(Some(guardian)).unwrap_or_else(|_| our_group()),
        None => our_group(),
    }
}

fn orphaned_in(entries: &[Entry], group: i32) -> bool {
    !entries
        .iter()
        .filter(|entry| entry.group == group && !entry.gone())
        .any(|member| {
            let parent = entries.iter().find(|entry| entry.pid == member.parent);
            parent.is_some_and(|parent| parent.session == member.session && parent.group != group)
        })
}
