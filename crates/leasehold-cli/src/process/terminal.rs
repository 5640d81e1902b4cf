//! What a terminal asks of us: are we in its foreground, and what does Ctrl-Z mean.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::{Signal, getpid, getppid, kill_process};
use rustix::termios::tcgetpgrp;

use super::numbers::{group_of, our_group, our_session, session_of};
use super::table::{self, Entry};

/// We have a controlling terminal and are its foreground process group: what is typed comes to us. Standard input may be a file all the
/// same, and the command may ask on `/dev/tty`, as ssh, sudo and gpg do.
pub(super) fn in_foreground() -> bool {
    // Of a terminal that is not our controlling one, tcgetpgrp tells nothing: an error, not a group.
    let ours = |terminal: BorrowedFd<'_>| match tcgetpgrp(terminal) {
        Ok(group) => group.as_raw_pid() == our_group(),
        // A group of another pid namespace, as ours may be.
        Err(Errno::OPNOTSUPP) => our_group() == 0,
        Err(_) => false,
    };
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match open("/dev/tty", flags, Mode::empty()) {
        Ok(terminal) => ours(terminal.as_fd()),
        // There is no controlling terminal.
        Err(Errno::NXIO) => false,
        // There is no such file, as in a bare container, or no descriptor is left.
        Err(_) => {
            ours(io::stdin().as_fd()) || ours(io::stdout().as_fd()) || ours(io::stderr().as_fd())
        }
    }
}

/// Stops this process as Ctrl-Z would have without our handler; returns when it was continued. Does nothing, and returns
/// false, where there is no shell to continue us: the system ignores TSTP in an orphaned process group too.
pub(crate) fn suspend_ourselves() -> bool {
    // The kill returns after the stop: a signal to ourselves is taken before we get back from the call.
    !orphaned() && kill_process(getpid(), Signal::STOP).is_ok()
}

/// Nobody could continue us: no process of our group has a parent in another group of the same session.
pub(super) fn orphaned() -> bool {
    match table::scan() {
        Ok(scan) => orphaned_in(&scan.entries, our_group()),
        // Without a table our own parent is the only one that can be asked for. When in doubt we do not stop: nobody may wake us.
        Err(_) => !getppid().is_some_and(|parent| {
            let other_group = group_of(Some(parent)).is_ok_and(|group| group != our_group());
            other_group && session_of(Some(parent)).ok() == Some(our_session())
        }),
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
