//! Answers that come late, twice, broken or not at all, and stores that panic.

use crate::support::Lab;
use crate::support::VIRTUAL_START_MS;
use crate::support::gate::{Gate, Mode, ms, with_wall};
use async_trait::async_trait;
use leasehold::Effect;
use leasehold::ErrorKind;
use leasehold::LockClient;
use leasehold::LockState;
use leasehold::Policy;
use leasehold::ReleaseOutcome;
use leasehold::clock::ManualClock;
use leasehold::store::Consistency;
use leasehold::store::Outcome;
use leasehold::store::Reply;
use leasehold::store::Store;
use leasehold::store::StoreError;
use leasehold::store::StoreErrorKind;
use leasehold::store::memory::MemoryStore;
use leasehold::store::testing::faulty::Fault;
use leasehold::store::testing::wrap::Wrap;
use leasehold::store::testing::wrap::Wrapped;
use leasehold_protocol::time::Stamp;
use leasehold_protocol::write::Operation;
use leasehold_protocol::write::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

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

// D: a Lost error that says NotApplied while its renewal lands.
#[tokio::test(start_paused = true)]
async fn a_lost_renewal_that_lands_is_not_called_not_applied() {
    let lab = Lab::new();
    let locks = lab.client(Policy::builder().manual_renewal(true).build().unwrap());
    let lease = locks.acquire("k").await.unwrap();
    lab.sleep(ms(18_500)).await;
    lab.faulty
        .plan(Operation::Renew, [Fault::DelayRequest(ms(3_000))]);
    let before = lab
        .memory
        .read("k", Consistency::Strong)
        .await
        .unwrap()
        .value
        .unwrap()
        .expires_at;
    let error = lease.renew().await.expect_err("lost");
    assert_eq!(error.kind(), ErrorKind::Lost);
    lab.sleep(ms(4_000)).await;
    let after = lab
        .memory
        .read("k", Consistency::Strong)
        .await
        .unwrap()
        .value
        .unwrap()
        .expires_at;
    assert!(after > before);
    assert_eq!(error.effect(), Effect::Unknown, "the renewal landed");
}

// E: an answer that is not the service's (a proxy's error page) carries a `Date` of its own.
#[derive(Debug)]
struct Proxied {
    inner: MemoryStore,
    once: AtomicBool,
    ahead_s: i64,
}

#[async_trait]
impl Wrap for Proxied {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        if self.once.swap(false, Ordering::SeqCst) {
            let mut e = StoreError::new(
                StoreErrorKind::Unavailable,
                Effect::Unknown,
                "502 of a proxy",
            );
            e.stamp = Some(Stamp::WholeSeconds(VIRTUAL_START_MS / 1_000 + self.ahead_s));
            return Err(e);
        }
        self.inner.write(write).await
    }
}

#[tokio::test(start_paused = true)]
async fn one_strange_date_on_an_error_does_not_break_exclusion() {
    let lab = Lab::new();
    let a = lab.bystander().acquire("k").await.unwrap();
    let store = Proxied {
        inner: lab.memory.clone(),
        once: AtomicBool::new(true),
        ahead_s: 3_600,
    };
    let locks = LockClient::builder(Wrapped(store))
        .clock(lab.clock.clone())
        .build();
    let b = locks.try_acquire("k").await.unwrap().into_lease();
    assert!(
        !(a.is_held() && b.as_ref().is_some_and(|b| b.is_held())),
        "two holders: {:?} and {:?}",
        a.remaining(),
        b.unwrap().remaining()
    );
}

// F: is_held goes from false to true.
#[tokio::test]
async fn is_held_never_comes_back() {
    let clock = ManualClock::new(VIRTUAL_START_MS);
    let memory = MemoryStore::with_clock(Arc::new(clock.clone()));
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    #[derive(Debug)]
    struct Late(MemoryStore, Arc<tokio::sync::Semaphore>);
    #[async_trait]
    impl Wrap for Late {
        fn inner(&self) -> &dyn Store {
            &self.0
        }

        async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
            let renew = write.operation() == Operation::Renew;
            let r = self.0.write(write).await;
            if renew {
                self.1.acquire().await.unwrap().forget();
            }
            r
        }
    }
    let locks = LockClient::builder(Wrapped(Late(memory, gate.clone())))
        .clock(Arc::new(clock.clone()))
        .build();
    let lease = locks.acquire("k").await.unwrap();
    for _ in 0..7 {
        clock.advance(ms(1_000));
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
    }
    // A renewal is in flight. The executor is blocked (or the process stopped) for 13 s.
    gate.add_permits(1);
    clock.advance(ms(13_000));
    let before = lease.is_held();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let after = lease.is_held();
    assert!(
        before || !after,
        "is_held() was false at 20 s and is true again"
    );
}
