//! A handle that tells when a lease ends.

use std::sync::Arc;
use std::time::Duration;

use super::end::EndReason;
use super::state::Watched;
use crate::lease_id::LeaseId;

/// Tells when a lease ends. Clones watch the same lease.
#[derive(Clone, Debug)]
pub struct LeaseWatch {
    watched: Arc<Watched>,
}

impl LeaseWatch {
    pub(super) fn new(watched: Arc<Watched>) -> Self {
        LeaseWatch { watched }
    }

    /// Waits until the lease is lost or released.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only waits.
    pub async fn ended(&self) -> EndReason {
        loop {
            // By the clocks, too: the task that keeps the lease may be on a runtime that stands still.
            let left = self.watched.remaining();
            if let Some(loss) = self.watched.loss() {
                return loss;
            }
            let clocks = &self.watched.context.clocks;
            let until = clocks.elapsed().plus(left);
            tokio::select! {
                biased;
                () = self.watched.lost.cancelled() => {}
                () = clocks.nap(until) => {}
            }
        }
    }

    /// As [`Lease::remaining`](crate::Lease::remaining).
    pub fn remaining(&self) -> Duration {
        self.watched.remaining()
    }

    /// The identity of the grant.
    pub fn id(&self) -> &LeaseId {
        &self.watched.id
    }
}
