//! What is left of a command, for messages.

use std::fmt;

use super::table::{self, Entry};

/// So many are named.
const NAMED: usize = 3;

/// Processes that have not ended.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Remaining {
    /// Number and name.
    known: Vec<(i32, String)>,
    /// There are others, or may be, that the process table does not show.
    unknown: bool,
}

impl Remaining {
    /// These, with their names as they are now.
    pub(super) fn of<'a>(entries: impl Iterator<Item = &'a Entry>) -> Self {
        let named = |entry: &Entry| (entry.pid, table::name(entry.pid).unwrap_or_default());
        let known: Vec<_> = entries.map(named).collect();
        Self {
            unknown: known.is_empty(),
            known,
        }
    }

    /// Some of which nothing is known.
    pub(super) fn unknown() -> Self {
        Self {
            known: Vec::new(),
            unknown: true,
        }
    }

    /// Nothing is left.
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
