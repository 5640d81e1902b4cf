//! Locks in memory, for tests of code that uses locks, and for one process.
//!
//! This is the reference store: it runs [`apply`] under a mutex, and stamps every answer with the
//! exact time of its own clock.
//!
//! # Testing code that uses locks
//!
//! Take a [`LockClient`](crate::LockClient) as an argument, and use one on a `MemoryStore` in tests.
//! Give client and store the same clock:
//!
//! | clock | in a test |
//! |---|---|
//! | [`TokioClock`](crate::clock::TokioClock) | with paused time (`start_paused`; tokio's feature `test-util`), waits take no real time |
//! | [`ManualClock`](crate::clock::ManualClock) | the test moves the time |
//! | [`SystemClock`], the default | real time only: in paused time it warns and is slow |
//!
//! **A key that is held by another.** A second client on the same store acts as another process:
//!
//! ```
//! # async fn nightly(locks: &leasehold::LockClient) -> Result<bool, leasehold::Error> {
//! #     Ok(locks.try_acquire("nightly").await?.into_lease().is_some())
//! # }
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), leasehold::Error> {
//! use std::sync::Arc;
//! use leasehold::{LockClient, clock::TokioClock, store::memory::MemoryStore};
//!
//! // In a `#[tokio::test(start_paused = true)]`:
//! let clock = Arc::new(TokioClock::new(1_800_000_000_000));
//! let store = MemoryStore::with_clock(clock.clone());
//! let ours = LockClient::builder(store.clone()).clock(clock.clone()).build();
//! let theirs = LockClient::builder(store).clock(clock).build();
//!
//! let lease = theirs.acquire("nightly").await?;
//! assert!(!nightly(&ours).await?, "it does not run beside another");
//! lease.release().await?;
//! assert!(nightly(&ours).await?);
//! # Ok(())
//! # }
//! ```
//!
//! **A store that stops answering during the work.**
//! [`FaultyStore`](super::testing::faulty::FaultyStore) breaks requests. In paused time the loss of a
//! lease of 20 s takes no real time:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), leasehold::Error> {
//! use std::sync::Arc;
//! use leasehold::{ErrorKind, LockClient, clock::TokioClock};
//! use leasehold::store::{testing::faulty::{Fault, FaultyStore}, memory::MemoryStore};
//!
//! let clock = Arc::new(TokioClock::new(1_800_000_000_000));
//! let memory = MemoryStore::with_clock(clock.clone());
//! let faulty = FaultyStore::new(Arc::new(memory), clock.clone());
//! let locks = LockClient::builder(faulty.clone()).clock(clock).build();
//!
//! let ran = locks.run("import", |_| async {
//!     faulty.start_outage(Fault::BlackHole);
//!     // Work that takes longer than a lease is dropped at its next await.
//!     std::future::pending::<()>().await
//! });
//! let error = ran.await.expect_err("the lease is lost");
//! assert_eq!(error.kind(), ErrorKind::Lost);
//! # Ok(())
//! # }
//! ```
//!
//! [`plan`](super::testing::faulty::FaultyStore::plan) breaks single requests: a lost answer, a delay,
//! a throttle. Check [`unused`](super::testing::faulty::FaultyStore::unused) at the end, so that the
//! test does not pass without its fault.
//!
//! **A lease that ends at a chosen moment.** With a `ManualClock`, only the test moves the time:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), leasehold::Error> {
//! use std::{sync::Arc, time::Duration};
//! use leasehold::{LockClient, Policy, clock::ManualClock, store::memory::MemoryStore};
//!
//! let clock = ManualClock::new(1_800_000_000_000);
//! let locks = LockClient::builder(MemoryStore::with_clock(Arc::new(clock.clone())))
//!     .clock(Arc::new(clock.clone()))
//!     .policy(Policy::builder().manual_renewal(true).build()?)
//!     .build();
//!
//! let old = locks.acquire("customer/42").await?;
//! clock.advance(Duration::from_secs(30));
//! assert!(!old.is_held(), "as after a long pause of this process");
//! let new = locks.acquire("customer/42").await?;
//! // The old holder's writes have the smaller token: the resource must refuse them.
//! assert!(new.token() > old.token());
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{Consistency, Hints, Outcome, Page, Reply, Store, StoreError};
use crate::clock::{Clock, SystemClock};
use crate::usage::Units;
use leasehold_protocol::record::Record;
use leasehold_protocol::time::{Reading, ServiceTime, Stamp};
use leasehold_protocol::write::{Write, apply};

const PAGE: usize = 100;

/// Lock records in memory. Clones share them.
#[derive(Clone)]
pub struct MemoryStore {
    records: Arc<Mutex<BTreeMap<String, Record>>>,
    clock: Arc<dyn Clock>,
    origin: Reading,
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records = self.with_records(|records| records.len());
        f.debug_struct("MemoryStore")
            .field("records", &records)
            .finish_non_exhaustive()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store on this host's clocks.
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }

    /// An empty store whose service time follows `clock`. Give clients the same clock, or another one
    /// to test clocks that disagree.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        MemoryStore {
            records: Arc::default(),
            origin: clock.reading(),
            clock,
        }
    }

    /// Service time: the wall clock at the start plus the elapsed time since.
    fn now(&self) -> ServiceTime {
        let passed = self.clock.elapsed().since(self.origin.elapsed);
        ServiceTime(self.origin.wall_ms).plus_floor(passed)
    }

    fn reply<T>(&self, value: T, write: f64, read: f64) -> Reply<T> {
        Reply {
            value,
            stamp: Some(Stamp::Exact(self.now())),
            units: Units { write, read },
        }
    }

    fn with_records<T>(&self, f: impl FnOnce(&mut BTreeMap<String, Record>) -> T) -> T {
        // A panic under the mutex cannot leave the map half changed.
        f(&mut self.records.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a record without a condition, for tests of malformed records.
    #[cfg(any(test, feature = "test-util"))]
    pub fn plant(&self, record: Record) {
        self.with_records(|records| records.insert(record.key.clone(), record));
    }

    /// Deletes a record as a table's TTL does, for tests.
    #[cfg(any(test, feature = "test-util"))]
    pub fn expunge(&self, key: &str) {
        self.with_records(|records| records.remove(key));
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn describe(&self) -> String {
        "memory store".into()
    }

    fn hints(&self) -> Hints {
        Hints {
            expiry_padding: Duration::ZERO,
            check_delay: Duration::from_millis(2),
            check_delay_max: Duration::from_millis(50),
            max_polls_per_second: 2_000,
        }
    }

    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        let outcome = self.with_records(|records| {
            let current = records.get(write.key());
            match apply(current, &write) {
                Ok(Some(record)) => {
                    records.insert(record.key.clone(), record.clone());
                    Outcome::Applied(Some(record))
                }
                Ok(None) => {
                    records.remove(write.key());
                    Outcome::Applied(None)
                }
                Err(_) => Outcome::Refused(current.cloned()),
            }
        });
        Ok(self.reply(outcome, 1.0, 0.0))
    }

    async fn read(
        &self,
        key: &str,
        consistency: Consistency,
    ) -> Result<Reply<Option<Record>>, StoreError> {
        let record = self.with_records(|records| records.get(key).cloned());
        let units = match consistency {
            Consistency::Eventual => 0.5,
            Consistency::Strong => 1.0,
        };
        Ok(self.reply(record, 0.0, units))
    }

    async fn list(&self, prefix: &str, after: Option<String>) -> Result<Reply<Page>, StoreError> {
        let page = self.with_records(|records| {
            let from = after.map_or_else(|| Bound::Included(prefix.to_owned()), Bound::Excluded);
            let rest = records.range::<String, _>((from, Bound::Unbounded));
            let mut rest = rest.take_while(|(key, _)| key.starts_with(prefix));
            let found: Vec<_> = rest.by_ref().take(PAGE).map(|(_, r)| r.clone()).collect();
            let next = match (rest.next(), found.last()) {
                (Some(_), Some(last)) => Some(last.key.clone()),
                _ => None,
            };
            Page {
                records: found.into_iter().map(Ok).collect(),
                next,
            }
        });
        Ok(self.reply(page, 0.0, 0.5))
    }
}
