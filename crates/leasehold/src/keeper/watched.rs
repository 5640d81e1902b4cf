//! The truth about a held lease: written by its keeper, read by its guard and by whoever watches its
//! signal. Invariant: the first loss stays (S6).

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Asked, Terms};
use crate::exchange::Core;
use crate::held::Held;
use crate::identity::LeaseId;
use crate::lease::Loss;
use crate::meter::Meter;
use crate::policy::Policy;
use crate::protocol::deadline::{Deadline, service_now};
use crate::protocol::renewal::Kept;
use crate::protocol::time::{Elapsed, Reading, ServiceTime};

/// What the guard and the keeper of a lease share.
pub(crate) struct Watched {
    pub(crate) core: Arc<Core>,
    pub(crate) id: LeaseId,
    pub(crate) lost: CancellationToken,
    pub(super) policy: Policy,
    pub(super) data: Option<Arc<[u8]>>,
    pub(super) bill: Arc<Meter>,
    since: ServiceTime,
    /// The end of the time for which a guard may hold the key at all.
    hold_until: Elapsed,
    pub(super) truth: Mutex<Truth>,
}

#[derive(Debug)]
pub(super) struct Truth {
    pub(super) deadline: Deadline,
    pub(super) expires_at: ServiceTime,
    loss: Option<Loss>,
    /// The last failure of a renewal since the last that succeeded.
    pub(super) failure: Option<Arc<str>>,
    /// Who asks for a renewal, and how to wake the keeper. As many as callers wait for one.
    asked: Vec<Asked>,
    keeper: Option<Waker>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {:?}", self.id, self.core)?;
        match self.loss() {
            Some(loss) => write!(f, ", over: {loss}"),
            None => Ok(()),
        }
    }
}

impl Watched {
    pub(super) fn new(core: Arc<Core>, id: LeaseId, kept: &Kept, terms: Terms) -> Self {
        let Terms { policy, data, bill } = terms;
        let now = core.clock.reading();
        core.meter.held(true);
        Watched {
            since: core.with_service(|service| service_now(service, now)),
            hold_until: match policy.max_hold() {
                Some(most) => now.elapsed.plus(most),
                None => Elapsed::NEVER,
            },
            core,
            id,
            lost: CancellationToken::new(),
            policy,
            data,
            bill,
            truth: Mutex::new(Truth {
                deadline: kept.deadline(),
                expires_at: kept.expires_at(),
                loss: None,
                failure: None,
                asked: Vec::new(),
                keeper: None,
            }),
        }
    }

    /// What waiters of this client are told of it.
    pub(crate) fn describe(&self) -> Held {
        let label = self.policy.label();
        let label = label.as_ref().unwrap_or(&self.core.label);
        let (until, lease) = (
            self.with_truth(|truth| truth.expires_at),
            self.policy.lease(),
        );
        Held::here(
            &self.id,
            label,
            self.since,
            until,
            lease,
            self.data.as_deref(),
        )
    }

    /// What the acquisition and the keeping of it have cost.
    pub(crate) fn bill(&self) -> &Arc<Meter> {
        &self.bill
    }

    /// How long the work may go on for certain. What is over stays over: where no time is left, the
    /// lease is lost from here on, also if a wall clock that was stepped ahead comes back (rule 4).
    pub(crate) fn remaining(&self) -> Duration {
        self.remaining_at(self.core.clock.reading())
    }

    /// The same, by clocks that were just read. The only place that finds a lease to be over by time.
    pub(super) fn remaining_at(&self, now: Reading) -> Duration {
        let (left, loss) = self.with_truth(|truth| {
            if truth.loss.is_some() {
                return (Duration::ZERO, None);
            }
            let held = self.hold_until.since(now.elapsed);
            if held.is_zero() {
                return (Duration::ZERO, Some(Loss::HeldTooLong));
            }
            let margin = self.policy.lost_lead();
            let left = self
                .core
                .with_service(|service| truth.deadline.remaining(now, margin, service));
            let loss = left.is_zero().then(|| Loss::Expired {
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
            return now.elapsed.plus(self.remaining_at(now));
        }
        self.with_truth(|truth| match truth.loss {
            Some(Loss::Released) => {
                let left = self
                    .core
                    .with_service(|service| truth.deadline.remaining(now, Duration::ZERO, service));
                now.elapsed.plus(left)
            }
            _ => now.elapsed,
        })
    }

    pub(crate) fn loss(&self) -> Option<Loss> {
        self.with_truth(|truth| truth.loss.clone())
    }

    /// Asks the keeper for a renewal. Given back where the lease is lost; dropped without an answer where
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
            (Ok(truth.keeper.take()), closed)
        });
        if let Some(keeper) = result? {
            keeper.wake();
        }
        Ok(())
    }

    /// Nobody keeps it any more.
    pub(super) fn forget_keeper(&self) {
        let _keeper = self.with_truth(|truth| truth.keeper.take());
    }

    /// The next who asks for a renewal.
    pub(super) async fn next_ask(&self) -> Asked {
        poll_fn(|context| {
            let (next, _old) = self.with_truth(|truth| {
                if truth.asked.is_empty() {
                    return (None, truth.keeper.replace(context.waker().clone()));
                }
                (Some(truth.asked.remove(0)), None)
            });
            next.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    pub(super) fn with_truth<T>(&self, f: impl FnOnce(&mut Truth) -> T) -> T {
        f(&mut self.truth.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The first loss stays.
    pub(super) fn lose(&self, loss: Loss) {
        // Dropped after the lock: it wakes those who wait for a renewal that will not come.
        let (first, _asked) = self.with_truth(|truth| {
            let first = truth.loss.is_none();
            truth.loss.get_or_insert(loss.clone());
            (first, std::mem::take(&mut truth.asked))
        });
        if first {
            self.core.meter.held(false);
        }
        if first && loss != Loss::Released {
            self.core.meter.loss();
            let cost = self.bill.usage();
            warn!(
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
