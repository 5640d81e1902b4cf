//! A store that is a round trip away, dates its answers in whole seconds, counts what it is asked, and loses a host.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use leasehold::Effect;
use leasehold::clock::{Clock, TokioClock};
use leasehold::store::memory::MemoryStore;
use leasehold::store::protocol::{Record, Stamp, Write};
use leasehold::store::testing::wrap::{Wrap, Wrapped};
use leasehold::store::{Consistency, Outcome, Reply, Store, StoreError, StoreErrorKind};

use crate::scenario::ms;

/// Half of a round trip within a Region.
const WAY: Duration = Duration::from_micros(2_500);
/// How long a request of a dead host waits.
const SILENCE: Duration = ms(5_000);

/// What was asked, in units.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) writes: AtomicU64,
    pub(super) half_reads: AtomicU64,
}

/// The store, as one process sees it.
#[derive(Debug)]
pub(super) struct Far {
    inner: MemoryStore,
    clock: Arc<TokioClock>,
    asked: Arc<Asked>,
    dead: AtomicBool,
    dated: bool,
}

impl Far {
    pub(super) fn new(
        inner: &MemoryStore,
        clock: &Arc<TokioClock>,
        asked: &Arc<Asked>,
        dated: bool,
    ) -> Arc<Wrapped<Far>> {
        Arc::new(Wrapped(Far {
            inner: inner.clone(),
            clock: clock.clone(),
            asked: asked.clone(),
            dead: AtomicBool::new(false),
            dated,
        }))
    }

    /// Its host is gone: no request arrives any more.
    pub(super) fn die(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }

    async fn way(&self) -> Result<(), StoreError> {
        let dead = self.dead.load(Ordering::Relaxed);
        let takes = if dead { SILENCE } else { WAY };
        self.clock
            .sleep_until(self.clock.elapsed().plus(takes))
            .await;
        match dead || self.dead.load(Ordering::Relaxed) {
            false => Ok(()),
            true => {
                let gone = "the host is gone";
                Err(StoreError::new(
                    StoreErrorKind::Unavailable,
                    Effect::Unknown,
                    gone,
                ))
            }
        }
    }

    fn dated<T>(&self, mut reply: Reply<T>) -> Reply<T> {
        reply.stamp = reply.stamp.map(|stamp| match stamp {
            Stamp::Exact(time) | Stamp::Host(time) if self.dated => {
                Stamp::WholeSeconds(time.0.div_euclid(1_000))
            }
            other => other,
        });
        reply
    }
}

#[async_trait]
impl Wrap for Far {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        self.way().await?;
        self.asked.writes.fetch_add(1, Ordering::Relaxed);
        let reply = self.inner.write(write).await?;
        self.way().await?;
        Ok(self.dated(reply))
    }

    async fn read(
        &self,
        key: &str,
        consistency: Consistency,
    ) -> Result<Reply<Option<Record>>, StoreError> {
        self.way().await?;
        let halves = if consistency == Consistency::Strong {
            2
        } else {
            1
        };
        self.asked.half_reads.fetch_add(halves, Ordering::Relaxed);
        let reply = self.inner.read(key, consistency).await?;
        self.way().await?;
        Ok(self.dated(reply))
    }
}
