//! The clocks of this host.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tracing::warn;

use super::elapsed::elapsed;
use super::{Clock, ClockTrouble};
use leasehold_protocol::time::Elapsed;

/// The longest single sleep. Timers stop while the host is suspended. This bounds how late the host
/// reads the elapsed clock after a suspend.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Tokio's time counts as paused after this many sleeps in a row end before half of their time.
const EARLY: u32 = 3;
/// In paused time, a real sleep of this length follows each early one, to keep the CPU idle.
const REAL_SLEEP: Duration = Duration::from_millis(20);

/// The host's own clocks: the wall clock, and an elapsed clock that counts through suspend and that
/// NTP does not slew. The elapsed clock is `CLOCK_MONOTONIC_RAW` plus the time in suspend on Linux and
/// Android, and `CLOCK_MONOTONIC` on Apple systems.
///
/// It follows real time, but sleeps on tokio's timers, which do not wait in a test with paused time
/// (`start_paused`). In such a test it warns once and goes on slowly: give client and store a
/// [`TokioClock`](super::TokioClock) instead ([how](crate::store::memory#testing-code-that-uses-locks)).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// Checks that tokio's timers work here. [`SystemClock`] and `TokioClock` sleep on them.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(super) fn check_runtime() -> Result<(), ClockTrouble> {
    if tokio::runtime::Handle::try_current().is_err() {
        return Err(ClockTrouble::new(
            "it was called outside of a tokio runtime",
            "call it within one, from `#[tokio::main]` or `Runtime::block_on`",
        ));
    }
    // Tokio has no other way to check for timers.
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
        self.sleeps_until(at).await;
    }
}

/// Whether this process has met paused time, and has warned of it.
static MET_PAUSED_TIME: AtomicBool = AtomicBool::new(false);

impl SystemClock {
    /// Sleeps until `at`, and returns the number of sleeps.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    async fn sleeps_until(self, at: Elapsed) -> u32 {
        let (mut sleeps, mut early) = (0, 0);
        loop {
            let now = self.elapsed();
            let left = at.since(now);
            if left.is_zero() {
                return sleeps;
            }
            let sleep = left.min(LONGEST_SLEEP);
            tokio::time::sleep(sleep).await;
            sleeps += 1;
            if self.elapsed().since(now) >= sleep / 2 {
                early = 0;
                continue;
            }
            early += 1;
            if !is_paused(early, MET_PAUSED_TIME.load(Ordering::Relaxed)) {
                continue;
            }
            if !MET_PAUSED_TIME.swap(true, Ordering::Relaxed) {
                warn!(
                    "tokio's time is paused, but a lock client follows the host's clock (`SystemClock`): \
                     give it and its store a `TokioClock` (feature `test-util`), by `LockClientBuilder::clock` and `MemoryStore::with_clock`"
                );
            }
            // A blocking task stops the advance of paused time. An error means that the runtime ended.
            drop(tokio::task::spawn_blocking(|| std::thread::sleep(REAL_SLEEP)).await);
        }
    }
}

/// Whether tokio's time is paused: `early` sleeps in a row have ended early, or it was met before.
fn is_paused(early: u32, known: bool) -> bool {
    early >= EARLY || known
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

    #[test]
    fn one_early_sleep_is_no_paused_time() {
        assert!(!is_paused(1, false) && !is_paused(EARLY - 1, false));
        assert!(is_paused(EARLY, false) && is_paused(EARLY + 1, false));
        assert!(is_paused(1, true));
    }

    #[tokio::test(start_paused = true)]
    async fn u8_the_systems_clock_does_not_spin_in_paused_time() {
        let clock = SystemClock;
        let wait = Duration::from_millis(300);
        let sleeps = clock.sleeps_until(clock.elapsed().plus(wait)).await;
        // On a machine of any speed: every sleep but the first ones takes its real time.
        let most = wait.as_millis() / REAL_SLEEP.as_millis() + u128::from(EARLY) + 1;
        assert!(u128::from(sleeps) <= most, "{sleeps} sleeps");
    }
}
