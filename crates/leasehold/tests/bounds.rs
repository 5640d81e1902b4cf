//! Every call ends within its bound, and no store is hammered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::Lab;
use crate::support::gate::{DAY, Gate, Mode, ms, with_wall};
use async_trait::async_trait;
use leasehold::clock::{Clock, Random, TokioClock};
use leasehold::store::memory::MemoryStore;
use leasehold::store::testing::faulty::Fault;
use leasehold::store::testing::wrap::{Wrap, Wrapped};
use leasehold::store::{Consistency, Outcome, Reply, Store, StoreError};
use leasehold::{LockClient, Policy};
use leasehold_protocol::record::Record;
use leasehold_protocol::time::{Elapsed, ServiceTime};
use leasehold_protocol::write::{Operation, Write};

// 6
#[tokio::test(start_paused = true)]
async fn wait_bounds_everything() {
    let lab = Lab::new();
    assert!(
        lab.bystander()
            .acquire("k")
            .await
            .expect("free")
            .release()
            .await
            .expect("works")
            .is_released()
    );
    let behind = with_wall(&lab, lab.faulty.clone(), -DAY, Policy::default());
    lab.faulty.plan(Operation::Renew, [Fault::BlackHole]);
    let start = lab.clock_now();
    let _ = behind.request("k").unwrap().wait(ms(500)).acquire().await;
    let passed = lab.clock_now() - start;
    assert!(passed <= ms(510), "wait of 500 ms took {passed:?}");
}

// 7
#[tokio::test(start_paused = true)]
async fn adopt_does_not_hammer_a_throttled_store() {
    let lab = Lab::new();
    let id = lab.detached("k").await;
    let locks = lab.client(Policy::default());
    lab.faulty
        .plan(Operation::TakeOver, [Fault::Throttle; 5_000]);
    let start = lab.clock_now();
    let _ = locks.adopt(&id).await;
    let sent = 5_000 - lab.faulty.unused();
    let passed = lab.clock_now() - start;
    assert!(sent < 100, "{sent} throttled requests within {passed:?}");
}

#[tokio::test(start_paused = true)]
async fn adopt_reports_what_is_fatal() {
    let lab = Lab::new();
    let id = lab.detached("k").await;
    let locks = lab.client(Policy::default());
    lab.faulty
        .plan(Operation::TakeOver, [Fault::AccessDenied; 50]);
    let answer = locks.adopt(&id).await;
    assert_eq!(
        answer.map(|_| ()).map_err(|e| e.kind()),
        Err(leasehold::ErrorKind::AccessDenied)
    );
}

#[tokio::test(start_paused = true)]
async fn detach_reports_what_is_fatal() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let lease = locks.acquire("k").await.expect("free");
    lab.faulty.plan(Operation::Renew, [Fault::AccessDenied; 50]);
    let answer = lease.detach().await;
    assert_eq!(
        answer.map(|_| ()).map_err(|e| e.kind()),
        Err(leasehold::ErrorKind::AccessDenied)
    );
}

#[tokio::test(start_paused = true)]
async fn adopt_of_an_extreme_expiry_ends() {
    let lab = Lab::new();
    let lease = lab.bystander().acquire("k").await.expect("free");
    let id = lease.detach().await.expect("works");
    let mut record = lab
        .memory
        .read("k", Consistency::Strong)
        .await
        .unwrap()
        .value
        .unwrap();
    record.expires_at = ServiceTime(i64::MAX);
    lab.memory.plant(record);
    let gate = Gate::new(Arc::new(lab.memory.clone()));
    let locks = with_wall(&lab, Wrapped(gate.clone()), 0, Policy::default());
    let _ = locks.adopt(&id).await;
    let n = gate.writes.load(Ordering::SeqCst);
    assert!(n < 100, "{n} requests");
}

/// Refuses every request for the key although nothing is in its way, and notes when each came.
#[derive(Debug)]
struct Refuses {
    inner: MemoryStore,
    clock: Arc<TokioClock>,
    at: Mutex<Vec<Elapsed>>,
}

#[async_trait]
impl Wrap for Refuses {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        let count = {
            let mut at = self.at.lock().expect("no panics");
            at.push(self.clock.elapsed());
            at.len()
        };
        if count > 1_000 {
            std::future::pending::<()>().await;
        }
        let read = self.inner.read(write.key(), Consistency::Strong).await?;
        let mut record = read.value;
        if let Some(record) = &mut record {
            // As if it were renewed each time.
            record.expires_at = record.expires_at.plus(ms(count as u64));
        }
        Ok(Reply::new(Outcome::Refused(record), read.stamp))
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_without_a_cause_is_followed_by_one_request_at_once_and_others_later() {
    for adopts in [false, true] {
        let lab = Lab::new();
        let store = Arc::new(Wrapped(Refuses {
            inner: lab.memory.clone(),
            clock: lab.clock.clone(),
            at: Mutex::default(),
        }));
        let locks = with_wall(&lab, store.clone(), 0, Policy::default());
        let answer = if adopts {
            locks.adopt(&lab.detached("k").await).await.map(drop)
        } else {
            locks.try_acquire("k").await.map(drop)
        };
        answer.expect_err("always refused");
        let at = store.0.at.lock().expect("no panics").clone();
        assert!((10..100).contains(&at.len()), "{} requests", at.len());
        assert_eq!(at[0], at[1]);
        assert!(at[1] < at[2] && at[2] < at[3], "{at:?}");
    }
}

/// Always the middle, so that delays are what they are in the mean.
#[derive(Debug, Default)]
struct Middle(AtomicU64);

impl Random for Middle {
    fn attempt_bits(&self) -> [u8; 16] {
        let n = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        u128::from(n).to_be_bytes()
    }

    fn fraction(&self) -> f64 {
        0.5
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_renewal_is_repeated_slower_and_slower_and_often_enough_for_a_short_lease() {
    for lease in [20_000, 4_000] {
        let lab = Lab::new();
        let policy = Policy::builder().lease_duration(ms(lease));
        let locks = LockClient::builder(lab.faulty.clone())
            .clock(lab.clock.clone())
            .random(Middle::default())
            .policy(policy.build().expect("adds up"))
            .build();
        let lease = locks.acquire("k").await.expect("free");
        lab.faulty
            .plan(Operation::Renew, [Fault::LoseRequest; 1_000]);
        lease.lost().await;
        let sent = 1_000 - lab.faulty.unused();
        assert!((15..50).contains(&sent), "{sent} requests");
    }
}

// 8
#[tokio::test(start_paused = true)]
async fn release_keeps_its_bound() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let lease = locks.acquire("k").await.expect("free");
    lab.faulty.plan(Operation::Renew, [Fault::BlackHole; 3]);
    lab.sleep(ms(7_000)).await;
    lab.faulty.plan(Operation::Release, [Fault::BlackHole; 50]);
    let start = lab.clock_now();
    let _ = lease.release().await;
    let passed = lab.clock_now() - start;
    assert!(
        passed <= ms(10_100),
        "call_timeout is 10 s, it took {passed:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_short_bound_leaves_time_for_the_release() {
    let lab = Lab::new();
    let short = Policy::builder().call_timeout(ms(1_000));
    let locks = lab.client(short.build().expect("adds up"));
    let lease = locks.acquire("k").await.expect("free");
    lab.faulty.plan(Operation::Renew, [Fault::BlackHole; 3]);
    lab.sleep(ms(7_000)).await;
    let start = lab.clock_now();
    assert!(lease.release().await.expect("in time").is_released());
    assert!(lab.clock_now() - start <= ms(1_000));
}

#[tokio::test(start_paused = true)]
async fn inspect_list_and_adopt_keep_their_bound() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    lab.faulty.plan(Operation::Read, [Fault::BlackHole; 50]);
    lab.faulty.plan(
        Operation::List,
        [
            Fault::Throttle,
            Fault::Throttle,
            Fault::BlackHole,
            Fault::BlackHole,
        ],
    );
    let start = lab.clock_now();
    let _ = locks.inspect("k").await;
    let inspect = lab.clock_now() - start;
    let start = lab.clock_now();
    let _ = locks.list().next_page().await;
    let list = lab.clock_now() - start;
    assert!(
        inspect <= ms(10_100) && list <= ms(10_100),
        "inspect {inspect:?}, list {list:?}"
    );
}

// 9
#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_blindly_is_not_hammered() {
    let lab = Lab::new();
    let gate = Gate::new(Arc::new(lab.memory.clone()));
    std::mem::forget(lab.bystander().acquire("k").await.expect("free"));
    gate.set(Mode::RefuseBlind);
    let locks = with_wall(&lab, Wrapped(gate.clone()), 0, Policy::default());
    let _ = locks.acquire("k").await;
    let n = gate.writes.load(Ordering::SeqCst);
    assert!(n < 1_000, "{n} writes");
}

#[tokio::test(start_paused = true)]
async fn a_record_without_owner_and_version_is_not_hammered() {
    let lab = Lab::new();
    lab.memory.plant(Record {
        last_hold: None,
        key: "k".into(),
        owner: None,
        expires_at: ServiceTime(0),
        native: None,
        ttl_seconds: None,
        holder: None,
        acquired_at: None,
        data: None,
        queue: Vec::new(),
        done: None,
        slots: None,
        last_force: None,
        holder_is_dead: false,
    });
    let gate = Gate::new(Arc::new(lab.memory.clone()));
    let locks = with_wall(&lab, Wrapped(gate.clone()), 0, Policy::default());
    let _ = locks.acquire("k").await;
    let n = gate.writes.load(Ordering::SeqCst);
    assert!(n < 1_000, "{n} writes");
}

// 17
#[tokio::test(start_paused = true)]
async fn wait_of_zero_takes_a_free_key() {
    let lab = Lab::new();
    let answer = lab
        .bystander()
        .request("k")
        .unwrap()
        .wait(ms(0))
        .acquire()
        .await;
    assert!(answer.is_ok(), "{answer:?}");
}

// 19
#[tokio::test(start_paused = true)]
async fn run_gives_its_result_within_the_call_bound() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    lab.faulty.plan(Operation::Release, [Fault::BlackHole; 50]);
    let start = lab.clock_now();
    locks.run("k", |_| async { 1 }).await.expect("done");
    let passed = lab.clock_now() - start;
    assert!(passed <= ms(10_100), "{passed:?}");
}

// 5: a record exists already, so no seed is withdrawn; the holder renews for a minute, then dies.
async fn dead_holder_with_wall_a_day_ahead(lease: Duration) -> (Lab, Gate) {
    let lab = Lab::new();
    assert!(
        lab.bystander()
            .acquire("k")
            .await
            .expect("free")
            .release()
            .await
            .expect("works")
            .is_released()
    );
    let gate = Gate::new(Arc::new(lab.memory.clone()));
    let policy = Policy::builder()
        .lease_duration(lease)
        .build()
        .expect("adds up");
    let ahead = with_wall(&lab, Wrapped(gate.clone()), DAY, policy);
    std::mem::forget(ahead.acquire("k").await.expect("free"));
    lab.sleep(ms(60_000)).await;
    gate.set(Mode::Dead);
    lab.sleep(lease * 3).await;
    (lab, gate)
}

#[tokio::test(start_paused = true)]
async fn try_acquire_gets_the_lock_of_a_dead_holder_whose_clock_was_ahead() {
    let (lab, _gate) = dead_holder_with_wall_a_day_ahead(ms(20_000)).await;
    let locks = lab.bystander();
    // A job that tries every minute, for an hour.
    for minute in 0..60 {
        if locks
            .try_acquire("k")
            .await
            .expect("works")
            .into_lease()
            .is_some()
        {
            assert!(minute < 2);
            return;
        }
        lab.sleep(ms(60_000)).await;
    }
    panic!(
        "still held an hour after its holder died: {:?}",
        locks
            .inspect("k")
            .await
            .unwrap()
            .holder()
            .map(|h| h.until())
    );
}

#[tokio::test(start_paused = true)]
async fn acquire_gets_the_lock_of_a_dead_holder_whose_clock_was_ahead() {
    let (lab, _gate) = dead_holder_with_wall_a_day_ahead(ms(60_000)).await;
    let locks = lab.bystander();
    for _ in 0..20 {
        // wait: 30 s, the default
        if locks.acquire("k").await.is_ok() {
            return;
        }
    }
    panic!("20 calls of 30 s each did not get it");
}
