//! S3: a resource that enforces the token never accepts an older grant after a newer one.
//!
//! Pain 1: a paused holder writes on after its lease ended.

mod support;

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, TransactWriteItem, Update};
use leasehold::store::dynamodb::{DynamoDbStore, TokenColumn};
use leasehold::{DropPolicy, ErrorKind, Lease, LockClient, Policy};

struct Bench {
    store: DynamoDbStore,
    locks: LockClient,
    aws: Client,
}

impl Bench {
    async fn new() -> Bench {
        let store = support::dynamodb().await;
        let policy = Policy::builder()
            .lease(Duration::from_millis(500))
            .margin(Duration::from_millis(50))
            .manual_renewal(true)
            .drop_policy(DropPolicy::LeaveToExpire)
            .build()
            .expect("adds up");
        Bench {
            locks: LockClient::builder(store.clone()).policy(policy).build(),
            aws: support::client(&support::endpoint()),
            store,
        }
    }

    /// An old holder, paused past its lease, and the new one.
    async fn old_and_new(&self) -> (Lease, Lease) {
        let old = self.locks.acquire("k").await.expect("free");
        let new = self.locks.acquire("k").await.expect("the old one is over");
        assert!(!old.is_held());
        (old, new)
    }

    /// Writes the protected item with a token column.
    async fn write_with_column(&self, lease: &Lease, text: &str) -> bool {
        let fence = TokenColumn::new("FT", lease.token());
        let mut request = self
            .aws
            .update_item()
            .table_name(self.store.table())
            .key("LockKey", AttributeValue::S("protected".into()))
            .update_expression(format!("SET #text = :text, {}", fence.assignment()))
            .condition_expression(fence.condition())
            .expression_attribute_names("#text", "Text")
            .expression_attribute_values(":text", AttributeValue::S(text.into()));
        for (name, column) in fence.names() {
            request = request.expression_attribute_names(name, column);
        }
        for (name, value) in fence.values() {
            request = request.expression_attribute_values(name, value);
        }
        match request.send().await {
            Ok(_) => true,
            Err(error) => {
                let error = error.into_service_error();
                assert!(error.is_conditional_check_failed_exception(), "{error:?}");
                false
            }
        }
    }

    /// Raises the token column and reads, in one request.
    async fn raise_and_read(&self, lease: &Lease) -> Option<String> {
        let fence = TokenColumn::new("FT", lease.token());
        let answer = self
            .aws
            .update_item()
            .table_name(self.store.table())
            .key("LockKey", AttributeValue::S("protected".into()))
            .update_expression(format!("SET {}", fence.assignment()))
            .condition_expression(fence.condition())
            .set_expression_attribute_names(Some(fence.names()))
            .set_expression_attribute_values(Some(fence.values()))
            .return_values(ReturnValue::AllNew)
            .send()
            .await
            .expect("the newest token");
        answer.attributes?.get("Text")?.as_s().ok().cloned()
    }

    /// Writes the protected item in a transaction with a check on the lock.
    async fn write_with_check(&self, lease: &Lease, text: &str) -> bool {
        let update = Update::builder()
            .table_name(self.store.table())
            .key("LockKey", AttributeValue::S("protected".into()))
            .update_expression("SET #text = :text")
            .expression_attribute_names("#text", "Text")
            .expression_attribute_values(":text", AttributeValue::S(text.into()))
            .build()
            .expect("complete");
        let sent = self
            .aws
            .transact_write_items()
            .transact_items(self.store.fence(lease.id()).expect("fenceable"))
            .transact_items(TransactWriteItem::builder().update(update).build())
            .send()
            .await;
        match sent {
            Ok(_) => true,
            Err(error) => {
                let error = error.into_service_error();
                assert!(error.is_transaction_canceled_exception(), "{error:?}");
                false
            }
        }
    }

    async fn text(&self) -> Option<String> {
        let item = self
            .aws
            .get_item()
            .table_name(self.store.table())
            .key("LockKey", AttributeValue::S("protected".into()))
            .consistent_read(true)
            .send()
            .await
            .expect("read")
            .item?;
        item.get("Text")?.as_s().ok().cloned()
    }
}

#[tokio::test]
async fn a_token_column_refuses_the_old_holder_once_the_new_one_has_written() {
    let bench = Bench::new().await;
    let (old, new) = bench.old_and_new().await;
    assert!(bench.write_with_column(&new, "new").await);
    assert!(!bench.write_with_column(&old, "old").await);
    assert!(bench.write_with_column(&new, "new again").await);
    assert_eq!(bench.text().await.as_deref(), Some("new again"));
}

/// A read-modify-write under a token column raises the column before it reads, or with its read: what
/// an old holder writes after a plain read is accepted, and then overwritten.
#[tokio::test]
async fn a_token_column_protects_what_was_read_only_once_it_is_raised() {
    let bench = Bench::new().await;
    let (old, new) = bench.old_and_new().await;
    assert_eq!(bench.text().await, None, "the new holder reads");
    assert!(bench.write_with_column(&old, "old").await, "acknowledged");
    assert!(bench.write_with_column(&new, "new").await, "and lost");

    let bench = Bench::new().await;
    let (old, new) = bench.old_and_new().await;
    assert_eq!(bench.raise_and_read(&new).await, None);
    assert!(!bench.write_with_column(&old, "old").await);
    assert!(bench.write_with_column(&new, "new").await);
    assert_eq!(bench.text().await.as_deref(), Some("new"));
}

#[tokio::test]
async fn a_condition_check_refuses_the_old_holder_at_once() {
    let bench = Bench::new().await;
    let (old, new) = bench.old_and_new().await;
    // The new holder has not written yet.
    assert!(!bench.write_with_check(&old, "old").await);
    assert_eq!(bench.text().await, None);
    assert!(bench.write_with_check(&new, "new").await);
    // Expired, but not taken over: still the newest grant.
    assert!(bench.write_with_check(&new, "new again").await);
    assert!(new.release().await.expect("works").is_released());
}

#[tokio::test]
async fn a_released_lease_is_refused() {
    let bench = Bench::new().await;
    let lease = bench.locks.acquire("k").await.expect("free");
    let id = lease.id().clone();
    assert!(lease.release().await.expect("works").is_released());
    let check = bench.store.fence(&id).expect("fenceable");
    let refused = bench.aws.transact_write_items().transact_items(check);
    let error = refused.send().await.expect_err("released");
    assert!(
        error
            .into_service_error()
            .is_transaction_canceled_exception()
    );
}

#[tokio::test]
async fn best_effort_tokens_are_not_fenced() {
    let bench = Bench::new().await;
    let policy = Policy::builder()
        .shared_with_fsharp(true)
        .build()
        .expect("adds up");
    let lease = bench
        .locks
        .lock("k")
        .expect("valid")
        .policy(policy)
        .acquire()
        .await
        .expect("free");
    let error = bench.store.fence(lease.id()).expect_err("best effort");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(lease.release().await.expect("works").is_released());
}
