//! Bad input and broken stores: each a clear error that names key, table and the setting to
//! change, within its bound, and nothing lost.

use crate::support;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::support::http::{SERVER_DATE_MS, Say, error, serve};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType, TimeToLiveSpecification,
};
use leasehold::clock::{Clock, SystemClock, TokioClock};
use leasehold::store::dynamodb::{DynamoDbStore, TableError};
use leasehold::{Effect, Error, ErrorKind, LockClient, Policy, TryAcquireOutcome};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The error says what is wrong, where, and what to do.
fn check(error: &Error, kind: ErrorKind, names: &[&str]) {
    assert_eq!(error.kind(), kind, "{error:?}");
    let text = format!("{error}\n{}", error.hint().unwrap_or_default());
    for name in names {
        assert!(text.contains(name), "`{name}` is missing in: {text}");
    }
    assert!(error.hint().is_some(), "no hint: {error}");
}

fn impatient(endpoint: &str) -> LockClient {
    impatient_by(endpoint, Arc::new(SystemClock))
}

fn impatient_by(endpoint: &str, clock: Arc<dyn Clock>) -> LockClient {
    let policy = Policy::builder()
        .call_timeout(ms(1_500))
        .request_timeout(ms(400))
        .build()
        .expect("adds up");
    let store = DynamoDbStore::new(support::client(endpoint), "locks");
    LockClient::builder(store)
        .policy(policy)
        .clock(clock)
        .build()
}

#[tokio::test]
async fn a_missing_table_is_named() {
    let store = DynamoDbStore::new(support::client(&support::endpoint()), "no-such-table");
    let locks = LockClient::new(store);
    let error = locks.acquire("k").await.expect_err("no table");
    check(
        &error,
        ErrorKind::Configuration,
        &["`k`", "no-such-table", "does not exist", "leasehold init"],
    );
    assert_eq!(error.effect(), Effect::NotApplied);
    assert!(!error.is_retryable());
}

/// Creates a table of another shape.
async fn odd_table(name: &str, keys: &[(&str, ScalarAttributeType, KeyType)]) -> DynamoDbStore {
    let client = support::client(&support::endpoint());
    let table = support::unique(name);
    let mut request = client
        .create_table()
        .table_name(&table)
        .billing_mode(BillingMode::PayPerRequest);
    for (attribute, kind, role) in keys {
        request = request
            .attribute_definitions(
                AttributeDefinition::builder()
                    .attribute_name(*attribute)
                    .attribute_type(kind.clone())
                    .build()
                    .expect("complete"),
            )
            .key_schema(
                KeySchemaElement::builder()
                    .attribute_name(*attribute)
                    .key_type(role.clone())
                    .build()
                    .expect("complete"),
            );
    }
    request.send().await.expect("create");
    DynamoDbStore::new(client, table)
}

#[tokio::test]
async fn tables_of_another_shape_are_told_apart() {
    use KeyType::{Hash, Range};
    use ScalarAttributeType::{N, S};
    for keys in [
        vec![("Id", S, Hash)],
        vec![("LockKey", N, Hash)],
        vec![("LockKey", S, Hash), ("Sort", S, Range)],
    ] {
        let store = odd_table("odd", &keys).await;
        let table = store.table().to_owned();
        let refused = store.check_table().await.expect_err("wrong shape");
        assert!(matches!(refused, TableError::KeySchema { .. }), "{refused}");
        assert!(refused.to_string().contains(&table));
        // `create_table` alters nothing about it.
        let refused = store.create_table().await.expect_err("wrong shape");
        assert!(matches!(refused, TableError::KeySchema { .. }), "{refused}");
        // And a lock says the same instead of an obscure validation message.
        let error = LockClient::new(store)
            .acquire("k")
            .await
            .expect_err("shape");
        check(
            &error,
            ErrorKind::Configuration,
            &["`k`", &table, "LockKey", "leasehold init"],
        );
    }
}

#[tokio::test]
async fn a_ttl_on_another_attribute_is_told() {
    let store = odd_table("ttl", &[("LockKey", ScalarAttributeType::S, KeyType::Hash)]).await;
    let off = store.check_table().await.expect_err("no TTL yet");
    assert!(matches!(off, TableError::TtlOff { .. }), "{off}");
    support::client(&support::endpoint())
        .update_time_to_live()
        .table_name(store.table())
        .time_to_live_specification(
            TimeToLiveSpecification::builder()
                .enabled(true)
                .attribute_name("Other")
                .build()
                .expect("complete"),
        )
        .send()
        .await
        .expect("ttl");
    let refused = store.create_table().await.expect_err("TTL elsewhere");
    assert!(matches!(&refused, TableError::Ttl { found, .. } if found == "Other"));
    assert!(refused.to_string().contains(store.table()));
}

#[tokio::test]
async fn malformed_records_are_never_taken() {
    let store = support::dynamodb().await;
    let client = support::client(&support::endpoint());
    let text = |s: &str| AttributeValue::S(s.into());
    let number = |n: i64| AttributeValue::N(n.to_string());
    let cases: Vec<(&str, HashMap<&str, AttributeValue>, &str)> = vec![
        (
            "no-expiry",
            [("ClientId", text("c"))].into(),
            "ExpireInUnixMs",
        ),
        (
            "expiry-as-text",
            [("ClientId", text("c")), ("ExpireInUnixMs", text("1"))].into(),
            "ExpireInUnixMs",
        ),
        (
            "not-a-lock",
            [("Colour", text("red"))].into(),
            "ExpireInUnixMs",
        ),
        (
            "neither-v-nor-client",
            [("ExpireInUnixMs", number(1))].into(),
            "`V`",
        ),
        (
            "no-token",
            [
                ("ClientId", text("c")),
                ("ExpireInUnixMs", number(1)),
                ("V", number(3)),
                ("LeaseMs", number(1)),
                ("RenewCount", number(1)),
            ]
            .into(),
            "FencingToken",
        ),
    ];
    let locks = LockClient::new(store.clone());
    for (key, attributes, wrong) in &cases {
        let mut put = client
            .put_item()
            .table_name(store.table())
            .item("LockKey", text(key));
        for (name, value) in attributes {
            put = put.item(*name, value.clone());
        }
        put.send().await.expect("put");
        let error = locks.try_acquire(key).await.expect_err("malformed");
        check(&error, ErrorKind::Malformed, &[key, wrong]);
        let error = locks.acquire(key).await.expect_err("malformed");
        check(&error, ErrorKind::Malformed, &[key, wrong]);
        let error = locks.inspect(key).await.expect_err("malformed");
        check(&error, ErrorKind::Malformed, &[key, wrong]);
    }
    // A listing shows them beside the others.
    let good = locks.acquire("good").await.expect("free");
    let page = locks.list().next_page().await.expect("works").expect("one");
    assert_eq!(
        page.iter().filter(|entry| entry.is_err()).count(),
        cases.len()
    );
    assert_eq!(page.iter().filter(|entry| entry.is_ok()).count(), 1);
    assert!(good.release().await.expect("works").is_released());
}

#[tokio::test]
async fn no_credentials_and_no_region_are_told() {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::v2026_01_12())
        .endpoint_url("http://127.0.0.1:9")
        .http_client(aws_smithy_http_client::Builder::new().build_http());
    let no_credentials = config
        .clone()
        .region(aws_sdk_dynamodb::config::Region::new("eu-west-1"))
        .build();
    let store = DynamoDbStore::new(aws_sdk_dynamodb::Client::from_conf(no_credentials), "locks");
    let error = LockClient::new(store).acquire("k").await.expect_err("none");
    check(
        &error,
        ErrorKind::Credentials,
        &["`k`", "locks", "AWS_ACCESS_KEY_ID"],
    );
    assert_eq!(error.effect(), Effect::NotApplied);
    let no_region = aws_sdk_dynamodb::Config::builder()
        .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::v2026_01_12())
        .credentials_provider(aws_sdk_dynamodb::config::Credentials::new(
            "a", "b", None, None, "test",
        ))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    let store = DynamoDbStore::new(aws_sdk_dynamodb::Client::from_conf(no_region), "locks");
    let error = LockClient::new(store).acquire("k").await.expect_err("none");
    check(&error, ErrorKind::Configuration, &["`k`", "AWS_REGION"]);
}

#[tokio::test]
async fn refusals_of_the_service_are_classified() {
    let cases = [
        (
            400,
            "AccessDeniedException",
            ErrorKind::AccessDenied,
            "dynamodb:UpdateItem",
        ),
        (
            400,
            "UnrecognizedClientException",
            ErrorKind::Credentials,
            "credentials",
        ),
        (
            400,
            "ExpiredTokenException",
            ErrorKind::Credentials,
            "clock",
        ),
        (
            400,
            "ResourceNotFoundException",
            ErrorKind::Configuration,
            "leasehold init",
        ),
        (
            400,
            "ValidationException",
            ErrorKind::InvalidInput,
            "shorter",
        ),
    ];
    for (status, code, kind, named) in cases {
        let server = serve(move |_| error(status, code, "because")).await;
        let error = impatient(&server.endpoint)
            .acquire("k")
            .await
            .expect_err("refused");
        check(&error, kind, &["`k`", "`locks`", named]);
        assert_eq!(error.effect(), Effect::NotApplied, "{code}");
        assert_eq!(error.status(), Some(status));
        assert_eq!(error.request_id(), Some("TEST-1"));
        assert_eq!(error.requests(), 1, "{code} is not retried");
    }
}

#[tokio::test]
async fn throttles_conflicts_and_failures_are_retried_within_the_bound() {
    let cases = [
        (
            400,
            "ProvisionedThroughputExceededException",
            ErrorKind::Throttled,
            Effect::NotApplied,
        ),
        (
            400,
            "ThrottlingException",
            ErrorKind::Throttled,
            Effect::NotApplied,
        ),
        (
            400,
            "TransactionConflictException",
            ErrorKind::Unreachable,
            Effect::NotApplied,
        ),
        (
            400,
            "ReplicatedWriteConflictException",
            ErrorKind::Unreachable,
            Effect::NotApplied,
        ),
        (
            500,
            "InternalServerError",
            ErrorKind::Unreachable,
            Effect::Unknown,
        ),
        (
            503,
            "ServiceUnavailable",
            ErrorKind::Unreachable,
            Effect::Unknown,
        ),
    ];
    for (status, code, kind, effect) in cases {
        let requests = Arc::new(AtomicU32::new(0));
        let counted = requests.clone();
        let server = serve(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            error(status, code, "because")
        })
        .await;
        let start = SystemClock.elapsed();
        let error = impatient(&server.endpoint)
            .acquire("k")
            .await
            .expect_err("refused");
        assert_eq!(error.kind(), kind, "{error:?}");
        assert_eq!(error.effect(), effect, "{code}");
        assert!(error.requests() > 1, "{code} is retried");
        // By us, with fresh times: the SDK sends nothing twice. One more may give back what landed.
        let sent = requests.load(Ordering::Relaxed);
        assert!(sent <= error.requests() + 1, "{sent}, {}", error.requests());
        assert!(error.is_retryable());
        // The bound, and the slack of a busy machine.
        assert!(SystemClock.elapsed().since(start) < ms(4_000), "{code}");
    }
}

#[tokio::test]
async fn unreachable_and_black_holed_endpoints_fail_within_the_bound() {
    // Time-outs that do not bound.
    let nothing_listens = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        format!(
            "http://{}",
            listener.expect("bind").local_addr().expect("address")
        )
    };
    let black_hole = serve(|_| Say::Nothing).await;
    let closing = serve(|_| Say::Close).await;
    for (endpoint, effect) in [
        (nothing_listens.as_str(), Effect::NotApplied),
        (&black_hole.endpoint, Effect::Unknown),
        (&closing.endpoint, Effect::Unknown),
    ] {
        let locks = impatient(endpoint);
        unreachable_within(ms(1_500), effect, async || {
            locks.try_acquire("k").await.expect_err("unreachable")
        })
        .await;
        unreachable_within(ms(700), effect, async || {
            let wait = locks.request("k").expect("valid").wait(ms(700));
            wait.acquire().await.expect_err("unreachable")
        })
        .await;
        let start = SystemClock.elapsed();
        locks.inspect("k").await.expect_err("unreachable");
        assert!(SystemClock.elapsed().since(start) < ms(1_500 + 1_000));
    }
}

/// The call fails within the bound, and with that effect. Where a busy machine left the last request without an answer until the
/// bound, nothing is known of it: then it is asked again, a few times.
async fn unreachable_within(bound: Duration, effect: Effect, call: impl AsyncFn() -> Error) {
    for _ in 0..5 {
        let start = SystemClock.elapsed();
        let error = call().await;
        let passed = SystemClock.elapsed().since(start);
        assert!(passed < bound + ms(1_000), "{passed:?}");
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
        let text = error.to_string();
        assert!(text.contains("`k`") && text.contains("`locks`"), "{text}");
        if error.effect() == effect {
            return;
        }
        assert_eq!(error.effect(), Effect::Unknown, "{error:?}");
    }
    panic!("never {effect:?}");
}

#[tokio::test]
async fn a_refusal_without_an_item_is_read_up_on() {
    // Emulators and proxies may drop the item of a failed condition.
    let item = r#"{"LockKey":{"S":"k"},"ClientId":{"S":"other"},"ExpireInUnixMs":{"N":"99999999999999"},"FencingToken":{"N":"5"},"LeaseMs":{"N":"20000"},"RenewCount":{"N":"1"},"V":{"N":"3"},"Holder":{"S":"somebody"}}"#;
    let server = serve(move |operation| match operation {
        "GetItem" => Say::Answer(200, format!(r#"{{"Item":{item}}}"#)),
        _ => error(
            400,
            "ConditionalCheckFailedException",
            "The conditional request failed",
        ),
    })
    .await;
    let locks = impatient(&server.endpoint);
    let TryAcquireOutcome::Held(held) = locks.try_acquire("k").await.expect("works") else {
        panic!("held by another");
    };
    assert_eq!(held.label(), "somebody");
    assert_eq!(
        locks.usage().requests,
        1,
        "the store's own second look is its business"
    );
}

#[tokio::test]
async fn b7_without_a_date_that_can_be_believed_everything_but_the_service_rule_works() {
    let expired = r#"{"LockKey":{"S":"k"},"ClientId":{"S":"other"},"ExpireInUnixMs":{"N":"1"},"FencingToken":{"N":"5"},"LeaseMs":{"N":"20000"},"RenewCount":{"N":"1"},"V":{"N":"3"}}"#;
    let server = serve(move |_| {
        Say::Undated(
            400,
            format!(
                r#"{{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException","message":"no","Item":{expired}}}"#
            ),
        )
    })
    .await;
    let locks = impatient(&server.endpoint);
    // Long expired by its own words, but there is no clock to hold them against.
    let answer = locks.try_acquire("k").await.expect("works");
    assert!(matches!(answer, TryAcquireOutcome::Held(_)));
    // Nor is a date believed that no answer of the service itself carries.
    let body = format!(
        r#"{{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException","message":"no","Item":{expired}}}"#
    );
    let server = serve(move |_| Say::Foreign(400, body.clone())).await;
    let at_that_date: Arc<dyn Clock> = Arc::new(TokioClock::new(SERVER_DATE_MS));
    let answer = impatient_by(&server.endpoint, at_that_date.clone())
        .try_acquire("k")
        .await;
    assert!(
        matches!(answer, Ok(TryAcquireOutcome::Held(_))),
        "{answer:?}"
    );
    // The same record with dates is taken over (and here refused again, as the server always does).
    let body = format!(
        r#"{{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException","message":"no","Item":{expired}}}"#
    );
    let server = serve(move |_| Say::Answer(400, body.clone())).await;
    // B7: not by dates that this host's clock contradicts, as those of a proxy may be.
    let answer = impatient(&server.endpoint).try_acquire("k").await;
    assert!(
        matches!(answer, Ok(TryAcquireOutcome::Held(_))),
        "{answer:?}"
    );
    let error = impatient_by(&server.endpoint, at_that_date)
        .try_acquire("k")
        .await
        .expect_err("tries to take it over until the bound");
    assert!(error.requests() > 1);
}

#[test]
fn keys_and_leases_are_checked_before_anything_is_sent() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let locks = impatient("http://127.0.0.1:9");
        for key in [String::new(), "k".repeat(1_025)] {
            let error = locks.acquire(&key).await.expect_err("bad key");
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("1024"));
        }
        for lease in [Duration::ZERO, ms(1_500), Duration::MAX] {
            let request = locks.request("k").expect("valid").lease_duration(lease);
            let error = request.try_acquire().await.expect_err("bad lease");
            check(&error, ErrorKind::Configuration, &["lease"]);
            assert_eq!(error.key(), Some("k"));
        }
        assert_eq!(locks.usage().requests, 0);
    });
}

#[tokio::test]
async fn an_applied_write_whose_answer_cannot_be_read_may_have_landed() {
    let server = serve(|_| {
        let odd = r#"{"Attributes":{"LockKey":{"S":"k"},"ExpireInUnixMs":{"S":"soon"}}}"#;
        Say::Answer(200, odd.to_owned())
    })
    .await;
    let store = DynamoDbStore::new(support::client(&server.endpoint), "locks");
    let locks = LockClient::new(store);
    let error = locks.try_acquire("k").await.map(drop).expect_err("odd");
    check(&error, ErrorKind::Malformed, &["ExpireInUnixMs"]);
    assert_eq!(error.effect(), Effect::Unknown);
}
