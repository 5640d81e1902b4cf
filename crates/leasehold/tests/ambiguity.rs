//! "Did my write land?" Answers that get lost, requests applied twice, late ones.
//!
//! Among them: an own success that is taken for someone else's lock.

use std::sync::Arc;
use std::time::Duration;

use crate::support::Lab;
use leasehold::store::testing::faulty::{Fault, FaultyStore};
use leasehold::{
    Effect, EndReason, ErrorKind, LockClient, LockState, Policy, ReleaseOutcome, TryAcquireOutcome,
};
use leasehold_protocol::write::Operation;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[tokio::test(start_paused = true)]
async fn an_acquire_whose_answer_is_lost_is_recognised() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    lab.faulty.plan(Operation::Acquire, [Fault::LoseAnswer]);
    let lease = locks.try_acquire("k").await.expect("recognised");
    let lease = lease.into_lease().expect("it is ours");
    assert_eq!(lab.counted.counts().of(Operation::Acquire), 2);
    assert_eq!(lab.faulty.unused(), 0);
    assert_eq!(
        lease.release().await.expect("works"),
        ReleaseOutcome::Released
    );
}

#[tokio::test(start_paused = true)]
async fn its_deadline_counts_from_the_request_that_landed() {
    let lab = Lab::new();
    let locks = lab.client(
        Policy::builder()
            .manual_renewal(true)
            .build()
            .expect("adds up"),
    );
    // Applied at 0 s, no answer within 2 s, then throttled a little: the second answer comes late.
    lab.faulty.plan(
        Operation::Acquire,
        [Fault::Hang, Fault::DelayAnswer(ms(1_500))],
    );
    let start = lab.clock_now();
    let lease = locks.acquire("k").await.expect("recognised");
    let passed = lab.clock_now() - start;
    assert!(passed >= ms(3_500), "{passed:?}");
    // 20 s less 0.1 % from the first send, less the margin of 1 s.
    let expected = ms(19_980) - ms(1_000) - passed;
    let off = lease.remaining().abs_diff(expected);
    assert!(off <= ms(2), "{:?} against {expected:?}", lease.remaining());
}

#[tokio::test(start_paused = true)]
async fn an_acquire_applied_twice_is_ours() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    lab.faulty.plan(Operation::Acquire, [Fault::Duplicate]);
    let lease = locks.try_acquire("k").await.expect("recognised");
    assert!(lease.into_lease().is_some());
    assert_eq!(lab.faulty.unused(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_take_over_whose_answer_is_lost_is_recognised() {
    let lab = Lab::new();
    std::mem::forget(lab.bystander().acquire("k").await.expect("free"));
    // The renewal task of a forgotten guard goes on; the client's shutdown ends it here.
    let locks = lab.client(Policy::default());
    let TryAcquireOutcome::Held(before) = locks.try_acquire("k").await.expect("works") else {
        panic!("held");
    };
    lab.kill_record_of("k").await;
    lab.faulty.plan(Operation::TakeOver, [Fault::LoseAnswer]);
    let lease = locks.acquire("k").await.expect("recognised");
    assert_eq!(lab.faulty.unused(), 0);
    assert!(Some(lease.token()) > before.token());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_answer_is_lost_is_recognised_with_its_own_deadline() {
    let lab = Lab::new();
    let locks = lab.client(
        Policy::builder()
            .manual_renewal(true)
            .build()
            .expect("adds up"),
    );
    let lease = locks.acquire("k").await.expect("free");
    lab.sleep(ms(6_000)).await;
    for fault in [Fault::LoseAnswer, Fault::Duplicate, Fault::Hang] {
        lab.faulty.plan(Operation::Renew, [fault]);
        let sent = lab.clock_now();
        lease.renew().await.expect("recognised");
        let least = ms(19_980) - ms(1_000) - (lab.clock_now() - sent);
        assert!(lease.remaining() + ms(2) >= least, "{fault:?}");
        assert!(lease.remaining() <= ms(18_980), "{fault:?}");
        assert_eq!(lab.faulty.unused(), 0);
    }
    assert_eq!(
        lease.release().await.expect("works"),
        ReleaseOutcome::Released
    );
}

#[tokio::test(start_paused = true)]
async fn one_failed_renewal_never_ends_the_renewal() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let lease = locks.acquire("k").await.expect("free");
    for fault in [
        Fault::LoseRequest,
        Fault::LoseAnswer,
        Fault::ServerError,
        Fault::Throttle,
        Fault::Conflict,
        Fault::AccessDenied,
        Fault::BlackHole,
        Fault::Hang,
    ] {
        lab.faulty.plan(Operation::Renew, [fault]);
        lab.sleep(ms(15_000)).await;
        assert!(lease.is_held(), "{fault:?}");
        assert_eq!(lab.faulty.unused(), 0, "{fault:?} was met");
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_whose_answer_is_lost_is_recognised() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    for fault in [Fault::LoseAnswer, Fault::Hang, Fault::Duplicate] {
        let lease = locks.acquire("k").await.expect("free");
        lab.faulty.plan(Operation::Release, [fault]);
        let outcome = lease.release().await.expect("recognised");
        // Also where the store answers the second application of one request.
        assert_eq!(outcome, ReleaseOutcome::Released, "{fault:?}");
        assert_eq!(lab.faulty.unused(), 0);
        lab.free_within("k", ms(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_acquire_that_fails_for_good_leaves_nothing_behind() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    // The first lands without an answer, the second is refused for good.
    lab.faulty
        .plan(Operation::Acquire, [Fault::LoseAnswer, Fault::AccessDenied]);
    let error = locks.try_acquire("k").await.expect_err("access denied");
    assert_eq!(error.kind(), ErrorKind::AccessDenied);
    assert_eq!(error.effect(), Effect::Unknown);
    lab.free_within("k", ms(1_000)).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_request_of_an_abandoned_acquire_is_released_when_it_lands() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    lab.faulty.plan(
        Operation::Acquire,
        [Fault::DelayRequest(ms(15_000)), Fault::AccessDenied],
    );
    let error = locks.try_acquire("k").await.expect_err("access denied");
    assert_eq!(error.effect(), Effect::Unknown);
    // It lands at 15 s, and is given back at once.
    lab.sleep(ms(15_000)).await;
    assert!(lab.counted.counts().of(Operation::Release) > 0);
    lab.free_within("k", ms(100)).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_request_whose_answer_is_lost_is_released_all_the_same() {
    let lab = Lab::new();
    // It lands when its caller has left, and nobody learns of it.
    let slow = FaultyStore::new(Arc::new(lab.faulty.clone()), lab.clock.clone());
    slow.plan(Operation::Acquire, [Fault::DelayRequest(ms(1_000))]);
    lab.faulty.plan(Operation::Acquire, [Fault::LoseAnswer]);
    let locks = LockClient::builder(slow.clone()).clock(lab.clock.clone());
    let locks = locks.build();
    tokio::select! {
        biased;
        _ = locks.acquire("k") => panic!("it is on its way"),
        () = lab.sleep(ms(100)) => {}
    }
    lab.sleep(ms(1_000)).await;
    assert_eq!(slow.unused() + lab.faulty.unused(), 0);
    assert_eq!(lab.counted.counts().of(Operation::Acquire), 1);
    lab.free_within("k", ms(100)).await;
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_read_an_uncertain_grant_is_released_unseen() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    lab.faulty
        .plan(Operation::Acquire, [Fault::LoseAnswer, Fault::AccessDenied]);
    lab.faulty.plan(Operation::Read, [Fault::AccessDenied; 100]);
    let error = locks.try_acquire("k").await.expect_err("access denied");
    assert_eq!(error.effect(), Effect::Unknown);
    lab.free_within("k", ms(1_000)).await;
}

#[tokio::test(start_paused = true)]
async fn a_denied_release_of_an_ended_call_is_not_repeated() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    lab.faulty
        .plan(Operation::Acquire, [Fault::LoseAnswer, Fault::AccessDenied]);
    lab.faulty
        .plan(Operation::Release, [Fault::AccessDenied; 100]);
    locks.try_acquire("k").await.expect_err("access denied");
    lab.sleep(ms(15_000)).await;
    assert_eq!(lab.faulty.unused(), 99);
}

#[tokio::test(start_paused = true)]
async fn a_release_waits_for_a_renewal_in_flight() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let lease = locks.acquire("k").await.expect("free");
    lab.faulty
        .plan(Operation::Renew, [Fault::DelayRequest(ms(500))]);
    tokio::select! {
        biased;
        _ = lease.renew() => panic!("the renewal is delayed"),
        () = lab.sleep(ms(100)) => {}
    }
    assert!(lease.release().await.expect("works").is_released());
    assert_eq!(
        lab.counted.counts().of(Operation::Renew),
        1,
        "it came first"
    );
}

#[tokio::test(start_paused = true)]
async fn errors_that_are_certain_say_so() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    lab.faulty.plan(Operation::Acquire, [Fault::AccessDenied]);
    let error = locks.try_acquire("k").await.expect_err("access denied");
    assert_eq!(error.effect(), Effect::NotApplied);
    assert_eq!(error.key(), Some("k"));
    assert_eq!(error.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_in_flight_cannot_revive_a_released_record() {
    // A renewal outlives the release.
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let lease = locks.acquire("k").await.expect("free");
    lab.faulty
        .plan(Operation::Renew, [Fault::DelayRequest(ms(9_000))]);
    let renewing = lease.renew();
    tokio::select! {
        biased;
        _ = renewing => panic!("the renewal is delayed"),
        () = lab.sleep(ms(100)) => {}
    }
    assert!(lease.release().await.expect("works").is_released());
    lab.free_within("k", ms(1)).await;
    lab.sleep(ms(20_000)).await;
    assert_eq!(lab.faulty.unused(), 0);
    let status = lab.bystander().inspect("k").await.expect("works");
    assert_eq!(*status.state(), LockState::Free);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_shows_another_means_lost_at_once() {
    let lab = Lab::new();
    let locks = lab.client(
        Policy::builder()
            .manual_renewal(true)
            .build()
            .expect("adds up"),
    );
    let lease = locks.acquire("k").await.expect("free");
    // Somebody with our identity released it, and another came.
    let outcome = lab.bystander().release(lease.id()).await.expect("works");
    assert!(outcome.is_released());
    let error = lease.renew().await.expect_err("gone");
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert_eq!(error.effect(), Effect::NotApplied, "nothing is in flight");
    assert_eq!(lease.lost().await, EndReason::ReleasedElsewhere);
    assert!(!lease.is_held());
    assert_eq!(
        lease.release().await.expect("works"),
        ReleaseOutcome::AlreadyReleased
    );
}
