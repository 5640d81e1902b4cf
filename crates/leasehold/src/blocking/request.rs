//! A request with its own settings, for code that blocks.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use tracing::warn;

use super::{Lease, LockClient, Shared, Tried};
use crate::TryAcquireOutcome;
use crate::acquire::Within;
use crate::error::Error;

/// A request for one key, with its own settings. [`LockClient::request`] makes it.
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before `acquire`, `try_acquire` or `run` is called"]
pub struct LockRequest {
    request: crate::LockRequest,
    shared: Arc<Shared>,
}

impl LockClient {
    /// A request for one key, with settings of its own. See [`crate::LockClient::request`].
    ///
    /// # Errors
    ///
    /// As [`crate::LockClient::request`].
    pub fn request(&self, key: &str) -> Result<LockRequest, Error> {
        self.requested(self.shared.client.request(key))
    }

    /// A request for one of `limit` slots of a key. See [`crate::LockClient::slots`].
    ///
    /// # Errors
    ///
    /// As [`crate::LockClient::slots`].
    pub fn slots(&self, key: &str, limit: u32) -> Result<LockRequest, Error> {
        self.requested(self.shared.client.slots(key, limit))
    }

    /// A request for a shared lock of a key. See [`crate::LockClient::shared`].
    ///
    /// # Errors
    ///
    /// As [`crate::LockClient::slots`].
    pub fn shared(&self, key: &str) -> Result<LockRequest, Error> {
        self.requested(self.shared.client.shared(key))
    }

    /// A request for the whole key, beside [`shared`](LockClient::shared).
    ///
    /// # Errors
    ///
    /// As [`crate::LockClient::request`].
    pub fn exclusive(&self, key: &str) -> Result<LockRequest, Error> {
        self.requested(self.shared.client.exclusive(key))
    }

    fn requested(&self, request: Result<crate::LockRequest, Error>) -> Result<LockRequest, Error> {
        let shared = self.shared.clone();
        request.map(|request| LockRequest { request, shared })
    }
}

impl LockRequest {
    /// Other settings: `change` gets the methods of [`crate::LockRequest`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use leasehold::{blocking::LockClient, store::memory::MemoryStore};
    /// # fn main() -> Result<(), leasehold::Error> {
    /// let locks = LockClient::new(MemoryStore::new())?;
    /// let request = locks.slots("export", 3)?;
    /// let lease = request.with(|it| it.wait(Duration::from_secs(5))).acquire()?;
    /// # lease.release()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn with(self, change: impl FnOnce(crate::LockRequest) -> crate::LockRequest) -> Self {
        LockRequest {
            request: change(self.request),
            ..self
        }
    }

    /// As [`LockClient::try_acquire`], with these settings.
    ///
    /// # Errors
    ///
    /// As [`crate::LockRequest::try_acquire`].
    pub fn try_acquire(self) -> Result<Tried, Error> {
        let LockRequest { request, shared } = self;
        Ok(match shared.block_on(request.try_acquire())? {
            TryAcquireOutcome::Acquired(lease) => Tried::Acquired(Lease { lease, shared }),
            TryAcquireOutcome::Held(held) => Tried::Held(held),
        })
    }

    /// As [`LockClient::acquire`], with these settings.
    ///
    /// # Errors
    ///
    /// As [`crate::LockRequest::acquire`].
    pub fn acquire(self) -> Result<Lease, Error> {
        let LockRequest { request, shared } = self;
        let lease = shared.block_on(request.acquire())?;
        Ok(Lease { lease, shared })
    }

    /// As [`LockClient::run`], with these settings.
    ///
    /// # Errors
    ///
    /// As [`LockClient::run`].
    ///
    /// # Panics
    ///
    /// When the work does.
    pub fn run<T>(self, work: impl FnOnce(&Lease) -> T) -> Result<T, Error> {
        let lease = self.acquire()?;
        let (context, id) = (lease.context().clone(), lease.id().clone());
        let key = id.key();
        let within = Within {
            client: Arc::as_ptr(&context).addr(),
            key: key.shared(),
        };
        let done = {
            let _entered = within.enter();
            catch_unwind(AssertUnwindSafe(|| work(&lease)))
        };
        let lost = match lease.is_held() {
            true => None,
            // The lease has ended, so this returns at once.
            false => Some(lease.shared.block_on(async { Ok(lease.lost().await) })?),
        };
        match lease.release() {
            Ok(outcome) if outcome.is_released() => {}
            Ok(outcome) => warn!(%key, %outcome, "the lease had ended before its work"),
            Err(error) => warn!(%key, %error, "the lock could not be released: its lease expires"),
        }
        match (done, lost) {
            (Err(panic), _) => resume_unwind(panic),
            (Ok(value), None) => Ok(value),
            (Ok(_), Some(why)) => {
                let lost = Err(id.lost_error(&why.to_string()));
                context.meter.counted(lost)
            }
        }
    }
}
