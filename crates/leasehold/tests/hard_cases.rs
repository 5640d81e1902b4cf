//! Hard cases: each was found by an attack on an earlier form of the library, and failed then.
//!
//! Faults at awkward moments, clocks that jump, stores that misbehave. In virtual time.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use leasehold::clock::{Clock, ManualClock, SystemClock};
use leasehold::store::memory::MemoryStore;
use leasehold::store::testing::counting::CountingStore;
use leasehold::store::testing::faulty::Fault;
use leasehold::store::testing::wrap::{Wrap, Wrapped};
use leasehold::store::{Consistency, Outcome, Reply, Store, StoreError};
use leasehold::{LockClient, LockState, Policy, ReleaseOutcome};
use leasehold_protocol::record::Record;
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::write::{Operation, Write};
use support::{Lab, VIRTUAL_START_MS};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// What a wrapper does with a write.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Pass,
    /// The process has died: nothing reaches the store, nothing is answered.
    Dead,
    Panic,
    RefuseBlind,
}

#[derive(Clone, Debug)]
struct Gate {
    inner: Arc<dyn Store>,
    mode: Arc<std::sync::Mutex<Mode>>,
    writes: Arc<AtomicUsize>,
    limit: usize,
    dead_after_next: Arc<AtomicBool>,
}

impl Gate {
    fn new(inner: Arc<dyn Store>) -> Self {
        Gate {
            inner,
            mode: Arc::new(std::sync::Mutex::new(Mode::Pass)),
            writes: Arc::default(),
            limit: 20_000,
            dead_after_next: Arc::default(),
        }
    }
    fn set(&self, m: Mode) {
        *self.mode.lock().unwrap() = m;
    }
    fn mode(&self) -> Mode {
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

fn with_wall(lab: &Lab, store: impl Store, by_ms: i64, policy: Policy) -> LockClient {
    LockClient::builder(store)
        .clock(Arc::new(lab.clock.with_wall_ahead(by_ms)))
        .policy(policy)
        .build()
}

const DAY: i64 = 86_400_000;

// 1
#[tokio::test(start_paused = true)]
async fn late_acquire_after_release_is_given_back() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    lab.faulty
        .plan(Operation::Acquire, [Fault::DelayRequest(ms(5_000))]);
    let lease = locks.acquire("k").await.expect("second request");
    assert!(lease.release().await.expect("works").is_released());
    // The first request lands at 5 s and is answered `Applied` to our own client.
    lab.sleep(ms(4_000)).await;
    let passed = lab.free_or_expired_within("k", ms(60_000)).await;
    assert!(passed < ms(1_000), "stranded for {passed:?}");
}

// 2
#[tokio::test(start_paused = true)]
async fn three_hung_renewals_do_not_end_the_renewal() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let lease = locks.acquire("k").await.expect("free");
    lab.faulty.plan(Operation::Renew, [Fault::BlackHole; 3]);
    for _ in 0..30 {
        lab.sleep(ms(1_000)).await;
        if !lease.is_held() {
            break;
        }
    }
    let renewals = lab.counted.counts().of(Operation::Renew);
    assert!(
        lease.is_held(),
        "lost, though the store worked again for 9 s; {renewals} renewals reached it"
    );
}

// 3
#[tokio::test(start_paused = true)]
async fn an_abandoned_impossible_seed_is_withdrawn() {
    let lab = Lab::new();
    let first = lab.bystander().acquire("k").await.expect("free");
    let before = first.token();
    assert!(first.release().await.expect("works").is_released());
    lab.memory.expunge("k"); // after R
    // A host without a clock; its caller gives up before the answer comes.
    lab.faulty
        .plan(Operation::Acquire, [Fault::DelayAnswer(ms(10))]);
    let wrong = with_wall(
        &lab,
        lab.faulty.clone(),
        -VIRTUAL_START_MS,
        Policy::default(),
    );
    tokio::select! { biased;
        _ = wrong.acquire("k") => panic!(),
        () = async {} => {}
    }
    lab.sleep(ms(60_000)).await;
    let after = lab.bystander().acquire("k").await.expect("free").token();
    assert!(after > before, "S2: {} after {}", after.get(), before.get());
}

// 3b
#[tokio::test(start_paused = true)]
async fn an_impossible_seed_of_a_process_that_died_is_withdrawn() {
    let lab = Lab::new();
    let first = lab.bystander().acquire("k").await.expect("free");
    let before = first.token();
    assert!(first.release().await.expect("works").is_released());
    lab.memory.expunge("k"); // after R
    let gate = Gate::new(Arc::new(lab.memory.clone()));
    gate.dead_after_next.store(true, Ordering::SeqCst);
    let wrong = with_wall(&lab, Wrapped(gate), -VIRTUAL_START_MS, Policy::default());
    let error = wrong.try_acquire("k").await.expect_err("dead");
    drop(error);
    lab.sleep(ms(60_000)).await;
    let after = lab
        .bystander()
        .acquire("k")
        .await
        .expect("dead holder")
        .token();
    assert!(after > before, "S2: {} after {}", after.get(), before.get());
}

// 3c
#[tokio::test(start_paused = true)]
async fn a_clock_a_month_behind_does_not_have_the_record_deleted() {
    for (fault, requests) in [(Fault::Hang, 3), (Fault::None, 2)] {
        let lab = Lab::new();
        let first = lab.bystander().acquire("k").await.expect("free");
        let before = first.token();
        assert!(first.release().await.expect("works").is_released());
        // Retention is a week: by this clock the record would be past it already.
        let wrong = with_wall(&lab, lab.faulty.clone(), -30 * DAY, Policy::default());
        lab.faulty.plan(Operation::Acquire, [fault]);
        let ttl = async || {
            let record = lab.memory.read("k", Consistency::Strong).await;
            let record = record.expect("works").value.expect("not deleted");
            record.ttl_seconds.expect("ours have one")
        };
        let now_s = VIRTUAL_START_MS / 1_000;
        let taken = wrong.request("k").expect("valid").acquire();
        let (taken, at_once) = tokio::join!(taken, async {
            lab.sleep(ms(1)).await;
            ttl().await
        });
        assert!(at_once > now_s, "{fault:?}: deleted at {at_once}");
        let lease = taken.expect("free");
        assert!(lease.token() > before);
        assert!(ttl().await > now_s + 7 * 86_400);
        // Once it has had an answer it asks by the clock of the service.
        let sent = lab.counted.counts().of(Operation::Acquire);
        assert_eq!(sent, requests, "{fault:?}");
    }
}

// 4
#[tokio::test(start_paused = true)]
async fn a_denied_withdrawal_is_not_called_not_applied_and_strands_nothing() {
    let lab = Lab::new();
    let wrong = with_wall(&lab, lab.faulty.clone(), DAY, Policy::default());
    lab.faulty.plan(Operation::Withdraw, [Fault::AccessDenied]);
    let error = wrong.try_acquire("k").await.expect_err("denied");
    lab.sleep(ms(41_000)).await;
    let state = lab
        .bystander()
        .inspect("k")
        .await
        .expect("works")
        .state()
        .clone();
    assert_eq!(
        (format!("{:?}", error.effect()), state),
        ("Unknown".to_owned(), LockState::Free)
    );
}

// 4b
#[tokio::test(start_paused = true)]
async fn throttled_withdrawals_strand_nothing() {
    let lab = Lab::new();
    let wrong = with_wall(&lab, lab.faulty.clone(), DAY, Policy::default());
    lab.faulty.plan(Operation::Withdraw, [Fault::Throttle; 3]);
    let error = wrong.acquire("k").await.expect_err("throttled");
    lab.sleep(ms(41_000)).await;
    let state = lab
        .bystander()
        .inspect("k")
        .await
        .expect("works")
        .state()
        .clone();
    assert_eq!(
        (format!("{:?}", error.effect()), state),
        ("Unknown".to_owned(), LockState::Free),
        "{error:?}"
    );
}

// 4c
#[tokio::test(start_paused = true)]
async fn an_acquire_dropped_during_the_withdrawal_strands_nothing() {
    let lab = Lab::new();
    let wrong = with_wall(&lab, lab.faulty.clone(), DAY, Policy::default());
    lab.faulty
        .plan(Operation::Withdraw, [Fault::LoseRequest, Fault::BlackHole]);
    tokio::select! { biased;
        _ = wrong.acquire("k") => panic!(),
        () = lab.sleep(ms(1_500)) => {}
    }
    lab.sleep(ms(41_000)).await;
    let state = lab
        .bystander()
        .inspect("k")
        .await
        .expect("works")
        .state()
        .clone();
    assert_eq!(state, LockState::Free);
}

// 4d: a broken withdrawal path: the only fault is a caller that leaves while it hangs.
#[tokio::test(start_paused = true)]
async fn an_acquire_dropped_during_its_first_withdrawal_strands_nothing() {
    let lab = Lab::new();
    let wrong = with_wall(&lab, lab.faulty.clone(), DAY, Policy::default());
    lab.faulty.plan(Operation::Withdraw, [Fault::BlackHole]);
    tokio::select! { biased;
        _ = wrong.acquire("k") => panic!(),
        () = lab.sleep(ms(1_500)) => {}
    }
    lab.sleep(ms(41_000)).await;
    let state = lab
        .bystander()
        .inspect("k")
        .await
        .expect("works")
        .state()
        .clone();
    assert_eq!(state, LockState::Free);
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
    let id = lab
        .bystander()
        .acquire("k")
        .await
        .expect("free")
        .detach()
        .await
        .expect("works");
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
    let id = lab
        .bystander()
        .acquire("k")
        .await
        .expect("free")
        .detach()
        .await
        .expect("works");
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
        key: "k".into(),
        owner: None,
        expires_at: ServiceTime(0),
        native: None,
        ttl_seconds: None,
        holder: None,
        acquired_at: None,
        data: None,
        holder_is_dead: false,
    });
    let gate = Gate::new(Arc::new(lab.memory.clone()));
    let locks = with_wall(&lab, Wrapped(gate.clone()), 0, Policy::default());
    let _ = locks.acquire("k").await;
    let n = gate.writes.load(Ordering::SeqCst);
    assert!(n < 1_000, "{n} writes");
}

// 10
#[tokio::test(start_paused = true)]
async fn a_release_that_came_too_late_does_not_say_released() {
    let lab = Lab::new();
    let locks = lab.client(Policy::builder().manual_renewal(true).build().unwrap());
    let lease = locks.acquire("k").await.expect("free");
    lab.sleep(ms(18_900)).await;
    lab.faulty.plan(Operation::Release, [Fault::BlackHole]);
    let other = lab.bystander();
    let (outcome, other) = tokio::join!(lease.release(), async {
        lab.sleep(ms(1_200)).await;
        other
            .try_acquire("k")
            .await
            .expect("works")
            .into_lease()
            .expect("expired")
    });
    assert!(other.is_held());
    assert!(
        matches!(outcome, Ok(ReleaseOutcome::TakenOver(_))),
        "{outcome:?}"
    );
}

// 11
#[tokio::test(start_paused = true)]
async fn panics_in_the_store_do_not_use_up_the_renewals() {
    let lab = Lab::new();
    let gate = Gate::new(Arc::new(lab.memory.clone()));
    let locks = with_wall(&lab, Wrapped(gate.clone()), 0, Policy::default());
    let lease = locks.acquire("k").await.expect("free");
    gate.set(Mode::Panic);
    lab.sleep(ms(12_000)).await;
    gate.set(Mode::Pass);
    lab.sleep(ms(15_000)).await;
    assert!(lease.is_held());
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_store_does_not_hold_up_the_shutdown() {
    let lab = Lab::new();
    let gate = Gate::new(Arc::new(lab.memory.clone()));
    let locks = with_wall(&lab, Wrapped(gate.clone()), 0, Policy::default());
    gate.set(Mode::Panic);
    let _ = locks.try_acquire("k").await.expect_err("panics");
    gate.set(Mode::Pass);
    let start = lab.clock_now();
    assert!(locks.shutdown(ms(100_000)).await);
    let passed = lab.clock_now() - start;
    assert!(passed < ms(5_000), "{passed:?}");
}

// 12
#[tokio::test(start_paused = true)]
async fn no_new_orders_after_shutdown() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let id = lab
        .bystander()
        .acquire("k")
        .await
        .expect("free")
        .detach()
        .await
        .expect("works");
    assert!(locks.shutdown(ms(1_000)).await);
    let adopted = locks.adopt(&id).await;
    assert!(adopted.is_err(), "adopted after the shutdown");
}

// 14
#[tokio::test(start_paused = true)]
async fn renew_waits_for_a_renewal_of_its_own() {
    let lab = Lab::new();
    let locks = lab.client(Policy::builder().manual_renewal(true).build().unwrap());
    let lease = locks.acquire("k").await.expect("free");
    lab.sleep(ms(1_000)).await;
    lab.faulty
        .plan(Operation::Renew, [Fault::DelayAnswer(ms(15_000))]);
    lease.renew().await.expect("the second request");
    lab.sleep(ms(12_900)).await; // 15.9 s
    lab.faulty.plan(Operation::Renew, [Fault::LoseRequest]);
    lab.faulty
        .plan(Operation::Renew, [Fault::DelayRequest(ms(500))]);
    lease.renew().await.expect("renewed");
    let left = lease.remaining();
    assert!(
        left > ms(16_000),
        "renewed `now`, and {left:?} are left of 20 s"
    );
}

// 15
#[tokio::test(start_paused = true)]
async fn an_uncertain_acquire_is_given_back_at_once() {
    let lab = Lab::new();
    let locks = lab.client(
        Policy::builder()
            .lease_duration(ms(120_000))
            .build()
            .unwrap(),
    );
    lab.faulty
        .plan(Operation::Acquire, [Fault::LoseAnswer, Fault::BlackHole]);
    tokio::select! { biased;
        _ = locks.acquire("k") => panic!(),
        () = lab.sleep(ms(1_000)) => {}
    }
    let passed = lab.free_within("k", ms(100_000)).await;
    assert!(passed < ms(5_000), "{passed:?}");
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

// 18
#[tokio::test(start_paused = true)]
async fn an_applied_write_without_record_is_given_back() {
    let lab = Lab::new();
    #[derive(Debug)]
    struct NoRecord(MemoryStore);
    #[async_trait]
    impl Wrap for NoRecord {
        fn inner(&self) -> &dyn Store {
            &self.0
        }

        async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
            let mut reply = self.0.write(write).await?;
            if let Outcome::Applied(_) = reply.value {
                reply.value = Outcome::Applied(None);
            }
            Ok(reply)
        }
    }
    let locks = with_wall(
        &lab,
        Wrapped(NoRecord(lab.memory.clone())),
        0,
        Policy::default(),
    );
    let error = locks.try_acquire("k").await.expect_err("odd");
    lab.sleep(ms(1_000)).await;
    let state = lab.bystander().inspect("k").await.unwrap().state().clone();
    assert_eq!(
        (format!("{:?}", error.effect()), state),
        ("Unknown".to_owned(), LockState::Free)
    );
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

// 0: S1. A paused virtual machine: its elapsed clock did not count, its wall clock is right again.
#[tokio::test]
async fn after_a_pause_of_the_machine_new_grants_exclude() {
    let world = ManualClock::new(VIRTUAL_START_MS);
    let store = MemoryStore::with_clock(Arc::new(world.clone()));
    let host = ManualClock::new(VIRTUAL_START_MS);
    let paused = LockClient::builder(store.clone())
        .clock(Arc::new(host.clone()))
        .build();
    let other = LockClient::builder(store.clone())
        .clock(Arc::new(world.clone()))
        .build();
    assert!(
        paused
            .acquire("warm")
            .await
            .unwrap()
            .release()
            .await
            .unwrap()
            .is_released()
    );

    world.advance(Duration::from_secs(60));
    host.step_wall(60_000);

    let mut both = Vec::new();
    for second in 0..9 {
        let key = format!("k{second}");
        // Grants that begin minutes after the pause are still wrong.
        let a = paused.acquire(&key).await.expect("free");
        let b = other.try_acquire(&key).await.expect("works").into_lease();
        if a.is_held() && b.as_ref().is_some_and(|b| b.is_held()) {
            both.push((second, a.remaining(), b.as_ref().unwrap().remaining()));
        }
        for _ in 0..60 {
            world.advance(Duration::from_secs(1));
            host.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
    }
    assert!(
        both.is_empty(),
        "two holders at once (minutes after the pause, remaining A, remaining B): {both:?}"
    );
}

/// The simulation found it (seed 1838): a release that waited for a renewal kept signals waiting, too.
#[tokio::test(start_paused = true)]
async fn a_signal_fires_in_time_while_a_release_waits_for_a_renewal() {
    let lab = Lab::new();
    let policy = Policy::builder().manual_renewal(true).build();
    let locks = lab.client(policy.expect("adds up"));
    let lease = locks.acquire("k").await.expect("free");
    let signal = lease.watch();
    lab.sleep(ms(18_000)).await;
    lab.faulty.plan(Operation::Renew, [Fault::BlackHole]);
    tokio::select! {
        biased;
        _ = lease.renew() => panic!("no answer"),
        () = lab.sleep(ms(500)) => {}
    }
    let (outcome, fired) = tokio::join!(lease.release(), async {
        signal.ended().await;
        lab.clock_now()
    });
    assert!(outcome.expect("works").is_released());
    // 20 s less drift, less the margin; the release waits for its renewal for 1.5 s more.
    assert!(fired <= ms(18_985), "{fired:?}");
    assert_eq!(lab.faulty.unused(), 0);
}

/// A client may be shared by runtimes, as the workers of a web server share it: one that stands still
/// holds up nobody else's lease.
#[test]
fn a_runtime_that_stands_still_silences_no_lease_of_another() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
    };
    let policy = Policy::builder()
        .lease_duration(ms(400))
        .margin(ms(20))
        .build()
        .expect("adds up");
    let locks = LockClient::builder(MemoryStore::new())
        .policy(policy)
        .build();
    let (still, busy) = (runtime(), runtime());
    // It has a lease to keep, and is not driven any more.
    let _kept = still.block_on(async {
        let lease = locks.acquire("a").await.expect("free");
        tokio::task::yield_now().await;
        lease
    });
    busy.block_on(async {
        let lease = locks.acquire("b").await.expect("free");
        let signal = lease.watch();
        // Longer than a lease: only renewals keep it.
        tokio::select! { biased;
            loss = signal.ended() => panic!("{loss}"),
            () = SystemClock.sleep_until(SystemClock.elapsed().plus(ms(1_500))) => {}
        }
        assert!(lease.is_held(), "nobody renewed it");
        assert!(lease.release().await.expect("works").is_released());
    });
}

/// Nothing of a client is left once its last handle is gone and its background has ended.
#[test]
fn a_client_leaves_nothing_behind() {
    let memory = Arc::new(MemoryStore::new());
    let policy = Policy::builder()
        .lease_duration(ms(600))
        .margin(ms(20))
        .build()
        .expect("adds up");
    for left_by in ["release", "drop"] {
        let store: Arc<dyn Store> = Arc::new(CountingStore::new(memory.clone()));
        let gone = Arc::downgrade(&store);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let locks = LockClient::builder(store).policy(policy.clone()).build();
        runtime.block_on(async {
            let lease = locks.acquire(left_by).await.expect("free");
            let held = locks.request(left_by).expect("a key").wait(ms(50));
            drop(held.acquire().await.expect_err("held"));
            lease.renew().await.expect("ours");
            match left_by {
                "release" => drop(lease.release().await.expect("works")),
                _ => drop(lease),
            }
            assert!(locks.shutdown(ms(5_000)).await);
        });
        drop(locks);
        drop(runtime);
        assert_eq!(gone.strong_count(), 0, "{left_by}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_found_in_the_record_counts_from_when_that_one_was_sent() {
    let lab = Lab::new();
    let policy = Policy::builder()
        .manual_renewal(true)
        .build()
        .expect("fits");
    let locks = lab.client(policy);
    let lease = locks.acquire("k").await.expect("free");
    lab.sleep(ms(1_000)).await;
    // The first comes late and finds the second, whose answer was lost; all that follow are lost.
    let faults = [Fault::DelayRequest(ms(10_000)), Fault::LoseAnswer];
    lab.faulty.plan(Operation::Renew, faults);
    lab.faulty
        .plan(Operation::Renew, vec![Fault::BlackHole; 100]);
    tokio::select! {
        biased;
        renewed = lease.renew() => renewed.expect("found"),
        () = lab.sleep(ms(10_100)) => panic!("it lands after 10 s"),
    }
    // The second was sent some 2 s after the first, of a lease of 20 s that began 11.1 s ago.
    let left = lease.remaining();
    assert!(left > ms(9_500) && left < ms(14_000), "{left:?}");
}
