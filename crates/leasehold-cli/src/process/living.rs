//! Who is left of the command, from one scan of the process table.

use std::io;

use rustix::process::{Pid, getpid};

use super::numbers::our_group;
use super::table::{self, Entry, Scan};

/// Where to look for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Where {
    /// The command.
    pub(super) child: Pid,
    /// Its process group, while that is its own and not empty.
    pub(super) group: Option<Pid>,
    /// Children of ours in our own group may be other code's (P4), and are left out.
    pub(super) spare_our_group: bool,
}

/// Who is left.
#[derive(Debug)]
pub(super) struct Living {
    /// They descend from the command.
    pub(super) descendants: Vec<Entry>,
    /// They do not, but are in its process group.
    strangers: Vec<Entry>,
    /// Children of ours that were left out.
    others: usize,
    /// Nobody is missing.
    complete: bool,
}

impl Living {
    /// The processes of the command that have not ended.
    ///
    /// # Errors
    ///
    /// When there is no process table.
    pub(super) fn find(place: Where) -> io::Result<Self> {
        let Scan { entries, complete } = table::scan()?;
        let ourselves = getpid();
        let our_group = our_group();
        let foreign = |entry: &Entry| {
            place.spare_our_group
                && entry.group == our_group
                && entry.pid != place.child.as_raw_pid()
        };
        let is_child = |entry: &&Entry| entry.parent == ourselves.as_raw_pid();
        let others = entries
            .iter()
            .filter(is_child)
            .filter(|e| foreign(e))
            .count();
        let mut descendants = table::descendants(&entries, ourselves, foreign);
        descendants.retain(|entry| !entry.gone());
        let group = place.group.map(Pid::as_raw_pid);
        let strangers = entries
            .into_iter()
            .filter(|entry| {
                Some(entry.group) == group && !entry.gone() && !descendants.contains(entry)
            })
            .collect();
        Ok(Living {
            descendants,
            strangers,
            others,
            complete,
        })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Entry> {
        self.descendants.iter().chain(&self.strangers)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    /// It is certain that nobody is left. `children`: the system says that we have some. They must be in the table, then: one that is
    /// not is another user's, and hidden (`hidepid`).
    pub(super) fn proves_nobody(&self, children: bool) -> bool {
        self.is_empty() && self.complete && (!children || self.others > 0)
    }
}
