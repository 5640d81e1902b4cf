//! The retry loop of requests.
//!
//! Invariants: only an error that may pass is retried. Every try but the first counts in the client's
//! retry budget. The loop ends at its limit. Two kinds of requests have other rules: an acquire is
//! bounded by its wait and the queue (`acquire`), and a renewal by its lease (`renewal`).

use std::time::Duration;

use leasehold_protocol::time::Elapsed;
use leasehold_protocol::write::Operation;

use super::Core;
use crate::error::{Effect, Error};
use crate::store::StoreError;

/// The tries of one request.
#[derive(Debug)]
pub(crate) struct Retry {
    limit: Elapsed,
    most: u32,
    /// Requests that have failed.
    pub(crate) failures: u32,
    /// Whether one of them may have been applied.
    pub(crate) uncertain: bool,
}

impl Retry {
    /// Tries until `limit`.
    pub(crate) fn until(limit: Elapsed) -> Self {
        Retry {
            limit,
            most: u32::MAX,
            failures: 0,
            uncertain: false,
        }
    }

    /// At most `most` tries.
    pub(crate) fn at_most(self, most: u32) -> Self {
        Retry { most, ..self }
    }

    /// The error of the call, when the last request has failed with `error`.
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

    /// Waits after a failed request until the next one may be sent. `false`: no more tries.
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
