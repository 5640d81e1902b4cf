//! `run`: work under a lock that is released however the work ends.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tracing::warn;

use crate::error::Error;
use crate::identity::LeaseId;
use crate::keeper::lost_error;
use crate::lease::{Lease, LostSignal};
use crate::protocol::token::FencingToken;

/// What the work under a lock gets to know about it.
#[derive(Clone, Debug)]
pub struct Scope {
    signal: LostSignal,
}

impl Scope {
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

    /// Tells tasks that the work has spawned when the lease ends.
    pub fn signal(&self) -> LostSignal {
        self.signal.clone()
    }
}

/// Runs `work` under `lease`; see [`LockClient::run`](crate::LockClient::run).
pub(crate) async fn run<T, F, Fut>(lease: Lease, work: F) -> Result<T, Error>
where
    F: FnOnce(Scope) -> Fut + Send,
    Fut: Future<Output = T> + Send,
    T: Send,
{
    let scope = Scope {
        signal: lease.signal(),
    };
    let end = {
        let started = catch_unwind(AssertUnwindSafe(|| work(scope)));
        match started {
            Err(panic) => End::Panicked(panic),
            Ok(work) => {
                let mut work = pin!(work);
                // The work is not looked at again after a panic.
                let guarded = std::future::poll_fn(|context| {
                    match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
                        Ok(Poll::Pending) => Poll::Pending,
                        Ok(Poll::Ready(value)) => Poll::Ready(End::Done(value)),
                        Err(panic) => Poll::Ready(End::Panicked(panic)),
                    }
                });
                tokio::select! {
                    // Work that is done is done, even if the lease was lost at the same moment.
                    biased;
                    end = guarded => end,
                    loss = lease.lost() => End::Lost(loss.to_string()),
                }
            }
        }
        // The work is dropped here, before the lock is released.
    };
    let id = lease.id().clone();
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
        End::Lost(why) => Err(lost_error(&id, &why)),
        End::Panicked(panic) => resume_unwind(panic),
    }
}

enum End<T> {
    Done(T),
    Lost(String),
    Panicked(Box<dyn std::any::Any + Send>),
}
