//! The left-over processes of a command, for messages.

use std::fmt;

use super::table::{self, Entry};

/// How many processes are named.
const NAMED: usize = 3;

/// Processes that have not ended.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Remaining {
    /// Pid and name.
    known: Vec<(i32, String)>,
    /// Whether there may be others that the process table does not show.
    unknown: bool,
}

impl Remaining {
    /// These processes, with their present names.
    pub(super) fn of<'a>(entries: impl Iterator<Item = &'a Entry>) -> Self {
        let named = |entry: &Entry| (entry.pid, table::name(entry.pid).unwrap_or_default());
        let known: Vec<_> = entries.map(named).collect();
        Self {
            unknown: known.is_empty(),
            known,
        }
    }

    /// Unknown processes.
    pub(super) fn unknown() -> Self {
        Self {
            known: Vec::new(),
            unknown: true,
        }
    }

    /// Whether no process is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty() && !self.unknown
    }
}

impl fmt::Display for Remaining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.known.is_empty() {
            return f.write_str("processes that the process table does not show");
        }
        for (place, (pid, name)) in self.known.iter().take(NAMED).enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}`{name}` (pid {pid})")?;
        }
        match self.known.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
