//! A run under way.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Effect, Error, ErrorKind};
use crate::lease::end::ReleaseOutcome;
use crate::lease::guard::{Completes, Lease};

/// In bytes: the largest result that is remembered.
const LARGEST_RESULT: usize = 900;

/// A run of work that nobody has completed. End it with [`complete`](OnceRun::complete) or
/// [`fail`](OnceRun::fail). A run that is dropped leaves the work free to run again, or is remembered as failed
/// ([`remember_failures`](super::OnceRequest::remember_failures)).
///
/// Stop the work when the lease is [lost](Lease::lost): another process may run it.
#[derive(Debug)]
#[must_use = "a run that is dropped is not remembered"]
pub struct OnceRun {
    /// `None` when the run has ended.
    lease: Option<Lease>,
    keep: Duration,
    remember_failures: bool,
    input: Option<Arc<[u8]>>,
}

impl OnceRun {
    pub(super) fn new(
        lease: Lease,
        keep: Duration,
        remember_failures: bool,
        input: Option<Arc<[u8]>>,
    ) -> Self {
        OnceRun {
            lease: Some(lease),
            keep,
            remember_failures,
            input,
        }
    }

    /// The lease under which the work runs, with its token.
    ///
    /// # Panics
    ///
    /// Never: the lease ends with the run.
    pub fn lease(&self) -> &Lease {
        self.lease.as_ref().expect("the run has not ended")
    }

    /// Remembers the run as done, with its result: at most 900 bytes.
    ///
    /// # Errors
    ///
    /// - [`Lost`](ErrorKind::Lost): another client has taken the key. It may run the work, or has run it.
    /// - [`InvalidInput`](ErrorKind::InvalidInput): the result is too large. The run is remembered without it.
    /// - others by [`ErrorKind`]: the completion may have landed ([`Error::effect`]), or the lease expires.
    ///
    /// # Cancel safety
    ///
    /// The write goes on when this future is dropped.
    pub async fn complete(mut self, result: &[u8]) -> Result<(), Error> {
        if result.len() > LARGEST_RESULT {
            let cause = format!(
                "the result has {} bytes, and at most {LARGEST_RESULT} are kept",
                result.len()
            );
            return self.complete_without(cause.into()).await;
        }
        let work = self.completes(false, Some(result));
        self.end(work).await
    }

    /// Remembers the run as done without its result, and says why.
    pub(super) async fn complete_without(
        mut self,
        cause: Box<dyn StdError + Send + Sync>,
    ) -> Result<(), Error> {
        let key = self.lease().key().clone();
        let work = self.completes(false, None);
        self.end(work).await?;
        let message = format!("`{key}` is done, and its result is not kept: {cause}");
        Err(Error::new(ErrorKind::InvalidInput, message)
            .with_key(key.as_str())
            // Of the completion, which has landed.
            .with_effect(Effect::Unknown)
            .with_hint("keep the result elsewhere, and return a pointer to it")
            .with_source(cause))
    }

    /// Ends a run that failed: the work is free to run again, or remembered as failed with as much of the message as is
    /// kept.
    ///
    /// # Errors
    ///
    /// As [`complete`](OnceRun::complete), or as [`Lease::release`].
    ///
    /// # Cancel safety
    ///
    /// The write goes on when this future is dropped.
    pub async fn fail(mut self, message: impl AsRef<[u8]>) -> Result<(), Error> {
        if self.remember_failures {
            let message = message.as_ref();
            let kept = &message[..message.len().min(LARGEST_RESULT)];
            let work = self.completes(true, Some(kept));
            return self.end(work).await;
        }
        self.abandon().await.map(drop)
    }

    /// Ends a run without remembering it: the work is free to run again.
    ///
    /// # Errors
    ///
    /// As [`Lease::release`].
    ///
    /// # Cancel safety
    ///
    /// The release goes on when this future is dropped.
    pub async fn abandon(mut self) -> Result<ReleaseOutcome, Error> {
        match self.lease.take() {
            Some(lease) => lease.release().await,
            None => Ok(ReleaseOutcome::AlreadyReleased),
        }
    }

    /// The lease alone, for a caller that ends it otherwise: the run is not remembered.
    ///
    /// # Panics
    ///
    /// Never: the lease ends with the run.
    pub fn into_lease(mut self) -> Lease {
        self.lease.take().expect("the run has not ended")
    }

    fn completes(&self, failed: bool, result: Option<&[u8]>) -> Completes {
        Completes {
            keep: self.keep,
            failed,
            input: self.input.clone(),
            result: result.map(Into::into),
        }
    }

    async fn end(&mut self, work: Completes) -> Result<(), Error> {
        match self.lease.take() {
            Some(lease) => lease.complete(work).await,
            None => Ok(()),
        }
    }
}

impl Drop for OnceRun {
    fn drop(&mut self) {
        if self.remember_failures && self.lease.is_some() {
            let work = self.completes(true, Some(b"the run was dropped"));
            if let Some(lease) = self.lease.take() {
                lease.complete_behind(work);
            }
        }
    }
}
