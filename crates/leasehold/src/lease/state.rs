//! The truth about a held lease: written by its renewal task, read by its guard and by whoever watches its
//! signal. Invariant: the first loss stays (S6).

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
use crate::error::Error;
use crate::holder::HolderInfo;
use crate::lease_id::LeaseId;
use crate::meter::Meter;
use crate::policy::Policy;
use crate::runtime::clocks::Clocks;

/// Somebody waits for a renewal.
pub(crate) type Asked = oneshot::Sender<Result<(), Error>>;

/// What a grant is kept with besides what the protocol says.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) policy: Policy,
    pub(crate) data: Option<Arc<[u8]>>,
    /// What its acquisition has cost; its renewals come on top.
    pub(crate) call_usage: Arc<Meter>,
}

/// What the leases of a client share.
#[derive(Debug)]
pub(crate) struct LeaseContext {
    pub(crate) clocks: Arc<Clocks>,
    pub(crate) meter: Arc<Meter>,
    /// The holder, where the policy names none.
    pub(crate) label: Arc<str>,
    /// The store, for messages.
    pub(crate) store: Arc<str>,
}

/// What the guard and the renewal task of a lease share.
pub(crate) struct LeaseState {
    pub(crate) context: Arc<LeaseContext>,
    pub(crate) id: LeaseId,
    pub(crate) lost: CancellationToken,
    pub(crate) policy: Policy,
    pub(crate) data: Option<Arc<[u8]>>,
    pub(crate) call_usage: Arc<Meter>,
    since: ServiceTime,
    /// The end of the time for which a guard may hold the key at all.
    hold_until: Elapsed,
    pub(crate) truth: Mutex<Truth>,
}

#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) deadline: Deadline,
    pub(crate) expires_at: ServiceTime,
    loss: Option<EndReason>,
    /// The last failure of a renewal since the last that succeeded.
    pub(crate) failure: Option<Arc<str>>,
    /// Who asks for a renewal, and how to wake the task. As many as callers wait for one.
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
            data,
            call_usage,
            truth: Mutex::new(Truth {
                deadline: kept.deadline(),
                expires_at: kept.expires_at(),
                loss: None,
                failure: None,
                asked: Vec::new(),
                task: None,
            }),
        }
    }

    /// What waiters of this client are told of it.
    pub(crate) fn describe(&self) -> HolderInfo {
        let label = self.policy.label();
        let label = label.as_ref().unwrap_or(&self.context.label);
        let (until, lease) = (
            self.with_truth(|truth| truth.expires_at),
            self.policy.lease_duration(),
        );
        HolderInfo::here(
            self.id.key().as_str(),
            self.id.token(),
            label,
            self.since,
            until,
            lease,
            self.data.as_deref(),
        )
    }

    /// What the acquisition and the keeping of it have cost.
    pub(crate) fn call_usage(&self) -> &Arc<Meter> {
        &self.call_usage
    }

    /// How long the work may go on for certain. What is over stays over: where no time is left, the
    /// lease is lost from here on, also if a wall clock that was stepped ahead comes back (rule 4).
    pub(crate) fn remaining(&self) -> Duration {
        self.observe(self.context.clocks.reading())
    }

    /// The same, by clocks that were just read. The only place that finds a lease to be over by time.
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

    /// Until when no other can have the key for certain, as waiters of this client see it: while the lease
    /// is held, until it is lost; while it is being released, until it would have ended by itself.
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

    /// Asks the renewal task for a renewal. Given back where the lease is lost; dropped without an answer where
    /// it gets lost.
    pub(crate) fn ask(&self, ask: Asked) -> Result<(), Asked> {
        // Whoever does not wait any more is dropped after the lock: with it goes a waker.
        let (result, _closed) = self.with_truth(|truth| {
            if truth.loss.is_some() {
                return (Err(ask), Vec::new());
            }
            let all = std::mem::take(&mut truth.asked);
            let (closed, open) = all.into_iter().partition(Asked::is_closed);
            truth.asked = open;
            truth.asked.push(ask);
            (Ok(truth.task.take()), closed)
        });
        if let Some(task) = result? {
            task.wake();
        }
        Ok(())
    }

    /// Nobody keeps it any more.
    pub(crate) fn forget_keeper(&self) {
        let _keeper = self.with_truth(|truth| truth.task.take());
    }

    /// The next who asks for a renewal.
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

    /// The first loss stays.
    pub(crate) fn lose(&self, loss: EndReason) {
        // Dropped after the lock: it wakes those who wait for a renewal that will not come.
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
