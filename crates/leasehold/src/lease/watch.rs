//! A handle to wait for the end of a lease.

use std::sync::Arc;
use std::time::Duration;

use super::end::EndReason;
use super::state::LeaseState;
use crate::lease_id::LeaseId;

/// A handle to wait for the end of a lease. Clones watch the same lease.
#[derive(Clone, Debug)]
pub struct LeaseWatch {
    pub(crate) lease_state: Arc<LeaseState>,
}

impl LeaseWatch {
    pub(super) fn new(lease_state: Arc<LeaseState>) -> Self {
        LeaseWatch { lease_state }
    }

    /// Waits until the lease is lost or released.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only waits.
    pub async fn ended(&self) -> EndReason {
        loop {
            // By the clocks, too: the renewal task may be on a runtime that does not run.
            let left = self.lease_state.remaining();
            if let Some(loss) = self.lease_state.loss() {
                return loss;
            }
            let clocks = &self.lease_state.context.clocks;
            let until = clocks.elapsed().plus(left);
            tokio::select! {
                biased;
                () = self.lease_state.lost.cancelled() => {}
                () = clocks.sleep_shared(until) => {}
            }
        }
    }

    /// As [`Lease::remaining`](crate::Lease::remaining).
    pub fn remaining(&self) -> Duration {
        self.lease_state.remaining()
    }

    /// The identity of the grant.
    pub fn id(&self) -> &LeaseId {
        &self.lease_state.id
    }
}
