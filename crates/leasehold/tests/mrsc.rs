//! Tables of multi-Region strong consistency: no TTL, no transactions, conflicts with other Regions.

use crate::support;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_dynamodb::{Client, Config};

use crate::support::http::{Say, error, serve};
use leasehold::clock::{Clock, SystemClock};
use leasehold::store::dynamodb::{DynamoDbStore, TableShape};
use leasehold::{ErrorKind, LockClient};
use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::queue::Place;
use leasehold_protocol::time::ServiceTime;

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn number(number: i64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// Unix seconds.
fn now() -> i64 {
    SystemClock.wall_unix_ms() / 1_000
}

fn shape() -> TableShape {
    support::shared_shape().mrsc(true)
}

async fn table() -> DynamoDbStore {
    support::dynamodb_shaped(shape()).await
}

type Attributes = Vec<(&'static str, AttributeValue)>;

/// A record that was released, and that TTL may delete since an hour ago.
fn released() -> Attributes {
    vec![
        ("ExpireInUnixMs", number(0)),
        ("ttl", number(now() - HOUR)),
        ("FencingToken", number(1_000)),
        ("LeaseMs", number(20_000)),
        ("RenewCount", number(7)),
        ("V", number(3)),
    ]
}

/// A record whose holder died so many seconds ago.
fn expired(ago: i64) -> Attributes {
    let mut record = released();
    record[0].1 = number((now() - ago) * 1_000);
    record.push(("ClientId", text("67e55044-10b1-426f-9247-bb680e5fe0c8")));
    record
}

fn with(mut record: Attributes, name: &'static str, value: AttributeValue) -> Attributes {
    record.retain(|(other, _)| *other != name);
    record.push((name, value));
    record
}

fn without(mut record: Attributes, name: &str) -> Attributes {
    record.retain(|(other, _)| *other != name);
    record
}

/// A queue with one place.
fn queue() -> AttributeValue {
    let id = AttemptId::from_random([3; 16]);
    let (lease, claim) = (Duration::from_secs(20), Duration::from_secs(3));
    let place = Place::new(id, lease, claim, ServiceTime(1_000)).to_bytes();
    AttributeValue::L(vec![AttributeValue::B(place.to_vec().into())])
}

async fn put(store: &DynamoDbStore, key: &str, record: Attributes) {
    let put = support::client(&support::endpoint()).put_item();
    let put = put.table_name(store.table());
    let put = put.set_item(Some(store.item_key(key).expect("any form")));
    let put = record
        .into_iter()
        .fold(put, |put, (name, value)| put.item(name, value));
    put.send().await.expect("put");
}

async fn exists(store: &DynamoDbStore, key: &str) -> bool {
    let get = support::client(&support::endpoint()).get_item();
    let get = get.table_name(store.table()).consistent_read(true);
    let get = get.set_key(Some(store.item_key(key).expect("any form")));
    get.send().await.expect("read").item.is_some()
}

#[tokio::test]
async fn only_what_is_past_its_retention_is_deleted() {
    let store = table().await;
    let done = AttributeValue::L(vec![number(1), number(0)]);
    let foreign = |ago| {
        let record = without(without(expired(ago), "V"), "FencingToken");
        without(without(record, "RenewCount"), "LeaseMs")
    };
    let cases: Vec<(&str, Attributes, bool)> = vec![
        ("released", released(), true),
        ("dead", expired(DAY + HOUR), true),
        ("foreign", foreign(DAY + HOUR), true),
        (
            "done",
            with(expired(DAY + HOUR), "Done", done.clone()),
            true,
        ),
        (
            "released, retained",
            with(released(), "ttl", number(now() + HOUR)),
            false,
        ),
        ("released, no TTL", without(released(), "ttl"), false),
        (
            "dead, retained",
            with(expired(2 * DAY), "ttl", number(now() + HOUR)),
            false,
        ),
        ("dead, its TTL too early", expired(DAY - HOUR), false),
        ("foreign, its TTL too early", foreign(HOUR), false),
        ("held, its TTL too early", expired(-HOUR), false),
        (
            "done for ever",
            without(with(expired(-DAY), "Done", done), "ttl"),
            false,
        ),
        ("others wait", with(released(), "Queue", queue()), false),
        ("malformed", without(released(), "V"), false),
        ("no record", vec![("ttl", number(now() - HOUR))], false),
    ];
    for (key, record, _) in &cases {
        put(&store, key, record.clone()).await;
    }
    let unclear = 2;
    let swept = store.sweep(Duration::ZERO, 100).await.expect("works");
    for (key, _, deleted) in &cases {
        assert_eq!(exists(&store, key).await, !deleted, "{key}");
    }
    assert_eq!(swept.deleted, 4);
    assert_eq!(swept.read, cases.len() as u64 - unclear);
    assert!(!swept.limited);
}

#[tokio::test]
async fn what_a_client_writes_stays_for_its_retention() {
    let store = table().await;
    let locks = LockClient::new(store.clone());
    let held = locks.acquire("held").await.expect("free");
    let released = locks.acquire("released").await.expect("free");
    released.release().await.expect("works");
    let swept = store.sweep(Duration::ZERO, 100).await.expect("works");
    assert_eq!((swept.deleted, swept.read), (0, 2));
    held.release().await.expect("works");
}

#[tokio::test]
async fn age_and_number_are_bounds() {
    let store = table().await;
    for n in 0..3 {
        put(&store, &format!("k{n}"), released()).await;
    }
    let hours = |n: u64| Duration::from_secs(n * 3_600);
    let swept = store.sweep(hours(2), 100).await.expect("works");
    assert_eq!((swept.deleted, swept.limited), (0, false));
    let swept = store.sweep(Duration::MAX, 100).await.expect("works");
    assert_eq!((swept.deleted, swept.limited), (0, false));
    let swept = store.sweep(Duration::ZERO, 2).await.expect("works");
    assert_eq!((swept.deleted, swept.limited), (2, true));
    let swept = store.sweep(Duration::ZERO, 2).await.expect("works");
    assert_eq!((swept.deleted, swept.limited), (1, false));
}

/// Does something before the first request to delete is sent.
struct Meanwhile<F>(AtomicBool, F);

impl<F> fmt::Debug for Meanwhile<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meanwhile")
    }
}

impl<F: Fn() + Send + Sync> Intercept for Meanwhile<F> {
    fn name(&self) -> &'static str {
        "Meanwhile"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let target = context.request().headers().get("x-amz-target");
        let deletes = target.is_some_and(|target| target.ends_with(".DeleteItem"));
        if deletes && !self.0.swap(true, Ordering::Relaxed) {
            (self.1)();
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_record_that_changes_meanwhile_stays() {
    let before = with(expired(2 * DAY), "ttl", number(4));
    let changed = |name, value| with(before.clone(), name, value);
    let changes = [
        ("the grant", changed("ClientId", text("another"))),
        ("released", without(before.clone(), "ClientId")),
        ("the token", changed("FencingToken", number(1_001))),
        ("the count", changed("RenewCount", number(8))),
        ("the expiry", changed("ExpireInUnixMs", number(1))),
        ("the TTL", changed("ttl", number(5))),
        ("the queue", changed("Queue", queue())),
    ];
    for (what, change) in changes {
        let store = table().await;
        put(&store, "k", before.clone()).await;
        let other = store.clone();
        let meanwhile = move || {
            let (other, change) = (other.clone(), change.clone());
            let changed = std::thread::spawn(move || {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = runtime.enable_all().build().expect("a runtime");
                runtime.block_on(put(&other, "k", change));
            });
            changed.join().expect("changed");
        };
        let config: Config = support::client(&support::endpoint()).config().clone();
        let config = config
            .to_builder()
            .interceptor(Meanwhile(AtomicBool::new(false), meanwhile));
        let swept = DynamoDbStore::new(Client::from_conf(config.build()), store.table());
        let swept = swept.with_shape(shape()).expect("valid");
        let swept = swept.sweep(Duration::ZERO, 100).await.expect("works");
        assert_eq!((swept.deleted, swept.read), (0, 1), "{what}");
        assert!(exists(&store, "k").await, "{what} has changed");
        // Unchanged from here on, it goes.
        let swept = store.sweep(Duration::ZERO, 100).await.expect("works");
        assert_eq!(swept.deleted, u64::from(what != "the queue"), "{what}");
    }
}

#[tokio::test]
async fn a_table_without_ttl_is_made_and_checked() {
    let store = table().await;
    store.check_table().await.expect("needs no TTL");
    let with_ttl = DynamoDbStore::new(support::client(&support::endpoint()), store.table());
    let with_ttl = with_ttl.with_shape(shape().mrsc(false)).expect("valid");
    let missing = with_ttl.check_table().await.expect_err("has no TTL");
    assert!(missing.to_string().contains("`ttl`"), "{missing}");
}

#[tokio::test]
async fn transactions_are_refused_with_what_to_use() {
    let store = table().await;
    let locks = LockClient::new(store.clone());
    let lease = locks.acquire("k").await.expect("free");
    let refused = store.fence(lease.id()).expect_err("no transactions");
    assert_eq!(refused.kind(), ErrorKind::Configuration);
    assert!(
        refused
            .hint()
            .is_some_and(|hint| hint.contains("TokenColumn"))
    );
    store
        .condition_check(lease.id())
        .expect("an update needs no transaction");
    lease.release().await.expect("works");
}

/// Another Region writes the record at the same time: every second request is refused, and succeeds later.
#[tokio::test]
async fn a_conflict_with_another_region_is_retried() {
    let direct = table().await;
    put(&direct, "old", released()).await;
    let requests = Arc::new(AtomicU32::new(0));
    let seen = requests.clone();
    let real = support::endpoint();
    let real = real.trim_start_matches("http://").to_owned();
    let server = serve(move |_| match seen.fetch_add(1, Ordering::Relaxed) % 2 {
        0 => match error(400, "ReplicatedWriteConflictException", "another Region") {
            // The date of this server is not that of the real one.
            Say::Answer(status, body) => Say::Undated(status, body),
            other => other,
        },
        _ => Say::Pass(real.clone()),
    })
    .await;
    let store = DynamoDbStore::new(support::client(&server.endpoint), direct.table());
    let store = store.with_shape(shape()).expect("valid");
    let sent = || requests.swap(0, Ordering::Relaxed);

    let lease = LockClient::new(store.clone()).acquire("k").await;
    let lease = lease.expect("the second request");
    assert!(exists(&direct, "k").await);
    assert_eq!(sent(), 2);
    assert!(lease.release().await.expect("works").is_released());
    assert_eq!(sent(), 2);
    let swept = store.sweep(Duration::ZERO, 1).await.expect("works");
    assert_eq!((swept.deleted, exists(&direct, "old").await), (1, false));
    assert_eq!(sent(), 4);
}
