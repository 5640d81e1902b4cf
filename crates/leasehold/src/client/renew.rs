//! The renewal of a grant by its identity, from any process.

use std::time::Duration;

use super::LockClient;
use crate::error::{Error, ErrorKind};
use crate::holder::HolderInfo;
use crate::lease::end::{EndReason, RenewOutcome, seen_in};
use crate::lease_id::LeaseId;
use crate::meter::CallUsage;
use crate::renewal::once::{NotRenewed, renew_once};
use crate::shared::Retry;
use crate::store::Consistency;
use leasehold_protocol::renewal::Kept;
use leasehold_protocol::write::Operation;

impl LockClient {
    /// Renews a grant by its identity, which may come from another client, process or host. It is for grants
    /// without a guard ([`Lease::detach`](crate::Lease::detach)). The identity and the token stay. It costs one
    /// read and one write.
    ///
    /// Without `lease`, the grant lasts for another of its own lease durations. With a longer `lease`, it lasts for
    /// that, and so do later renewals. A shorter one has no effect: a renewal never moves the end back.
    ///
    /// The write changes only a record that still carries this grant. A grant that was released or taken over is
    /// never revived: see [`RenewOutcome`]. A lease that has run out is renewed if nobody has taken the key since.
    /// The unchanged token then proves that no other client has held it.
    ///
    /// The grant is bound to no process afterwards.
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration) when `lease` does not add up with the client's policy;
    /// others by [`ErrorKind`](crate::ErrorKind), within [`call_timeout`](crate::PolicyBuilder::call_timeout) each
    /// for the read and the write. Count on the former end of the lease then.
    ///
    /// # Cancel safety
    ///
    /// A request in flight goes on when this future is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), leasehold::Error> {
    /// use std::time::Duration;
    /// use leasehold::{LockClient, RenewOutcome, store::memory::MemoryStore};
    ///
    /// let locks = LockClient::new(MemoryStore::new());
    /// let id = locks.acquire("deploy").await?.detach().await?.to_string();
    ///
    /// // In the next step of the pipeline, another process:
    /// let id = id.parse()?;
    /// match locks.renew(&id, Some(Duration::from_secs(600))).await? {
    ///     RenewOutcome::Renewed(held) => println!("ours until {:?}", held.until()),
    ///     RenewOutcome::Ended(why) => println!("lost: {why}"),
    ///     _ => {}
    /// }
    /// assert!(locks.release(&id).await?.is_released());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn renew(
        &self,
        id: &LeaseId,
        lease: Option<Duration>,
    ) -> Result<RenewOutcome, Error> {
        let renewed = self.renew_by_id(id, lease).await;
        self.core.meter.counted(renewed)
    }

    async fn renew_by_id(
        &self,
        id: &LeaseId,
        wanted: Option<Duration>,
    ) -> Result<RenewOutcome, Error> {
        let (core, key) = (&self.core, id.key());
        if let Some(lease) = wanted {
            // Nobody renews it by itself.
            let policy = core.policy.to_builder().manual_renewal(true);
            let policy = policy.lease_duration(lease).build();
            policy.map_err(|error| error.with_key(key.as_str()))?;
        }
        if !core.queues.pin(id) {
            // Its guard was released, and the grant goes on under another guard.
            return Ok(RenewOutcome::Ended(EndReason::Released));
        }
        let started = core.clocks.elapsed();
        let record = self.read(key, Consistency::Strong).await?;
        if let Err(ended) = seen_in(record.as_ref(), id) {
            return Ok(RenewOutcome::Ended(ended));
        }
        let record = record.map(|record| id.view(&record).into_owned());
        let Some((mut record, native)) = record.and_then(|r| r.native.map(|native| (r, native)))
        else {
            return Ok(RenewOutcome::Ended(EndReason::NoRecord));
        };
        let longer = wanted.filter(|wanted| *wanted > native.lease);
        let mut terms = core.policy.terms(&core.hints);
        terms.lease = native.lease;
        let mut kept = Kept::adopted(
            key.shared(),
            id.attempt(),
            id.token().stored(),
            Some(record.expires_at),
            terms,
        );
        if id.is_slot() {
            if longer.is_some() {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!(
                        "cannot renew the slot of `{key}` for a longer lease than its own, {:?}",
                        native.lease
                    ),
                )
                .with_key(key.as_str())
                .with_hint("acquire it with the longer `lease_duration`"));
            }
            let label = record.holder.as_deref().unwrap_or_default();
            kept = kept.of_slot(label.into());
        }
        let limit = core.clocks.elapsed().plus(core.policy.call_timeout());
        let (mut retry, call_usage) = (Retry::until(limit), CallUsage::default());
        loop {
            let now = core.clocks.elapsed();
            let timeout = core.policy.request_timeout().min(limit.since(now));
            match renew_once(core, &mut kept, longer, false, timeout, &call_usage).await {
                Ok(()) => break,
                Err(NotRenewed::Ended(ended)) => return Ok(RenewOutcome::Ended(ended.into())),
                Err(NotRenewed::Failed(error)) => {
                    if !retry.again(core, &error).await {
                        let passed = core.clocks.elapsed().since(started);
                        return Err(retry.into_error(
                            error,
                            Operation::Renew,
                            key.as_str(),
                            passed,
                        ));
                    }
                }
            }
        }
        record.expires_at = kept.expires_at();
        record.native = record.native.map(|mut native| {
            native.lease = kept.terms().lease;
            native
        });
        Ok(RenewOutcome::Renewed(HolderInfo::of(&record)))
    }
}
