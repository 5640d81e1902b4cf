//! How often a client sends again what has failed.
//!
//! Invariant: all calls and all background work of one client together send at most [`BURST`] requests again, and
//! [`RATE`] a second beyond that, however many callers there are: a store that is sick gets less, and not more.
//! The first request of a call, of a release and of a cleaning up is free, and so is every renewal, which its lease bounds.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use leasehold_protocol::time::Elapsed;

/// Back-off between the tries of a call.
pub(crate) const RETRY_FIRST: Duration = Duration::from_millis(50);
pub(crate) const RETRY_MAX: Duration = Duration::from_secs(1);

/// So many requests may be sent again at once.
pub(crate) const BURST: u32 = 100;
/// And so many a second after that.
pub(crate) const RATE: u32 = 10;

/// A token bucket.
#[derive(Debug, Default)]
pub(crate) struct RetryBudget {
    /// When the next retry would be due if they came evenly.
    due: Mutex<Elapsed>,
}

impl RetryBudget {
    /// Takes a place for a request that is to be sent again at `wanted`, and before `limit`: when it may be sent. `None`, and
    /// nothing is taken, where there is no place before that.
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
        // Ten seconds without any fill it up again, and no further.
        let later = at(200_000);
        for _ in 0..BURST {
            assert_eq!(budget.take(later, at(300_000)), Some(later));
        }
        assert_eq!(budget.take(later, at(300_000)), Some(at(200_100)));
    }
}
