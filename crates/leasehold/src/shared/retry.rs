//! When a failed request is sent again: one loop for everything that is asked until it is answered.
//!
//! Invariants: only what may succeed later is tried again; every try but the first takes a place in the client's retry
//! budget; the loop ends at its limit. Two kinds of requests have rules of their own: an acquire by its wait and by the
//! queue (`acquire`), a renewal by its lease (`renewal`).

use std::time::Duration;

use leasehold_protocol::time::Elapsed;
use leasehold_protocol::write::Operation;

use super::Core;
use crate::error::{Effect, Error};
use crate::store::StoreError;

/// The tries of one thing.
#[derive(Debug)]
pub(crate) struct Retry {
    limit: Elapsed,
    most: u32,
    /// Requests that have failed.
    pub(crate) failures: u32,
    /// One of them may have been applied.
    pub(crate) uncertain: bool,
}

impl Retry {
    /// Until then.
    pub(crate) fn until(limit: Elapsed) -> Self {
        Retry {
            limit,
            most: u32::MAX,
            failures: 0,
            uncertain: false,
        }
    }

    /// So many tries at most.
    pub(crate) fn at_most(self, most: u32) -> Self {
        Retry { most, ..self }
    }

    /// The error of the whole, when the last request has failed so.
    pub(crate) fn into_error(
        self,
        error: StoreError,
        operation: Operation,
        key: &str,
        took: Duration,
    ) -> Error {
        let effect = match self.uncertain {
            true => Effect::Unknown,
            false => error.effect,
        };
        error
            .into_error(operation, Some(key))
            .with_effect(effect)
            .with_effort(self.failures, took)
    }

    /// A request has failed: waits until the next one may be sent. `false`: none is sent any more.
    pub(crate) async fn again(&mut self, core: &Core, error: &StoreError) -> bool {
        self.failures += 1;
        self.uncertain |= error.effect == Effect::Unknown;
        if !error.kind.is_retryable() || self.failures >= self.most {
            return false;
        }
        let Some(at) = core.again(self.failures, self.limit) else {
            return false;
        };
        core.clocks.sleep_until(at).await;
        true
    }
}
