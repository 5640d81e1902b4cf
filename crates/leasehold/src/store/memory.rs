//! Locks in memory: for tests of code that uses locks, and for one process.
//!
//! The reference store: it runs [`apply`] under a mutex and stamps every answer with its own
//! clock, exactly. With a [`ManualClock`](crate::clock::ManualClock) a test decides when leases
//! end.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{Consistency, Hints, Outcome, Page, Reply, Store, StoreError, Units};
use crate::clock::{Clock, SystemClock};
use crate::protocol::record::Record;
use crate::protocol::time::{Reading, ServiceTime, Stamp};
use crate::protocol::write::{Write, apply};

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

    /// An empty store whose service time follows `clock`. Give clients the same clock, or another
    /// one to see what they do when clocks disagree.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        MemoryStore {
            records: Arc::default(),
            origin: clock.reading(),
            clock,
        }
    }

    /// Service time: the wall clock at the start, moved on by the elapsed clock.
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
        // A panic while the map is locked cannot leave it half changed.
        f(&mut self.records.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a record as it is, past every condition: for tests of odd records.
    #[cfg(any(test, feature = "contract-tests"))]
    pub fn plant(&self, record: Record) {
        self.with_records(|records| records.insert(record.key.clone(), record));
    }

    /// Deletes a record, as a table's TTL does: for tests.
    #[cfg(any(test, feature = "contract-tests"))]
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
            pad: Duration::ZERO,
            check_delay: Duration::from_millis(2),
            check_delay_max: Duration::from_millis(50),
            looks_per_second: 2_000,
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

    async fn list(&self, after: Option<String>) -> Result<Reply<Page>, StoreError> {
        let page = self.with_records(|records| {
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let mut rest = records.range::<String, _>((from, Bound::Unbounded));
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
