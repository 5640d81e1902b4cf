//! Counting requests by operation, and the units that they cost, at a distance of a round trip.
//!
//! [`Counting`] is a rule of the [`leasehold_proxy`] with these effects. It requests the units from the
//! service if a client does not. It delays every request and every answer by half of the round trip, and can
//! lose an answer. A request that cannot be counted fails the connection, and then [`Counted::take`] fails.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use leasehold_proxy::{Message, Proxy, Reply, Rule, Service};
use serde_json::Value;

use crate::delay::exactly;
use crate::drive::monotonic_ns;
use crate::loss::Loss;
use crate::turns::between;

/// The operations that can report their units.
const METERED: [&str; 10] = [
    "GetItem",
    "PutItem",
    "UpdateItem",
    "DeleteItem",
    "Query",
    "Scan",
    "BatchGetItem",
    "BatchWriteItem",
    "TransactGetItems",
    "TransactWriteItems",
];

/// Those of them that read.
const READS: [&str; 5] = [
    "GetItem",
    "Query",
    "Scan",
    "BatchGetItem",
    "TransactGetItems",
];

/// A proxy that counts.
#[derive(Debug)]
pub(crate) struct Counted {
    proxy: Proxy,
    counting: Arc<Counting>,
}

impl Counted {
    /// Starts it in front of the service at `http://HOST:PORT`.
    pub(crate) async fn start(upstream: &str) -> Result<Counted> {
        Counted::at(upstream, Duration::ZERO).await
    }

    /// The same, with the service a round trip away.
    pub(crate) async fn at(upstream: &str, round_trip: Duration) -> Result<Counted> {
        let counting = Arc::new(Counting {
            round_trip,
            ..Counting::default()
        });
        let proxy = Proxy::start(upstream, counting.clone()).await?;
        Ok(Counted { proxy, counting })
    }

    /// Where clients connect.
    pub(crate) fn url(&self) -> &str {
        self.proxy.url()
    }

    /// What passed since the last time this was asked. Fails if something passed uncounted.
    pub(crate) fn take(&self) -> Result<Counts> {
        let counts = std::mem::take(&mut *self.counting.counts());
        self.proxy.check().context("its counts are not complete")?;
        Ok(counts)
    }

    /// What becomes of answers.
    pub(crate) fn loss(&self) -> &Loss {
        &self.counting.loss
    }

    /// When each key was written that the service has applied a write of.
    pub(crate) fn written(&self) -> BTreeMap<String, Written> {
        self.counting.written().clone()
    }
}

/// Counts what passes.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    round_trip: Duration,
    counts: Mutex<Counts>,
    written: Mutex<BTreeMap<String, Written>>,
    loss: Loss,
}

/// When a key was written. Nanoseconds of the monotonic clock, at the service's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Written {
    pub(crate) last: i64,
    /// The longest time between two writes.
    pub(crate) gap: Duration,
}

impl Counting {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Nothing under this lock can leave it half changed.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn written(&self) -> MutexGuard<'_, BTreeMap<String, Written>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_write(&self, request: &Message) {
        let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
            return;
        };
        let key = body.get("Key").or_else(|| body.get("Item"));
        let Some(key) = key.and_then(Value::as_object) else {
            return;
        };
        let names = ["LockKey", "lock_name", "lock_key", "key", "id"];
        let key = names.iter().find_map(|name| key.get(*name)?.get("S"));
        let Some(key) = key.and_then(Value::as_str) else {
            return;
        };
        let now = monotonic_ns();
        self.written()
            .entry(key.to_owned())
            .and_modify(|written| {
                written.gap = written.gap.max(between(written.last, now));
                written.last = now;
            })
            .or_insert(Written {
                last: now,
                gap: Duration::ZERO,
            });
    }
}

#[async_trait]
impl Rule for Counting {
    async fn carry(&self, mut request: Message, service: &mut Service) -> Result<Reply> {
        ask_for_units(&mut request);
        exactly(self.round_trip / 2).await;
        let Some(answer) = service.ask(&request).await? else {
            // A kept-alive connection may end at any time; the client tries again or fails, which
            // its driver reports.
            return Ok(Reply::Close);
        };
        self.counts().add(&request, &answer)?;
        let applied = is_write(&request) && answer.status() == Some(200);
        if applied {
            self.note_write(&request);
        }
        exactly(self.round_trip / 2).await;
        if applied && self.loss.hits() {
            return Ok(Reply::Reset);
        }
        Ok(Reply::Answer(answer))
    }
}

fn is_write(request: &Message) -> bool {
    request
        .operation()
        .is_some_and(|operation| METERED.contains(&operation) && !READS.contains(&operation))
}

/// What passed.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Counts {
    requests: BTreeMap<String, u32>,
    refused: u32,
    read_units: f64,
    write_units: f64,
}

impl Counts {
    /// Requests of all operations.
    pub(crate) fn requests(&self) -> u32 {
        self.requests.values().sum()
    }

    /// Conditional writes whose condition did not hold.
    pub(crate) fn refused(&self) -> u32 {
        self.refused
    }

    /// Read units as the service reported them.
    pub(crate) fn read_units(&self) -> f64 {
        self.read_units
    }

    /// Write units as the service reported them, and one for each refused write: it is billed but
    /// not reported. (It is billed by the size of the item, and those of locks are below 1 KB.)
    pub(crate) fn write_units(&self) -> f64 {
        self.write_units
    }

    /// Their price, on demand, in US dollars.
    pub(crate) fn dollars(&self) -> f64 {
        crate::prices::dollars(self.write_units, self.read_units)
    }

    fn add(&mut self, request: &Message, answer: &Message) -> Result<()> {
        let operation = request.operation().unwrap_or("other");
        *self.requests.entry(operation.to_owned()).or_default() += 1;
        if !METERED.contains(&operation) {
            return Ok(());
        }
        let body: Value = serde_json::from_slice(&answer.body)
            .with_context(|| format!("the answer to {operation} is not JSON"))?;
        let kind = body.get("__type").and_then(Value::as_str).unwrap_or("");
        if answer.status() != Some(200) && kind.ends_with("#ConditionalCheckFailedException") {
            self.refused += 1;
            self.write_units += 1.0;
            return Ok(());
        }
        let units = units(body.get("ConsumedCapacity"));
        if READS.contains(&operation) {
            self.read_units += units;
        } else {
            self.write_units += units;
        }
        Ok(())
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (operation, count)) in self.requests.iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            write!(f, "{comma}{operation} {count}")?;
        }
        Ok(())
    }
}

/// One table's report, or one for each table of a batch.
fn units(reported: Option<&Value>) -> f64 {
    match reported {
        Some(Value::Array(tables)) => tables.iter().map(|table| units(Some(table))).sum(),
        Some(report) => report
            .get("CapacityUnits")
            .and_then(Value::as_f64)
            .unwrap_or(0.0),
        None => 0.0,
    }
}

/// Has the service report the units where the client did not ask for it. DynamoDB Local does not
/// check signatures; against the service itself this would break them.
fn ask_for_units(request: &mut Message) {
    if !request
        .operation()
        .is_some_and(|operation| METERED.contains(&operation))
    {
        return;
    }
    // What is no object is for the service to refuse.
    let Ok(Value::Object(mut body)) = serde_json::from_slice(&request.body) else {
        return;
    };
    if body.contains_key("ReturnConsumedCapacity") {
        return;
    }
    body.insert("ReturnConsumedCapacity".to_owned(), "TOTAL".into());
    request.body = Value::Object(body).to_string().into_bytes();
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn request(operation: &str, body: &str) -> Message {
        let target = format!("DynamoDB_20120810.{operation}");
        Message::request(&[("X-AMZ-TARGET", &target)], body.into())
    }

    async fn answer(status: u16, body: &str) -> Message {
        Message::answer(status, &[], body.into())
    }

    async fn counted(exchanges: &[(&str, u16, &str)]) -> Counts {
        let mut counts = Counts::default();
        for (operation, status, body) in exchanges {
            counts
                .add(
                    &request(operation, "{}").await,
                    &answer(*status, body).await,
                )
                .expect("countable");
        }
        counts
    }

    const ONE: &str = r#"{"ConsumedCapacity":{"TableName":"t","CapacityUnits":1.0}}"#;
    const HALF: &str = r#"{"ConsumedCapacity":{"TableName":"t","CapacityUnits":0.5}}"#;
    const REFUSED: &str =
        r#"{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"}"#;

    #[tokio::test]
    async fn requests_are_counted_by_operation_and_units_by_direction() {
        let counts = counted(&[
            ("GetItem", 200, HALF),
            ("PutItem", 200, ONE),
            ("PutItem", 200, ONE),
            ("DeleteItem", 200, ONE),
        ])
        .await;
        assert_eq!(counts.requests(), 4);
        assert_eq!((counts.read_units(), counts.write_units()), (0.5, 3.0));
        assert_eq!(counts.refused(), 0);
        assert_eq!(counts.to_string(), "DeleteItem 1, GetItem 1, PutItem 2");
        // Two lookups that are eventually consistent cost as much as one that is not.
        assert!((counts.dollars() * 1e6 - (3.0 * 0.625 + 0.5 * 0.125)).abs() < 1e-9);
    }

    #[tokio::test]
    async fn a_refused_write_costs_a_unit_that_nobody_reports() {
        let counts = counted(&[("UpdateItem", 400, REFUSED)]).await;
        assert_eq!((counts.requests(), counts.refused()), (1, 1));
        assert_eq!((counts.read_units(), counts.write_units()), (0.0, 1.0));
    }

    #[tokio::test]
    async fn other_failures_and_other_operations_cost_nothing() {
        let missing = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ResourceNotFoundException"}"#;
        let counts = counted(&[
            ("UpdateItem", 400, missing),
            ("DescribeTable", 200, r#"{"Table":{}}"#),
        ])
        .await;
        assert_eq!((counts.requests(), counts.refused()), (2, 0));
        assert_eq!((counts.read_units(), counts.write_units()), (0.0, 0.0));
    }

    #[tokio::test]
    async fn batches_report_by_table() {
        let two =
            r#"{"ConsumedCapacity":[{"CapacityUnits":2.0},{"CapacityUnits":4.0,"TableName":"u"}]}"#;
        assert_eq!(
            counted(&[("TransactWriteItems", 200, two)])
                .await
                .write_units(),
            6.0
        );
    }

    #[tokio::test]
    async fn an_answer_that_is_not_json_is_an_error() {
        let request = request("GetItem", "{}").await;
        let answer = answer(200, "<html>").await;
        Counts::default()
            .add(&request, &answer)
            .expect_err("uncountable");
    }

    #[tokio::test]
    async fn units_are_asked_for_once_and_only_where_they_exist() {
        let asked = async |operation: &str, body: &str| {
            let mut message = request(operation, body).await;
            ask_for_units(&mut message);
            String::from_utf8(message.body).expect("text")
        };
        assert_eq!(
            asked("GetItem", r#"{"TableName":"t"}"#).await,
            r#"{"ReturnConsumedCapacity":"TOTAL","TableName":"t"}"#
        );
        for (operation, body) in [
            ("GetItem", r#"{"ReturnConsumedCapacity":"INDEXES"}"#),
            ("DescribeTable", r#"{"TableName":"t"}"#),
            ("PutItem", "[]"),
            ("PutItem", "{"),
        ] {
            assert_eq!(asked(operation, body).await, body);
        }
    }
}
