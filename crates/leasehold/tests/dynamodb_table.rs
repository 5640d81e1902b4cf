//! Making the lock table while others do the same, against a server that answers as it should.

use crate::support;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::http::{Say, Server, error, serve};
use leasehold::ErrorKind;
use leasehold::store::dynamodb::{Created, DynamoDbStore};

const TABLE: &str = r#"{"Table":{"TableStatus":"ACTIVE",
    "KeySchema":[{"AttributeName":"LockKey","KeyType":"HASH"}],
    "AttributeDefinitions":[{"AttributeName":"LockKey","AttributeType":"S"}]}}"#;

fn ttl(status: &str) -> Say {
    let on = r#""AttributeName":"ExpireInUnixSeconds","TimeToLiveStatus""#;
    Say::Answer(
        200,
        format!(r#"{{"TimeToLiveDescription":{{{on}:"{status}"}}}}"#),
    )
}

/// A store whose server answers the n-th request of each operation.
async fn store(
    answer: impl Fn(&str, u32) -> Say + Send + Sync + 'static,
) -> (Server, DynamoDbStore) {
    const OPERATIONS: [&str; 4] = [
        "DescribeTable",
        "CreateTable",
        "DescribeTimeToLive",
        "UpdateTimeToLive",
    ];
    let asked: [AtomicU32; 4] = Default::default();
    let server = serve(move |operation| {
        let place = OPERATIONS.iter().position(|o| *o == operation);
        let before = asked[place.expect("known")].fetch_add(1, Ordering::Relaxed);
        answer(operation, before + 1)
    })
    .await;
    let store = DynamoDbStore::new(support::client(&server.endpoint), "locks");
    (server, store)
}

fn table() -> Say {
    Say::Answer(200, TABLE.to_owned())
}

#[tokio::test]
async fn a_table_that_another_makes_meanwhile_is_used() {
    let (_server, store) = store(|operation, n| match (operation, n) {
        ("DescribeTable", 1) => error(400, "ResourceNotFoundException", "none"),
        ("DescribeTable", _) => table(),
        ("CreateTable", _) => error(400, "ResourceInUseException", "another was faster"),
        _ => ttl("ENABLED"),
    })
    .await;
    assert_eq!(
        store.create_table().await.expect("usable"),
        Created::Existed
    );
    store.check_table().await.expect("of the right shape");
}

#[tokio::test]
async fn a_table_that_may_not_be_made_is_an_error() {
    let (_server, store) = store(|operation, n| match (operation, n) {
        ("DescribeTable", 1) => error(400, "ResourceNotFoundException", "none"),
        ("DescribeTable", _) => table(),
        ("DescribeTimeToLive", _) => ttl("ENABLED"),
        _ => error(400, "AccessDeniedException", "not you"),
    })
    .await;
    let refused = store.create_table().await.expect_err("not allowed");
    let refused = leasehold::Error::from(refused);
    assert_eq!(refused.kind(), ErrorKind::AccessDenied);
    let hint = refused.hint().expect("there is one");
    assert!(hint.contains("dynamodb:CreateTable"), "{hint}");
}

#[tokio::test]
async fn a_ttl_that_another_turns_on_meanwhile_is_taken() {
    for second in ["ENABLING", "ENABLED"] {
        let (_server, store) = store(move |operation, n| match (operation, n) {
            ("DescribeTable", _) => table(),
            ("DescribeTimeToLive", 1) => ttl("DISABLED"),
            ("DescribeTimeToLive", _) => ttl(second),
            _ => error(400, "ValidationException", "it is being turned on"),
        })
        .await;
        let created = store.create_table().await.expect(second);
        assert_eq!(created, Created::Existed);
    }
}
