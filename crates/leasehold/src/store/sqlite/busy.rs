//! Waiting for a file that another process has locked.
//!
//! SQLite's own busy time-out sleeps longer and longer, so that with four processes one of them
//! waited 2.8 s; short sleeps of random length, all alike, gave 0.26 s. Invariant: nobody waits
//! past the limit that was set for the job at hand, and no job runs without one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::Connection;

use crate::clock::{Clock, Random, SystemClock};
use leasehold_protocol::time::Elapsed;

const SHORTEST_NAP_MICROS: u64 = 200;
const LONGEST_NAP_MICROS: u64 = 1_000;

/// Until when a connection may wait for locks. Clones are the same limit.
#[derive(Clone, Debug)]
pub(super) struct Limit {
    /// Microseconds of the elapsed clock.
    until: Arc<AtomicU64>,
}

impl Limit {
    /// A limit that has passed.
    pub(super) fn new() -> Self {
        Limit {
            until: Arc::new(AtomicU64::new(0)),
        }
    }

    /// Sets it for the next job.
    pub(super) fn set(&self, until: Elapsed) {
        let micros = u64::try_from(until.0.as_micros()).unwrap_or(u64::MAX);
        self.until.store(micros, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        SystemClock.elapsed().0.as_micros() >= u128::from(self.until.load(Ordering::Relaxed))
    }

    /// Makes a connection wait within this limit.
    pub(super) fn attach(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        let limit = self.clone();
        let mut jitter = Jitter::new();
        connection.busy_handler(Some(move |_| limit.nap(&mut jitter)))
    }

    /// Sleeps a moment; `false`, at once, when the limit is over.
    #[expect(
        clippy::disallowed_methods,
        reason = "the thread of the connection has nothing else to do, and SQLite asks from inside a call"
    )]
    pub(super) fn nap(&self, jitter: &mut Jitter) -> bool {
        if self.is_over() {
            return false;
        }
        std::thread::sleep(jitter.next());
        true
    }
}

/// Lengths of sleep. Only their being different from other processes' matters.
#[derive(Debug)]
pub(super) struct Jitter(u64);

impl Jitter {
    /// Seeded by the operating system.
    pub(super) fn new() -> Self {
        let bits = crate::clock::OsRandom.attempt_bits();
        Jitter(
            bits.iter()
                .fold(1, |seed, byte| seed.rotate_left(8) ^ u64::from(*byte) | 1),
        )
    }

    fn next(&mut self) -> Duration {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let spread = LONGEST_NAP_MICROS - SHORTEST_NAP_MICROS;
        Duration::from_micros(SHORTEST_NAP_MICROS + self.0 % (spread + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naps_are_short_and_differ() {
        let mut jitter = Jitter::new();
        let naps: Vec<_> = (0..200).map(|_| jitter.next().as_micros()).collect();
        assert!(naps.iter().all(|n| (200..=1_000).contains(n)));
        assert!(naps.iter().any(|n| *n < 600) && naps.iter().any(|n| *n > 600));
    }

    #[test]
    fn nobody_naps_past_the_limit() {
        let limit = Limit::new();
        assert!(!limit.nap(&mut Jitter::new()));
        limit.set(SystemClock.elapsed().plus(Duration::from_secs(60)));
        assert!(limit.nap(&mut Jitter::new()));
    }
}
