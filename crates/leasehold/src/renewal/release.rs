//! How a grant ends: released, left to expire, or detached for another process.
//!
//! Invariants: the end waits for renewals in flight, within bounds (holder rule 5). Every write here is
//! conditional on our id and token. The call time-out bounds every loop.

use std::sync::Arc;

use tracing::{debug, warn};

use super::once::{NotRenewed, renew_once};
use super::task::RenewalTask;
use crate::error::{Effect, Error};
use crate::holder::HolderInfo;
use crate::lease::end::{EndReason, ReleaseOutcome};
use crate::lease::guard::Finish;
use crate::lease_id::LeaseId;
use crate::meter::CallUsage;
use crate::policy::{DropPolicy, Policy};
use crate::queue::{Polls, Released, Start};
use crate::shared::{Core, Retry};
use crate::store::{Consistency, Outcome, StoreError, StoreErrorKind};
use leasehold_protocol::renewal::{Ended, Kept};
use leasehold_protocol::slot_write::{Next, SlotWrite};
use leasehold_protocol::time::Elapsed;
use leasehold_protocol::write::{Operation, Write};

/// The most tries of the last renewal before a detach.
const TRIES: u32 = 3;
/// The part of a lease that must be left for a detach without a renewal.
const FRESH: f64 = 0.9;
/// After so many refusals in a row by a queue that has changed, a release pauses as after a failure.
const CHANGES: u32 = 8;
impl RenewalTask {
    /// Ends the grant. `started` is when the guard ended; the call time-out counts from there.
    pub(super) async fn finish(&mut self, finish: Finish, started: Elapsed) {
        self.await_renewals(started).await;
        let loss = self.lease_state.loss();
        // Watches of the lease learn that it has ended.
        self.lease_state.lose(EndReason::Released);
        match finish {
            Finish::Release(keeps_data, sender) => {
                let outcome = match loss {
                    // Another client has the key.
                    Some(EndReason::TakenOver(held)) => Ok(ReleaseOutcome::TakenOver(*held)),
                    _ => self.release(loss.is_none(), keeps_data, started).await,
                };
                drop(sender.send(outcome));
            }
            Finish::Dropped(DropPolicy::Release) => {
                if !matches!(loss, Some(EndReason::TakenOver(_)))
                    && let Err(error) = self.release(loss.is_none(), false, started).await
                {
                    warn!(key = %self.lease_state.id.key(), %error, "a dropped lease could not be released and expires");
                }
            }
            Finish::Dropped(DropPolicy::LeaveToExpire) => {}
            Finish::Detach(sender) => {
                drop(sender.send(self.detach(loss, started).await));
            }
            Finish::Complete(work, sender) => {
                let completed = self.complete(*work, loss, started).await;
                if let Err(error) = &completed {
                    warn!(key = %self.lease_state.id.key(), %error, "work is not remembered as done");
                }
                if let Some(sender) = sender {
                    drop(sender.send(completed));
                }
            }
        }
    }

    /// Until when the end of a guard waits for renewals: one request time-out, and at most half of the call
    /// time-out, since the release needs time as well.
    pub(super) fn renewals_until(&self, started: Elapsed) -> Elapsed {
        let half = self.policy.call_timeout() / 2;
        started.plus(self.policy.request_timeout().min(half))
    }

    /// Waits for renewals in flight. One that lands after the release finds no owner in the record and
    /// changes nothing.
    pub(super) async fn await_renewals(&mut self, started: Elapsed) {
        let core = self.core.clone();
        let limit = self.renewals_until(started);
        while self.unanswered > 0 && core.clocks.elapsed() < limit {
            // Watches of the lease learn of a loss in time, here as well.
            let now = core.clocks.reading();
            self.watch_the_deadline(now);
            let until = match self.lease_state.loss() {
                Some(_) => limit,
                None => limit.min(now.elapsed.plus(self.lease_state.observe(now))),
            };
            tokio::select! {
                biased;
                answer = self.mailbox.next() => self.take_answer(answer),
                () = core.clocks.sleep_shared(until) => {}
            }
        }
    }

    pub(super) async fn release(
        &mut self,
        held: bool,
        keeps_data: bool,
        started: Elapsed,
    ) -> Result<ReleaseOutcome, Error> {
        let (core, lease_state, holding) = (&self.core, &self.lease_state, &mut self.holding);
        let how = Releasing {
            held,
            keeps_data,
            started,
            call_usage: Some(lease_state.call_usage.clone()),
        };
        let outcome = release(
            core,
            &self.policy,
            &lease_state.id,
            &self.kept,
            how,
            // The effect is not known yet, so the next waiter polls.
            || holding.gone(Start::Poll(Polls::default())),
        )
        .await;
        if let Ok((outcome, _)) = &outcome {
            let cost = lease_state.call_usage.usage();
            debug!(
                key = %lease_state.id.key(),
                token = %lease_state.id.token(),
                %outcome,
                requests = cost.requests,
                renewals = cost.renewals,
                write_units = cost.write_units,
                read_units = cost.read_units,
                "released"
            );
        }
        match &outcome {
            Ok((ReleaseOutcome::TakenOver(_), _)) | Err(_) => {
                holding.gone(Start::Poll(Polls::default()));
            }
            Ok((_, released)) => {
                holding.released(core.clocks.elapsed(), *released);
            }
        }
        outcome.map(|(outcome, _)| outcome)
    }

    /// Whether the record says all of the grant that a last renewal would: it is bound to no process, and most of
    /// its lease is left.
    fn is_fresh(&self) -> bool {
        let lease = self.kept.terms().lease;
        let now = self.core.clocks.reading();
        let left = self
            .kept
            .deadline()
            .at
            .since(self.kept.deadline().effective_now(now));
        !self.policy.is_bound_to_process()
            && !self.kept.is_undescribed()
            && left >= lease.mul_f64(FRESH)
    }

    /// Renews the grant a last time, unbound from this process, and returns its identity.
    pub(super) async fn detach(
        &mut self,
        loss: Option<EndReason>,
        started: Elapsed,
    ) -> Result<LeaseId, Error> {
        if let Some(loss) = loss {
            return Err(self.lease_state.id.lost_error(&loss.to_string()));
        }
        if self.is_fresh() {
            return Ok(self.lease_state.id.clone());
        }
        let core = self.core.clone();
        let timeout = self.policy.request_timeout();
        let call_usage = Some(self.lease_state.call_usage.clone());
        let limit = started.plus(self.policy.call_timeout()).min(self.lost_at());
        let mut retry = Retry::until(limit).at_most(TRIES);
        loop {
            let timeout = timeout.min(limit.since(core.clocks.elapsed()));
            match renew_once(&core, &mut self.kept, None, false, timeout, &call_usage).await {
                Ok(()) => return Ok(self.lease_state.id.clone()),
                Err(NotRenewed::Ended(ended)) => {
                    let why = EndReason::from(ended).to_string();
                    return Err(self.lease_state.id.lost_error(&why));
                }
                Err(NotRenewed::Failed(error)) => {
                    if !retry.again(&core, &error).await {
                        // The lease expires.
                        let key = self.lease_state.id.key().as_str();
                        let passed = core.clocks.elapsed().since(started);
                        return Err(retry.into_error(error, Operation::Renew, key, passed));
                    }
                }
            }
        }
    }
}

/// How a grant is released.
#[derive(Debug)]
pub(crate) struct Releasing {
    /// The guard held it until now, so only this release can have ended it before its deadline: the
    /// service may apply our request twice and answer the second one.
    pub(crate) held: bool,
    /// The payload stays, for the next holder.
    pub(crate) keeps_data: bool,
    /// The call time-out counts from here.
    pub(crate) started: Elapsed,
    pub(crate) call_usage: CallUsage,
}

/// Ends a grant, conditional on our id and token, with retries within the call time-out: hands the key
/// over if somebody waits for it. It calls `in_doubt` after a failed try.
pub(crate) async fn release(
    core: &Arc<Core>,
    policy: &Policy,
    id: &LeaseId,
    kept: &Kept,
    how: Releasing,
    mut in_doubt: impl FnMut() + Send,
) -> Result<(ReleaseOutcome, Released), Error> {
    let Releasing {
        held,
        keeps_data,
        started,
        call_usage,
    } = how;
    let limit = started.plus(policy.call_timeout());
    let mut retry = Retry::until(limit);
    let (mut kept, mut changes) = (kept.clone(), 0);
    // Other holders of slots hand over to the same queue, so what this one knows of it is old. A read costs a fifth of
    // a release that is refused.
    if kept.is_slot() && !kept.queue().is_empty() {
        let (key, timeout) = (id.key().shared(), policy.request_timeout());
        let look = core.read(key, Consistency::Strong, timeout, &call_usage);
        if let Ok(Some(record)) = look.await.result {
            kept.saw(&record);
        }
    }
    loop {
        let now = core.clocks.reading();
        let write = core
            .clocks
            .with_service(|service| kept.release(keeps_data, started, service, now));
        let waiting = kept.queue().len();
        let behind = match &write {
            Write::HandOver { passed, .. } => Some(waiting - passed.len() - 1),
            Write::Slot(
                SlotWrite::Open { given, .. }
                | SlotWrite::Exit {
                    next: Next::Slots(given),
                    ..
                },
            ) => Some(waiting - given.passed.len() - given.places.len()),
            Write::Slot(SlotWrite::Exit {
                next: Next::Whole(_, given),
                ..
            }) => Some(waiting - given.passed.len() - 1),
            Write::Slot(SlotWrite::Exit {
                next: Next::Others, ..
            }) => Some(waiting),
            _ => None,
        };
        let released = behind.map_or(Released::Free, |behind| Released::HandedOver {
            behind,
            places: kept.places(),
        });
        let timeout = policy.request_timeout().min(limit.since(now.elapsed));
        let answer = core.write_detached(write, now, timeout, &call_usage).await;
        // Computed for every answer, which may have come after the deadline.
        let answered = core.clocks.reading();
        let in_time = held && kept.deadline().at > kept.deadline().effective_now(answered);
        let ours = if in_time {
            ReleaseOutcome::Released
        } else {
            ReleaseOutcome::ReleasedLate
        };
        let error = match answer.result {
            Ok(Outcome::Applied(_)) => return Ok((ours, released)),
            Ok(Outcome::Refused(Some(record))) if kept.is_ours(&record) => {
                // Somebody has come to wait, or has left: once more, with the queue as it is now.
                kept.saw(&record);
                changes += 1;
                if changes % CHANGES != 0 {
                    continue;
                }
                let message = format!("{}: the queue has changed each time", core.store.describe());
                StoreError::new(StoreErrorKind::Unavailable, Effect::NotApplied, message)
            }
            Ok(Outcome::Refused(record)) => {
                // An earlier try of ours landed. The record shows it, or another client has taken the
                // key, which before our deadline is possible only after our release.
                let shown = kept.shows_release(record.as_ref());
                if (shown && (in_time || retry.uncertain)) || (in_time && retry.uncertain) {
                    return Ok((ours, released));
                }
                let outcome = match kept.ended(record.as_ref()) {
                    Ended::Released => ReleaseOutcome::AlreadyReleased,
                    Ended::TakenOver(record) => ReleaseOutcome::TakenOver(HolderInfo::of(&record)),
                    Ended::Superseded => ReleaseOutcome::Superseded,
                    Ended::NoRecord => ReleaseOutcome::NoRecord,
                };
                return Ok((outcome, Released::Free));
            }
            Err(error) => error,
        };
        in_doubt();
        debug!(key = %id.key(), %error, "release failed");
        if !retry.again(core, &error).await {
            let passed = core.clocks.elapsed().since(started);
            return Err(retry.into_error(error, Operation::Release, id.key().as_str(), passed));
        }
    }
}
