//! Waiting for a file that another process has locked.
//!
//! SQLite's own busy time-out sleeps longer and longer: of four processes, one waited 2.8 s. With short
//! random sleeps it was 0.26 s. Invariant: every job has a limit, and no wait exceeds it.
//!
//! One thread uses a connection, and the limit is in a thread-local. SQLite's handler is a plain
//! function in the older versions of rusqlite that other libraries need.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::Connection;

use crate::clock::{Clock, Random, SystemClock};
use leasehold_protocol::time::Elapsed;

const SHORTEST_PAUSE_MICROS: u64 = 200;
const LONGEST_PAUSE_MICROS: u64 = 1_000;

thread_local! {
    /// The limit of this thread's job.
    static CURRENT: RefCell<Option<(Limit, Jitter)>> = const { RefCell::new(None) };
}

/// SQLite waits for a lock on this thread.
fn wait(_: i32) -> bool {
    CURRENT.with_borrow_mut(|current| match current {
        Some((limit, jitter)) => limit.pause(jitter),
        None => false,
    })
}

/// Until when a connection may wait for locks. Clones share one limit.
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

    /// Sets it for the next job, on the thread of that job.
    pub(super) fn set(&self, until: Elapsed) {
        let micros = u64::try_from(until.0.as_micros()).unwrap_or(u64::MAX);
        self.until.store(micros, Ordering::Relaxed);
        CURRENT.with_borrow_mut(|current| match current {
            Some((limit, _)) if Arc::ptr_eq(&limit.until, &self.until) => {}
            _ => *current = Some((self.clone(), Jitter::new())),
        });
    }

    fn is_over(&self) -> bool {
        SystemClock.elapsed().0.as_micros() >= u128::from(self.until.load(Ordering::Relaxed))
    }

    /// Makes a connection wait within the limit of its thread.
    pub(super) fn attach(connection: &mut Connection) -> rusqlite::Result<()> {
        connection.busy_handler(Some(wait))
    }

    /// Sleeps a moment. `false`, at once, after the limit.
    #[expect(
        clippy::disallowed_methods,
        reason = "the thread of the connection has no other work, and SQLite calls this synchronously"
    )]
    pub(super) fn pause(&self, jitter: &mut Jitter) -> bool {
        if self.is_over() {
            return false;
        }
        std::thread::sleep(jitter.next());
        true
    }
}

/// Lengths of sleep, which only need to differ from those of other processes.
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
        let spread = LONGEST_PAUSE_MICROS - SHORTEST_PAUSE_MICROS;
        Duration::from_micros(SHORTEST_PAUSE_MICROS + self.0 % (spread + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_short_and_differ() {
        let mut jitter = Jitter::new();
        let naps: Vec<_> = (0..200).map(|_| jitter.next().as_micros()).collect();
        assert!(naps.iter().all(|n| (200..=1_000).contains(n)));
        assert!(naps.iter().any(|n| *n < 600) && naps.iter().any(|n| *n > 600));
    }

    #[test]
    fn a_connection_waits_within_the_limit_that_was_set_last_on_its_thread() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("locks.db");
        let other = Connection::open(&path).expect("opened");
        other.execute_batch("BEGIN IMMEDIATE").expect("locked");
        let mut connection = Connection::open(&path).expect("opened");
        Limit::attach(&mut connection).expect("attached");
        let (first, second) = (Limit::new(), Limit::new());
        for limit in [&first, &second, &first] {
            let soon = SystemClock.elapsed().plus(Duration::from_millis(20));
            limit.set(soon);
            assert!(connection.execute_batch("BEGIN IMMEDIATE").is_err());
            // SQLite's own time-out, which is set otherwise, is five seconds.
            let late = SystemClock.elapsed().since(soon);
            assert!(SystemClock.elapsed() >= soon && late < Duration::from_secs(4));
        }
    }

    #[test]
    fn nobody_naps_past_the_limit() {
        let limit = Limit::new();
        assert!(!limit.pause(&mut Jitter::new()));
        limit.set(SystemClock.elapsed().plus(Duration::from_secs(60)));
        assert!(limit.pause(&mut Jitter::new()));
    }
}
