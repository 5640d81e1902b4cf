//! One contract, every store.

use crate::support;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;

use leasehold::store::dynamodb::DynamoDbStore;
use leasehold::store::memory::MemoryStore;
use leasehold::store::sqlite::SqliteStore;
use leasehold::store::testing::contract::{against_the_model, leaves_what_is_not_ours, run_all};
use leasehold::store::{Outcome, Store};
use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::record::{Record, Seen};
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::write::{Grant, Write};

fn grant(key: &str) -> Grant {
    let now = ServiceTime(1_800_000_000_000);
    Grant {
        key: key.into(),
        attempt: AttemptId::from_random([1; 16]),
        expires_at: now,
        ttl_seconds: 4_000_000_000,
        ttl_is_guess: false,
        lease: Duration::from_secs(20),
        seed: now,
        acquired_at: now,
        holder: "test".into(),
        data: None,
        force: None,
        bound_to_process: false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory() {
    run_all(Arc::new(MemoryStore::new()), "contract/").await;
}

/// What no store can be brought to through its writes: a record with neither owner nor version.
#[tokio::test]
async fn memory_leaves_what_is_not_ours() {
    let store = MemoryStore::new();
    let strange = Record {
        last_hold: None,
        key: "k".into(),
        owner: None,
        expires_at: ServiceTime(0),
        native: None,
        ttl_seconds: None,
        holder: None,
        acquired_at: None,
        data: None,
        queue: Vec::new(),
        done: None,
        slots: None,
        last_force: None,
        holder_is_dead: false,
    };
    store.plant(strange);
    leaves_what_is_not_ours(&(Arc::new(store) as Arc<dyn Store>), "k").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_long_model() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    for seed in 0..20 {
        against_the_model(&store, "model/", seed, 5_000).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(directory.path().join("locks.db")).expect("opened");
    assert!(store.describe().contains("locks.db"), "{store:?}");
    run_all(Arc::new(store), "contract/").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_long_model() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(directory.path().join("locks.db")).expect("opened");
    let store: Arc<dyn Store> = Arc::new(store);
    for seed in 0..4 {
        against_the_model(&store, "model/", seed, 2_000).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dynamodb() {
    run_all(Arc::new(support::dynamodb().await), "contract/").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dynamodb_with_one_sort_key() {
    let store = support::dynamodb_shaped(support::shared_shape()).await;
    run_all(Arc::new(store), "contract/").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dynamodb_with_a_sort_key_per_lock() {
    let shape = support::shared_shape().sort_key_after("SK", '/');
    let store = support::dynamodb_shaped(shape).await;
    run_all(Arc::new(store), "contract/").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dynamodb_long_model() {
    let store: Arc<dyn Store> = Arc::new(support::dynamodb().await);
    against_the_model(&store, "model/", 1, 2_000).await;
}

/// Puts an item as other programs may.
async fn put(store: &DynamoDbStore, attributes: &[(&str, AttributeValue)]) {
    let client = support::client(&support::endpoint());
    let put = client.put_item().table_name(store.table());
    let put = attributes
        .iter()
        .fold(put, |put, (name, value)| put.item(*name, value.clone()));
    put.send().await.expect("put");
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn number(number: i64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

#[tokio::test]
async fn dynamodb_leaves_what_is_not_ours() {
    let store = support::dynamodb().await;
    put(
        &store,
        &[("LockKey", text("k")), ("ExpireInUnixMs", number(1))],
    )
    .await;
    leaves_what_is_not_ours(&(Arc::new(store) as Arc<dyn Store>), "k").await;
}

#[tokio::test]
async fn dynamodb_takes_over_exactly_the_fsharp_record_that_was_seen() {
    let store = support::dynamodb().await;
    let theirs = [
        ("LockKey", text("k")),
        ("ClientId", text("theirs")),
        ("ExpireInUnixMs", number(1_000)),
        ("ExpireInUnixSeconds", number(4_000_000_000)),
    ];
    put(&store, &theirs).await;
    let take_over = async |owner: &str, expires_ms| {
        let seen = Seen::Foreign {
            owner: owner.to_owned(),
            expires_at: ServiceTime(expires_ms),
        };
        let answer = store
            .write(Write::TakeOver(grant("k"), seen, Vec::new()))
            .await;
        matches!(answer.expect("answered").value, Outcome::Applied(_))
    };
    assert!(!take_over("another", 1_000).await, "ClientId is compared");
    assert!(
        !take_over("theirs", 999).await,
        "ExpireInUnixMs is compared"
    );
    assert!(take_over("theirs", 1_000).await, "as it was seen");
}
