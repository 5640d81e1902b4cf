//! The state of a held lease: its renewal task writes it, its guard and its watches read it.
//! Invariant: the first loss stays (S6).

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use leasehold_protocol::deadline::{Deadline, service_now};
use leasehold_protocol::renewal::Kept;
use leasehold_protocol::time::{Elapsed, Reading, ServiceTime};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::end::EndReason;
use crate::error::{Effect, Error};
use crate::holder::HolderInfo;
use crate::lease_id::LeaseId;
use crate::meter::Meter;
use crate::policy::Policy;
use crate::runtime::clocks::Clocks;

/// A caller that waits for a renewal.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The new payload, which the renewal writes.
    pub(crate) data: Option<Arc<[u8]>>,
    pub(crate) answer: oneshot::Sender<Result<(), Error>>,
}

/// The settings and data of a lease that are not part of the protocol.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) policy: Policy,
    /// The payload of the record, as soon as it is written.
    pub(crate) data: Option<Arc<[u8]>>,
    /// What the holder before left.
    pub(crate) previous: Option<Arc<[u8]>>,
    /// The usage of its acquisition and of its renewals.
    pub(crate) call_usage: Arc<Meter>,
}

/// The values that all leases of a client share.
#[derive(Debug)]
pub(crate) struct LeaseContext {
    pub(crate) clocks: Arc<Clocks>,
    pub(crate) meter: Arc<Meter>,
    /// The default label of the holder.
    pub(crate) label: Arc<str>,
    /// The store, for messages.
    pub(crate) store: Arc<str>,
}

/// The state that the guard and the renewal task of a lease share.
pub(crate) struct LeaseState {
    pub(crate) context: Arc<LeaseContext>,
    pub(crate) id: LeaseId,
    pub(crate) lost: CancellationToken,
    pub(crate) policy: Policy,
    /// What the holder before left.
    pub(crate) previous: Option<Arc<[u8]>>,
    pub(crate) call_usage: Arc<Meter>,
    since: ServiceTime,
    /// When `max_hold` ends.
    hold_until: Elapsed,
    pub(crate) truth: Mutex<Truth>,
}

#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) deadline: Deadline,
    pub(crate) expires_at: ServiceTime,
    /// The payload of the record, or the one that the next renewal writes.
    pub(crate) data: Option<Arc<[u8]>>,
    loss: Option<EndReason>,
    /// The last failure since the last successful renewal.
    pub(crate) failure: Option<Arc<str>>,
    /// Callers that wait for a renewal.
    asked: Vec<Asked>,
    task: Option<Waker>,
}

impl fmt::Debug for LeaseState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.id, self.context.store)?;
        match self.loss() {
            Some(loss) => write!(f, ", over: {loss}"),
            None => Ok(()),
        }
    }
}

impl LeaseState {
    pub(crate) fn new(context: Arc<LeaseContext>, id: LeaseId, kept: &Kept, terms: Terms) -> Self {
        let Terms {
            policy,
            data,
            previous,
            call_usage,
        } = terms;
        let now = context.clocks.reading();
        context.meter.held(true);
        LeaseState {
            since: context
                .clocks
                .with_service(|service| service_now(service, now)),
            hold_until: match policy.max_hold() {
                Some(most) => now.elapsed.plus(most),
                None => Elapsed::NEVER,
            },
            context,
            id,
            lost: CancellationToken::new(),
            policy,
            previous,
            call_usage,
            truth: Mutex::new(Truth {
                deadline: kept.deadline(),
                expires_at: kept.expires_at(),
                data,
                loss: None,
                failure: None,
                asked: Vec::new(),
                task: None,
            }),
        }
    }

    /// The lease, as other calls of this client see it.
    pub(crate) fn describe(&self) -> HolderInfo {
        let label = self.policy.label();
        let label = label.as_ref().unwrap_or(&self.context.label);
        let (until, data) = self.with_truth(|truth| (truth.expires_at, truth.data.clone()));
        HolderInfo::here(
            self.id.key().as_str(),
            self.id.token(),
            label,
            self.since,
            until,
            self.policy.lease_duration(),
            data.as_deref(),
        )
    }

    /// The payload of the record, or the one that the next renewal writes.
    pub(crate) fn data(&self) -> Option<Arc<[u8]>> {
        self.with_truth(|truth| truth.data.clone())
    }

    /// The usage of its acquisition and of its renewals.
    pub(crate) fn call_usage(&self) -> &Arc<Meter> {
        &self.call_usage
    }

    /// How long until the lease is lost. If no time is left, the lease is lost from here on, even if a
    /// wall clock that was stepped ahead comes back (holder rule 4).
    pub(crate) fn remaining(&self) -> Duration {
        self.observe(self.context.clocks.reading())
    }

    /// The same, by the clock reading `now`. Only this function ends a lease by time.
    pub(crate) fn observe(&self, now: Reading) -> Duration {
        let (left, loss) = self.with_truth(|truth| {
            if truth.loss.is_some() {
                return (Duration::ZERO, None);
            }
            let held = self.hold_until.since(now.elapsed);
            if held.is_zero() {
                return (Duration::ZERO, Some(EndReason::HeldTooLong));
            }
            let margin = self.policy.safety_margin();
            let left = self
                .context
                .clocks
                .with_service(|service| truth.deadline.remaining(now, margin, service));
            let loss = left.is_zero().then(|| EndReason::Expired {
                cause: truth.failure.clone(),
            });
            (left.min(held), loss)
        });
        if let Some(loss) = loss {
            self.lose(loss);
        }
        left
    }

    /// Until when no other client can have the key. A held lease counts until it is lost, and a lease
    /// that is being released until its deadline.
    pub(crate) fn held_until(&self, now: Reading) -> Elapsed {
        if self.loss().is_none() {
            return now.elapsed.plus(self.observe(now));
        }
        self.with_truth(|truth| match truth.loss {
            Some(EndReason::Released) => {
                let left = self
                    .context
                    .clocks
                    .with_service(|service| truth.deadline.remaining(now, Duration::ZERO, service));
                now.elapsed.plus(left)
            }
            _ => now.elapsed,
        })
    }

    pub(crate) fn loss(&self) -> Option<EndReason> {
        self.with_truth(|truth| truth.loss.clone())
    }

    /// Asks the renewal task for a renewal. Returns `ask` if the lease is lost. A later loss drops it
    /// without an answer.
    pub(crate) fn ask(&self, ask: Asked) -> Result<(), Asked> {
        // Closed senders are dropped after the mutex is unlocked: their wakers may run code.
        let (result, _closed) = self.with_truth(|truth| {
            if truth.loss.is_some() {
                return (Err(ask), Vec::new());
            }
            let all = std::mem::take(&mut truth.asked);
            let closed = |ask: &Asked| ask.answer.is_closed();
            let (closed, open) = all.into_iter().partition(closed);
            truth.asked = open;
            truth.asked.push(ask);
            (Ok(truth.task.take()), closed)
        });
        if let Some(task) = result? {
            task.wake();
        }
        Ok(())
    }

    /// Renews now, with a new payload if there is one.
    pub(crate) async fn renewed(&self, data: Option<Arc<[u8]>>) -> Result<(), Error> {
        let (sender, answer) = oneshot::channel();
        let ask = Asked {
            data,
            answer: sender,
        };
        let asked = self.ask(ask).is_ok();
        answer.await.unwrap_or_else(|_| {
            let why = self.loss().unwrap_or(EndReason::TaskEnded);
            let lost = self.id.lost_error(&why.to_string());
            // A renewal may have been in flight when the lease was lost.
            Err(match asked {
                true => lost.with_effect(Effect::Unknown),
                false => lost,
            })
        })
    }

    /// The renewal task has ended.
    pub(crate) fn forget_task(&self) {
        let _task = self.with_truth(|truth| truth.task.take());
    }

    /// The next caller that asks for a renewal.
    pub(crate) async fn next_ask(&self) -> Asked {
        poll_fn(|context| {
            let (next, _old) = self.with_truth(|truth| {
                if truth.asked.is_empty() {
                    return (None, truth.task.replace(context.waker().clone()));
                }
                (Some(truth.asked.remove(0)), None)
            });
            next.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    pub(crate) fn with_truth<T>(&self, f: impl FnOnce(&mut Truth) -> T) -> T {
        f(&mut self.truth.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the lease. Only the first loss counts.
    pub(crate) fn lose(&self, loss: EndReason) {
        // Dropped after the mutex is unlocked: this wakes callers that wait for a renewal.
        let (first, _asked) = self.with_truth(|truth| {
            let first = truth.loss.is_none();
            truth.loss.get_or_insert(loss.clone());
            (first, std::mem::take(&mut truth.asked))
        });
        if first {
            self.context.meter.held(false);
        }
        if first && loss != EndReason::Released {
            self.context.meter.loss();
            let cost = self.call_usage.usage();
            warn!(
                target: "leasehold::lost",
                key = %self.id.key(),
                token = %self.id.token(),
                %loss,
                requests = cost.requests,
                renewals = cost.renewals,
                "the lease is lost"
            );
        }
        self.lost.cancel();
    }
}
