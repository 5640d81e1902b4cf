//! Dropping an acquire future at any await never strands a lock: it is normally released at once,
//! and never outlives its lease.

mod support;

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use leasehold::store::testing::faulty::Fault;
use leasehold::{DropPolicy, Policy};
use leasehold_protocol::write::Operation;
use support::Lab;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Polls a future at most `polls` times, then drops it. Whether it had ended by then.
async fn cut_after<F: Future>(polls: usize, future: F) -> bool {
    let mut future = pin!(future);
    let mut polled = 0;
    std::future::poll_fn(|context| {
        if polled == polls {
            return Poll::Ready(false);
        }
        polled += 1;
        match future.as_mut().poll(context) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if polled == polls => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

const FAULTS: [Fault; 9] = [
    Fault::None,
    Fault::LoseRequest,
    Fault::LoseAnswer,
    Fault::Hang,
    Fault::BlackHole,
    Fault::DelayRequest(ms(700)),
    Fault::DelayAnswer(ms(700)),
    Fault::Duplicate,
    Fault::Throttle,
];

#[tokio::test(start_paused = true)]
async fn an_acquire_cut_at_every_await_leaves_the_key_free() {
    for fault in FAULTS {
        let mut cuts = 0;
        loop {
            let lab = Lab::new();
            let locks = lab.client(Policy::default());
            lab.faulty.plan(Operation::Acquire, [fault]);
            let ended = cut_after(cuts, locks.acquire("k")).await;
            // Whatever is in flight ends: delays, retries and the hard bound of a request.
            lab.sleep(ms(800)).await;
            let passed = lab.free_within("k", ms(45_000)).await;
            if !matches!(fault, Fault::Hang | Fault::BlackHole) {
                assert!(passed < ms(1_500), "{fault:?} cut at {cuts}: {passed:?}");
            }
            if ended {
                break;
            }
            cuts += 1;
            assert!(cuts < 50, "{fault:?} does not end");
        }
        assert!(cuts > 0, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_acquire_cut_by_time_leaves_the_key_free() {
    for fault in FAULTS {
        for cut in [0, 1, 500, 699, 700, 701, 1_999, 2_001, 3_000] {
            let lab = Lab::new();
            let locks = lab.client(Policy::default());
            lab.faulty.plan(Operation::Acquire, [fault]);
            tokio::select! {
                biased;
                _ = locks.acquire("k") => {}
                () = lab.sleep(ms(cut)) => {}
            }
            lab.sleep(ms(800)).await;
            lab.free_within("k", ms(45_000)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_gives_up_takes_nothing() {
    let lab = Lab::new();
    let holder = lab.bystander().acquire("k").await.expect("free");
    let locks = lab.client(Policy::default());
    for wait in [0, 1, 10, 100, 1_000] {
        tokio::select! {
            biased;
            _ = locks.acquire("k") => panic!("held"),
            () = lab.sleep(ms(wait)) => {}
        }
    }
    assert!(holder.is_held());
    assert!(holder.release().await.expect("works").is_released());
    lab.sleep(ms(60_000)).await;
    lab.free_within("k", ms(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_cut_goes_on() {
    for fault in FAULTS {
        for cuts in 1..4 {
            let lab = Lab::new();
            let locks = lab.client(Policy::default());
            let lease = locks.acquire("k").await.expect("free");
            lab.faulty.plan(Operation::Release, [fault]);
            cut_after(cuts, lease.release()).await;
            lab.free_within("k", ms(3_500)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_lease_is_released_in_the_background() {
    // Pain 12: async drop releases nothing.
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    drop(locks.acquire("k").await.expect("free"));
    lab.free_within("k", ms(10)).await;

    let policy = Policy::builder().drop_policy(DropPolicy::LeaveToExpire);
    let locks = lab.client(policy.build().expect("adds up"));
    drop(locks.acquire("k").await.expect("free"));
    let passed = lab.free_or_expired_within("k", ms(21_000)).await;
    assert!(passed > ms(19_000), "{passed:?}");
}

#[tokio::test(start_paused = true)]
async fn shutdown_drains_what_is_in_the_background() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let lease = locks.acquire("held").await.expect("free");
    lab.faulty
        .plan(Operation::Release, [Fault::DelayRequest(ms(500))]);
    drop(locks.acquire("dropped").await.expect("free"));
    assert!(!locks.shutdown(ms(1_000)).await, "one is held");
    lab.free_within("dropped", ms(1)).await;
    assert!(lease.is_held());
    let refused = locks.acquire("k").await.expect_err("shut down");
    assert_eq!(refused.kind(), leasehold::ErrorKind::ShutDown);
    drop(lease);
    assert!(locks.shutdown(ms(5_000)).await);
    lab.free_within("held", ms(1)).await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_waits() {
    let lab = Lab::new();
    let holder = lab.bystander().acquire("k").await.expect("free");
    let locks = lab.client(Policy::default());
    let (waited, drained) = tokio::join!(locks.acquire("k"), async {
        lab.sleep(ms(100)).await;
        locks.shutdown(ms(1_000)).await
    });
    assert_eq!(
        waited.expect_err("shut down").kind(),
        leasehold::ErrorKind::ShutDown
    );
    assert!(drained);
    drop(holder);
}
