//! Tokio's time as a clock, for tests.

use std::time::Duration;

use async_trait::async_trait;
use leasehold_protocol::time::Elapsed;

use super::system::check_runtime;
use super::{Clock, ClockTrouble};

/// Tokio's clock. In a test with `#[tokio::test(start_paused = true)]`, time jumps ahead when all
/// tasks wait. The wall clock starts at the given time.
#[derive(Clone, Debug)]
pub struct TokioClock {
    origin: tokio::time::Instant,
    wall_origin_ms: i64,
}

impl TokioClock {
    /// A clock whose wall clock shows `wall_unix_ms` now. It follows real time if tokio's time is not
    /// paused.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn new(wall_unix_ms: i64) -> Self {
        TokioClock {
            origin: tokio::time::Instant::now(),
            wall_origin_ms: wall_unix_ms,
        }
    }

    /// The same elapsed clock beside a wall clock that is `by_ms` ahead (or behind, if negative).
    #[must_use]
    pub fn with_wall_ahead(&self, by_ms: i64) -> Self {
        TokioClock {
            origin: self.origin,
            wall_origin_ms: self.wall_origin_ms.saturating_add(by_ms),
        }
    }
}

#[async_trait]
impl Clock for TokioClock {
    fn check(&self) -> Result<(), ClockTrouble> {
        check_runtime()
    }

    fn elapsed(&self) -> Elapsed {
        Elapsed(self.origin.elapsed())
    }

    fn wall_unix_ms(&self) -> i64 {
        let passed = i64::try_from(self.origin.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.wall_origin_ms.saturating_add(passed)
    }

    async fn sleep_until(&self, at: Elapsed) {
        // Tokio's timers have a resolution of 1 ms, and may fire early by that.
        while self.elapsed() < at {
            tokio::time::sleep_until(self.origin + at.0.min(Duration::from_secs(1 << 32))).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_of_a_runtime_it_cannot_sleep() {
        let clock = TokioClock::new(0);
        assert!(clock.check().is_err());
        assert!(!clock.is_of_host(), "its time is the test's");
    }

    #[tokio::test(start_paused = true)]
    async fn tokio_time_passes_at_once() {
        let clock = TokioClock::new(1_000);
        let ahead = clock.with_wall_ahead(500);
        clock.sleep_until(Elapsed(Duration::from_secs(3_600))).await;
        assert!(clock.elapsed() >= Elapsed(Duration::from_secs(3_600)));
        assert_eq!(ahead.wall_unix_ms() - clock.wall_unix_ms(), 500);
    }
}
