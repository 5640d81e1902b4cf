//! A client for code without async.
//!
//! The client runs one thread, which renews leases and releases dropped guards. Calls block the
//! calling thread. A call from a thread of a tokio runtime, `spawn_blocking` included, fails with
//! [`Configuration`](ErrorKind::Configuration): use [`crate::LockClient`] there.
//!
//! A guard that is forgotten (`std::mem::forget`) is renewed for as long as the process lives.
//!
//! ```
//! use leasehold::blocking::LockClient;
//! use leasehold::store::memory::MemoryStore;
//!
//! # fn main() -> Result<(), leasehold::Error> {
//! let locks = LockClient::new(MemoryStore::new())?;
//! let lease = locks.acquire("nightly-report")?;
//! println!("write with token {}", lease.token());
//! lease.release()?;
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tracing::warn;

use crate::acquire::Within;
use crate::error::{Error, ErrorKind};
use crate::store::Store;
use crate::{HolderInfo, LockClientBuilder, LockStatus, Policy, ReleaseOutcome, TryAcquireOutcome};

/// A blocking client of one store. Clones are cheap and share everything.
///
/// The drop of the last clone and last lease waits for running releases, at most for the call
/// time-out. On a thread of a tokio runtime it does not wait, and the releases go on in the
/// background.
#[derive(Clone, Debug)]
pub struct LockClient {
    shared: Arc<Shared>,
}

struct Shared {
    client: crate::LockClient,
    /// `None` only after `drop`.
    runtime: Option<Runtime>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.client.fmt(f)
    }
}

impl Shared {
    fn block_on<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        if Handle::try_current().is_ok() {
            let message = "a blocking lock client is called on a thread of a tokio runtime";
            return Err(
                Error::new(ErrorKind::Configuration, message).with_hint(
                    "use `leasehold::LockClient` there, or call from a thread of `std::thread::spawn`; a guard passed to `release` \
                    is released in the background",
                ),
            );
        }
        match &self.runtime {
            Some(runtime) => runtime.block_on(work),
            None => unreachable!("it is taken in `drop` alone"),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        // On a separate thread: this one may belong to a runtime, or be about to end.
        let runtime = Arc::new(Mutex::new(Some(runtime)));
        let (taken, client) = (runtime.clone(), self.client.clone());
        let within = client.policy().call_timeout();
        let end = thread::Builder::new().name("leasehold-end".into());
        let end = end.spawn(move || {
            if let Some(runtime) = take(&taken) {
                runtime.block_on(client.shutdown(within));
                runtime.shutdown_background();
            }
        });
        match end {
            Ok(end) if Handle::try_current().is_err() => drop(end.join()),
            Ok(_) => {}
            Err(_) => {
                if let Some(runtime) = take(&runtime) {
                    runtime.shutdown_background();
                }
            }
        }
    }
}

fn take(runtime: &Mutex<Option<Runtime>>) -> Option<Runtime> {
    runtime
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
}

impl LockClient {
    /// A client with the default policy.
    ///
    /// # Errors
    ///
    /// [`Configuration`](ErrorKind::Configuration) when the operating system refuses a thread.
    pub fn new(store: impl Store) -> Result<Self, Error> {
        Self::build(crate::LockClient::builder(store))
    }

    /// A client with this policy.
    ///
    /// # Errors
    ///
    /// As [`LockClient::new`].
    pub fn with_policy(store: impl Store, policy: Policy) -> Result<Self, Error> {
        Self::build(crate::LockClient::builder(store).policy(policy))
    }

    /// A client with these settings.
    ///
    /// # Errors
    ///
    /// As [`LockClient::new`].
    pub fn build(builder: LockClientBuilder) -> Result<Self, Error> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("leasehold")
            .enable_all()
            .build()
            .map_err(|error| {
                let message = format!("cannot start the thread of a blocking lock client: {error}");
                Error::new(ErrorKind::Configuration, message)
                    .with_hint("raise the limits of this process: `ulimit -u`, `ulimit -n`")
            })?;
        let shared = Shared {
            client: builder.build(),
            runtime: Some(runtime),
        };
        Ok(LockClient {
            shared: Arc::new(shared),
        })
    }

    /// Tries once. See [`crate::LockClient::try_acquire`].
    ///
    /// # Errors
    ///
    /// By [`ErrorKind`]. A key that is held by another is not an error.
    pub fn try_acquire(&self, key: &str) -> Result<Tried, Error> {
        let tried = self.shared.block_on(self.shared.client.try_acquire(key))?;
        Ok(match tried {
            TryAcquireOutcome::Acquired(lease) => Tried::Acquired(self.guard(lease)),
            TryAcquireOutcome::Held(held) => Tried::Held(held),
        })
    }

    /// Acquires the key, waiting for its holder as long as the policy says. See [`crate::LockClient::acquire`].
    ///
    /// # Errors
    ///
    /// [`WaitExpired`](ErrorKind::WaitExpired) when the wait expired. Others by [`ErrorKind`].
    pub fn acquire(&self, key: &str) -> Result<Lease, Error> {
        let lease = self.shared.block_on(self.shared.client.acquire(key))?;
        Ok(self.guard(lease))
    }

    /// Acquires the key, runs `work` on this thread, and releases the key, also when the work panics.
    ///
    /// The client cannot stop the work when the lease is lost. The work must check
    /// [`is_held`](crate::Lease::is_held) between its steps, and pass [`token`](crate::Lease::token) to
    /// the protected resource.
    ///
    /// # Errors
    ///
    /// As [`LockClient::acquire`]. [`Lost`](ErrorKind::Lost) when the lease was lost before the work
    /// ended: the value of the work is dropped, and its writes may have landed. A call of the work for
    /// its own key fails with [`InvalidInput`](ErrorKind::InvalidInput).
    ///
    /// # Panics
    ///
    /// When the work does.
    pub fn run<T>(&self, key: &str, work: impl FnOnce(&Lease) -> T) -> Result<T, Error> {
        let lease = self.acquire(key)?;
        let within = Within {
            client: Arc::as_ptr(lease.context()).addr(),
            key: lease.key().shared(),
        };
        let done = {
            let _entered = within.enter();
            catch_unwind(AssertUnwindSafe(|| work(&lease)))
        };
        let lost = match lease.is_held() {
            true => None,
            // The lease has ended, so this returns at once.
            false => Some(self.shared.block_on(async { Ok(lease.lost().await) })?),
        };
        let (context, id) = (lease.context().clone(), lease.id().clone());
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

    /// The status of a key. See [`crate::LockClient::inspect`].
    ///
    /// # Errors
    ///
    /// By [`ErrorKind`].
    pub fn inspect(&self, key: &str) -> Result<LockStatus, Error> {
        self.shared.block_on(self.shared.client.inspect(key))
    }

    fn guard(&self, lease: crate::Lease) -> Lease {
        Lease {
            lease,
            shared: self.shared.clone(),
        }
    }
}

/// The answer to a try.
#[derive(Debug)]
#[must_use]
pub enum Tried {
    /// The caller holds the key.
    Acquired(Lease),
    /// Another holder has the key.
    Held(HolderInfo),
}

impl Tried {
    /// The lease, if it was acquired.
    pub fn into_lease(self) -> Option<Lease> {
        match self {
            Tried::Acquired(lease) => Some(lease),
            Tried::Held(_) => None,
        }
    }
}

/// A held lock, renewed by the client's thread. It dereferences to [`crate::Lease`] for calls that
/// do not wait.
#[derive(Debug)]
#[must_use = "a lease that is dropped is released"]
pub struct Lease {
    // Dropped before the runtime, which releases it.
    lease: crate::Lease,
    shared: Arc<Shared>,
}

impl Lease {
    /// Ends the grant. See [`crate::Lease::release`]. If this is the last handle of its client, the
    /// client ends, too.
    ///
    /// # Errors
    ///
    /// When the store did not answer or refused: the lease then expires.
    pub fn release(self) -> Result<ReleaseOutcome, Error> {
        let Lease { lease, shared } = self;
        shared.block_on(lease.release())
    }

    /// Renews now. See [`crate::Lease::renew`].
    ///
    /// # Errors
    ///
    /// [`Lost`](ErrorKind::Lost) when the lease is lost, before the call or during it.
    pub fn renew(&self) -> Result<(), Error> {
        self.shared.block_on(self.lease.renew())
    }

    /// Makes sure that at least `time` is left. See [`crate::Lease::ensure`].
    ///
    /// # Errors
    ///
    /// As [`crate::Lease::ensure`].
    pub fn ensure(&self, time: Duration) -> Result<(), Error> {
        self.shared.block_on(self.lease.ensure(time))
    }

    /// Replaces the payload in the record. See [`crate::Lease::set_data`].
    ///
    /// # Errors
    ///
    /// As [`crate::Lease::set_data`].
    pub fn set_data(&self, data: impl AsRef<[u8]>) -> Result<(), Error> {
        self.shared.block_on(self.lease.set_data(data))
    }

    /// Ends the grant, and leaves its payload to the next holder. See [`crate::Lease::release_keeping_data`].
    ///
    /// # Errors
    ///
    /// As [`Lease::release`].
    pub fn release_keeping_data(self) -> Result<ReleaseOutcome, Error> {
        let Lease { lease, shared } = self;
        shared.block_on(lease.release_keeping_data())
    }
}

impl Deref for Lease {
    type Target = crate::Lease;

    fn deref(&self) -> &crate::Lease {
        &self.lease
    }
}
