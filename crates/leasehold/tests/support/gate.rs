//! A store whose writes are let through, swallowed, refused or answered by a panic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::Lab;
use async_trait::async_trait;
use leasehold::store::testing::wrap::Wrap;
use leasehold::store::{Consistency, Outcome, Reply, Store, StoreError};
use leasehold::{LockClient, Policy};
use leasehold_protocol::record::Record;
use leasehold_protocol::write::Write;

pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// What a wrapper does with a write.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mode {
    Pass,
    /// The process has died: nothing reaches the store, nothing is answered.
    Dead,
    Panic,
    RefuseBlind,
}

#[derive(Clone, Debug)]
pub(crate) struct Gate {
    pub(crate) inner: Arc<dyn Store>,
    pub(crate) mode: Arc<std::sync::Mutex<Mode>>,
    pub(crate) writes: Arc<AtomicUsize>,
    pub(crate) limit: usize,
    pub(crate) dead_after_next: Arc<AtomicBool>,
}

impl Gate {
    pub(crate) fn new(inner: Arc<dyn Store>) -> Self {
        Gate {
            inner,
            mode: Arc::new(std::sync::Mutex::new(Mode::Pass)),
            writes: Arc::default(),
            limit: 20_000,
            dead_after_next: Arc::default(),
        }
    }
    pub(crate) fn set(&self, m: Mode) {
        *self.mode.lock().unwrap() = m;
    }
    pub(crate) fn mode(&self) -> Mode {
        *self.mode.lock().unwrap()
    }
}

#[async_trait]
impl Wrap for Gate {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        let n = self.writes.fetch_add(1, Ordering::SeqCst);
        if n > self.limit {
            std::future::pending::<()>().await;
        }
        match self.mode() {
            Mode::Dead => std::future::pending().await,
            Mode::Panic => panic!("planned"),
            Mode::RefuseBlind => {
                let mut reply = self.inner.write(write).await?;
                reply.value = Outcome::Refused(None);
                Ok(reply)
            }
            Mode::Pass => {
                let reply = self.inner.write(write).await;
                if self.dead_after_next.load(Ordering::SeqCst) {
                    self.set(Mode::Dead);
                    std::future::pending::<()>().await;
                }
                reply
            }
        }
    }
    async fn read(&self, key: &str, c: Consistency) -> Result<Reply<Option<Record>>, StoreError> {
        if self.mode() == Mode::Dead {
            std::future::pending::<()>().await;
        }
        self.inner.read(key, c).await
    }
}

pub(crate) fn with_wall(lab: &Lab, store: impl Store, by_ms: i64, policy: Policy) -> LockClient {
    LockClient::builder(store)
        .clock(Arc::new(lab.clock.with_wall_ahead(by_ms)))
        .policy(policy)
        .build()
}

pub(crate) const DAY: i64 = 86_400_000;
