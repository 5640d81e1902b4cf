//! Work that is done: a record that remembers a run, in place of the grant under which it ran.
//!
//! A done record is a grant that nobody renews: its L is the keep, its P the end of the keep. So the rules
//! for taking a key also decide when the work may run again ([`takeover`](super::takeover)).
//!
//! Invariants (S7):
//!
//! - Only the grant of the runner itself is made done, in one conditional write. A runner whose key was
//!   taken over completes nothing.
//! - The end of the keep is at least the start of the run plus the keep, in service time.
//! - The owner of a done record is no attempt. So no delayed request of its runner changes it.

use std::sync::Arc;
use std::time::Duration;

use super::id::AttemptId;
use super::time::ServiceTime;

/// In bytes: the largest fingerprint of an input.
pub const LARGEST_INPUT: usize = 64;

/// The end of a keep that has none: the end of the year 9999.
pub const FOR_EVER: ServiceTime = ServiceTime(253_402_300_799_000);

/// The longest keep that is stored: nobody watches a record for that long.
pub const LONGEST: Duration = Duration::from_millis(FOR_EVER.0.unsigned_abs());

/// What a record says of the run that it remembers. Its result is the record's payload.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Done {
    /// When the run was recorded, in service time, for people.
    pub at: ServiceTime,
    /// Whether the run failed, and is remembered all the same.
    pub failed: bool,
    /// The fingerprint of its input, if one was given.
    pub input: Option<Arc<[u8]>>,
}

/// The write that makes a record done.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Completion {
    /// The key.
    pub key: Arc<str>,
    /// The runner's attempt.
    pub attempt: AttemptId,
    /// The runner's stored token.
    pub token: u64,
    /// P: the end of the keep.
    pub until: ServiceTime,
    /// L: the keep.
    pub keep: Duration,
    /// TTL, Unix seconds. `None` removes it: without service time, nobody knows when the keep is over.
    pub ttl_seconds: Option<i64>,
    /// What is remembered.
    pub done: Done,
    /// The result of the run, if it is kept.
    pub result: Option<Arc<[u8]>>,
    /// How long the grant was held, if known.
    pub held: Option<Duration>,
}

impl AttemptId {
    /// The owner of the record that a completed run of this attempt leaves. No attempt has this id: its
    /// UUID has version 8, and theirs have version 4.
    #[must_use]
    pub fn when_done(self) -> AttemptId {
        AttemptId::from_bits(self.to_bits() ^ (0xC << 76))
    }

    /// Whether it is the owner of what a completed run left.
    pub(super) fn is_done(self) -> bool {
        self.to_bits() >> 76 & 0xF == 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_done_record_is_no_attempt() {
        let attempt = AttemptId::from_random([7; 16]);
        let done = attempt.when_done();
        assert_ne!(done, attempt);
        assert_eq!(done.when_done(), attempt);
        assert!(done.is_done() && !attempt.is_done());
        let version = |id: AttemptId| id.to_string().as_bytes()[14];
        assert_eq!((version(attempt), version(done)), (b'4', b'8'));
        assert_eq!(done.to_string().parse(), Ok(done));
    }
}
