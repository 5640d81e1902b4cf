//! S3: a resource that enforces the token never accepts an older grant after a newer one.
//!
//! A paused holder writes on after its lease ended.

use crate::support;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::error::ConditionalCheckFailedException;
use aws_sdk_dynamodb::types::{
    AttributeValue, Delete, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
    Update,
};
use leasehold::store::dynamodb::{DynamoDbStore, TokenColumn, is_fenced};
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
            .lease_duration(Duration::from_millis(500))
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
            .expression_attribute_values(":text", AttributeValue::S(text.into()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        for (name, column) in fence.names() {
            request = request.expression_attribute_names(name, column);
        }
        for (name, value) in fence.values() {
            request = request.expression_attribute_values(name, value);
        }
        match request.send().await {
            Ok(_) => true,
            Err(error) => {
                assert!(fence.is_fenced(&error), "{error:?}");
                assert!(!is_fenced(&error), "not in a transaction");
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
                assert!(is_fenced(&error), "{error:?}");
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
    assert!(is_fenced(&error), "{error:?}");
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
        .request("k")
        .expect("valid")
        .policy(policy)
        .acquire()
        .await
        .expect("free");
    let error = bench.store.fence(lease.id()).expect_err("best effort");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(lease.release().await.expect("works").is_released());
}

/// A write of the caller's own, which holds only where the item has `Text = text`.
fn own_write(bench: &Bench, text: &str, show: bool) -> TransactWriteItem {
    let mut delete = Delete::builder()
        .table_name(bench.store.table())
        .key("LockKey", AttributeValue::S("protected".into()))
        .condition_expression("#text = :text")
        .expression_attribute_names("#text", "Text")
        .expression_attribute_values(":text", AttributeValue::S(text.into()));
    if show {
        delete = delete
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    }
    TransactWriteItem::builder()
        .delete(delete.build().expect("complete"))
        .build()
}

#[tokio::test]
async fn f9_a_fence_is_told_from_the_callers_own_conditions() {
    let bench = Bench::new().await;
    let (old, new) = bench.old_and_new().await;
    assert!(bench.write_with_column(&new, "new").await);
    let send = |items: Vec<TransactWriteItem>| {
        let sent = bench.aws.transact_write_items();
        sent.set_transact_items(Some(items)).send()
    };
    let fence = |lease: &Lease| bench.store.fence(lease.id()).expect("fenceable");
    for show in [false, true] {
        // The lease is the newest, and the caller's own condition fails, in either order.
        let own = || own_write(&bench, "other", show);
        let error = send(vec![fence(&new), own()]).await.expect_err("own");
        assert!(!is_fenced(&error), "{error:?}");
        if show {
            let error = send(vec![own(), fence(&new)]).await.expect_err("own");
            assert!(!is_fenced(&error), "{error:?}");
        }
        // The lease is over, and the caller's own condition holds, or does not.
        for text in ["new", "other"] {
            let own = || own_write(&bench, text, show);
            for items in [vec![fence(&old), own()], vec![own(), fence(&old)]] {
                let error = send(items).await.expect_err("over");
                assert!(is_fenced(&error), "{error:?}");
                // However it is wrapped.
                let boxed: Box<dyn std::error::Error> = error.into();
                assert!(is_fenced(boxed.as_ref()));
                let anyhow = anyhow::anyhow!("{boxed}");
                assert!(!is_fenced(anyhow.as_ref()), "its text alone says nothing");
            }
        }
    }
    let error = send(vec![fence(&old)]).await.expect_err("over");
    let of_the_sdk = aws_sdk_dynamodb::Error::from(error);
    assert!(is_fenced(&of_the_sdk), "{of_the_sdk:?}");
    let anyhow = anyhow::Error::from(of_the_sdk).context("while importing");
    assert!(is_fenced(anyhow.as_ref()));
}

#[tokio::test]
async fn f9_a_fence_is_known_by_its_place_where_the_record_is_gone() {
    let bench = Bench::new().await;
    let lease = bench.locks.acquire("k").await.expect("free");
    let fence = bench.store.fence(lease.id()).expect("fenceable");
    let deleted = bench.aws.delete_item().table_name(bench.store.table());
    let deleted = deleted.key("LockKey", AttributeValue::S("k".into()));
    deleted.send().await.expect("deleted by hand");
    let sent = bench.aws.transact_write_items().transact_items(fence);
    let error = sent.send().await.expect_err("nothing to fence by");
    assert!(is_fenced(&error), "{error:?}");
}

#[tokio::test]
async fn f9_a_token_column_is_told_from_the_rest_of_a_condition() {
    let bench = Bench::new().await;
    let (old, new) = bench.old_and_new().await;
    assert!(bench.write_with_column(&new, "new").await);
    let write = |lease: &Lease, text: &'static str, show: bool| {
        let fence = TokenColumn::new("FT", lease.token());
        let request = bench
            .aws
            .delete_item()
            .table_name(bench.store.table())
            .key("LockKey", AttributeValue::S("protected".into()))
            .condition_expression(format!("#text = :text AND {}", fence.condition()))
            .set_expression_attribute_names(Some(fence.names()))
            .set_expression_attribute_values(Some(fence.values()))
            .expression_attribute_names("#text", "Text")
            .expression_attribute_values(":text", AttributeValue::S(text.into()))
            .set_return_values_on_condition_check_failure(
                show.then_some(ReturnValuesOnConditionCheckFailure::AllOld),
            );
        async move {
            let error = request.send().await.expect_err("refused");
            fence.is_fenced(&error)
        }
    };
    assert!(!write(&new, "other", true).await, "the rest of it");
    assert!(write(&old, "new", true).await, "the token");
    assert!(write(&old, "other", true).await, "both");
    assert!(write(&new, "other", false).await, "not known: stop");
}

#[tokio::test]
async fn a_fence_asks_for_attempt_and_token() {
    // One attempt may have had two grants: a request that was applied twice, around a release.
    let bench = Bench::new().await;
    let lease = bench.locks.acquire("k").await.expect("free");
    let update = bench
        .aws
        .update_item()
        .table_name(bench.store.table())
        .key("LockKey", AttributeValue::S("k".into()))
        .update_expression("SET FencingToken = FencingToken + :one")
        .expression_attribute_values(":one", AttributeValue::N("1".into()));
    update.send().await.expect("works");
    let fence = bench.store.fence(lease.id()).expect("not handed on");
    let sent = bench
        .aws
        .transact_write_items()
        .transact_items(fence)
        .send();
    let error = sent.await.expect_err("another grant");
    assert!(is_fenced(&error), "{error:?}");
}

#[test]
fn a_failed_condition_is_judged_by_the_column_that_it_shows() {
    let fence = TokenColumn::new("FT", 5.into());
    let number = |n: &str| AttributeValue::N(n.to_owned());
    let columns = [
        (None, false),
        (Some(number("4")), false),
        (Some(number("5")), false),
        (Some(number("6")), true),
        (Some(number("0.5")), true),
        (Some(AttributeValue::S("4".to_owned())), true),
    ];
    for (column, fenced) in columns {
        let mut refused = ConditionalCheckFailedException::builder().item("Id", number("1"));
        if let Some(column) = &column {
            refused = refused.item("FT", column.clone());
        }
        // The SDK has two shapes for one refusal.
        let refused = refused.build();
        let of_the_sdk = aws_sdk_dynamodb::Error::ConditionalCheckFailedException(refused.clone());
        assert_eq!(fence.is_fenced(&refused), fenced, "{column:?}");
        assert_eq!(fence.is_fenced(&of_the_sdk), fenced, "{column:?}");
    }
    let bare = ConditionalCheckFailedException::builder().build();
    assert!(fence.is_fenced(&bare), "not known: stop");
}
