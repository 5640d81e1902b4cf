//! What a terminal asks of us: are we in its foreground, and what does Ctrl-Z mean.

use std::io;

use rustix::process::{Pid, Signal, getpgrp, getpid, kill_process};
use rustix::termios::{isatty, tcgetpgrp};

use super::table::{self, Entry};

/// Standard input is our controlling terminal and we are its foreground process group: what is typed comes to us.
pub(super) fn in_foreground() -> bool {
    let stdin = io::stdin();
    // Of a terminal that is not our controlling one, tcgetpgrp tells nothing: an error, not a group.
    isatty(&stdin) && tcgetpgrp(&stdin).is_ok_and(|group| group == getpgrp())
}

/// Stops this process as Ctrl-Z would have without our handler; returns when it was continued. Does nothing, and returns
/// false, where there is no shell to continue us: the system ignores TSTP in an orphaned process group too.
pub(crate) fn suspend_ourselves() -> bool {
    // The kill returns after the stop: a signal to ourselves is taken before we get back from the call.
    !orphaned() && kill_process(getpid(), Signal::STOP).is_ok()
}

/// Nobody could continue us: no process of our group has a parent in another group of the same session.
pub(super) fn orphaned() -> bool {
    table::scan().is_ok_and(|scan| orphaned_in(&scan.entries, getpgrp()))
}

fn orphaned_in(entries: &[Entry], group: Pid) -> bool {
    let group = group.as_raw_pid();
    !entries
        .iter()
        .filter(|entry| entry.group == group && !entry.gone())
        .any(|member| {
            let parent = entries.iter().find(|entry| entry.pid == member.parent);
            parent.is_some_and(|parent| parent.session == member.session && parent.group != group)
        })
}
