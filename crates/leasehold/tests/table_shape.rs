//! Locks in a table with other keys, which other items share.

use crate::support;
use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;

use crate::support::{dynamodb_shaped, shared_shape};
use leasehold::store::dynamodb::{DynamoDbStore, TableError, TableShape, is_fenced};
use leasehold::{ErrorKind, LockClient};

type Item = HashMap<String, AttributeValue>;

fn split_shape() -> TableShape {
    shared_shape().sort_key_after("SK", '/')
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn aws() -> Client {
    support::client(&support::endpoint())
}

async fn item(store: &DynamoDbStore, partition: &str, sort: &str) -> Option<Item> {
    let get = aws().get_item().table_name(store.table());
    let get = get.key("PK", text(partition)).key("SK", text(sort));
    get.consistent_read(true).send().await.expect("read").item
}

#[tokio::test]
async fn a_lock_is_the_item_that_the_shape_names() {
    for (shape, partition, sort) in [
        (shared_shape(), "LOCK#customer/42", "LOCK"),
        (split_shape(), "LOCK#customer", "42"),
    ] {
        let store = dynamodb_shaped(shape).await;
        let locks = LockClient::new(store.clone());
        let lease = locks.acquire("customer/42").await.expect("free");
        let item = item(&store, partition, sort).await.expect("the record");
        assert_eq!(item["ClientId"], text(&lease.id().attempt().to_string()));
        assert!(item.contains_key("ttl"), "{item:?}");
        assert!(!item.contains_key("LockKey") && !item.contains_key("ExpireInUnixSeconds"));
        lease.release().await.expect("works");
    }
}

#[tokio::test]
async fn a_key_that_cannot_be_split_is_refused_by_every_call() {
    let locks = LockClient::new(dynamodb_shaped(split_shape()).await);
    let other = LockClient::new(support::dynamodb().await);
    let id = other.acquire("customer").await.expect("free").id().clone();
    for refused in [
        locks.acquire("customer").await.map(drop),
        locks.inspect("customer").await.map(drop),
        locks.release(&id).await.map(drop),
    ] {
        let error = refused.expect_err("no separator");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        for part in ["`customer`", "`/`", "`SK`", "`sort_key_after`"] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}

#[tokio::test]
async fn a_table_of_another_shape_is_told_with_its_keys() {
    let store = dynamodb_shaped(shared_shape()).await;
    store.check_table().await.expect("of this shape");
    let of_another = |shape| {
        let store = DynamoDbStore::new(aws(), store.table());
        store.with_shape(shape).expect("valid")
    };
    for shape in [TableShape::default(), shared_shape().partition_key("Pk")] {
        let refused = of_another(shape).check_table().await.expect_err("keys");
        let TableError::KeySchema { names, found, .. } = &refused else {
            panic!("{refused}");
        };
        assert_eq!(names, &["PK", "SK"]);
        assert_eq!(found, "`PK` (S, HASH), `SK` (S, RANGE)");
    }
    let other_ttl = of_another(shared_shape().ttl("expires"));
    let refused = other_ttl.check_table().await.expect_err("another TTL");
    assert!(
        matches!(&refused, TableError::Ttl { found, expected, .. } if found == "ttl" && expected == "expires"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_transaction_is_fenced_by_the_item_of_the_shape() {
    use aws_sdk_dynamodb::types::{Put, TransactWriteItem};
    let store = dynamodb_shaped(split_shape()).await;
    let locks = LockClient::new(store.clone());
    let lease = locks.acquire("customer/42").await.expect("free");
    let check = store.fence(lease.id()).expect("a check");
    let write = async || {
        let put = Put::builder().table_name(store.table());
        let put = put.item("PK", text("CUSTOMER#42")).item("SK", text("row"));
        let put = TransactWriteItem::builder().put(put.build().expect("complete"));
        let transaction = aws().transact_write_items().transact_items(check.clone());
        transaction.transact_items(put.build()).send().await
    };
    write().await.expect("held");
    lease.release().await.expect("works");
    assert!(is_fenced(&write().await.expect_err("released")));
}

/// Puts an item as another program of the table does.
async fn put(store: &DynamoDbStore, partition: &str, sort: &str, more: &[(&str, AttributeValue)]) {
    let put = aws().put_item().table_name(store.table());
    let put = put.item("PK", text(partition)).item("SK", text(sort));
    let put = more
        .iter()
        .fold(put, |put, (name, value)| put.item(*name, value.clone()));
    put.send().await.expect("put");
}

async fn listed(locks: &LockClient, prefix: &str) -> Vec<String> {
    let entries = locks.list().prefix(prefix).read_all().await;
    let mut keys: Vec<_> = entries
        .expect("listed")
        .into_iter()
        .map(|entry| entry.expect("no foreign item").key().to_owned())
        .collect();
    keys.sort();
    keys
}

#[tokio::test]
async fn a_listing_has_no_items_of_others() {
    let expiry = ("ExpireInUnixMs", AttributeValue::N("1".to_owned()));
    // Each is foreign in one way only.
    let foreign = [
        (shared_shape(), "CUSTOMER#1", "LOCK", Some(&expiry)),
        (shared_shape(), "LOCK#1", "PROFILE", Some(&expiry)),
        (shared_shape(), "LOCK#1", "LOCK", None),
        (split_shape(), "CUSTOMER#1", "42", Some(&expiry)),
        (split_shape(), "LOCK#customer", "43", None),
        (split_shape(), "LOCK#customer/4", "2", Some(&expiry)),
    ];
    for (shape, partition, sort, more) in foreign {
        let store = dynamodb_shaped(shape).await;
        let locks = LockClient::new(store.clone());
        for key in ["customer/41", "customer/42", "customers/42", "order/42"] {
            drop(locks.acquire(key).await.expect("free").release().await);
        }
        let more: Vec<_> = more.into_iter().cloned().collect();
        put(&store, partition, sort, &more).await;
        for (prefix, keys) in [
            (
                "",
                &["customer/41", "customer/42", "customers/42", "order/42"][..],
            ),
            ("customer", &["customer/41", "customer/42", "customers/42"]),
            ("customer/", &["customer/41", "customer/42"]),
            ("customer/42", &["customer/42"]),
            ("customer/42/", &[]),
            ("/", &[]),
        ] {
            let found = listed(&locks, prefix).await;
            assert_eq!(found, keys, "{prefix} {partition} {sort}");
        }
    }
}

/// An item where a lock's record is, with an expiry that no lock has: the lock cannot be acquired.
#[tokio::test]
async fn a_lock_record_that_is_unclear_is_still_listed() {
    let store = dynamodb_shaped(shared_shape()).await;
    put(
        &store,
        "LOCK#k",
        "LOCK",
        &[("ExpireInUnixMs", text("soon"))],
    )
    .await;
    let locks = LockClient::new(store);
    let entries = locks.list().read_all().await.expect("listed");
    assert_eq!(entries.len(), 1);
    let error = entries[0].as_ref().expect_err("malformed");
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert_eq!(error.key(), Some("k"));
}

/// More than the megabyte of one page, in one partition and in many.
#[tokio::test]
async fn a_listing_goes_on_from_page_to_page() {
    for shape in [shared_shape(), split_shape()] {
        let store = dynamodb_shaped(shape).await;
        let locks = LockClient::new(store.clone());
        let keys: Vec<_> = (0..5).map(|n| format!("customer/{n}")).collect();
        for (n, key) in keys.iter().enumerate() {
            drop(locks.acquire(key).await.expect("free").release().await);
            let item = store.item_key(key).expect("of the right form");
            let large = aws().update_item().table_name(store.table());
            large
                .set_key(Some(item))
                .update_expression("SET Filler = :l")
                .expression_attribute_values(":l", text(&"x".repeat(300_000)))
                .send()
                .await
                .expect("updated");
            let foreign = [("Filler", text(&"x".repeat(300_000)))];
            put(&store, &format!("OTHER#{n}"), "row", &foreign).await;
        }
        for prefix in ["", "customer/"] {
            let mut lister = locks.list().prefix(prefix);
            let (mut found, mut pages) = (Vec::new(), 0);
            while let Some(page) = lister.next_page().await.expect("listed") {
                pages += 1;
                found.extend(page.into_iter().map(|e| e.expect("clear").key().to_owned()));
            }
            found.sort();
            assert_eq!(found, keys);
            assert!(pages > 1, "{pages} pages: the test needs larger items");
        }
    }
}
