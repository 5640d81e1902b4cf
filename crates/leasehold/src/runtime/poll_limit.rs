//! The limit of a client's polls.
//!
//! Invariants:
//!
//! - All waits of one client together send at most `rate` polls a second, after a burst of one second's
//!   worth.
//! - When the table throttles a poll, or the request of a call that may wait, all delays of the client
//!   double, up to [`SLOWEST`] times. Each answer shortens them a little, so that many processes find
//!   the rate that the table serves.
//! - Renewals and releases are never delayed.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use leasehold_protocol::time::Elapsed;

/// The largest factor of delays.
const SLOWEST: f64 = 32.0;
/// The factor by which every answer shortens delays.
const RECOVERY: f64 = 0.95;

#[derive(Debug)]
pub(crate) struct PollLimit {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the next poll would be due at even intervals.
    due: Elapsed,
    slowness: f64,
}

impl PollLimit {
    pub(crate) fn new(max_polls_per_second: u32) -> Self {
        PollLimit {
            interval: Duration::from_secs(1) / max_polls_per_second.max(1),
            state: Mutex::new(State {
                due: Elapsed::default(),
                slowness: 1.0,
            }),
        }
    }

    /// Reserves a poll, and returns when it may be sent.
    pub(crate) fn take(&self, now: Elapsed) -> Elapsed {
        self.with(|state| {
            // One second's worth may come at once; the rest comes at even intervals.
            let at = now.max(
                state
                    .due
                    .minus(Duration::from_secs(1).saturating_sub(self.interval)),
            );
            state.due = state.due.max(now).plus(self.interval);
            at
        })
    }

    /// A delay between polls, stretched by the present factor.
    pub(crate) fn stretch(&self, delay: Duration) -> Duration {
        delay.mul_f64(self.with(|state| state.slowness))
    }

    /// Records that a poll, or the request of a call that may wait, was throttled or answered.
    pub(crate) fn asked(&self, throttled: bool) {
        self.with(|state| {
            state.slowness = if throttled {
                (state.slowness * 2.0).min(SLOWEST)
            } else {
                (state.slowness * RECOVERY).max(1.0)
            };
        });
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        // A panic leaves a valid state.
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Elapsed {
        Elapsed(Duration::from_millis(ms))
    }

    #[test]
    fn a_burst_and_then_an_even_flow() {
        let budget = PollLimit::new(10);
        let sent: Vec<_> = (0..15).map(|_| budget.take(at(5_000))).collect();
        assert!(sent[..10].iter().all(|t| *t == at(5_000)), "{sent:?}");
        assert_eq!(
            sent[10..],
            [100, 200, 300, 400, 500].map(|ms| at(5_000 + ms))
        );
        // Over a longer time: the rate.
        let mut now = at(10_000);
        for _ in 0..110 {
            now = budget.take(now);
        }
        assert_eq!(now, at(20_000));
    }

    #[test]
    fn throttles_slow_down_and_answers_speed_up_again() {
        let budget = PollLimit::new(1);
        let delay = Duration::from_millis(100);
        assert_eq!(budget.stretch(delay), delay);
        (0..3).for_each(|_| budget.asked(true));
        assert_eq!(budget.stretch(delay), delay * 8);
        (0..20).for_each(|_| budget.asked(true));
        assert_eq!(budget.stretch(delay), delay * 32);
        (0..200).for_each(|_| budget.asked(false));
        assert_eq!(budget.stretch(delay), delay);
    }
}
