//! Mixed fleets: FSharp.DynamoDbLock and ours on one table at the same time.
//!
//! The F# side is its exact two requests, written here with the SDK.

use crate::support;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType,
};
use leasehold::clock::{Clock, SystemClock};
use leasehold::store::dynamodb::DynamoDbStore;
use leasehold::{
    DropPolicy, EndReason, ErrorKind, LockClient, Policy, ReleaseOutcome, TryAcquireOutcome,
};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// What the F# library does, request by request.
struct FSharp {
    client: Client,
    table: String,
}

impl FSharp {
    #[expect(
        clippy::disallowed_methods,
        reason = "the F# library reads the wall clock"
    )]
    fn now_ms() -> u128 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970")
            .as_millis()
    }

    async fn try_acquire(&self, key: &str, id: &str, expiry: Duration) -> bool {
        let now = Self::now_ms();
        let expires = now + expiry.as_millis();
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("LockKey", AttributeValue::S(key.into()))
            .item("ClientId", AttributeValue::S(id.into()))
            .item(
                "ExpireInUnixSeconds",
                AttributeValue::N((expires / 1_000).to_string()),
            )
            .item("ExpireInUnixMs", AttributeValue::N(expires.to_string()))
            .condition_expression("attribute_not_exists(#lockKey) or :now > #expireInUnixMs")
            .expression_attribute_names("#lockKey", "LockKey")
            .expression_attribute_names("#expireInUnixMs", "ExpireInUnixMs")
            .expression_attribute_values(":now", AttributeValue::N(now.to_string()))
            .send()
            .await;
        match put {
            Ok(_) => true,
            Err(e) => {
                let e = e.into_service_error();
                assert!(e.is_conditional_check_failed_exception(), "{e:?}");
                false
            }
        }
    }

    async fn release(&self, key: &str, id: &str) -> bool {
        let delete = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key("LockKey", AttributeValue::S(key.into()))
            .condition_expression("attribute_exists(#lockKey) and :clientId = #clientId")
            .expression_attribute_names("#lockKey", "LockKey")
            .expression_attribute_names("#clientId", "ClientId")
            .expression_attribute_values(":clientId", AttributeValue::S(id.into()))
            .send()
            .await;
        match delete {
            Ok(_) => true,
            Err(e) => {
                let e = e.into_service_error();
                assert!(e.is_conditional_check_failed_exception(), "{e:?}");
                false
            }
        }
    }
}

/// A table without TTL: the F# library rounds its TTL down and keeps nothing back, so DynamoDB Local,
/// which deletes within a second, may delete its record up to a second before its own expiry. (The
/// service itself takes minutes at least.)
async fn table() -> (DynamoDbStore, FSharp) {
    let client = support::client(&support::endpoint());
    let store = DynamoDbStore::new(client.clone(), support::unique("fsharp"));
    let key = AttributeDefinition::builder()
        .attribute_name("LockKey")
        .attribute_type(ScalarAttributeType::S);
    let hash = KeySchemaElement::builder()
        .attribute_name("LockKey")
        .key_type(KeyType::Hash);
    client
        .create_table()
        .table_name(store.table())
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(key.build().expect("complete"))
        .key_schema(hash.build().expect("complete"))
        .send()
        .await
        .expect("create the table");
    let table = store.table().to_owned();
    (store, FSharp { client, table })
}

fn mixed() -> Policy {
    Policy::builder()
        .lease_duration(ms(3_000))
        .margin(ms(500))
        .shared_with_fsharp(true)
        .build()
        .expect("adds up")
}

async fn sleep(by: Duration) {
    SystemClock
        .sleep_until(SystemClock.elapsed().plus(by))
        .await;
}

#[tokio::test]
async fn each_refuses_while_the_other_holds_and_follows_a_release() {
    let (store, fsharp) = table().await;
    let ours = LockClient::builder(store).policy(mixed()).build();

    let lease = ours.acquire("k").await.expect("free");
    assert!(lease.token().is_best_effort());
    assert!(!fsharp.try_acquire("k", "f1", ms(5_000)).await);
    assert!(!fsharp.release("k", "f1").await, "not its lock");
    assert!(lease.release().await.expect("works").is_released());

    // Our released record is free for it, and its deleted one for us.
    assert!(fsharp.try_acquire("k", "f1", ms(60_000)).await);
    let TryAcquireOutcome::Held(held) = ours.try_acquire("k").await.expect("works") else {
        panic!("F# holds it");
    };
    assert_eq!(held.label(), "f1");
    assert_eq!((held.since(), held.token()), (None, None));
    assert!(fsharp.release("k", "f1").await);
    let lease = ours.acquire("k").await.expect("free");
    assert!(lease.release().await.expect("works").is_released());
}

#[tokio::test]
async fn a_dead_fsharp_holder_is_taken_over_after_its_expiry_and_the_pad() {
    let (store, fsharp) = table().await;
    let ours = LockClient::builder(store).policy(mixed()).build();
    // Before its request: its expiry counts from there.
    let start = SystemClock.elapsed();
    assert!(fsharp.try_acquire("k", "f1", ms(1_000)).await);
    let lease = ours.acquire("k").await.expect("the holder is dead");
    // Its own expiry, and the expiry padding of 1 s on top.
    assert!(SystemClock.elapsed().since(start) >= ms(1_900));
    assert!(lease.token().is_best_effort());
    assert!(!fsharp.release("k", "f1").await, "it is ours now");
    assert!(lease.release().await.expect("works").is_released());
}

#[tokio::test]
async fn a_dead_holder_of_ours_is_taken_over_by_fsharp_and_we_know() {
    let (store, fsharp) = table().await;
    let policy = mixed()
        .to_builder()
        .manual_renewal(true)
        .drop_policy(DropPolicy::LeaveToExpire)
        .build()
        .expect("adds up");
    let ours = LockClient::builder(store).policy(policy).build();
    // Before the request: the lease counts from there.
    let start = SystemClock.elapsed();
    let lease = ours.acquire("k").await.expect("free");
    while !fsharp.try_acquire("k", "f1", ms(60_000)).await {
        assert!(SystemClock.elapsed().since(start) < ms(20_000));
        sleep(ms(20)).await;
    }
    // S1: the lease and the expiry padding had passed, and we had stopped believing.
    assert!(SystemClock.elapsed().since(start) >= ms(3_900));
    assert!(!lease.is_held());
    assert!(matches!(lease.lost().await, EndReason::Expired { .. }));
    let outcome = lease.release().await.expect("works");
    assert!(matches!(outcome, ReleaseOutcome::TakenOver(_)), "{outcome}");
    // Untouched: the F# client can still release its lock.
    assert!(fsharp.release("k", "f1").await);
}

#[tokio::test]
async fn never_both_inside_and_nobody_stuck() {
    let (store, fsharp) = table().await;
    let inside = Arc::new(AtomicU32::new(0));
    let enter = |inside: &AtomicU32| {
        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two inside");
    };
    let deadline = SystemClock.elapsed().plus(ms(30_000));
    let theirs = async {
        let mut won = 0;
        while won < 15 {
            assert!(SystemClock.elapsed() < deadline, "F# is stuck at {won}");
            let id = format!("f{won}");
            if fsharp.try_acquire("k", &id, ms(5_000)).await {
                enter(&inside);
                sleep(ms(15)).await;
                inside.fetch_sub(1, Ordering::SeqCst);
                assert!(fsharp.release("k", &id).await);
                won += 1;
            }
            sleep(ms(20)).await;
        }
    };
    let ours = |n: u32| {
        let locks = LockClient::builder(store.clone()).policy(mixed()).build();
        let inside = inside.clone();
        async move {
            for i in 0..10 {
                let lease = locks.acquire("k").await.unwrap_or_else(|e| {
                    assert_eq!(e.kind(), ErrorKind::WaitExpired);
                    panic!("client {n} is stuck at {i}: {e}")
                });
                enter(&inside);
                sleep(ms(15)).await;
                inside.fetch_sub(1, Ordering::SeqCst);
                assert!(lease.release().await.expect("works").is_released());
            }
        }
    };
    tokio::join!(theirs, ours(1), ours(2), ours(3));
}
