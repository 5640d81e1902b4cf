//! A new payload in mid-hold: the next renewal writes it.
//!
//! Invariants: a payload that the store refuses ends no lease. A payload is acknowledged only by a renewal that
//! had it.

use std::sync::Arc;

use leasehold_protocol::write::{Description, Operation};

use super::task::{RenewalTask, Waiting};
use crate::lease::state::Asked;
use crate::store::StoreError;

impl RenewalTask {
    /// Has the next renewals write this payload. Returns the payload before it.
    pub(super) fn set_data(&mut self, data: Arc<[u8]>) -> Option<Arc<[u8]>> {
        self.describe(Some(data.clone()));
        // From here on no waiter that asks for the payload before is handed the grant.
        self.lease_state
            .with_truth(|truth| truth.data.replace(data))
    }

    fn describe(&mut self, data: Option<Arc<[u8]>>) {
        let label = self.policy.label();
        let holder = label.unwrap_or_else(|| self.core.leases.label.clone());
        self.kept.describe(Description { holder, data });
    }

    /// Whether the caller asks for a payload that no acknowledged renewal has written.
    pub(super) fn lacks_data(&self, ask: &Asked) -> bool {
        ask.data.is_some() && self.kept.hides_data()
    }

    /// The store does not take the payload: it stays as it was, and the lease is renewed without it.
    pub(super) fn refuse_data(&mut self, error: &StoreError) {
        let asks = |waiting: &mut Waiting| waiting.ask.data.is_some();
        let Some(Waiting { ask, before, .. }) = self.waiting.take_if(asks) else {
            return;
        };
        self.describe(before.clone());
        self.lease_state.with_truth(|truth| truth.data = before);
        let key = self.lease_state.id.key().as_str();
        let error = error
            .without_source()
            .into_error(Operation::Renew, Some(key));
        drop(ask.answer.send(Err(error)));
    }
}
