//! A memory store behind a network that delays, and that fails while there is an outage.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use leasehold::Effect;
use leasehold::clock::{Clock, ManualClock};
use leasehold::store::memory::MemoryStore;
use leasehold::store::{
    Consistency, Hints, Outcome, Page, Reply, Store, StoreError, StoreErrorKind,
};
use leasehold_protocol::record::Record;
use leasehold_protocol::write::Write;

use crate::sim::random::Rng;

/// The longest that a request takes while the store works, in ms.
const SLOWEST: u64 = 40;
/// A request that hangs ends by the bound that a store has.
const BOUND: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Wire {
    pub(super) memory: MemoryStore,
    clock: ManualClock,
    rng: Mutex<Rng>,
    outage: AtomicBool,
    pub(super) failures: AtomicU64,
}

/// The fault of a request.
#[derive(Clone, Copy)]
enum Fate {
    Passes,
    Lost,
    AnswerLost,
    Hangs,
}

impl Wire {
    pub(super) fn new(memory: MemoryStore, clock: ManualClock, rng: Rng) -> Self {
        Wire {
            memory,
            clock,
            rng: Mutex::new(rng),
            outage: AtomicBool::new(false),
            failures: AtomicU64::new(0),
        }
    }

    pub(super) fn set_outage(&self, outage: bool) {
        self.outage.store(outage, Ordering::Relaxed);
    }

    fn draw<T>(&self, f: impl FnOnce(&mut Rng) -> T) -> T {
        f(&mut self.rng.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn wait(&self, time: Duration) {
        self.clock
            .sleep_until(self.clock.elapsed().plus(time))
            .await;
    }

    /// On the way there.
    async fn there(&self) -> Fate {
        let (slow, fate) = self.draw(|rng| {
            let slow = Duration::from_millis(rng.below(SLOWEST / 2));
            let fates = [Fate::Lost, Fate::Lost, Fate::AnswerLost, Fate::Hangs];
            (slow, rng.pick(&fates))
        });
        if !slow.is_zero() {
            self.wait(slow).await;
        }
        if !self.outage.load(Ordering::Relaxed) {
            return Fate::Passes;
        }
        self.failures.fetch_add(1, Ordering::Relaxed);
        fate
    }

    /// On the way back.
    async fn back<T>(&self, fate: Fate, reply: Reply<T>) -> Result<Reply<T>, StoreError> {
        let slow = self.draw(|rng| Duration::from_millis(rng.below(SLOWEST / 2)));
        match fate {
            Fate::Passes => {
                if !slow.is_zero() {
                    self.wait(slow).await;
                }
                return Ok(reply);
            }
            Fate::Hangs => self.wait(BOUND).await,
            Fate::Lost | Fate::AnswerLost => self.wait(slow).await,
        }
        Err(unknown())
    }
}

fn unknown() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, Effect::Unknown, "an outage")
}

#[async_trait]
impl Store for Wire {
    fn describe(&self) -> String {
        "memory store behind a network".into()
    }

    fn hints(&self) -> Hints {
        self.memory.hints()
    }

    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        let fate = self.there().await;
        if let Fate::Lost = fate {
            return Err(unknown());
        }
        let reply = self.memory.write(write).await?;
        self.back(fate, reply).await
    }

    async fn read(
        &self,
        key: &str,
        consistency: Consistency,
    ) -> Result<Reply<Option<Record>>, StoreError> {
        let fate = self.there().await;
        let reply = self.memory.read(key, consistency).await?;
        self.back(fate, reply).await
    }

    async fn list(&self, prefix: &str, after: Option<String>) -> Result<Reply<Page>, StoreError> {
        self.memory.list(prefix, after).await
    }
}
