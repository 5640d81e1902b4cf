//! The retry budget of a client.
//!
//! Invariant: all calls and all background work of one client together retry at most [`BURST`] requests
//! at once, and [`RATE`] a second after that. So a failing store does not get more load. The first
//! request of a call, of a release and of a clean-up is free. Renewals are free, since the lease bounds
//! them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use leasehold_protocol::time::Elapsed;

/// Back-off between the tries of a call.
pub(crate) const RETRY_FIRST: Duration = Duration::from_millis(50);
pub(crate) const RETRY_MAX: Duration = Duration::from_secs(1);

/// The most retries at once.
pub(crate) const BURST: u32 = 100;
/// The most retries a second after that.
pub(crate) const RATE: u32 = 10;

/// A token bucket.
#[derive(Debug, Default)]
pub(crate) struct RetryBudget {
    /// When the next retry would be due at even intervals.
    due: Mutex<Elapsed>,
}

impl RetryBudget {
    /// Reserves a retry at `wanted` or later, and before `limit`, and returns its time. `None`: nothing
    /// was reserved, because there is no free time before `limit`.
    pub(crate) fn take(&self, wanted: Elapsed, limit: Elapsed) -> Option<Elapsed> {
        let interval = Duration::from_secs(1) / RATE;
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let at = wanted.max(due.minus(interval * (BURST - 1)));
        if at >= limit {
            return None;
        }
        *due = due.max(wanted).plus(interval);
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_an_even_flow_and_nothing_beyond_the_limit() {
        let budget = RetryBudget::default();
        let at = |ms| Elapsed(Duration::from_millis(ms));
        let wanted = at(60_000);
        for _ in 0..BURST {
            assert_eq!(budget.take(wanted, at(70_000)), Some(wanted));
        }
        assert_eq!(budget.take(wanted, at(70_000)), Some(at(60_100)));
        assert_eq!(budget.take(wanted, at(60_200)), None);
        assert_eq!(
            budget.take(wanted, at(70_000)),
            Some(at(60_200)),
            "not taken"
        );
        // Ten seconds without a retry fill the bucket again, up to its size.
        let later = at(200_000);
        for _ in 0..BURST {
            assert_eq!(budget.take(later, at(300_000)), Some(later));
        }
        assert_eq!(budget.take(later, at(300_000)), Some(at(200_100)));
    }
}
