//! DynamoDB Local, spoken to by hand: what `leasehold init` would never make.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Room;

/// `host:port` of the DynamoDB Local that the test harness has started.
///
/// A failure, never a silent skip, when there is none.
pub(crate) fn address() -> String {
    let url = std::env::var("LEASEHOLD_TEST_DYNAMODB").unwrap_or_else(|_| {
        panic!(
            "this test needs DynamoDB Local: run `cargo xtask test`, or start one with \
             `cargo xtask dynamodb` and set LEASEHOLD_TEST_DYNAMODB to its URL"
        )
    });
    url.trim_start_matches("http://")
        .trim_end_matches('/')
        .to_owned()
}

/// A name that no other test has.
pub(crate) fn table_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "cli-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// The URL of a table at an endpoint.
pub(crate) fn url(table: &str, address: &str) -> String {
    format!("dynamodb://{table}?region=local&endpoint=http://{address}")
}

/// A room whose store is a new table.
pub(crate) fn room() -> Room {
    let room = Room::with_store(&url(&table_name(), &address()));
    let output = room.run(&["init"]);
    assert!(output.status.success(), "{output:?}");
    room
}

/// One request as DynamoDB takes it.
pub(crate) fn call(operation: &str, body: &str) -> String {
    let address = address();
    let mut stream = TcpStream::connect(&address).unwrap();
    write!(
        stream,
        "POST / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/x-amz-json-1.0\r\nX-Amz-Target: DynamoDB_20120810.{operation}\r\n\
         X-Amz-Date: 20260101T000000Z\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/local/dynamodb/aws4_request, \
         SignedHeaders=host, Signature=0\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

/// A table with this hash key.
pub(crate) fn create_table(table: &str, key: &str, kind: &str) {
    call(
        "CreateTable",
        &format!(
            r#"{{"TableName":"{table}","BillingMode":"PAY_PER_REQUEST",
            "AttributeDefinitions":[{{"AttributeName":"{key}","AttributeType":"{kind}"}}],
            "KeySchema":[{{"AttributeName":"{key}","KeyType":"HASH"}}]}}"#
        ),
    );
}
