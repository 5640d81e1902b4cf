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

mod lease;
mod request;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::runtime::{Builder, Handle, Runtime};

pub use self::lease::{Lease, Tried};
pub use self::request::LockRequest;
use crate::error::{Error, ErrorKind};
use crate::store::Store;
use crate::{LockClientBuilder, LockStatus, Policy};

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
        self.request(key)?.try_acquire()
    }

    /// Acquires the key, waiting for its holder as long as the policy says. See [`crate::LockClient::acquire`].
    ///
    /// # Errors
    ///
    /// [`WaitExpired`](ErrorKind::WaitExpired) when the wait expired. Others by [`ErrorKind`].
    pub fn acquire(&self, key: &str) -> Result<Lease, Error> {
        self.request(key)?.acquire()
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
        self.request(key)?.run(work)
    }

    /// The status of a key. See [`crate::LockClient::inspect`].
    ///
    /// # Errors
    ///
    /// By [`ErrorKind`].
    pub fn inspect(&self, key: &str) -> Result<LockStatus, Error> {
        self.shared.block_on(self.shared.client.inspect(key))
    }
}
