//! `run`: work under a lock that is released however the work ends.

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

/// What the work under a lock gets to know about it.
#[derive(Clone, Debug)]
pub struct LockScope {
    signal: LeaseWatch,
}

impl LockScope {
    /// The fencing token, to be given to whatever the lock protects.
    pub fn token(&self) -> FencingToken {
        self.signal.id().token()
    }

    /// The identity of the grant.
    pub fn id(&self) -> &LeaseId {
        self.signal.id()
    }

    /// How long the work can go on before it is ended, if no renewal succeeds.
    pub fn remaining(&self) -> Duration {
        self.signal.remaining()
    }

    /// As [`Lease::lost`](crate::Lease::lost): for work that has something to do before it is dropped, and for what
    /// it polls beside.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only waits.
    pub async fn lost(&self) -> EndReason {
        self.signal.ended().await
    }

    /// Tells tasks that the work has spawned when the lease ends.
    pub fn watch(&self) -> LeaseWatch {
        self.signal.clone()
    }
}

/// Runs `work` under `lease`; see [`LockClient::run`](crate::LockClient::run).
pub(crate) async fn run<T, F, Fut>(lease: Lease, work: F) -> Result<T, Error>
where
    F: FnOnce(LockScope) -> Fut,
    Fut: Future<Output = T>,
{
    let scope = LockScope {
        signal: lease.watch(),
    };
    let end = work_under(&lease, move || work(scope)).await;
    let (context, id) = (lease.context().clone(), lease.id().clone());
    let released = lease.release().await;
    match &released {
        Ok(outcome) if outcome.is_released() => {}
        Ok(outcome) => warn!(key = %id.key(), %outcome, "the lock had ended before its work"),
        Err(error) => {
            warn!(key = %id.key(), %error, "the lock could not be released, it ends by itself")
        }
    }
    match end {
        End::Done(value) => Ok(value),
        End::Lost(why) => context.meter.counted(Err(id.lost_error(&why))),
        End::Panicked(panic) => resume_unwind(panic),
    }
}

/// The end of the work, which is dropped before the lock is released.
async fn work_under<T, Fut>(lease: &Lease, work: impl FnOnce() -> Fut) -> End<T>
where
    Fut: Future<Output = T>,
{
    if !lease.is_held() {
        return End::Lost(lease.lost().await.to_string());
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
        // By both clocks, before each poll: this process may have been stopped since the last one, and the
        // work must not take another step beside the next holder.
        if !lease.is_held() {
            return Poll::Pending;
        }
        let _entered = within.enter();
        // The work is not looked at again after a panic.
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(End::Done(value)),
            Err(panic) => Poll::Ready(End::Panicked(panic)),
        }
    });
    tokio::select! {
        // Work that is done in a step that began under the lease is done.
        biased;
        end = guarded => end,
        loss = lease.lost() => End::Lost(loss.to_string()),
    }
}

enum End<T> {
    Done(T),
    Lost(String),
    Panicked(Box<dyn std::any::Any + Send>),
}
