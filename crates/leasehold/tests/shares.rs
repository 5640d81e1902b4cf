//! A process that is alone with a key uses it, whatever its settings: nobody waits for nobody.

use std::sync::Arc;
use std::time::Duration;

use crate::support::Lab;
use async_trait::async_trait;
use leasehold::clock::Clock;
use leasehold::store::memory::MemoryStore;
use leasehold::store::testing::wrap::{Wrap, Wrapped};
use leasehold::store::{Consistency, Hints, Outcome, Reply, Store, StoreError};
use leasehold::{CheckDelay, LockClient, Policy, PolicyBuilder};
use leasehold_protocol::record::Record;
use leasehold_protocol::write::Write;

const fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Records in memory, 5 ms away, with the settings that suit a DynamoDB table.
#[derive(Debug)]
struct Table {
    memory: MemoryStore,
    clock: Arc<dyn Clock>,
}

impl Table {
    async fn travel(&self) {
        let there = self.clock.elapsed().plus(Duration::from_millis(5));
        self.clock.sleep_until(there).await;
    }
}

#[async_trait]
impl Wrap for Table {
    fn inner(&self) -> &dyn Store {
        &self.memory
    }

    fn hints(&self) -> Hints {
        Hints::default()
    }

    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        self.travel().await;
        self.memory.write(write).await
    }

    async fn read(
        &self,
        key: &str,
        consistency: Consistency,
    ) -> Result<Reply<Option<Record>>, StoreError> {
        self.travel().await;
        self.memory.read(key, consistency).await
    }
}

/// The part of three minutes in which `tasks` tasks of one process use a key, each for 100 ms a turn.
async fn in_use(policy: PolicyBuilder, tasks: usize) -> f64 {
    let lab = Lab::new();
    let table = Table {
        memory: lab.memory.clone(),
        clock: lab.clock.clone(),
    };
    let locks = LockClient::builder(Wrapped(table))
        .clock(lab.clock.clone())
        .policy(policy.wait_forever().build().expect("adds up"))
        .build();
    let end = lab.clock_now() + s(180);
    let mut work = tokio::task::JoinSet::new();
    for _ in 0..tasks {
        let (locks, clock) = (locks.clone(), lab.clock.clone());
        work.spawn(async move {
            let mut used = Duration::ZERO;
            while clock.elapsed().0 < end {
                let lease = locks.acquire("k").await.expect("its turn");
                let until = clock.elapsed().plus(Duration::from_millis(100));
                clock.sleep_until(until).await;
                used += Duration::from_millis(100);
                lease.release().await.expect("works");
            }
            used
        });
    }
    let used: Duration = work.join_all().await.into_iter().sum();
    used.as_secs_f64() / 180.0
}

#[tokio::test(start_paused = true)]
async fn b15_a_process_alone_with_a_key_wastes_a_fifth_of_it_at_most() {
    // The defaults, and the documented policies of `docs/operating.md`, with the lease of its Lambda case, too.
    let rare = CheckDelay::Backoff {
        first: s(2),
        max: s(20),
    };
    let policies = [
        ("default", Policy::builder()),
        ("lambda", Policy::builder().lease_duration(s(10))),
        (
            "leader",
            Policy::builder().lease_duration(s(20)).grace(s(5)),
        ),
        ("hot", Policy::builder().check_delay(rare)),
        (
            "hot, short lease",
            Policy::builder().check_delay(rare).lease_duration(s(10)),
        ),
        (
            "fixed",
            Policy::builder().check_delay(CheckDelay::Fixed(s(10))),
        ),
        (
            "by writing",
            Policy::builder().check_delay(CheckDelay::ByAcquire(s(10))),
        ),
    ];
    for (name, policy) in policies {
        for tasks in [1, 20] {
            let used = in_use(policy.clone(), tasks).await;
            println!("{name}, {tasks} tasks: {:.0} %", used * 100.0);
            assert!(used >= 0.8, "{name}, {tasks} tasks: {:.0} %", used * 100.0);
        }
    }
}
