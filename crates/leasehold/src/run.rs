//! `run`: work under a lock that is always released afterwards.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tracing::warn;

use crate::acquire::Within;
use crate::error::Error;
use crate::lease::end::EndReason;
use crate::lease::guard::Lease;
use crate::lease::watch::LeaseWatch;
use crate::lease_id::LeaseId;
use leasehold_protocol::token::FencingToken;

/// The lock, as the work under it sees it.
#[derive(Clone, Debug)]
pub struct LockScope {
    signal: LeaseWatch,
}

impl LockScope {
    /// The fencing token. Pass it to the resource that the lock protects.
    pub fn token(&self) -> FencingToken {
        self.signal.id().token()
    }

    /// The identity of the grant.
    pub fn id(&self) -> &LeaseId {
        self.signal.id()
    }

    /// How long until the work is stopped, if no renewal succeeds.
    pub fn remaining(&self) -> Duration {
        self.signal.remaining()
    }

    /// As [`Lease::lost`](crate::Lease::lost). The work may be dropped before it can react: tasks that
    /// it has spawned should use [`watch`](LockScope::watch).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only waits.
    pub async fn lost(&self) -> EndReason {
        self.signal.ended().await
    }

    /// As [`Lease::set_data`](crate::Lease::set_data), also for tasks that the work has spawned. After the end of the
    /// work it fails with [`Lost`](crate::ErrorKind::Lost).
    ///
    /// # Errors
    ///
    /// As [`Lease::set_data`](crate::Lease::set_data).
    ///
    /// # Cancel safety
    ///
    /// As [`Lease::set_data`](crate::Lease::set_data).
    pub async fn set_data(&self, data: impl AsRef<[u8]>) -> Result<(), Error> {
        let state = &self.signal.lease_state;
        let written = state.set_data(data.as_ref().into()).await;
        state.context.meter.counted(written)
    }

    /// As [`Lease::ensure`](crate::Lease::ensure).
    ///
    /// # Errors
    ///
    /// As [`Lease::ensure`](crate::Lease::ensure).
    ///
    /// # Cancel safety
    ///
    /// As [`Lease::ensure`](crate::Lease::ensure).
    pub async fn ensure(&self, time: Duration) -> Result<(), Error> {
        let state = &self.signal.lease_state;
        let ensured = state.ensure(time).await;
        state.context.meter.counted(ensured)
    }

    /// A handle by which tasks that the work has spawned learn that the lease ended.
    pub fn watch(&self) -> LeaseWatch {
        self.signal.clone()
    }
}

impl LockScope {
    pub(crate) fn of(lease: &Lease) -> LockScope {
        LockScope {
            signal: lease.watch(),
        }
    }
}

/// Runs `work` under `lease`; see [`LockClient::run`](crate::LockClient::run).
pub(crate) async fn run<T, F, Fut>(lease: Lease, work: F) -> Result<T, Error>
where
    F: FnOnce(LockScope) -> Fut,
    Fut: Future<Output = T>,
{
    let (context, id) = (lease.context().clone(), lease.id().clone());
    let ended = to_its_end(lease, work).await;
    context
        .meter
        .counted(ended.map_err(|why| id.lost_error(&why.to_string())))
}

/// Runs `work` under `lease`, and releases it. The error is why the lease was lost.
pub(crate) async fn to_its_end<T, F, Fut>(lease: Lease, work: F) -> Result<T, EndReason>
where
    F: FnOnce(LockScope) -> Fut,
    Fut: Future<Output = T>,
{
    let scope = LockScope::of(&lease);
    let end = work_under(&lease, move || work(scope)).await;
    let id = lease.id().clone();
    let released = lease.release().await;
    match &released {
        Ok(outcome) if outcome.is_released() => {}
        Ok(outcome) => warn!(key = %id.key(), %outcome, "the lease had ended before its work"),
        Err(error) => {
            warn!(key = %id.key(), %error, "the lock could not be released: its lease expires")
        }
    }
    match end {
        End::Done(value) => Ok(value),
        End::Lost(why) => Err(why),
        End::Panicked(panic) => resume_unwind(panic),
    }
}

/// Runs the work to its end, and drops it before the lock is released.
pub(crate) async fn work_under<T, Fut>(lease: &Lease, work: impl FnOnce() -> Fut) -> End<T>
where
    Fut: Future<Output = T>,
{
    if !lease.is_held() {
        return End::Lost(lease.lost().await);
    }
    let work = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(work) => work,
        Err(panic) => return End::Panicked(panic),
    };
    let mut work = pin!(work);
    let within = Within {
        client: Arc::as_ptr(lease.context()).addr(),
        key: lease.key().shared(),
    };
    let guarded = poll_fn(|context| {
        // By both clocks, before each poll: after a stop of this process, the work must not run
        // beside the next holder.
        if !lease.is_held() {
            return Poll::Pending;
        }
        let _entered = within.enter();
        // The work is not polled again after a panic, so it is unwind safe.
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(End::Done(value)),
            Err(panic) => Poll::Ready(End::Panicked(panic)),
        }
    });
    tokio::select! {
        // A poll that began under the lease may finish the work.
        biased;
        end = guarded => end,
        loss = lease.lost() => End::Lost(loss),
    }
}

/// How the work ended.
pub(crate) enum End<T> {
    Done(T),
    Lost(EndReason),
    Panicked(Box<dyn std::any::Any + Send>),
}
