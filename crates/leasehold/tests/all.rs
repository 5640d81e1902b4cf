//! All of several keys, or none: order, bound, losses, and that nothing is left of a call that fails.
#![expect(clippy::disallowed_methods, reason = "tasks and clocks of the callers")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::support::{Kit, Lab};
use leasehold::store::testing::faulty::Fault;
use leasehold::{DropPolicy, ErrorKind, LockClient, LockState, Policy};
use leasehold_protocol::write::Operation;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn waits(wait: Duration) -> Policy {
    Policy::builder().wait(wait).build().expect("adds up")
}

async fn all_free(lab: &Lab, keys: &[&str]) {
    for key in keys {
        assert_eq!(lab.state(key).await, LockState::Free, "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn keys_are_sorted_and_count_once_and_each_has_its_token() {
    let lab = Lab::new();
    let locks = lab.client(waits(ms(1_000)));
    let all = locks.acquire_all(["c", "a", "b", "a"]).await.expect("free");
    let keys: Vec<_> = all
        .tokens()
        .map(|(key, _)| key.as_str().to_owned())
        .collect();
    assert_eq!(keys, ["a", "b", "c"]);
    assert_eq!(lab.counted.counts().of(Operation::Acquire), 3);
    for (key, token) in all.tokens() {
        assert_eq!(all.token(key.as_str()), Some(token));
        let held = match lab.state(key.as_str()).await {
            LockState::Held(held) => held.token(),
            other => panic!("{other:?}"),
        };
        assert_eq!(held, Some(token));
    }
    assert_eq!(all.token("d"), None);
    assert!(all.is_held());
    let outcomes = all.release().await.expect("works");
    assert!(outcomes.len() == 3 && outcomes.iter().all(|o| o.is_released()));
    all_free(&lab, &["a", "b", "c"]).await;
    let error = locks.acquire_all::<&str>([]).await.expect_err("no key");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test(start_paused = true)]
async fn a_wait_bounds_the_whole_call_and_leaves_nothing() {
    let lab = Lab::new();
    let locks = lab.client(waits(ms(2_000)));
    let holder = lab.bystander().acquire("b").await.expect("free");
    let before = lab.clock_now();
    let error = locks.acquire_all(["a", "b", "c"]).await.expect_err("held");
    assert_eq!(
        (error.kind(), error.key()),
        (ErrorKind::WaitExpired, Some("b"))
    );
    let passed = lab.clock_now() - before;
    assert!(passed >= ms(2_000) && passed < ms(2_200), "{passed:?}");
    all_free(&lab, &["a", "c"]).await;

    // A call that is dropped releases in the background, under any drop policy.
    let policy = Policy::builder()
        .wait(ms(2_000))
        .drop_policy(DropPolicy::LeaveToExpire);
    let expires = lab.client(policy.build().expect("adds up"));
    let call = tokio::time::timeout(ms(500), expires.acquire_all(["a", "b"]));
    assert!(call.await.is_err(), "it waits");
    lab.free_within("a", ms(1_000)).await;
    holder.release().await.expect("held");
    locks
        .acquire_all(["a", "b"])
        .await
        .expect("free")
        .release()
        .await
        .expect("held");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_lost_during_the_wait_ends_the_call() {
    let lab = Lab::new();
    let locks = lab.client(waits(ms(60_000)));
    let _holder = lab.bystander().acquire("b").await.expect("free");
    let call = tokio::spawn(async move { locks.acquire_all(["a", "b"]).await.map(drop) });
    lab.sleep(ms(1_000)).await;
    let LockState::Held(held) = lab.state("a").await else {
        panic!("not held");
    };
    let forced = lab.bystander();
    let token = held.token().expect("ours");
    forced
        .force_release("a", token, "a test")
        .await
        .expect("works");
    let error = call.await.expect("no panic").expect_err("lost");
    assert_eq!((error.kind(), error.key()), (ErrorKind::Lost, Some("a")));
    all_free(&lab, &["a"]).await;
}

#[tokio::test(start_paused = true)]
async fn the_loss_of_one_is_the_loss_of_all() {
    let lab = Lab::new();
    let locks = lab.client(waits(ms(1_000)));
    let all = locks.acquire_all(["a", "b"]).await.expect("free");
    let token = all.token("b").expect("held");
    let other = lab.bystander();
    other
        .force_release("b", token, "a test")
        .await
        .expect("works");
    let (key, _) = all.lost().await;
    assert_eq!(key.as_str(), "b");
    assert!(!all.is_held());
    all.release().await.expect("works");
    all_free(&lab, &["a", "b"]).await;

    // A release that fails does not keep the others.
    let all = locks.acquire_all(["a", "b"]).await.expect("free");
    lab.faulty.plan(Operation::Release, [Fault::AccessDenied]);
    let error = all.release().await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::AccessDenied);
    let free = [lab.state("a").await, lab.state("b").await];
    assert_eq!(
        free.iter()
            .filter(|state| **state == LockState::Free)
            .count(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_has_settings_of_its_own() {
    let lab = Lab::new();
    let locks = lab.client(waits(ms(60_000)));
    let holder = lab.bystander().acquire("b").await.expect("free");
    let request = locks.request_all(["b", "a"]).expect("keys").data("both");
    // Tried once: the key before it is given back.
    let before = lab.clock_now();
    let tries = request.clone().policy(waits(Duration::ZERO));
    let error = tries.acquire().await.expect_err("held");
    assert_eq!(
        (error.kind(), error.key()),
        (ErrorKind::WaitExpired, Some("b"))
    );
    assert_eq!(
        error.held().and_then(|held| held.token()),
        Some(holder.token())
    );
    assert_eq!(lab.clock_now(), before);
    all_free(&lab, &["a"]).await;
    holder.release().await.expect("held");
    let both = request.acquire().await.expect("free");
    for lease in &both {
        let status = lab.bystander().inspect(lease.key()).await.expect("works");
        let held = status.holder().expect("held");
        assert_eq!(held.data(), Some(&b"both"[..]));
    }
    both.release().await.expect("held");
    // A single lease can stand for all.
    let one = leasehold::Leases::from(locks.acquire("a").await.expect("free"));
    assert_eq!(one.iter().count(), 1);
    assert!(one.is_held() && one.token("a").is_some());
    one.release().await.expect("held");
    all_free(&lab, &["a", "b"]).await;
}

#[tokio::test]
async fn crossing_calls_on_every_store_never_block_each_other() {
    for kit in [
        Kit::memory_in_real_time(),
        Kit::sqlite(),
        Kit::dynamodb().await,
    ] {
        let inside: Arc<[AtomicU32; 4]> = Arc::default();
        let calls: Vec<_> = (0..4_usize)
            .map(|client| {
                let policy = waits(ms(30_000));
                let locks = LockClient::builder(kit.store.clone())
                    .policy(policy)
                    .build();
                let inside = inside.clone();
                tokio::spawn(async move {
                    for round in 0..8_usize {
                        let wanted = [(client + round) % 4, (3 * client + 1) % 4, round % 4];
                        let keys = wanted.map(|key| format!("k{key}"));
                        let all = locks.acquire_all(&keys).await.expect("acquired");
                        let held: Vec<usize> = (0..4).filter(|n| wanted.contains(n)).collect();
                        for key in &held {
                            assert_eq!(inside[*key].fetch_add(1, Ordering::SeqCst), 0, "alone");
                        }
                        tokio::time::sleep(ms(2)).await;
                        for key in &held {
                            inside[*key].fetch_sub(1, Ordering::SeqCst);
                        }
                        all.release().await.expect("held");
                    }
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap_or_else(|_| panic!("{}", kit.name));
        }
    }
}
