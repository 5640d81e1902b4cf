//! The work, under the lease of its run.

use std::fmt::Display;
use std::future::Future;
use std::panic::resume_unwind;

use super::end::{Once, OnceError};
use super::look::Started;
use super::request::OnceRequest;
use super::value::OnceValue;
use crate::run::{End, LockScope, work_under};

impl OnceRequest {
    /// Runs the work, unless a run of it is remembered, and remembers it. The work runs as in
    /// [`LockClient::run`](crate::LockClient::run): it is dropped when the lease is lost.
    ///
    /// # Errors
    ///
    /// By [`OnceError`]. A run of another that takes longer than the wait is
    /// [`WaitExpired`](crate::ErrorKind::WaitExpired), in [`OnceError::NotRun`].
    ///
    /// # Panics
    ///
    /// When the work does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the work. The key is free then, or the run is remembered as failed.
    pub async fn run<T, E, F, Fut>(self, work: F) -> Result<Once<T>, OnceError<T, E>>
    where
        F: FnOnce(LockScope) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        T: OnceValue,
        E: Display,
    {
        let run = match self.start().await {
            Ok(Started::Run(run)) => run,
            Ok(Started::Done(done)) if done.is_failed() => {
                return Err(OnceError::FailedBefore(done));
            }
            Ok(Started::Done(done)) => return Ok(Once::Done(done)),
            Err(error) => return Err(OnceError::NotRun(error)),
        };
        let scope = LockScope::of(run.lease());
        match work_under(run.lease(), move || work(scope)).await {
            End::Done(Ok(value)) => {
                let recorded = match value.to_bytes() {
                    Ok(bytes) => run.complete(&bytes).await,
                    Err(cause) => run.complete_without(cause).await,
                };
                match recorded {
                    Ok(()) => Ok(Once::Ran(value)),
                    Err(error) => Err(OnceError::NotRecorded {
                        value: Some(value),
                        error,
                    }),
                }
            }
            End::Done(Err(error)) => {
                // A failure to say so is logged. The lease then expires.
                drop(run.fail(error.to_string()).await);
                Err(OnceError::Work(error))
            }
            End::Lost(why) => {
                let error = run.lease().id().lost_error(&why.to_string());
                // The lease may have run out with nobody to take the key.
                drop(run.abandon().await);
                Err(OnceError::NotRecorded { value: None, error })
            }
            End::Panicked(panic) => {
                drop(run.fail("the work panicked").await);
                resume_unwind(panic)
            }
        }
    }
}
