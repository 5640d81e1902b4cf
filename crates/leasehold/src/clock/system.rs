//! The clocks of this host, tokio's clock for tests in paused time, and the system's randomness.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tracing::warn;

use super::elapsed::elapsed;
use super::{Clock, ClockTrouble};
use leasehold_protocol::time::Elapsed;

/// The longest single sleep. Timers stop while the host is suspended; waking up now and then to
/// look at the elapsed clock bounds how late a suspended host learns that its lease has ended.
const LONGEST_NAP: Duration = Duration::from_secs(1);

/// Tokio's time is paused where so many sleeps in a row return before half of their time has passed,
const EARLY: u32 = 3;
/// and then each is followed by a real one, so that it does not use up a core.
const REAL_NAP: Duration = Duration::from_millis(20);

/// The host's own clocks: the wall clock, and an elapsed clock that counts through suspend and that NTP does not slew
/// (on Linux and Android `CLOCK_MONOTONIC_RAW` and the time slept, on Apple systems `CLOCK_MONOTONIC`).
///
/// It sleeps on tokio's timers, which do not wait in a test with paused time (`start_paused`), and knows only real time. It notices, warns
/// once, and goes on slowly: give such a test's client and store a [`TokioClock`](super::TokioClock)
/// ([how](crate::store::memory#testing-code-that-uses-locks)).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// Both clocks here sleep on tokio's timers.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(super) fn check_runtime() -> Result<(), ClockTrouble> {
    if tokio::runtime::Handle::try_current().is_err() {
        return Err(ClockTrouble::new(
            "it was called outside of a tokio runtime",
            "call it within one, from `#[tokio::main]` or `Runtime::block_on`",
        ));
    }
    // Nothing else tells whether the runtime has timers.
    let timer = std::panic::catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO)));
    timer.map_err(|_| {
        ClockTrouble::new(
            "its tokio runtime has no timers",
            "build the runtime with `enable_time()` or `enable_all()`",
        )
    })
}

#[async_trait]
impl Clock for SystemClock {
    fn check(&self) -> Result<(), ClockTrouble> {
        check_runtime()
    }

    fn elapsed(&self) -> Elapsed {
        elapsed()
    }

    fn is_of_host(&self) -> bool {
        true
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn wall_unix_ms(&self) -> i64 {
        unix_ms(SystemTime::now())
    }

    async fn sleep_until(&self, at: Elapsed) {
        self.naps_until(at).await;
    }
}

/// Whether paused time was met in this process, and warned of.
static MET_PAUSED_TIME: AtomicBool = AtomicBool::new(false);

impl SystemClock {
    /// How many sleeps it takes.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    async fn naps_until(self, at: Elapsed) -> u32 {
        let (mut sleeps, mut early) = (0, 0);
        loop {
            let now = self.elapsed();
            let left = at.since(now);
            if left.is_zero() {
                return sleeps;
            }
            let sleep = left.min(LONGEST_NAP);
            tokio::time::sleep(sleep).await;
            sleeps += 1;
            if self.elapsed().since(now) >= sleep / 2 {
                early = 0;
                continue;
            }
            early += 1;
            let known = MET_PAUSED_TIME.load(Ordering::Relaxed);
            if early < EARLY && !known {
                continue;
            }
            if !MET_PAUSED_TIME.swap(true, Ordering::Relaxed) {
                warn!(
                    "tokio's time is paused, but a lock client follows the host's clock (`SystemClock`): \
                     give it and its store a `TokioClock` (feature `test-util`), by `LockClientBuilder::clock` and `MemoryStore::with_clock`"
                );
            }
            // A blocking task keeps tokio's time from running ahead. Cut short by the end of the runtime, it was long enough.
            drop(tokio::task::spawn_blocking(|| std::thread::sleep(REAL_NAP)).await);
        }
    }
}

fn unix_ms(t: SystemTime) -> i64 {
    match t.duration_since(UNIX_EPOCH) {
        Ok(d) => i64::try_from(d.as_millis()).unwrap_or(i64::MAX),
        Err(before) => {
            i64::try_from(before.duration().as_millis()).map_or(i64::MIN, i64::saturating_neg)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_elapsed_clock_moves_forward() {
        let clock = SystemClock;
        let first = clock.elapsed();
        assert!(clock.elapsed() >= first);
        assert!(clock.wall_unix_ms() > 1_700_000_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn u8_the_systems_clock_does_not_spin_in_paused_time() {
        let clock = SystemClock;
        let wait = Duration::from_millis(300);
        let sleeps = clock.naps_until(clock.elapsed().plus(wait)).await;
        // However slow this machine is: every sleep but the first ones takes its real time.
        let most = wait.as_millis() / REAL_NAP.as_millis() + u128::from(EARLY) + 1;
        assert!(u128::from(sleeps) <= most, "{sleeps} sleeps");
    }
}
