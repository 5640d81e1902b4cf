//! The living processes of the command, from one scan of the process table.

use std::io;

use rustix::process::{Pid, getpid};

use super::numbers::our_group;
use super::table::{self, Entry, Scan};

/// Where to search for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Where {
    /// The command.
    pub(super) child: Pid,
    /// Its own process group, while that is not empty.
    pub(super) group: Option<Pid>,
    /// Whether to leave out children of ours in our own group, which may be other code's (P4).
    pub(super) spare_our_group: bool,
}

/// The living processes.
#[derive(Debug)]
pub(super) struct Living {
    /// Descendants of the command.
    pub(super) descendants: Vec<Entry>,
    /// Other processes in its process group.
    strangers: Vec<Entry>,
    /// The number of children that were left out.
    others: usize,
    /// Whether the scan is complete.
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

    /// Whether certainly no process is left. `children`: the system reports children of ours. They must then be
    /// in the table, unless they belong to another user and are hidden (`hidepid`).
    pub(super) fn proves_nobody(&self, children: bool) -> bool {
        self.is_empty() && self.complete && (!children || self.others > 0)
    }
}
