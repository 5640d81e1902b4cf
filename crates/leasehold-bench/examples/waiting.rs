//! Ten processes that each hold one key for 20 ms: the total time and cost.
//!
//! In virtual time, on the memory store behind a network of a given round trip, with DynamoDB's delays
//! and prices: `cargo run --release -p leasehold-bench --example waiting`. Ours against the requests of
//! FSharp.DynamoDbLock, which polls with a write every 20 ms.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use leasehold::clock::{Clock, OsRandom, Random, TokioClock};
use leasehold::store::memory::MemoryStore;
use leasehold::store::{Consistency, Hints, Outcome, Page, Reply, Store, StoreError};
use leasehold::{LockClient, TryAcquireOutcome, Usage};
use leasehold_protocol::record::Record;
use leasehold_protocol::write::Write;

const PROCESSES: u32 = 10;
const HOLD: Duration = Duration::from_millis(20);
const ROUNDS: u64 = 100;

/// The memory store, far away.
#[derive(Clone, Debug)]
struct Distant {
    inner: MemoryStore,
    clock: Arc<TokioClock>,
    one_way: Duration,
}

impl Distant {
    async fn travel<T>(&self, ask: impl Future<Output = T>) -> T {
        let sleep = || {
            self.clock
                .sleep_until(self.clock.elapsed().plus(self.one_way))
        };
        sleep().await;
        let answer = ask.await;
        sleep().await;
        answer
    }
}

#[async_trait]
impl Store for Distant {
    fn describe(&self) -> String {
        "distant".into()
    }
    fn hints(&self) -> Hints {
        let mut hints = Hints::default();
        hints.expiry_padding = Duration::from_secs(1);
        hints.check_delay = Duration::from_millis(50);
        hints.check_delay_max = Duration::from_secs(1);
        hints.max_polls_per_second = 100;
        hints
    }
    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        self.travel(self.inner.write(write)).await
    }
    async fn read(&self, key: &str, how: Consistency) -> Result<Reply<Option<Record>>, StoreError> {
        self.travel(self.inner.read(key, how)).await
    }
    async fn list(&self, prefix: &str, after: Option<String>) -> Result<Reply<Page>, StoreError> {
        self.travel(self.inner.list(prefix, after)).await
    }
}

/// Jitter that can be repeated; ids are the system's.
#[derive(Debug)]
struct Jitter(AtomicU64);

impl Random for Jitter {
    fn attempt_bits(&self) -> [u8; 16] {
        OsRandom.attempt_bits()
    }
    fn fraction(&self) -> f64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        f64::from(((z ^ (z >> 31)) >> 32) as u32) / (f64::from(u32::MAX) + 1.0)
    }
}

/// One process: gets the key once, in one of the two ways, and holds it.
async fn process(locks: LockClient, clock: Arc<TokioClock>, fsharp: bool) -> Usage {
    let sleep = |by: Duration| clock.sleep_until(clock.elapsed().plus(by));
    let lease = loop {
        if !fsharp {
            break locks.acquire("k").await.expect("in time");
        }
        match locks.try_acquire("k").await.expect("works") {
            TryAcquireOutcome::Acquired(lease) => break lease,
            TryAcquireOutcome::Held(_) => sleep(HOLD).await,
        }
    };
    sleep(HOLD).await;
    assert!(lease.release().await.expect("works").is_released());
    locks.usage()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the processes of this experiment"
)]
async fn round(seed: u64, one_way: Duration, fsharp: bool) -> (Duration, Vec<Usage>) {
    let clock = Arc::new(TokioClock::new(1_800_000_000_000));
    let store = Distant {
        inner: MemoryStore::with_clock(clock.clone()),
        clock: clock.clone(),
        one_way,
    };
    let started = clock.elapsed();
    let tasks: Vec<_> = (0..PROCESSES)
        .map(|number| {
            let jitter = Jitter(AtomicU64::new(
                seed.wrapping_mul(1_000_003) ^ u64::from(number) << 32,
            ));
            let locks = LockClient::builder(store.clone())
                .clock(clock.clone())
                .random(Arc::new(jitter))
                .build();
            tokio::spawn(process(locks, clock.clone(), fsharp))
        })
        .collect();
    let mut usage = Vec::new();
    for task in tasks {
        usage.push(task.await.expect("no panic"));
    }
    (clock.elapsed().since(started), usage)
}

/// On demand, in us-east-1.
fn price(usage: &Usage) -> f64 {
    (usage.write_units * 0.625 + usage.read_units * 0.125) / 1e6
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    tokio::time::pause();
    println!(
        "| round trip | way | wall, mean | / ideal | worst | requests | dollars a million rounds |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|");
    for round_trip in [0, 5, 20].map(Duration::from_millis) {
        let ideal = (HOLD * PROCESSES).as_secs_f64();
        for fsharp in [true, false] {
            let (mut wall, mut worst, mut requests, mut dollars) = (0.0, 0.0_f64, 0, 0.0);
            for seed in 0..ROUNDS {
                let (took, usage) = round(seed, round_trip / 2, fsharp).await;
                wall += took.as_secs_f64();
                worst = worst.max(took.as_secs_f64());
                requests += usage.iter().map(|u| u.requests).sum::<u64>();
                dollars += usage.iter().map(price).sum::<f64>();
            }
            let rounds = ROUNDS as f64;
            println!(
                "| {round_trip:?} | {} | {:.0} ms | {:.2} | {:.0} ms | {:.0} | {:.1} |",
                if fsharp { "F#, 20 ms" } else { "ours" },
                wall / rounds * 1e3,
                wall / rounds / ideal,
                worst * 1e3,
                requests as f64 / rounds,
                dollars / rounds * 1e6,
            );
        }
    }
}
