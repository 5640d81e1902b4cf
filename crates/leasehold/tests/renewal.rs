//! Many leases in one process: renewed on time, a bounded number of them at once, beside keys that hang.
//! In virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::VIRTUAL_START_MS;
use async_trait::async_trait;
use leasehold::clock::{Clock, TokioClock};
use leasehold::store::memory::MemoryStore;
use leasehold::store::testing::wrap::{Wrap, Wrapped};
use leasehold::store::{Outcome, Reply, Store, StoreError};
use leasehold::{Lease, LockClient, Policy};
use leasehold_protocol::write::{Operation, Write};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Answers after 50 ms, and never answers renewals of some keys; counts what it has at the same time.
#[derive(Clone, Debug)]
struct Slow {
    inner: MemoryStore,
    clock: Arc<TokioClock>,
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

#[async_trait]
impl Wrap for Slow {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        if write.operation() == Operation::Renew {
            if write.key().starts_with("hangs") {
                std::future::pending::<()>().await;
            }
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            self.clock
                .sleep_until(self.clock.elapsed().plus(ms(50)))
                .await;
            self.now.fetch_sub(1, Ordering::SeqCst);
        }
        self.inner.write(write).await
    }
}

async fn leases(locks: &LockClient, name: &str, count: usize) -> Vec<Lease> {
    let mut leases = Vec::new();
    for n in 0..count {
        leases.push(locks.acquire(&format!("{name}{n}")).await.expect("free"));
    }
    leases
}

#[tokio::test(start_paused = true)]
async fn thousands_of_leases_are_renewed_in_time_beside_keys_that_hang() {
    let clock = Arc::new(TokioClock::new(VIRTUAL_START_MS));
    let store = Slow {
        inner: MemoryStore::with_clock(clock.clone()),
        clock: clock.clone(),
        now: Arc::default(),
        most: Arc::default(),
    };
    let locks = LockClient::builder(Wrapped(store.clone()))
        .clock(clock.clone())
        .policy(Policy::default())
        .build();
    // All in one instant: their first renewals are due within 1.3 s of each other.
    let healthy = leases(&locks, "k", 3_000).await;
    let hanging = leases(&locks, "hangs", 300).await;
    let mut least = ms(60_000);
    for _ in 0..120 {
        clock.sleep_until(clock.elapsed().plus(ms(500))).await;
        for lease in &healthy {
            least = least.min(lease.remaining());
        }
    }
    // Every one of them, for a minute: never less than a third of the lease is left.
    assert!(least > ms(8_000), "{least:?} left of a healthy lease");
    assert!(hanging.iter().all(|lease| !lease.is_held()));
    let most = store.most.load(Ordering::SeqCst);
    assert!((64..=128).contains(&most), "{most} at the same time");
}
