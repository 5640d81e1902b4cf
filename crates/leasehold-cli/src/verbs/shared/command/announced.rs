//! A store wrapper that tells the guardian of each request for the lock, before it is sent.
//!
//! The answer to a request that has acquired the lock may come too late for a worker that is killed.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use leasehold::store::protocol::{AttemptId, Record, SlotWrite, Write};
use leasehold::store::{Consistency, Hints, Outcome, Page, Reply, Store, StoreError};

use crate::plan::Keys;
use crate::process::Guardian;

/// Wraps the store of a run.
#[derive(Debug)]
pub(super) struct Announced {
    store: Arc<dyn Store>,
    guardian: Arc<Guardian>,
    keys: Keys,
    /// The last attempt for each of them.
    last: Mutex<Vec<Option<AttemptId>>>,
}

impl Announced {
    /// Tells `guardian` of the requests to `store` for these keys.
    pub(super) fn new(store: Arc<dyn Store>, guardian: &Arc<Guardian>, keys: &Keys) -> Self {
        Self {
            store,
            guardian: guardian.clone(),
            keys: keys.clone(),
            last: Mutex::new(vec![None; keys.all.len()]),
        }
    }

    /// The attempts, in the order of the keys, with a comma between.
    fn announce(&self, key: &str, attempt: AttemptId) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keys = self.keys.all.iter().zip(last.iter_mut());
        let Some((_, known)) = keys.find(|(known, _)| known.as_str() == key) else {
            return;
        };
        if known.replace(attempt) != Some(attempt) {
            let all = last.iter().map(|attempt| {
                let attempt = attempt.as_ref().map(ToString::to_string);
                attempt.unwrap_or_default()
            });
            self.guardian.send(&all.collect::<Vec<_>>().join(","));
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
            Write::Acquire(grant) | Write::TakeOver(grant, ..) => {
                self.announce(&grant.key, grant.attempt);
            }
            Write::Slot(SlotWrite::Enter(entry)) => {
                self.announce(&entry.grant.key, entry.grant.attempt);
            }
            Write::Slot(SlotWrite::Claim(grant, _)) => self.announce(&grant.key, grant.attempt),
            Write::Join { key, place, .. } => self.announce(key, place.attempt()),
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
