//! A clock that only a test moves.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::Clock;
use leasehold_protocol::time::{Elapsed, Reading};

/// A clock that stands still until [`advance`](ManualClock::advance) moves it. Clones are the same
/// clock.
#[derive(Clone, Debug)]
pub struct ManualClock {
    now: Arc<watch::Sender<Reading>>,
}

impl ManualClock {
    /// A clock whose elapsed time is zero and whose wall clock shows `wall_unix_ms`.
    pub fn new(wall_unix_ms: i64) -> Self {
        ManualClock {
            now: Arc::new(watch::Sender::new(Reading {
                elapsed: Elapsed::default(),
                wall_ms: wall_unix_ms,
            })),
        }
    }

    /// Moves both clocks forward, and wakes the sleeps that have ended.
    pub fn advance(&self, by: Duration) {
        let by_ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.now.send_modify(|now| {
            now.elapsed = now.elapsed.plus(by);
            now.wall_ms = now.wall_ms.saturating_add(by_ms);
        });
    }

    /// Steps the wall clock alone by `by_ms` milliseconds, as an operator or NTP does.
    pub fn step_wall(&self, by_ms: i64) {
        self.now
            .send_modify(|now| now.wall_ms = now.wall_ms.saturating_add(by_ms));
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn elapsed(&self) -> Elapsed {
        self.now.borrow().elapsed
    }

    fn wall_unix_ms(&self) -> i64 {
        self.now.borrow().wall_ms
    }

    async fn sleep_until(&self, at: Elapsed) {
        let mut moved = self.now.subscribe();
        // The sender lives as long as this clock, so the wait cannot fail.
        let _ = moved.wait_for(|now| now.elapsed >= at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sleepers_wake_when_the_clock_is_moved() {
        let clock = ManualClock::new(0);
        let sleeper = {
            let clock = clock.clone();
            async move { clock.sleep_until(Elapsed(Duration::from_secs(5))).await }
        };
        let mover = async {
            clock.advance(Duration::from_secs(4));
            assert_eq!(clock.wall_unix_ms(), 4_000);
            clock.advance(Duration::from_secs(1));
        };
        tokio::join!(sleeper, mover);
        clock.step_wall(-5_000);
        assert_eq!(clock.wall_unix_ms(), 0);
        clock.step_wall(7_000);
        let wall_of = |clock: &dyn Clock| clock.wall_unix_ms();
        assert_eq!(wall_of(&std::sync::Arc::new(clock)), 7_000, "shared");
    }
}
