//! The client: one cheap cloneable handle to store, clocks and policy.
//!
//! It makes no protocol decision. A [`LockRequest`] has settings for one key. The short forms on
//! [`LockClient`] use the client's policy.

pub(crate) mod all;
mod builder;
pub(crate) mod election;
mod force;
mod forget;
mod limits;
pub(crate) mod once;
mod renew;
mod request;
mod slots;

use std::future::{Future, ready};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::either::Either;

use crate::acquire::{Adoption, Order, Patience, TryAcquireOutcome, acquire, shut_down};
use crate::clock::{OsRandom, SystemClock};
use crate::error::Error;
use crate::holder::HolderInfo;
use crate::inspect::{Lister, LockStatus};
use crate::key::Key;
use crate::lease::end::ReleaseOutcome;
use crate::lease::end::seen_in;
use crate::lease::guard::Lease;
use crate::lease_id::LeaseId;
use crate::meter::CallUsage;
use crate::policy::Policy;
use crate::renewal::release::{Releasing, release};
use crate::run::LockScope;
use crate::shared::Core;
use crate::store::{Consistency, Store};
use crate::usage::Usage;
use leasehold_protocol::lens::Want;
use leasehold_protocol::record::Record;
use leasehold_protocol::renewal::Kept;
use leasehold_protocol::write::Operation;

pub use self::builder::LockClientBuilder;
pub use self::request::LockRequest;

/// A client of one store. Clones are cheap and share everything.
///
/// Calls need a tokio runtime that has timers and keeps running: renewals and background releases
/// run on it ([which runtimes work](crate#runtimes)). Without one, every call fails with
/// [`Configuration`](crate::ErrorKind::Configuration), and none panics.
#[derive(Clone, Debug)]
pub struct LockClient {
    core: Arc<Core>,
    /// The prefix of its keys in the store.
    prefix: Option<Arc<str>>,
}

impl LockClient {
    /// What its calls share.
    #[cfg(all(test, feature = "test-util"))]
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// A client with the default policy and this host's clocks.
    pub fn new(store: impl Store) -> Self {
        Self::builder(store).build()
    }

    /// A client with other settings.
    pub fn builder(store: impl Store) -> LockClientBuilder {
        LockClientBuilder {
            store: Arc::new(store),
            policy: Policy::default(),
            clock: Arc::new(SystemClock),
            random: Arc::new(OsRandom),
            max_polls_per_second: None,
        }
    }

    /// A request for one key, with settings of its own.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when the key is empty or too long.
    pub fn request(&self, key: &str) -> Result<LockRequest, Error> {
        Ok(LockRequest::new(&self.core, self.key(key)?))
    }

    /// The same client with `prefix` before every key; [`list`](LockClient::list) shows only such keys.
    /// Holders, errors and lease ids contain the whole key. Prefixes are concatenated. Everything else
    /// is shared, [`shutdown`](LockClient::shutdown) included.
    #[must_use]
    pub fn with_prefix(&self, prefix: impl AsRef<str>) -> LockClient {
        LockClient {
            core: self.core.clone(),
            prefix: Some([self.prefix(), prefix.as_ref()].concat().into()),
        }
    }

    fn prefix(&self) -> &str {
        self.prefix.as_deref().unwrap_or_default()
    }

    fn key(&self, key: &str) -> Result<Key, Error> {
        match &self.prefix {
            // An empty key stays empty, which is an error.
            Some(prefix) if !key.is_empty() => Key::new(&[prefix, key].concat()),
            _ => Key::new(key),
        }
    }

    /// Tries once, without waiting for a holder. It sends one request when the key is free or held, and
    /// a second one only to take over from a dead holder.
    ///
    /// # Errors
    ///
    /// By [`ErrorKind`](crate::ErrorKind), within [`call_timeout`](crate::PolicyBuilder::call_timeout). A
    /// key that is held by another is not an error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the call: requests in flight go on, and a grant that they acquire is
    /// released.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), leasehold::Error> {
    /// use leasehold::{LockClient, TryAcquireOutcome, store::memory::MemoryStore};
    ///
    /// let locks = LockClient::new(MemoryStore::new());
    /// let lease = locks.try_acquire("customer/42").await?.into_lease().expect("nobody holds it");
    /// match locks.try_acquire("customer/42").await? {
    ///     TryAcquireOutcome::Acquired(_) => unreachable!("we hold it"),
    ///     TryAcquireOutcome::Held(held) => println!("{held} until {:?}", held.until()),
    /// }
    /// assert!(lease.release().await?.is_released());
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_acquire(
        &self,
        key: &str,
    ) -> impl Future<Output = Result<TryAcquireOutcome, Error>> + Send + use<> {
        match self.request(key) {
            Ok(request) => Either::Right(request.try_acquire()),
            Err(error) => Either::Left(ready(Err(error))),
        }
    }

    /// Acquires the key, waiting for its holder at most as long as the policy says.
    ///
    /// When it returns a lease, the record carried the call's identity, and time is left.
    ///
    /// # Errors
    ///
    /// [`WaitExpired`](crate::ErrorKind::WaitExpired) when the wait expired; others by
    /// [`ErrorKind`](crate::ErrorKind). The wait bounds the whole call, the network included.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the call: requests in flight go on, and a grant that they acquire is
    /// released. Calls of one client for one key wait in order, and one of them polls the store for all.
    /// So poll the future until it is done, or drop it. A future that is not polled for a second or two
    /// loses its turn to later waiters.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), leasehold::Error> {
    /// use leasehold::{LockClient, store::memory::MemoryStore};
    ///
    /// let locks = LockClient::new(MemoryStore::new());
    /// let lease = locks.acquire("nightly-report").await?;
    /// println!("write with token {}", lease.token());
    /// lease.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn acquire(&self, key: &str) -> impl Future<Output = Result<Lease, Error>> + Send + use<> {
        match self.request(key) {
            Ok(request) => Either::Right(request.acquire()),
            Err(error) => Either::Left(ready(Err(error))),
        }
    }

    /// Acquires the key, runs `work` under it, and releases it. The release follows when the work
    /// returns or panics (the panic goes on), and in the background when this future is dropped. When
    /// the lease is lost, the work is dropped at its next await, and the call fails with
    /// [`Lost`](crate::ErrorKind::Lost). The release may take up to the call time-out when the store
    /// does not answer.
    ///
    /// Both clocks are checked before each poll of the work, so a process that was stopped polls it no
    /// further. A poll that began under the lease may finish the work. Otherwise its value is lost,
    /// although its writes may have landed: the token must protect them.
    ///
    /// If the work is not `Send`, the future is not either. A call for the same key by the work itself,
    /// in this task, fails at once with [`InvalidInput`](crate::ErrorKind::InvalidInput): it would wait
    /// for itself.
    ///
    /// # Errors
    ///
    /// As [`acquire`](LockClient::acquire), and [`Lost`](crate::ErrorKind::Lost). A failed release does
    /// not change the result: it is logged, and the lease expires.
    ///
    /// # Panics
    ///
    /// When the work does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the work and releases the lock in the background.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), leasehold::Error> {
    /// use leasehold::{LockClient, store::memory::MemoryStore};
    ///
    /// let locks = LockClient::new(MemoryStore::new());
    /// let answer = locks.run("customer/42", |scope| async move { scope.token().get() % 2 }).await?;
    /// assert!(answer < 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn run<T, F, Fut>(
        &self,
        key: &str,
        work: F,
    ) -> impl Future<Output = Result<T, Error>> + use<T, F, Fut>
    where
        F: FnOnce(LockScope) -> Fut,
        Fut: Future<Output = T>,
    {
        let request = self.request(key);
        async move { request?.run(work).await }
    }

    /// Ends a grant by its identity, which may come from another client.
    ///
    /// # Errors
    ///
    /// When the store did not answer or refused. A grant that has ended already is not an error: see
    /// [`ReleaseOutcome`].
    ///
    /// # Cancel safety
    ///
    /// A request in flight goes on when this future is dropped.
    pub async fn release(&self, id: &LeaseId) -> Result<ReleaseOutcome, Error> {
        self.core.meter.counted(self.release_by_id(id).await)
    }

    async fn release_by_id(&self, id: &LeaseId) -> Result<ReleaseOutcome, Error> {
        self.core.check_clock(Some(id.key().as_str()))?;
        let policy = &self.core.policy;
        let kept = Kept::adopted(
            id.key().shared(),
            id.attempt(),
            id.token().stored(),
            None,
            policy.terms(&self.core.hints),
        );
        let kept = match id.is_slot() {
            true => kept.of_slot("".into()),
            false => kept,
        };
        if !self.core.queues.pin(id) {
            // Its guard was released, and the grant goes on under another guard.
            return Ok(ReleaseOutcome::AlreadyReleased);
        }
        let (outcome, _) = {
            let started = self.core.clocks.elapsed();
            let how = Releasing {
                held: false,
                keeps_data: false,
                started,
                call_usage: CallUsage::default(),
            };
            release(&self.core, policy, id, &kept, how, || {}).await?
        };
        Ok(match outcome {
            // A call by identity has no deadline, so it cannot tell whether it was late.
            ReleaseOutcome::ReleasedLate => ReleaseOutcome::Released,
            other => other,
        })
    }

    /// Takes a grant over by its identity, with one read and one write. The lease duration and the
    /// payload stay, and the token grows. If several clients adopt one grant, one of them gets it.
    ///
    /// Adopt a [detached](Lease::detach) grant. A live guard learns of its loss at its next renewal, up
    /// to a third of the lease later. Until then it works beside the adopter.
    ///
    /// # Errors
    ///
    /// [`Lost`](crate::ErrorKind::Lost) when the grant has ended, or another has adopted it; others by [`ErrorKind`](crate::ErrorKind).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the call: a request in flight goes on, and a grant that it takes
    /// over is released.
    pub async fn adopt(&self, id: &LeaseId) -> Result<Lease, Error> {
        self.core.meter.counted(self.take_over_by_id(id).await)
    }

    async fn take_over_by_id(&self, id: &LeaseId) -> Result<Lease, Error> {
        self.check_open(id.key())?;
        if !self.core.queues.pin(id) {
            return Err(id.lost_error("it was released and handed off"));
        }
        let record = self.read(id.key(), Consistency::Strong).await?;
        let seen = seen_in(record.as_ref(), id).map_err(|loss| id.lost_error(&loss.to_string()))?;
        let slots = record.as_ref().and_then(|record| record.slots.as_ref());
        let limit = slots.map(|slots| slots.limit).filter(|_| id.is_slot());
        let record = record.as_ref().map(|record| id.view(record));
        // Observers time a grant by the lease duration in its record, and its holder relies on it.
        let lease = record.as_ref().and_then(|record| record.native);
        let lease = lease.map_or(self.core.policy.lease_duration(), |native| native.lease);
        // The former guard may still believe in the grant: the death of this process must not free the key.
        let policy = self.core.policy.to_builder().bound_to_process(false);
        let order = Order {
            key: id.key().clone(),
            policy: policy.lease_duration(lease).build()?,
            // That of the record stays.
            data: None,
            patience: Patience::None,
            want: limit.map_or(Want::Whole, Want::Slot),
            polled: None,
            adopts: Some(Box::new(Adoption {
                id: id.clone(),
                seen,
                force: None,
            })),
        };
        match acquire(&self.core, &order).await? {
            TryAcquireOutcome::Acquired(lease) => Ok(lease),
            TryAcquireOutcome::Held(held) => Err(id.lost_error(&held.to_string())),
        }
    }

    /// The status of a key, by a strongly consistent read.
    ///
    /// # Errors
    ///
    /// [`Malformed`](crate::ErrorKind::Malformed) when the record is unclear; others by
    /// [`ErrorKind`](crate::ErrorKind).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only reads.
    pub async fn inspect(&self, key: &str) -> Result<LockStatus, Error> {
        let key = self.key(key)?;
        let record = self.read(&key, Consistency::Strong).await;
        let record = self.core.meter.counted(record)?;
        Ok(LockStatus::of(&self.core, key.as_str(), record.as_ref()))
    }

    /// Lists all locks of the store: see [`Lister`].
    pub fn list(&self) -> Lister {
        Lister::new(self.core.clone(), self.prefix.clone())
    }

    /// What the waits of this client for a key know of it, without a request: its holder, how many wait,
    /// and the own place. `None` if none of them has seen a holder.
    pub fn waits_for(&self, key: &str) -> Option<HolderInfo> {
        let key = self.key(key).ok()?;
        self.core.queues.seen(key.as_str())
    }

    /// The usage of this client and its clones so far.
    pub fn usage(&self) -> Usage {
        self.core.meter.usage()
    }

    /// The name of the store, for messages.
    pub fn describe_store(&self) -> String {
        self.core.store.describe()
    }

    /// The client's policy.
    pub fn policy(&self) -> &Policy {
        &self.core.policy
    }

    /// Refuses new acquisitions, ends waits with [`ShutDown`](crate::ErrorKind::ShutDown), and waits for the
    /// background work. That is releases of dropped guards, requests of abandoned acquisitions, and held leases,
    /// which are renewed until their guards end. Returns after `within` at the latest, and at once without a tokio
    /// runtime that has timers.
    ///
    /// `true`: all background work has ended. `false`: some of it has not.
    ///
    /// Await it before the runtime ends: a lease that is not released by then stays held until it
    /// expires.
    ///
    /// # Cancel safety
    ///
    /// The client stays shut down when this future is dropped. The call can be repeated.
    pub async fn shutdown(&self, within: Duration) -> bool {
        self.core.shut.cancel();
        self.core.tasks.close();
        if self.core.clocks.check().is_err() {
            // Without timers, no wait is possible.
            return self.core.tasks.is_empty();
        }
        let limit = self.core.clocks.elapsed().plus(within);
        tokio::select! {
            biased;
            () = self.core.tasks.wait() => true,
            () = self.core.clocks.sleep_until(limit) => false,
        }
    }

    fn check_open(&self, key: &Key) -> Result<(), Error> {
        if self.core.shut.is_cancelled() {
            return Err(shut_down(key.as_str()));
        }
        Ok(())
    }

    /// Reads a record, and retries within the call time-out.
    async fn read(&self, key: &Key, consistency: Consistency) -> Result<Option<Record>, Error> {
        let core = &self.core;
        core.check_clock(Some(key.as_str()))?;
        core.read_retrying(key.shared(), consistency)
            .await
            .map_err(|error| error.into_error(Operation::Read, Some(key.as_str())))
    }
}
