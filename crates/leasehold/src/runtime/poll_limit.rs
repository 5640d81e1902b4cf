//! What a client may spend on waiting: a bound on its polls, and how it makes room for others.
//!
//! Two invariants. All waits of one client together send at most `rate` polls a second, after a burst
//! of one second's worth: many keys waited for in one process stay cheap. When the table throttles
//! polls or the requests of calls that may wait, every wait of the client slows down, twice with each
//! throttled one up to [`SLOWEST`] times, and speeds up again slowly: many processes that wait for one key
//! find the rate that the table serves. Neither touches a holder: it renews and releases at once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use leasehold_protocol::time::Elapsed;

/// How much longer delays become at most.
const SLOWEST: f64 = 32.0;
/// What every answer takes off again.
const RECOVERY: f64 = 0.95;

#[derive(Debug)]
pub(crate) struct PollLimit {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the next poll would be due if they came evenly.
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

    /// Takes a place for a poll that is wanted now: when it may be sent.
    pub(crate) fn take(&self, now: Elapsed) -> Elapsed {
        self.with(|state| {
            // A second's worth may come at once; whatever is more, one interval after the other.
            let at = now.max(
                state
                    .due
                    .minus(Duration::from_secs(1).saturating_sub(self.interval)),
            );
            state.due = state.due.max(now).plus(self.interval);
            at
        })
    }

    /// A delay between polls, as long as the table wants it.
    pub(crate) fn stretch(&self, delay: Duration) -> Duration {
        delay.mul_f64(self.with(|state| state.slowness))
    }

    /// A poll, or the request of a call that may wait, was throttled or answered.
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
        // Whatever a panic leaves is sound.
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
        // Over any longer time: the rate.
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
