//! A first token by a wrong clock is withdrawn before anyone sees it, whatever fails (`docs/protocol.md`, section 8).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::support::gate::{DAY, Gate, ms, with_wall};
use crate::support::{Lab, VIRTUAL_START_MS};
use leasehold::store::testing::faulty::Fault;
use leasehold::store::testing::wrap::Wrapped;
use leasehold::store::{Consistency, Store};
use leasehold::{LockState, Policy};
use leasehold_protocol::write::Operation;

// 3
#[tokio::test(start_paused = true)]
async fn an_abandoned_impossible_seed_is_withdrawn() {
    let lab = Lab::new();
    let first = lab.bystander().acquire("k").await.expect("free");
    let before = first.token();
    assert!(first.release().await.expect("works").is_released());
    lab.expire_record_of("k").await; // after R
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
    lab.expire_record_of("k").await; // after R
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
    let state = lab.state("k").await;
    assert_eq!(
        (format!("{:?}", error.effect()), state),
        ("Unknown".to_owned(), LockState::Free)
    );
}

#[tokio::test(start_paused = true)]
async fn a_record_that_may_not_be_deleted_is_released_with_its_wrong_token() {
    let lab = Lab::new();
    let wrong = with_wall(&lab, lab.faulty.clone(), DAY, Policy::default());
    lab.faulty
        .plan(Operation::Withdraw, [Fault::AccessDenied; 100]);
    wrong.try_acquire("k").await.expect_err("denied");
    lab.sleep(ms(41_000)).await;
    assert_eq!(lab.state("k").await, LockState::Free);
}

// 4b
#[tokio::test(start_paused = true)]
async fn throttled_withdrawals_strand_nothing() {
    let lab = Lab::new();
    let wrong = with_wall(&lab, lab.faulty.clone(), DAY, Policy::default());
    lab.faulty.plan(Operation::Withdraw, [Fault::Throttle; 3]);
    let error = wrong.acquire("k").await.expect_err("throttled");
    lab.sleep(ms(41_000)).await;
    let state = lab.state("k").await;
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
    let state = lab.state("k").await;
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
    let state = lab.state("k").await;
    assert_eq!(state, LockState::Free);
}
