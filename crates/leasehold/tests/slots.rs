//! Slots and shared locks: the limit, the whole key beside them, the queue, dead holders, identities.
#![expect(clippy::disallowed_methods, reason = "tasks and clocks of the callers")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::support::{Kit, Lab};
use leasehold::{ErrorKind, Lease, LockClient, Policy, TryAcquireOutcome};
use leasehold_protocol::write::Operation;
use tokio::sync::watch;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn waits(wait: Duration) -> Policy {
    Policy::builder().wait(wait).build().expect("adds up")
}

async fn slot(locks: &LockClient, limit: u32) -> Lease {
    let request = locks.slots("k", limit).expect("valid");
    request.acquire().await.expect("acquired")
}

async fn all_kits() -> [Kit; 3] {
    [
        Kit::memory_in_real_time(),
        Kit::sqlite(),
        Kit::dynamodb().await,
    ]
}

#[tokio::test]
async fn a_limit_of_slots_holds_on_every_store() {
    for kit in all_kits().await {
        let locks = |wait| {
            let builder = LockClient::builder(kit.store.clone());
            builder.policy(waits(wait)).build()
        };
        let (first, second) = (slot(&locks(ms(0)), 2).await, slot(&locks(ms(0)), 2).await);
        assert!(second.token() > first.token(), "{}", kit.name);
        let refused = locks(ms(0)).slots("k", 2).expect("valid");
        match refused.try_acquire().await.expect("answered") {
            TryAcquireOutcome::Held(held) => assert_eq!(held.key(), "k"),
            TryAcquireOutcome::Acquired(_) => panic!("{}: a third of two", kit.name),
        }
        let whole = locks(ms(0)).try_acquire("k").await.expect("answered");
        assert!(whole.into_lease().is_none(), "{}: two are held", kit.name);

        // A waiter gets the slot that comes free, before the wait is over.
        let waiter = locks(ms(20_000));
        let waiting = tokio::spawn(async move { slot(&waiter, 2).await });
        tokio::time::sleep(ms(300)).await;
        let token = second.token();
        assert!(first.release().await.expect("held").is_released());
        let third = waiting.await.expect("no panic");
        assert!(third.token() > token, "{}", kit.name);
        second.renew().await.expect("held");
        third.renew().await.expect("held");
        assert!(second.release().await.expect("held").is_released());
        assert!(third.release().await.expect("held").is_released());

        // Now nobody holds a slot: the whole key is free, and another limit counts.
        let whole = locks(ms(0)).acquire("k").await.expect("free");
        let none = locks(ms(0)).slots("k", 2).expect("valid");
        let none = none.try_acquire().await.expect("answered");
        assert!(none.into_lease().is_none(), "{}", kit.name);
        assert!(whole.token() > token, "{}", kit.name);
        whole.release().await.expect("held");
        let one = slot(&locks(ms(0)), 5).await;
        let other = locks(ms(0)).slots("k", 2).expect("valid");
        let error = other.acquire().await.expect_err("another limit");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}", kit.name);
        let text = error.to_string();
        assert!(
            text.contains("5 slots") && text.contains("2 slots"),
            "{text}"
        );
        one.release().await.expect("held");
    }
}

#[tokio::test]
async fn a_crowd_never_holds_more_than_the_limit_on_any_store() {
    for kit in all_kits().await {
        let inside: Arc<AtomicU32> = Arc::default();
        let most = Arc::new(watch::Sender::new(0));
        let clients = (0..8_u64).map(|client| {
            let builder = LockClient::builder(kit.store.clone());
            let locks = builder.policy(waits(ms(60_000))).build();
            let (inside, most) = (inside.clone(), most.clone());
            tokio::spawn(async move {
                for round in 0..6 {
                    let lease = slot(&locks, 3).await;
                    let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                    most.send_modify(|most| *most = now.max(*most));
                    assert!(now <= 3, "{now} of 3");
                    // The first ones stay until all slots are in use, however slow the store is.
                    let mut all = most.subscribe();
                    let all = tokio::time::timeout(ms(30_000), all.wait_for(|most| *most == 3));
                    all.await.expect("all are in use").expect("sent");
                    tokio::time::sleep(ms(40 + (client * round) % 5)).await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    assert!(lease.release().await.expect("held").is_released());
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap_or_else(|_| panic!("{}", kit.name));
        }
    }
}

#[tokio::test]
async fn readers_share_and_a_writer_excludes_on_every_store() {
    for kit in all_kits().await {
        // 1000 for a writer, 1 for each reader.
        let inside: Arc<AtomicU32> = Arc::default();
        let clients = (0..8_u32).map(|client| {
            let builder = LockClient::builder(kit.store.clone());
            let locks = builder.policy(waits(ms(60_000))).build();
            let inside = inside.clone();
            tokio::spawn(async move {
                for _ in 0..6 {
                    let (request, weight) = match client % 4 {
                        0 => (locks.exclusive("k"), 1_000),
                        _ => (locks.shared("k"), 1),
                    };
                    let lease = request.expect("valid").acquire().await.expect("acquired");
                    let before = inside.fetch_add(weight, Ordering::SeqCst);
                    assert!(before < 1_000 && (weight == 1 || before == 0), "{before}");
                    tokio::time::sleep(ms(3)).await;
                    inside.fetch_sub(weight, Ordering::SeqCst);
                    assert!(lease.release().await.expect("held").is_released());
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap_or_else(|_| panic!("{}", kit.name));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_writer_is_not_passed_and_does_not_pass() {
    let lab = Lab::new();
    let shared =
        |name: &'static str, order: Arc<std::sync::Mutex<Vec<&'static str>>>, wants: bool| {
            let locks = lab.client(waits(ms(60_000)));
            tokio::spawn(async move {
                let request = if wants {
                    locks.exclusive("k")
                } else {
                    locks.shared("k")
                };
                let lease = request.expect("valid").acquire().await.expect("acquired");
                order.lock().expect("no panic").push(name);
                tokio::time::sleep(ms(500)).await;
                lease.release().await.expect("held");
            })
        };
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut all = Vec::new();
    for (name, wants) in [
        ("reader 1", false),
        ("writer", true),
        ("reader 2", false),
        ("reader 3", false),
    ] {
        all.push(shared(name, order.clone(), wants));
        lab.sleep(ms(100)).await;
    }
    let late = lab.client(waits(ms(0))).shared("k").expect("valid");
    let late = late.try_acquire().await.expect("answered");
    assert!(late.into_lease().is_none(), "a writer waits");
    for call in all {
        call.await.expect("no panic");
    }
    let order = order.lock().expect("no panic").clone();
    assert_eq!(order[..2], ["reader 1", "writer"]);
    assert_eq!(order.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_dead_holders_slot_comes_back_after_its_lease() {
    let lab = Lab::new();
    let locks = lab.client(waits(ms(60_000)));
    let first = slot(&locks, 2).await;
    let _second = slot(&locks, 2).await;
    // Its process stops renewing, as after a crash.
    let left = first.remaining();
    first.detach().await.expect("held");
    let before = lab.clock_now();
    let third = slot(&lab.client(waits(ms(60_000))), 2).await;
    let passed = lab.clock_now() - before;
    assert!(
        passed > left - ms(2_000) && passed < ms(23_000),
        "{passed:?}"
    );
    third.release().await.expect("held");
    // Whoever waits is told for whom.
    let _third = slot(&locks, 2).await;
    let waiter = lab.client(waits(ms(60_000)));
    let waiting = waiter.clone();
    let call = tokio::spawn(async move { slot(&waiting, 2).await });
    lab.sleep(ms(1_000)).await;
    let held = waiter.waits_for("k").expect("it waits");
    assert_eq!(held.slots(), Some((2, 2)));
    assert!(
        held.to_string().contains("2 of 2 slots of `k` are held"),
        "{held}"
    );
    call.abort();
}

#[tokio::test(start_paused = true)]
async fn the_whole_key_is_taken_from_dead_slots() {
    let lab = Lab::new();
    let locks = lab.client(waits(ms(60_000)));
    for _ in 0..3 {
        slot(&locks, 3).await.detach().await.expect("held");
    }
    let before = lab.clock_now();
    let whole = locks.acquire("k").await.expect("acquired");
    let passed = lab.clock_now() - before;
    assert!(passed > ms(18_000) && passed < ms(25_000), "{passed:?}");
    assert!(whole.release().await.expect("held").is_released());
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_renewed_lost_adopted_and_released_by_its_identity() {
    let lab = Lab::new();
    let locks = lab.client(waits(ms(0)));
    let lease = slot(&locks, 2).await;
    lab.sleep(ms(60_000)).await;
    assert!(lease.is_held(), "renewed");
    let other = slot(&locks, 2).await;
    let id = lease.detach().await.expect("held").to_string();
    let id = id.parse().expect("an id");
    let other_client = lab.bystander();
    let adopted = other_client.adopt(&id).await.expect("there");
    assert!(adopted.token() > other.token());
    assert!(!locks.release(&id).await.expect("answered").is_released());
    let id = adopted.detach().await.expect("held");
    match other_client.renew(&id, None).await.expect("answered") {
        leasehold::RenewOutcome::Renewed(held) => assert_eq!(held.token(), Some(id.token())),
        ended => panic!("{ended:?}"),
    }
    let error = other_client.renew(&id, Some(ms(90_000))).await;
    assert_eq!(error.expect_err("longer").kind(), ErrorKind::InvalidInput);
    assert!(
        other_client
            .release(&id)
            .await
            .expect("answered")
            .is_released()
    );
    assert!(other.release().await.expect("held").is_released());

    // A renewal that finds its slot gone ends the lease.
    let lease = slot(&locks, 2).await;
    assert!(
        locks
            .release(lease.id())
            .await
            .expect("answered")
            .is_released()
    );
    let error = lease.renew().await.expect_err("gone");
    assert_eq!(error.kind(), ErrorKind::Lost);
}

#[tokio::test(start_paused = true)]
async fn a_slot_costs_one_read_and_two_writes() {
    let lab = Lab::new();
    let locks = lab.client(waits(ms(0)));
    slot(&locks, 14).await.release().await.expect("held");
    let before = lab.counted.counts();
    slot(&locks, 14).await.release().await.expect("held");
    let after = lab.counted.counts();
    let of = |operation| after.of(operation) - before.of(operation);
    let requests = [Operation::Read, Operation::Acquire, Operation::Release].map(of);
    assert_eq!(requests, [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn what_a_slot_cannot_have_is_refused_before_a_request() {
    let lab = Lab::new();
    let locks = lab.client(waits(ms(0)));
    for limit in [0, 1_001] {
        let error = locks.slots("k", limit).expect_err("no such limit");
        assert_eq!(
            (error.kind(), error.key()),
            (ErrorKind::InvalidInput, Some("k"))
        );
    }
    let with_data = locks.slots("k", 3).expect("valid").data("payload");
    let long = locks
        .slots("k", 3)
        .expect("valid")
        .lease_duration(ms(13 * 3_600_000));
    for request in [with_data, long] {
        let error = request.acquire().await.expect_err("refused");
        assert_eq!(
            (error.kind(), error.key()),
            (ErrorKind::InvalidInput, Some("k"))
        );
    }
    assert_eq!(lab.counted.counts().requests(), 0);
}

#[tokio::test]
async fn fourteen_holders_cost_two_write_units_each_on_dynamodb() {
    let kit = Kit::dynamodb().await;
    let policy = Policy::builder().label("a label of twenty bytes or more");
    let policy = policy.build().expect("adds up");
    let builder = LockClient::builder(kit.store.clone()).policy(policy);
    let locks = builder.build();
    let mut held = Vec::new();
    for _ in 0..14 {
        let slot = locks.slots("nightly-export", 14).expect("valid");
        held.push(slot.acquire().await.expect("free"));
    }
    for lease in held {
        assert!(lease.release().await.expect("held").is_released());
    }
    let usage = locks.usage();
    assert!((usage.write_units - 28.0).abs() < f64::EPSILON, "{usage:?}");
}
