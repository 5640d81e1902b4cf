//! A store that stays sick: what a client sends, and what it keeps in flight, is bounded.

use crate::support;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use leasehold::clock::{Clock, TokioClock};
use leasehold::store::memory::MemoryStore;
use leasehold::store::testing::wrap::{Wrap, Wrapped};
use leasehold::store::{Consistency, Outcome, Page, Reply, Store, StoreError, StoreErrorKind};
use leasehold::{Effect, ErrorKind, LockClient, Policy};
use leasehold_protocol::record::Record;
use leasehold_protocol::write::Write;

const MINUTE: Duration = Duration::from_secs(60);
/// The bound that a store has on every request.
const BOUND: Duration = Duration::from_secs(30);

/// A store that fails every request, after this time, with an unknown effect.
#[derive(Debug)]
struct Sick {
    memory: MemoryStore,
    clock: Arc<TokioClock>,
    after: Duration,
    writes: AtomicUsize,
    reads: AtomicUsize,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

impl Sick {
    fn new(clock: &Arc<TokioClock>, after: Duration) -> Arc<Wrapped<Self>> {
        Arc::new(Wrapped(Sick {
            memory: MemoryStore::with_clock(clock.clone()),
            clock: clock.clone(),
            after,
            writes: AtomicUsize::new(0),
            reads: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
        }))
    }

    async fn fail<T>(&self, effect: Effect) -> Result<T, StoreError> {
        let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_in_flight.fetch_max(now, Ordering::Relaxed);
        let until = self.clock.elapsed().plus(self.after);
        self.clock.sleep_until(until).await;
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        let error = StoreError::new(StoreErrorKind::Unavailable, effect, "sick");
        Err(error)
    }
}

#[async_trait]
impl Wrap for Sick {
    fn inner(&self) -> &dyn Store {
        &self.memory
    }

    async fn write(&self, _: Write) -> Result<Reply<Outcome>, StoreError> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.fail(Effect::Unknown).await
    }

    async fn read(&self, _: &str, _: Consistency) -> Result<Reply<Option<Record>>, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.fail(Effect::NotApplied).await
    }

    async fn list(&self, _: &str, _: Option<String>) -> Result<Reply<Page>, StoreError> {
        self.fail(Effect::NotApplied).await
    }
}

/// A hundred calls a second for ten minutes; how many there were.
async fn callers(locks: &LockClient, clock: &TokioClock, waits: bool) -> usize {
    let calls = 600 * 100;
    let failed = Arc::new(AtomicUsize::new(0));
    for n in 0..calls {
        let (locks, failed) = (locks.clone(), failed.clone());
        // A thousand keys, and one that everybody wants.
        let key = if n % 4 == 0 {
            "hot".to_owned()
        } else {
            format!("k{}", n % 1_000)
        };
        #[expect(clippy::disallowed_methods, reason = "a caller of its own")]
        drop(tokio::spawn(async move {
            let error = if waits {
                locks.acquire(&key).await.map(drop).err()
            } else {
                locks.try_acquire(&key).await.map(drop).err()
            };
            let kind = error.expect("the store is sick").kind();
            assert_eq!(kind, ErrorKind::Unreachable);
            failed.fetch_add(1, Ordering::Relaxed);
        }));
        let next = clock.elapsed().plus(Duration::from_millis(10));
        clock.sleep_until(next).await;
    }
    // Every call ends within its bound.
    clock.sleep_until(clock.elapsed().plus(BOUND)).await;
    assert_eq!(failed.load(Ordering::Relaxed), calls);
    calls
}

async fn ten_sick_minutes(after: Duration, waits: bool, most_in_flight: usize) {
    let clock = Arc::new(TokioClock::new(support::VIRTUAL_START_MS));
    let store = Sick::new(&clock, after);
    let locks = LockClient::builder(store.clone())
        .clock(clock.clone())
        .policy(Policy::default())
        .build();
    let calls = callers(&locks, &clock, waits).await;
    // What is left in the background ends, too.
    assert!(locks.shutdown(MINUTE * 2).await);
    let writes = store.0.writes.load(Ordering::Relaxed);
    assert!(writes <= calls * 2, "{writes} writes for {calls} calls");
    let most = store.0.most_in_flight.load(Ordering::Relaxed);
    assert!(most <= most_in_flight, "{most} in flight");
    println!(
        "{calls} calls, {writes} writes, {} reads, {most} in flight at the most",
        store.0.reads.load(Ordering::Relaxed)
    );
}

#[tokio::test(start_paused = true)]
async fn u2_a_store_that_fails_fast_gets_less_and_not_more() {
    ten_sick_minutes(Duration::from_millis(5), false, 200).await;
}

#[tokio::test(start_paused = true)]
async fn u2_waiting_calls_on_a_store_that_fails_fast() {
    ten_sick_minutes(Duration::from_millis(5), true, 200).await;
}

#[tokio::test(start_paused = true)]
async fn u2_a_store_that_hangs_keeps_a_bounded_number_of_requests() {
    // 1,024 calls that have ended and a thousand that have not, with four requests each.
    ten_sick_minutes(BOUND, false, (1_024 + 1_000) * 4).await;
}

#[tokio::test(start_paused = true)]
async fn u2_one_call_settles_within_seconds() {
    let clock = Arc::new(TokioClock::new(support::VIRTUAL_START_MS));
    let store = Sick::new(&clock, Duration::from_millis(5));
    let locks = LockClient::builder(store.clone())
        .clock(clock.clone())
        .build();
    let error = locks.try_acquire("k").await.map(drop).expect_err("sick");
    assert_eq!(
        (error.kind(), error.effect()),
        (ErrorKind::Unreachable, Effect::Unknown)
    );
    let writes = store.0.writes.load(Ordering::Relaxed);
    assert!(writes < 40, "{writes} within its own ten seconds");
    let ended = clock.elapsed();
    assert!(locks.shutdown(MINUTE * 10).await);
    let passed = clock.elapsed().since(ended);
    assert!(passed <= Duration::from_secs(11), "{passed:?}");
    assert_eq!(
        store.0.writes.load(Ordering::Relaxed),
        writes,
        "it only reads"
    );
    assert!(store.0.reads.load(Ordering::Relaxed) <= 10);
}
