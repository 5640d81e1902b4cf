//! From a grant to a lease. A grant becomes a lease only if time is left (holder rule 6). A grant with
//! an impossible token is withdrawn before its token is used (`docs/protocol.md` section 8).

use std::time::Duration;

use tracing::debug;

use super::acquisition::{Acquisition, End};
use crate::error::{Error, ErrorKind};
use crate::lease::guard::Lease;
use crate::lease::state::Terms;
use crate::lease_id::LeaseId;
use crate::renewal::once::renew_once;
use crate::renewal::task::keep;
use crate::runtime::request::Answer;
use crate::store::Outcome;
use leasehold_protocol::attempt::Granted;
use leasehold_protocol::lens::Want;
use leasehold_protocol::renewal::Kept;
use leasehold_protocol::write::Operation;

impl Acquisition {
    /// Turns a grant into a lease if time is left (holder rule 6). Otherwise it renews the grant once. If
    /// that fails, the grant is released and the error says why. A grant that was handed over is renewed here, too, if
    /// its first renewal could come too late.
    pub(super) async fn hand_over(&mut self, granted: Granted) -> Result<Lease, End> {
        let terms = self.order.policy.terms(&self.core.hints);
        let key = self.order.key.clone();
        let id = LeaseId::new(key.clone(), self.attempt.id(), granted.token);
        let mut kept = Kept::new(key.shared(), self.attempt.id(), &granted, terms);
        let is_slot = self.order.want != Want::Whole;
        if is_slot {
            kept = kept.of_slot(self.attempt.label());
        }
        let id = id.of_slot(is_slot);
        // A grant that was handed over ends after its claim.
        let needed = match &granted.description {
            Some(_) if self.order.policy.is_manual() => Duration::MAX,
            Some(_) => self.order.policy.request_timeout() / 2,
            None => Duration::ZERO,
        };
        let left = self.core.remaining(&kept);
        if left.is_zero() || left < needed {
            debug!(%key, "the grant has not enough time left, renewing it");
            let (bound, timeout) = (
                self.order.policy.is_bound_to_process(),
                self.order.policy.request_timeout(),
            );
            let call_usage = self.call_usage();
            self.expect(self.core.clocks.elapsed().plus(timeout));
            let renewal = renew_once(&self.core, &mut kept, None, bound, timeout, &call_usage);
            if let Err(ended) = self.or_stop(renewal).await? {
                debug!(%key, ?ended, "the grant has ended already");
            }
        }
        let left = self.core.remaining(&kept);
        if left.is_zero() && granted.description.is_some() {
            debug!(%key, "the key was handed over, and that was noticed too late: waiting again");
            return Err(End::BackToQueue);
        }
        if left.is_zero() {
            // The caller gets an error, so the clean-up releases the grant.
            let lead = self.order.policy.safety_margin();
            return Err(End::Failed(
                Error::new(
                    ErrorKind::TooLate,
                    format!(
                        "acquired `{key}`, but the answer came too late: less than the margin of {lead:?} was left of the lease of {:?}",
                        self.order.policy.lease_duration()
                    ),
                )
                .with_hint("set a longer `lease_duration`, or check the latency to the store"),
            ));
        }
        let queue = match &self.leader {
            _ if is_slot => self.core.queues.alone(&key.shared()),
            Some(leader) => leader.queue().clone(),
            None => self.core.queues.of(&key.shared()),
        };
        let terms = Terms {
            policy: self.order.policy.clone(),
            data: self.order.data.clone().or_else(|| granted.left.clone()),
            previous: granted.left,
            call_usage: self.call_usage.clone(),
        };
        self.core.meter.grant(&self.call_usage());
        let cost = self.call_usage.usage();
        debug!(
            %key,
            token = %id.token(),
            waited = ?self.core.clocks.elapsed().since(self.started),
            requests = cost.requests,
            write_units = cost.write_units,
            read_units = cost.read_units,
            "acquired"
        );
        Ok(keep(&self.core, &queue, terms, id, kept))
    }

    /// Deletes the record that this call created with an impossible token, before the token is used.
    pub(super) async fn withdraw(&mut self) -> Result<(), End> {
        let limit = self.order.policy.request_timeout();
        self.expect(self.core.clocks.elapsed().plus(limit));
        let answer = self.or_stop(self.send_withdrawal()).await?;
        match answer.result {
            Ok(_) => {
                self.spoiled = None;
                Ok(())
            }
            Err(error) if error.kind.is_retryable() => {
                self.retry_later(Operation::Withdraw, error).await
            }
            Err(error) => Err(self.fatal(Operation::Withdraw, error)),
        }
    }

    pub(super) fn send_withdrawal(&self) -> impl Future<Output = Answer<Outcome>> + Send + 'static {
        let core = self.core.clone();
        let write = self.spoiled.as_ref().map_or_else(
            || {
                core.clocks
                    .with_service(|service| self.attempt.abandon(service, core.clocks.reading()))
            },
            |granted| self.attempt.withdraw(granted),
        );
        let timeout = self.order.policy.request_timeout();
        let call_usage = self.call_usage();
        async move {
            let now = core.clocks.reading();
            core.write_detached(write, now, timeout, &call_usage).await
        }
    }
}
