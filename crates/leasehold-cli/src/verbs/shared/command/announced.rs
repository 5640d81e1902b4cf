//! A store wrapper that tells the guardian of each request for the lock, before it is sent.
//!
//! The answer to a request that has acquired the lock may come too late for a worker that is killed.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use leasehold::store::protocol::{AttemptId, Record, Write};
use leasehold::store::{Consistency, Hints, Outcome, Page, Reply, Store, StoreError};

use crate::process::Guardian;

/// Wraps the store of a run.
#[derive(Debug)]
pub(super) struct Announced {
    store: Arc<dyn Store>,
    guardian: Arc<Guardian>,
    last: Mutex<Option<AttemptId>>,
}

impl Announced {
    /// Tells `guardian` of the requests to `store`.
    pub(super) fn new(store: Arc<dyn Store>, guardian: &Arc<Guardian>) -> Self {
        Self {
            store,
            guardian: guardian.clone(),
            last: Mutex::default(),
        }
    }

    fn announce(&self, attempt: AttemptId) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.replace(attempt) != Some(attempt) {
            self.guardian.send(&attempt.to_string());
        }
    }
}

#[async_trait]
impl Store for Announced {
    fn describe(&self) -> String {
        self.store.describe()
    }

    fn hints(&self) -> Hints {
        self.store.hints()
    }

    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        match &write {
            Write::Acquire(grant) | Write::TakeOver(grant, ..) => self.announce(grant.attempt),
            Write::Join { place, .. } => self.announce(place.attempt()),
            _ => {}
        }
        self.store.write(write).await
    }

    async fn read(
        &self,
        key: &str,
        consistency: Consistency,
    ) -> Result<Reply<Option<Record>>, StoreError> {
        self.store.read(key, consistency).await
    }

    async fn list(&self, prefix: &str, after: Option<String>) -> Result<Reply<Page>, StoreError> {
        self.store.list(prefix, after).await
    }
}
