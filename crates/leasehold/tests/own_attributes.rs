//! Attributes that others put on a lock's item survive what the lock does.

use crate::support;
use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ConditionCheck};

use leasehold::clock::{Clock, SystemClock};
use leasehold::store::dynamodb::{DynamoDbStore, TableShape};
use leasehold::{DropPolicy, Lease, LockClient, Policy};

const KEY: &str = "customer/42";

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A client whose leases end soon, and are left to expire when they are dropped.
fn client(store: &DynamoDbStore) -> LockClient {
    let policy = Policy::builder()
        .lease_duration(ms(2_000))
        .margin(ms(400))
        .drop_policy(DropPolicy::LeaveToExpire)
        .build()
        .expect("adds up");
    LockClient::builder(store.clone()).policy(policy).build()
}

async fn item(store: &DynamoDbStore) -> HashMap<String, AttributeValue> {
    let aws = support::client(&support::endpoint());
    let key = store.item_key(KEY).expect("of the right form");
    let get = aws.get_item().table_name(store.table()).set_key(Some(key));
    let got = get.consistent_read(true).send().await.expect("read");
    got.item.expect("the record")
}

/// Waits until the item has changed as wanted, and returns it.
async fn until(
    store: &DynamoDbStore,
    what: &str,
    wanted: impl Fn(&HashMap<String, AttributeValue>) -> bool,
) -> HashMap<String, AttributeValue> {
    for _ in 0..400 {
        let item = item(store).await;
        if wanted(&item) {
            return item;
        }
        let soon = SystemClock.elapsed().plus(ms(25));
        SystemClock.sleep_until(soon).await;
    }
    panic!("waited too long for: {what}");
}

/// Sets `Progress` on the lock's item as the documentation of the store says; whether that was accepted.
async fn set_progress(check: &ConditionCheck, progress: u32) -> bool {
    let sent = support::client(&support::endpoint())
        .update_item()
        .table_name(check.table_name())
        .set_key(Some(check.key().clone()))
        .update_expression("SET Progress = :progress")
        .condition_expression(check.condition_expression())
        .set_expression_attribute_names(check.expression_attribute_names().cloned())
        .set_expression_attribute_values(check.expression_attribute_values().cloned())
        .expression_attribute_values(":progress", AttributeValue::N(progress.to_string()))
        .send()
        .await;
    match sent {
        Ok(_) => true,
        Err(error) => {
            let refused = error.as_service_error();
            assert!(refused.is_some_and(UpdateItemError::is_conditional_check_failed_exception));
            false
        }
    }
}

fn has_progress(item: &HashMap<String, AttributeValue>, progress: u32) {
    let found = item.get("Progress");
    assert_eq!(
        found,
        Some(&AttributeValue::N(progress.to_string())),
        "{item:?}"
    );
}

async fn wait_for(client: &LockClient) -> Lease {
    let request = client.request(KEY).expect("valid").wait(ms(20_000));
    request.acquire().await.expect("granted")
}

#[tokio::test]
async fn they_survive_every_write_of_the_lock() {
    for shape in [TableShape::default(), support::shared_shape()] {
        let store = support::dynamodb_shaped(shape).await;
        let check = |lease: &Lease| store.condition_check(lease.id()).expect("held");
        let (a, b, c) = (client(&store), client(&store), client(&store));
        let first = a.acquire(KEY).await.expect("free");
        assert!(set_progress(&check(&first), 1).await);

        let count = item(&store).await["RenewCount"].clone();
        let renewed = until(&store, "a renewal", |item| item["RenewCount"] != count).await;
        has_progress(&renewed, 1);

        let (second, ()) = tokio::join!(wait_for(&b), async {
            let joined = until(&store, "a place", |item| item.contains_key("Queue")).await;
            has_progress(&joined, 1);
            // With a place in the queue it is a hand-over.
            first.release().await.expect("works");
        });
        has_progress(&item(&store).await, 1);
        assert!(set_progress(&check(&second), 2).await);

        let dead = second.token();
        drop(second);
        let third = wait_for(&c).await;
        assert!(third.token() > dead);
        has_progress(&item(&store).await, 2);
        assert!(set_progress(&check(&third), 3).await);

        third.release().await.expect("works");
        let released = item(&store).await;
        assert!(!released.contains_key("ClientId"), "{released:?}");
        has_progress(&released, 3);

        let fourth = a.acquire(KEY).await.expect("free");
        has_progress(&item(&store).await, 3);
        fourth.release().await.expect("works");
    }
}

#[tokio::test]
async fn they_are_not_written_without_the_lock() {
    let store = support::dynamodb().await;
    let locks = client(&store);
    let lease = locks.acquire(KEY).await.expect("free");
    let check = store.condition_check(lease.id()).expect("held");
    assert!(set_progress(&check, 1).await);
    lease.release().await.expect("works");
    assert!(!set_progress(&check, 2).await, "released");
    let next = locks.acquire(KEY).await.expect("free");
    assert!(!set_progress(&check, 3).await, "of another grant");
    has_progress(&item(&store).await, 1);
    next.release().await.expect("works");
}
