//! The payload of a held lease: what the holder before left, and what this one writes.

use std::sync::Arc;

use super::guard::Lease;
use super::state::LeaseState;
use crate::error::{Effect, Error, ErrorKind};

impl Lease {
    /// The payload that the holder before this one left: kept at its
    /// [release](Lease::release_keeping_data), or of a holder that died or was ended by force. It costs nothing: the
    /// answer to the acquire shows it.
    ///
    /// `None` if nothing was left, and for a lease that was acquired with
    /// [data](crate::LockRequest::data) of its own, which replaces it unseen. To see it first, acquire without data,
    /// and use [`set_data`](Lease::set_data) then. Until that, observers see the former payload as that of this holder.
    pub fn previous_data(&self) -> Option<&[u8]> {
        self.lease_state.previous.as_deref()
    }

    /// Replaces the payload in the record: a renewal writes it, in order with all other renewals. It returns when
    /// that is acknowledged. The payload stays until it is replaced or the lease ends
    /// ([`release_keeping_data`](Lease::release_keeping_data)). On DynamoDB a record of more than 1 KB doubles the
    /// price of every request.
    ///
    /// # Errors
    ///
    /// - [`Lost`](ErrorKind::Lost): the lease is lost.
    /// - [`InvalidInput`](ErrorKind::InvalidInput): the store does not take the payload. The lease goes on with the
    ///   payload before.
    /// - [`Unreachable`](ErrorKind::Unreachable): no renewal was acknowledged within the call time-out. A later
    ///   renewal may still write it.
    ///
    /// # Cancel safety
    ///
    /// When this future is dropped, the payload may still be written, but never over that of a later call.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), leasehold::Error> {
    /// use leasehold::{LockClient, store::memory::MemoryStore};
    ///
    /// let locks = LockClient::new(MemoryStore::new());
    /// let lease = locks.acquire("import").await?;
    /// lease.set_data("row 1000").await?;
    /// lease.release_keeping_data().await?;
    ///
    /// let next = locks.acquire("import").await?;
    /// assert_eq!(next.previous_data(), Some(&b"row 1000"[..]));
    /// # next.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn set_data(&self, data: impl AsRef<[u8]>) -> Result<(), Error> {
        let written = self.lease_state.set_data(data.as_ref().into()).await;
        self.context().meter.counted(written)
    }
}

impl LeaseState {
    /// Writes a payload, within the call time-out.
    pub(crate) async fn set_data(&self, data: Arc<[u8]>) -> Result<(), Error> {
        if self.id.is_slot() {
            let key = self.id.key().as_str();
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("the slot of `{key}` has no payload"),
            )
            .with_key(key)
            .with_hint("keep the payload elsewhere, or acquire the whole key"));
        }
        self.within_call(Some(data)).await
    }

    /// Renews now, within the call time-out.
    pub(super) async fn within_call(&self, data: Option<Arc<[u8]>>) -> Result<(), Error> {
        let (policy, clocks) = (&self.policy, &self.context.clocks);
        let started = clocks.elapsed();
        let most = policy.call_timeout();
        tokio::select! {
            biased;
            renewed = self.renewed(data) => renewed,
            () = clocks.sleep_until(started.plus(most)) => {
                let (key, store) = (self.id.key(), &self.context.store);
                let failure = self.with_truth(|truth| truth.failure.clone());
                let why = failure.map(|failure| format!(" ({failure})")).unwrap_or_default();
                let message =
                    format!("cannot renew `{key}`: {store} acknowledged no renewal within {most:?}{why}");
                Err(Error::new(ErrorKind::Unreachable, message)
                    .with_key(key.as_str())
                    .with_effect(Effect::Unknown)
                    .with_hint("check the endpoint and the network: the lease is renewed on until it is lost"))
            }
        }
    }
}
