//! The scenarios of FSharp.DynamoDbLock's own tests, in our words, on every store.
//!
//! On memory in virtual time, on SQLite and DynamoDB Local in real time; there in a table of its own, and in one
//! with other keys. "After expiry" means that
//! a holder went away without a release.

use std::sync::Arc;
use std::time::Duration;

use crate::support::Kit;
use leasehold::{
    DropPolicy, ErrorKind, Lease, LeaseId, LockClient, Policy, ReleaseOutcome, TryAcquireOutcome,
};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn client(kit: &Kit) -> LockClient {
    let policy = Policy::builder()
        .lease_duration(ms(3_000))
        .margin(ms(500))
        .build()
        .expect("adds up");
    LockClient::builder(kit.store.clone())
        .clock(kit.clock.clone())
        .policy(policy)
        .build()
}

/// A lease whose holder goes away without a release.
async fn abandoned(locks: &LockClient, key: &str, lease: Duration) -> LeaseId {
    let held = locks
        .request(key)
        .expect("valid")
        .policy(
            Policy::builder()
                .lease_duration(lease)
                .margin(lease / 10)
                .manual_renewal(true)
                .drop_policy(DropPolicy::LeaveToExpire)
                .build()
                .expect("adds up"),
        )
        .try_acquire()
        .await
        .expect("store works")
        .into_lease()
        .expect("free");
    held.id().clone()
}

async fn sleep(kit: &Kit, by: Duration) {
    kit.clock.sleep_until(kit.clock.elapsed().plus(by)).await;
}

async fn acquire_and_release(kit: Kit) {
    let locks = client(&kit);
    let lease = locks.acquire("a").await.expect("free");
    assert!(lease.is_held());
    assert!(lease.release().await.expect("store works").is_released());
}

async fn ten_times_in_series(kit: Kit) {
    let locks = client(&kit);
    let mut last = None;
    for _ in 0..10 {
        let lease = locks.acquire("a").await.expect("free");
        // S2: tokens of successive grants strictly increase.
        assert!(Some(lease.token()) > last);
        last = Some(lease.token());
        assert_eq!(
            lease.release().await.expect("store works"),
            ReleaseOutcome::Released
        );
    }
}

/// What became of 25 tasks on one key: errors, by kind.
#[expect(
    clippy::future_not_send,
    reason = "async closures cannot promise it, and the tests' runtime has one thread"
)]
async fn crowd(
    kit: &Kit,
    hold: impl Fn(u64) -> Duration,
    acquire: impl AsyncFn(&LockClient) -> Result<Option<Lease>, ErrorKind>,
) -> Vec<Option<ErrorKind>> {
    let inside = Arc::new(tokio::sync::Semaphore::new(1));
    let tasks = (0..25).map(|i| {
        // A client each, as in 25 processes.
        let locks = client(kit);
        let (inside, hold) = (inside.clone(), hold(i));
        let acquire = &acquire;
        async move {
            let lease = match acquire(&locks).await {
                Ok(Some(lease)) => lease,
                Ok(None) => return Some(ErrorKind::WaitExpired),
                Err(kind) => return Some(kind),
            };
            // S1: nobody else is inside.
            let permit = inside.try_acquire().expect("two holders at once");
            sleep(kit, hold).await;
            drop(permit);
            assert!(lease.release().await.expect("store works").is_released());
            None
        }
    });
    join_all(tasks).await
}

async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = futures.map(Box::pin).map(Some).collect();
    let mut outputs: Vec<Option<F::Output>> = pending.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (slot, output) in pending.iter_mut().zip(&mut outputs) {
            if let Some(future) = slot
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *output = Some(value);
                *slot = None;
            }
        }
        if pending.iter().all(Option::is_none) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

async fn waiting(locks: &LockClient, wait: Duration) -> Result<Option<Lease>, ErrorKind> {
    let request = locks.request("a").expect("valid").wait(wait);
    request.acquire().await.map(Some).map_err(|e| e.kind())
}

async fn twenty_five_with_a_long_wait(kit: Kit) {
    let ends = crowd(
        &kit,
        |i| ms(i * 2),
        async |locks| waiting(locks, ms(6_000)).await,
    )
    .await;
    assert!(ends.iter().all(Option::is_none), "{}: {ends:?}", kit.name);
}

async fn twenty_five_with_a_short_wait(kit: Kit) {
    let ends = crowd(
        &kit,
        |i| ms(100 + i * 4),
        async |locks| waiting(locks, ms(2_000)).await,
    )
    .await;
    let failures: Vec<_> = ends.iter().flatten().collect();
    assert!(
        failures.iter().all(|kind| **kind == ErrorKind::WaitExpired),
        "{failures:?}"
    );
    assert!(failures.len() > 5, "{}: only {}", kit.name, failures.len());
}

async fn twenty_five_without_waiting(kit: Kit) {
    let ends = crowd(
        &kit,
        |_| ms(2_000),
        async |locks| match locks.try_acquire("a").await {
            Ok(TryAcquireOutcome::Acquired(lease)) => Ok(Some(lease)),
            Ok(TryAcquireOutcome::Held(held)) => {
                assert!(held.since().is_some() && held.token().is_some());
                Ok(None)
            }
            Err(error) => Err(error.kind()),
        },
    )
    .await;
    let failures: Vec<_> = ends.iter().flatten().collect();
    assert_eq!(failures.len(), 24, "one got it");
    assert!(failures.iter().all(|kind| **kind == ErrorKind::WaitExpired));
}

async fn a_second_try_while_held_fails_at_once(kit: Kit) {
    let (first, second) = (client(&kit), client(&kit));
    let lease = first.acquire("a").await.expect("free");
    let TryAcquireOutcome::Held(held) = second.try_acquire("a").await.expect("store works") else {
        panic!("two holders");
    };
    assert_eq!(held.token(), Some(lease.token()));
    assert!(held.until() > held.since().expect("ours say"));
    assert!(lease.release().await.expect("store works").is_released());
}

async fn a_wait_shorter_than_the_lease_runs_out(kit: Kit) {
    let locks = client(&kit);
    abandoned(&locks, "a", ms(3_000)).await;
    let before = kit.clock.elapsed();
    let request = locks.request("a").expect("valid").wait(ms(500));
    let error = request.acquire().await.expect_err("held");
    assert_eq!(error.kind(), ErrorKind::WaitExpired);
    assert!(error.is_retryable());
    assert!(error.held().is_some() && error.requests() > 1);
    assert!(error.elapsed() >= ms(500));
    // The wait bounds the call; the rest is the slack of a busy machine.
    assert!(kit.clock.elapsed().since(before) < ms(2_000));
}

async fn after_expiry_a_try_succeeds(kit: Kit) {
    let locks = client(&kit);
    abandoned(&locks, "a", ms(1_000)).await;
    // Exact on stores with exact time and no expiry padding; DynamoDB's dates are whole seconds.
    let late = if kit.name == "dynamodb" {
        ms(1_000) + ms(1_200) + ms(1_000)
    } else {
        ms(2)
    };
    sleep(&kit, ms(1_000) + late).await;
    let newcomer = client(&kit);
    let lease = newcomer
        .try_acquire("a")
        .await
        .expect("store works")
        .into_lease()
        .expect("the holder is dead");
    assert!(lease.release().await.expect("store works").is_released());
}

async fn after_expiry_a_waiting_acquire_succeeds(kit: Kit) {
    let locks = client(&kit);
    let dead = abandoned(&locks, "a", ms(1_000)).await;
    let lease = client(&kit)
        .request("a")
        .expect("valid")
        .wait(ms(6_000))
        .acquire()
        .await
        .expect("the holder is dead");
    assert!(lease.token() > dead.token());
    assert!(lease.release().await.expect("store works").is_released());
}

async fn an_old_grant_cannot_be_released_once_taken_over(kit: Kit) {
    let locks = client(&kit);
    let dead = abandoned(&locks, "a", ms(1_000)).await;
    let request = locks.request("a").expect("valid").wait(ms(6_000));
    let lease = request.acquire().await.expect("the holder is dead");
    let ReleaseOutcome::TakenOver(held) = locks.release(&dead).await.expect("store works") else {
        panic!("the old grant is over");
    };
    assert_eq!(held.token(), Some(lease.token()));
    assert!(lease.is_held());
    assert_eq!(
        lease.release().await.expect("store works"),
        ReleaseOutcome::Released
    );
    assert_eq!(
        locks.release(&dead).await.expect("store works"),
        ReleaseOutcome::Superseded
    );
}

async fn releasing_what_was_never_taken_is_told(kit: Kit) {
    let locks = client(&kit);
    let never: LeaseId = "1:67e55044-10b1-426f-9247-bb680e5fe0c8:1:0:a"
        .parse()
        .expect("well formed");
    assert_eq!(
        locks.release(&never).await.expect("store works"),
        ReleaseOutcome::NoRecord
    );
}

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name(super::Kit::memory()).await;
            })*
        }
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Kit::sqlite()).await;
            })*
        }
        mod dynamodb {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Kit::dynamodb().await).await;
            })*
        }
        mod dynamodb_shared {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Kit::dynamodb_shared().await).await;
            })*
        }
    };
}

scenarios!(
    acquire_and_release,
    ten_times_in_series,
    twenty_five_with_a_long_wait,
    twenty_five_with_a_short_wait,
    twenty_five_without_waiting,
    a_second_try_while_held_fails_at_once,
    a_wait_shorter_than_the_lease_runs_out,
    after_expiry_a_try_succeeds,
    after_expiry_a_waiting_acquire_succeeds,
    an_old_grant_cannot_be_released_once_taken_over,
    releasing_what_was_never_taken_is_told,
);
