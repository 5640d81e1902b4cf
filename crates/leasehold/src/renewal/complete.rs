//! The end of a grant whose work is done.
//!
//! Invariants (S7): the completion is conditional on our id and token, so a runner whose key was taken over
//! completes nothing. A completion without an answer is recognised by the record that it left.

use leasehold_protocol::done::{Done, FOR_EVER, LONGEST};
use leasehold_protocol::time::{Elapsed, ServiceTime};
use leasehold_protocol::write::Operation;
use tracing::warn;

use super::task::RenewalTask;
use crate::error::{Effect, Error};
use crate::lease::end::EndReason;
use crate::lease::guard::Completes;
use crate::queue::{Polls, Start};
use crate::shared::Retry;
use crate::store::Outcome;

impl RenewalTask {
    /// Remembers the work of the grant as done, with retries within the call time-out. A lease that has only
    /// run out is completed: the write is refused if another client has taken the key.
    pub(super) async fn complete(
        &mut self,
        work: Completes,
        loss: Option<EndReason>,
        started: Elapsed,
    ) -> Result<(), Error> {
        let id = self.lease_state.id.clone();
        if let Some(EndReason::TakenOver(_) | EndReason::Superseded | EndReason::NoRecord) = &loss {
            return Err(id.lost_error(&loss.map(|loss| loss.to_string()).unwrap_or_default()));
        }
        let core = self.core.clone();
        let call_usage = Some(self.lease_state.call_usage.clone());
        let limit = started.plus(self.policy.call_timeout());
        let mut retry = Retry::until(limit);
        let done = Done {
            at: ServiceTime(0),
            failed: work.failed,
            input: work.input,
        };
        // Nobody waits for a key whose work is done. Without an answer, the next waiter asks.
        self.holding.gone(Start::Poll(Polls::default()));
        loop {
            let now = core.clocks.reading();
            let (done, result) = (done.clone(), work.result.clone());
            let write = core
                .clocks
                .with_service(|service| self.kept.complete(work.keep, done, result, service, now));
            let timeout = self.policy.request_timeout().min(limit.since(now.elapsed));
            let answer = core.write_detached(write, now, timeout, &call_usage).await;
            let error = match answer.result {
                Ok(Outcome::Applied(record)) => {
                    let for_ever = record.is_some_and(|record| record.expires_at >= FOR_EVER);
                    if for_ever && work.keep < LONGEST {
                        warn!(key = %id.key(), "the store shows no time, so the work is remembered until it is forgotten");
                    }
                    return Ok(());
                }
                Ok(Outcome::Refused(record)) if self.kept.shows_completion(record.as_ref()) => {
                    return Ok(());
                }
                Ok(Outcome::Refused(record)) => {
                    // An earlier try may have landed, or this one twice, and its keep may be over since.
                    let ended = EndReason::from(self.kept.ended(record.as_ref()));
                    let lost = id.lost_error(&ended.to_string());
                    return Err(lost.with_effect(Effect::Unknown));
                }
                Err(error) => error,
            };
            if !retry.again(&core, &error).await {
                let passed = core.clocks.elapsed().since(started);
                return Err(retry.into_error(
                    error,
                    Operation::Complete,
                    id.key().as_str(),
                    passed,
                ));
            }
        }
    }
}
