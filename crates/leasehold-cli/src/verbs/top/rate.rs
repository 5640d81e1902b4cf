//! The requests of the last seconds. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use leasehold::clock::Elapsed;

/// Over how long the rate is taken.
const WINDOW: Duration = Duration::from_secs(10);

/// Counts at some moments, oldest first.
#[derive(Debug, Default)]
pub(super) struct Rate {
    samples: VecDeque<(Elapsed, f64, f64)>,
}

impl Rate {
    /// Notes the requests and read units so far.
    pub(super) fn note(&mut self, now: Elapsed, requests: f64, units: f64) {
        // A client that was opened again counts from zero.
        if self.samples.back().is_some_and(|last| last.1 > requests) {
            self.samples.clear();
        }
        self.samples.push_back((now, requests, units));
        while self.samples.len() > 2 && now.since(self.samples[1].0) >= WINDOW {
            self.samples.pop_front();
        }
    }

    /// Requests and read units a second; `None` before the second sample.
    pub(super) fn per_second(&self) -> Option<(f64, f64)> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let seconds = last.0.since(first.0).as_secs_f64();
        (seconds > 0.0).then(|| ((last.1 - first.1) / seconds, (last.2 - first.2) / seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut rate = Rate::default();
        let mut requests = 0.0;
        for second in 0..100 {
            requests += if second < 50 { 1.0 } else { 4.0 };
            rate.note(
                Elapsed(Duration::from_secs(second)),
                requests,
                requests / 2.0,
            );
            if second == 0 {
                assert_eq!(rate.per_second(), None);
            }
        }
        assert_eq!(rate.per_second(), Some((4.0, 2.0)));
        assert!(rate.samples.len() <= 11);
        rate.note(Elapsed(Duration::from_secs(100)), 1.0, 0.5);
        assert_eq!(rate.per_second(), None);
    }
}
