//! Bounded waiting. The only place of xtask that reads a clock or sleeps.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Asks `ready` every `pause` until it gives a value, for at most `limit`; `None` when the time is up.
pub(crate) fn until<T>(
    limit: Duration,
    pause: Duration,
    mut ready: impl FnMut() -> Option<T>,
) -> Option<T> {
    #[expect(
        clippy::disallowed_methods,
        reason = "xtask holds no leases; it waits for real processes in real time"
    )]
    let (now, sleep) = (Instant::now, std::thread::sleep);
    let start = now();
    loop {
        if let Some(value) = ready() {
            return Some(value);
        }
        if start.elapsed() >= limit {
            return None;
        }
        sleep(pause);
    }
}

/// How long something takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(
        clippy::disallowed_methods,
        reason = "xtask holds no leases; it says how long programs took"
    )]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// A number that no other run has.
#[expect(
    clippy::disallowed_methods,
    reason = "xtask holds no leases; a soak wants seeds of its own"
)]
pub(crate) fn unix_seconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_value_or_stops_at_the_limit() {
        let mut calls = 0;
        let third = until(Duration::from_secs(60), Duration::ZERO, || {
            calls += 1;
            (calls == 3).then_some(calls)
        });
        assert_eq!(third, Some(3));
        assert_eq!(
            until(
                Duration::from_millis(5),
                Duration::from_millis(1),
                || None::<()>
            ),
            None
        );
    }
}
