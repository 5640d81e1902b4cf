//! The two requests of FSharp.DynamoDbLock, written with the SDK that ours is on.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use leasehold::clock::{OsRandom, Random};
use leasehold_protocol::attempt::AttemptId;

use crate::dynamodb::applied;

#[derive(Clone, Debug)]
pub(crate) struct FSharp {
    client: Client,
    table: String,
}

impl FSharp {
    pub(crate) fn new(client: Client, table: &str) -> FSharp {
        FSharp {
            client,
            table: table.to_owned(),
        }
    }

    /// A new `ClientId`.
    pub(crate) fn client_id() -> String {
        AttemptId::from_random(OsRandom.attempt_bits()).to_string()
    }

    /// Its `now`.
    pub(crate) fn now_ms() -> i64 {
        #[expect(
            clippy::disallowed_methods,
            reason = "the F# library reads the wall clock"
        )]
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
    }

    /// Whether it got the lock.
    pub(crate) async fn acquire(&self, key: &str, me: &str, expires_ms: i64) -> Result<bool> {
        let number = |n: i64| AttributeValue::N(n.to_string());
        let answer = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("LockKey", AttributeValue::S(key.to_owned()))
            .item("ClientId", AttributeValue::S(me.to_owned()))
            .item("ExpireInUnixSeconds", number(expires_ms / 1_000))
            .item("ExpireInUnixMs", number(expires_ms))
            .condition_expression("attribute_not_exists(#lockKey) or :now > #expireInUnixMs")
            .expression_attribute_names("#lockKey", "LockKey")
            .expression_attribute_names("#expireInUnixMs", "ExpireInUnixMs")
            .expression_attribute_values(":now", number(FSharp::now_ms()))
            .send()
            .await;
        applied(answer)
    }

    /// Whether it was ours to release.
    pub(crate) async fn release(&self, key: &str, me: &str) -> Result<bool> {
        let answer = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key("LockKey", AttributeValue::S(key.to_owned()))
            .condition_expression("attribute_exists(#lockKey) and :clientId = #clientId")
            .expression_attribute_names("#lockKey", "LockKey")
            .expression_attribute_names("#clientId", "ClientId")
            .expression_attribute_values(":clientId", AttributeValue::S(me.to_owned()))
            .send()
            .await;
        applied(answer)
    }
}
