//! The additional protection of the shared set.

use std::fmt;

/// What protects the set, beside the lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Protection {
    /// Nothing.
    Lock,
    /// `TokenColumn`, raised before the set is read.
    Column,
    /// `DynamoDbStore::fence`, in the transaction that writes.
    Check,
}

impl Protection {
    pub(super) const ALL: [Protection; 3] =
        [Protection::Lock, Protection::Column, Protection::Check];

    pub(super) fn parse(word: &str) -> Option<Protection> {
        Self::ALL.into_iter().find(|p| p.to_string() == word)
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protection::Lock => "lock-alone",
            Protection::Column => "token-column",
            Protection::Check => "condition-check",
        })
    }
}
