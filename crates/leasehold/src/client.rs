//! The handle: one cheap cloneable value that holds store, clocks and policy.
//!
//! It makes no protocol decision. What is asked for one key with its own settings is a
//! [`LockRequest`]; the short forms on [`LockClient`] use the client's policy.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::acquire::{Acquired, Adoption, Order, Patience, acquire, shut_down};
use crate::budget::Budget;
use crate::clock::{Clock, OsRandom, Random, SystemClock};
use crate::error::{Error, ErrorKind};
use crate::exchange::Core;
use crate::held::Held;
use crate::identity::LeaseId;
use crate::keeper::{self, LettingGo};
use crate::key::Key;
use crate::lease::{Lease, ReleaseOutcome};
use crate::meter::{Bill, Usage};
use crate::observe::{Lister, LockStatus};
use crate::policy::{CheckDelay, DropPolicy, Policy};
use crate::protocol::record::Record;
use crate::protocol::renewal::Kept;
use crate::protocol::write::Operation;
use crate::run::{self, Scope};
use crate::store::{Consistency, Store};

/// A client of one store. Clones are cheap and share everything.
///
/// Calls must be made within a tokio runtime: renewals and background releases run on it.
#[derive(Clone, Debug)]
pub struct LockClient {
    core: Arc<Core>,
}

/// Puts a [`LockClient`] together.
#[derive(Debug)]
pub struct LockClientBuilder {
    store: Arc<dyn Store>,
    policy: Policy,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    looks_per_second: Option<u32>,
}

impl LockClientBuilder {
    /// The client's policy. Default: [`Policy::default`].
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// The clocks. Default: the host's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The randomness. Default: the operating system's.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// How many looks a second all waits of this client may send together, after a burst of a second's
    /// worth. Default 100 on DynamoDB, which costs at most $0.55 a day ($5.40 with
    /// [`CheckDelay::ByWriting`]), and 2000 on SQLite and in memory, where nobody bills them. Only waits for keys that another
    /// process holds look, one for each key, however many tasks wait for it. Too small: keys stay free
    /// between two looks; too large: a process that waits for thousands of keys uses up the table's
    /// capacity. At least 1.
    #[must_use]
    pub fn looks_per_second(mut self, looks: u32) -> Self {
        self.looks_per_second = Some(looks);
        self
    }

    /// The client.
    pub fn build(self) -> LockClient {
        let hinted = self.store.hints().looks_per_second;
        let budget = Budget::new(self.looks_per_second.unwrap_or(hinted));
        LockClient {
            core: Arc::new(Core::new(
                self.store,
                self.clock,
                self.random,
                self.policy,
                budget,
            )),
        }
    }
}

/// The answer to a try.
#[derive(Debug)]
#[must_use]
pub enum TryAcquire {
    /// We hold it.
    Acquired(Lease),
    /// Another does.
    Held(Held),
}

impl TryAcquire {
    /// The lease, if we hold it.
    pub fn acquired(self) -> Option<Lease> {
        match self {
            TryAcquire::Acquired(lease) => Some(lease),
            TryAcquire::Held(_) => None,
        }
    }
}

/// What a shutdown left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Drained {
    /// Whether everything in the background had ended in time. If not, leases that are still held
    /// end by themselves.
    pub complete: bool,
}

impl LockClient {
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
            looks_per_second: None,
        }
    }

    /// A request for one key, with settings of its own.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) when the key is empty or too long.
    pub fn lock(&self, key: &str) -> Result<LockRequest<'_>, Error> {
        Ok(LockRequest {
            client: self,
            key: Key::new(key)?,
            policy: self.core.policy.clone(),
            data: None,
        })
    }

    /// Tries once and never waits for a holder: one request when the key is free or held, a second
    /// only to take over a dead holder.
    ///
    /// # Errors
    ///
    /// By [`ErrorKind`]; bounded by [`call_timeout`](crate::PolicyBuilder::call_timeout). Being
    /// held by another is not an error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up: requests in flight go on, and what they acquire is released.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), leasehold::Error> {
    /// use leasehold::{LockClient, TryAcquire, store::memory::MemoryStore};
    ///
    /// let locks = LockClient::new(MemoryStore::new());
    /// let lease = locks.try_acquire("customer/42").await?.acquired().expect("nobody holds it");
    /// match locks.try_acquire("customer/42").await? {
    ///     TryAcquire::Acquired(_) => unreachable!("we hold it"),
    ///     TryAcquire::Held(held) => println!("{held} until {:?}", held.until()),
    /// }
    /// assert!(lease.release().await?.is_released());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn try_acquire(&self, key: &str) -> Result<TryAcquire, Error> {
        self.lock(key)?.try_acquire().await
    }

    /// Acquires the key, waiting for its holder at most as long as the policy says.
    ///
    /// When it returns a lease, the record carried our identity during the call and time is left.
    ///
    /// # Errors
    ///
    /// [`WaitExpired`](ErrorKind::WaitExpired) when the wait ran out; others by [`ErrorKind`]. The
    /// wait bounds everything, the network included.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up: requests in flight go on, and what they acquire is released.
    /// Calls of one client for one key stand in line, and one of them asks for all: poll such a
    /// future until it is done, or drop it. One that is kept without being polled keeps its turn
    /// when that has come, and holds up those behind it.
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
    pub async fn acquire(&self, key: &str) -> Result<Lease, Error> {
        // What a statement has made lives as long as its `await`: a waiter is smaller in two.
        let request = self.lock(key)?;
        request.acquire().await
    }

    /// Acquires the key, runs `work` under it, and releases it: when the work returns a value or
    /// an error, when it panics (the panic goes on), and in the background when this future is
    /// dropped. When the lease is lost, the work is dropped at its next await, and the call fails
    /// with [`Lost`](ErrorKind::Lost). Work that ends by itself counts as done, even if the lease was
    /// lost at the same moment: what it wrote, the token must protect. The release may take up to the
    /// call time-out when the store does not answer.
    ///
    /// # Errors
    ///
    /// As [`acquire`](LockClient::acquire), and [`Lost`](ErrorKind::Lost). Whether the release
    /// failed never changes the result; it is logged, and the lease ends by itself.
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
    pub async fn run<T, F, Fut>(&self, key: &str, work: F) -> Result<T, Error>
    where
        F: FnOnce(Scope) -> Fut + Send,
        Fut: Future<Output = T> + Send,
        T: Send,
    {
        self.lock(key)?.run(work).await
    }

    /// Ends a grant by its identity, whoever acquired it.
    ///
    /// # Errors
    ///
    /// When the store did not answer or refused. A grant that has ended is not an error: see
    /// [`ReleaseOutcome`].
    ///
    /// # Cancel safety
    ///
    /// A request in flight goes on when this future is dropped.
    pub async fn release(&self, id: &LeaseId) -> Result<ReleaseOutcome, Error> {
        let policy = &self.core.policy;
        let kept = Kept::adopted(
            id.key().shared(),
            id.attempt(),
            id.token().stored(),
            None,
            policy.terms(&self.core.hints),
        );
        if !self.core.queues.pin(id) {
            // Its guard was released, and the grant goes on under another.
            return Ok(ReleaseOutcome::AlreadyReleased);
        }
        let outcome = {
            let started = self.core.clock.elapsed();
            let how = LettingGo {
                held: false,
                started,
                bill: Bill::default(),
            };
            keeper::release(&self.core, policy, id, &kept, how, || {}).await?
        };
        Ok(match outcome {
            // Whether it was late is not known here: nobody kept a deadline.
            ReleaseOutcome::ReleasedLate => ReleaseOutcome::Released,
            other => other,
        })
    }

    /// Takes a grant over by its identity, with the lease length that it was acquired with, its payload, and a
    /// larger token: one read and one write. Of several who adopt one grant, one gets it.
    ///
    /// Adopt what was [detached](Lease::detach). A guard that still lives learns only at its next renewal,
    /// up to a third of the lease later, that it has lost its grant, and works on beside the adopter until then.
    ///
    /// # Errors
    ///
    /// [`Lost`](ErrorKind::Lost) when the grant has ended, or another has adopted it; others by [`ErrorKind`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up: a request in flight goes on, and what it takes over is released.
    pub async fn adopt(&self, id: &LeaseId) -> Result<Lease, Error> {
        self.check_open(id.key())?;
        if !self.core.queues.pin(id) {
            return Err(keeper::lost_error(id, "it was released, and handed on"));
        }
        let record = self.read(id.key(), Consistency::Strong).await?;
        let seen = id
            .seen_in(record.as_ref())
            .map_err(|loss| keeper::lost_error(id, &loss.to_string()))?;
        // Observers time a grant by the lease length in its record, and its holder has planned with it.
        let lease = record.as_ref().and_then(|record| record.native);
        let lease = lease.map_or(self.core.policy.lease(), |native| native.lease);
        let order = Order {
            key: id.key().clone(),
            policy: self.core.policy.to_builder().lease(lease).build()?,
            data: record.and_then(|record| record.data).map(Arc::from),
            patience: Patience::None,
            adopts: Some(Adoption {
                id: id.clone(),
                seen,
            }),
        };
        match acquire(&self.core, order)?.await? {
            Acquired::Lease(lease) => Ok(lease),
            Acquired::Held(held) => Err(keeper::lost_error(id, &held.to_string())),
        }
    }

    /// What is known about a key: a strongly consistent read.
    ///
    /// # Errors
    ///
    /// [`Malformed`](ErrorKind::Malformed) when the record is not readable; others by
    /// [`ErrorKind`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only reads.
    pub async fn inspect(&self, key: &str) -> Result<LockStatus, Error> {
        let key = Key::new(key)?;
        let record = self.read(&key, Consistency::Strong).await?;
        Ok(LockStatus::of(&self.core, key.as_str(), record.as_ref()))
    }

    /// Lists all locks of the store, page by page.
    pub fn list(&self) -> Lister {
        Lister::new(self.core.clone())
    }

    /// What this client and its clones have cost so far.
    pub fn usage(&self) -> Usage {
        self.core.meter.usage()
    }

    /// The store, for messages.
    pub fn describe_store(&self) -> String {
        self.core.store.describe()
    }

    /// The client's policy.
    pub fn policy(&self) -> &Policy {
        &self.core.policy
    }

    /// Takes no new orders, ends waits with [`ShutDown`](ErrorKind::ShutDown), and waits until
    /// everything in the background has ended: releases of dropped guards, requests of abandoned
    /// acquisitions, and leases that are still held by guards, which go on being renewed until
    /// those let go. Returns after `within` at the latest.
    ///
    /// # Cancel safety
    ///
    /// The client stays shut when this future is dropped; it can be called again.
    pub async fn shutdown(&self, within: Duration) -> Drained {
        self.core.shut.cancel();
        self.core.tasks.close();
        let limit = self.core.clock.elapsed().plus(within);
        let complete = tokio::select! {
            biased;
            () = self.core.tasks.wait() => true,
            () = self.core.clock.sleep_until(limit) => false,
        };
        Drained { complete }
    }

    fn check_open(&self, key: &Key) -> Result<(), Error> {
        if self.core.shut.is_cancelled() {
            return Err(shut_down(key.as_str()));
        }
        Ok(())
    }

    /// Reads a record, trying again within the call time-out.
    async fn read(&self, key: &Key, consistency: Consistency) -> Result<Option<Record>, Error> {
        let core = &self.core;
        core.read_retrying(key.shared(), consistency)
            .await
            .map_err(|error| error.into_error(Operation::Read, Some(key.as_str())))
    }
}

/// A request for one key, on its way. Made by [`LockClient::lock`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), leasehold::Error> {
/// use std::time::Duration;
/// use leasehold::{LockClient, store::memory::MemoryStore};
///
/// let locks = LockClient::new(MemoryStore::new());
/// let lease = locks
///     .lock("customer/42")?
///     .lease(Duration::from_secs(60))
///     .wait(Duration::from_secs(5))
///     .data("import of 2026-11")
///     .acquire()
///     .await?;
/// # lease.release().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is requested until one of its verbs is called"]
pub struct LockRequest<'a> {
    client: &'a LockClient,
    key: Key,
    policy: Policy,
    data: Option<Arc<[u8]>>,
}

impl LockRequest<'_> {
    /// Other settings for this request; see [`Policy::to_builder`]. Clock bounds, pad and store
    /// stay the client's own in what is shared by all requests.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// As [`PolicyBuilder::lease`](crate::PolicyBuilder::lease). Checked when the request is sent.
    pub fn lease(self, lease: Duration) -> Self {
        self.set(|policy| policy.lease(lease))
    }

    /// As [`PolicyBuilder::wait`](crate::PolicyBuilder::wait).
    pub fn wait(self, wait: Duration) -> Self {
        self.set(|policy| policy.wait(wait))
    }

    /// As [`PolicyBuilder::wait_forever`](crate::PolicyBuilder::wait_forever).
    pub fn wait_forever(self) -> Self {
        self.set(crate::PolicyBuilder::wait_forever)
    }

    /// As [`PolicyBuilder::check_delay`](crate::PolicyBuilder::check_delay).
    pub fn check_delay(self, check_delay: CheckDelay) -> Self {
        self.set(|policy| policy.check_delay(check_delay))
    }

    /// As [`PolicyBuilder::label`](crate::PolicyBuilder::label).
    pub fn label(self, label: impl Into<Arc<str>>) -> Self {
        self.set(|policy| policy.label(label))
    }

    /// As [`PolicyBuilder::manual_renewal`](crate::PolicyBuilder::manual_renewal).
    pub fn manual_renewal(self, manual: bool) -> Self {
        self.set(|policy| policy.manual_renewal(manual))
    }

    /// As [`PolicyBuilder::hand_off`](crate::PolicyBuilder::hand_off).
    pub fn hand_off(self, hand_off: bool) -> Self {
        self.set(|policy| policy.hand_off(hand_off))
    }

    /// As [`PolicyBuilder::drop_policy`](crate::PolicyBuilder::drop_policy).
    pub fn drop_policy(self, drop_policy: DropPolicy) -> Self {
        self.set(|policy| policy.drop_policy(drop_policy))
    }

    /// A payload in the record while the lock is held, for observers. On DynamoDB a record of more
    /// than 1 KB doubles the price of every request.
    pub fn data(mut self, data: impl AsRef<[u8]>) -> Self {
        self.data = Some(data.as_ref().into());
        self
    }

    /// As [`LockClient::try_acquire`], with these settings.
    ///
    /// # Errors
    ///
    /// Also [`Configuration`](ErrorKind::Configuration) when the settings do not add up.
    ///
    /// # Cancel safety
    ///
    /// As [`LockClient::try_acquire`].
    pub async fn try_acquire(self) -> Result<TryAcquire, Error> {
        let core = &self.client.core;
        let order = self.order(|_| Patience::None)?;
        let acquisition = acquire(core, order)?;
        match acquisition.await? {
            Acquired::Lease(lease) => Ok(TryAcquire::Acquired(lease)),
            Acquired::Held(held) => Ok(TryAcquire::Held(held)),
        }
    }

    /// As [`LockClient::acquire`], with these settings.
    ///
    /// # Errors
    ///
    /// Also [`Configuration`](ErrorKind::Configuration) when the settings do not add up.
    ///
    /// # Cancel safety
    ///
    /// As [`LockClient::acquire`].
    pub async fn acquire(self) -> Result<Lease, Error> {
        let patience = |policy: &Policy| match policy.wait() {
            None => Patience::Forever,
            // No wait is a try; its network time is bounded by the call time-out.
            Some(Duration::ZERO) => Patience::None,
            Some(wait) => Patience::For(wait),
        };
        let core = &self.client.core;
        let order = self.order(patience)?;
        let acquisition = acquire(core, order)?;
        match acquisition.await? {
            Acquired::Lease(lease) => Ok(lease),
            Acquired::Held(held) => Err(Error::new(ErrorKind::WaitExpired, held.to_string())
                .with_key(held.key())
                .with_held(Some(held))),
        }
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
    ///
    /// # Cancel safety
    ///
    /// As [`LockClient::run`].
    pub async fn run<T, F, Fut>(self, work: F) -> Result<T, Error>
    where
        F: FnOnce(Scope) -> Fut + Send,
        Fut: Future<Output = T> + Send,
        T: Send,
    {
        let lease = self.acquire().await?;
        run::run(lease, work).await
    }

    fn set(mut self, change: impl FnOnce(crate::PolicyBuilder) -> crate::PolicyBuilder) -> Self {
        self.policy = Policy::unchecked(change(self.policy.to_builder()));
        self
    }

    fn order(self, patience: impl FnOnce(&Policy) -> Patience) -> Result<Order, Error> {
        let policy = self
            .policy
            .checked()
            .map_err(|error| error.with_key(self.key.as_str()))?;
        Ok(Order {
            patience: patience(&policy),
            key: self.key,
            policy,
            data: self.data,
            adopts: None,
        })
    }
}
