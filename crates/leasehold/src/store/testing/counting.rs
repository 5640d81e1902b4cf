//! A store wrapper that counts requests and units.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::store::{Consistency, Hints, Outcome, Page, Reply, Store, StoreError};
use crate::usage::Units;
use leasehold_protocol::record::Record;
use leasehold_protocol::write::{Operation, Write};

/// Counts the requests to another store. Clones share their counts.
#[derive(Clone, Debug)]
pub struct CountingStore {
    inner: Arc<dyn Store>,
    counts: Arc<Mutex<Counts>>,
}

/// The counts of a [`CountingStore`].
#[derive(Clone, Debug, Default)]
pub struct Counts {
    requests: HashMap<Operation, u64>,
    units: Units,
}

impl Counts {
    /// Requests of one operation.
    pub fn of(&self, operation: Operation) -> u64 {
        self.requests.get(&operation).copied().unwrap_or(0)
    }

    /// All requests.
    pub fn requests(&self) -> u64 {
        self.requests.values().sum()
    }

    /// Units as the store reported them. A refused condition counts as one write unit, which DynamoDB
    /// bills but does not report.
    pub fn units(&self) -> Units {
        self.units
    }
}

impl CountingStore {
    /// Counts the requests to `inner`.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        CountingStore {
            inner,
            counts: Arc::default(),
        }
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        self.lock(|counts| counts.clone())
    }

    /// Starts counting from zero.
    pub fn reset(&self) {
        self.lock(|counts| *counts = Counts::default());
    }

    fn lock<T>(&self, f: impl FnOnce(&mut Counts) -> T) -> T {
        f(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn sent(&self, operation: Operation) {
        self.lock(|counts| *counts.requests.entry(operation).or_default() += 1);
    }

    fn answered<T>(&self, reply: &Result<Reply<T>, StoreError>) {
        if let Ok(reply) = reply {
            self.lock(|counts| {
                counts.units.write += reply.units.write;
                counts.units.read += reply.units.read;
            });
        }
    }
}

#[async_trait]
impl Store for CountingStore {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn hints(&self) -> Hints {
        self.inner.hints()
    }

    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        self.sent(write.operation());
        let reply = self.inner.write(write).await;
        self.answered(&reply);
        reply
    }

    async fn read(
        &self,
        key: &str,
        consistency: Consistency,
    ) -> Result<Reply<Option<Record>>, StoreError> {
        self.sent(Operation::Read);
        let reply = self.inner.read(key, consistency).await;
        self.answered(&reply);
        reply
    }

    async fn list(&self, prefix: &str, after: Option<String>) -> Result<Reply<Page>, StoreError> {
        self.sent(Operation::List);
        let reply = self.inner.list(prefix, after).await;
        self.answered(&reply);
        reply
    }
}
