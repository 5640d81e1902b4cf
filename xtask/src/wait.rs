//! Bounded waiting. The only place of xtask that reads a clock or sleeps.

use std::time::{Duration, Instant};

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
