//! The vectors of every write, `docs/vectors.json`: item before, request, item after. A port of the protocol is checked
//! against them. `LEASEHOLD_BLESS=1` writes the file; `tests/vectors.rs` sends them to DynamoDB.

mod slots;

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::done::{Completion, Done, FOR_EVER};
use leasehold_protocol::queue::{PLACES, Place};
use leasehold_protocol::record::{Native, RECORD_VERSION, Record, Seen, attribute};
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::write::{Description, Grant, Left, Write, apply};
use serde_json::{Value, json};

use super::{expressions, shape};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/vectors.json");
const NOW: i64 = 1_800_000_000_000;
const TTL: i64 = 1_800_604_820;

fn id(n: u8) -> AttemptId {
    AttemptId::from_random([n; 16])
}

fn place(n: u8) -> Place {
    let (lease, claim) = (Duration::from_secs(20), Duration::from_secs(3));
    Place::new(id(n), lease, claim, ServiceTime(NOW + 60_000))
}

fn places(waiting: &[u8]) -> Vec<Place> {
    waiting.iter().map(|n| place(*n)).collect()
}

/// A record that 1 holds, with these waiting.
fn held(waiting: &[u8]) -> Record {
    Record {
        key: "customer/42".into(),
        owner: Some(id(1).to_string()),
        expires_at: ServiceTime(NOW + 21_000),
        native: Some(Native {
            token: 1_799_999_999_001,
            lease: Duration::from_secs(20),
            renew_count: 4,
        }),
        ttl_seconds: Some(TTL),
        holder: Some("host-a/17".into()),
        acquired_at: Some(ServiceTime(NOW)),
        data: None,
        last_hold: Some(Duration::from_millis(1_234)),
        queue: places(waiting),
        done: None,
        slots: None,
        last_force: None,
        holder_is_dead: false,
    }
}

fn released() -> Record {
    Record {
        owner: None,
        expires_at: ServiceTime(0),
        ..held(&[])
    }
}

/// The same with a payload.
fn with_data(record: Record) -> Record {
    Record {
        data: Some(b"left".to_vec()),
        ..record
    }
}

/// A grant that leaves the payload of the record.
fn without_data(n: u8) -> Grant {
    Grant {
        data: None,
        ..grant(n)
    }
}

/// A grant that ends another by force.
fn by_force(n: u8) -> Grant {
    Grant {
        force: Some("alice ended token 7: host is gone".into()),
        ..without_data(n)
    }
}

/// As FSharp.DynamoDbLock writes it.
fn foreign() -> Record {
    Record {
        native: None,
        holder: None,
        acquired_at: None,
        last_hold: None,
        ..held(&[])
    }
}

fn grant(n: u8) -> Grant {
    Grant {
        key: "customer/42".into(),
        attempt: id(n),
        expires_at: ServiceTime(NOW + 30_000),
        ttl_seconds: TTL + 9,
        ttl_is_guess: false,
        lease: Duration::from_secs(20),
        seed: ServiceTime(NOW + 9_000),
        acquired_at: ServiceTime(NOW + 9_000),
        holder: "host-b/23".into(),
        data: Some(b"payload"[..].into()),
        force: None,
        bound_to_process: false,
    }
}

fn release(token: Option<u64>, passed: &[u8]) -> Write {
    Write::Release {
        key: "customer/42".into(),
        attempt: id(1),
        token,
        ttl_seconds: Some(TTL + 5),
        passed: places(passed),
        held: Some(Duration::from_millis(4_321)),
        left: Left::Nothing,
    }
}

/// The end of a grant, with this payload for the next holder.
fn leaving(mut end: Write, next: Left) -> Write {
    if let Write::Release { left, .. } | Write::HandOver { left, .. } = &mut end {
        *left = next;
    }
    end
}

fn hand_over(passed: &[u8], next: u8) -> Write {
    Write::HandOver {
        key: "customer/42".into(),
        attempt: id(1),
        token: Some(1_799_999_999_001),
        next: place(next),
        passed: places(passed),
        expires_at: ServiceTime(NOW + 9_000),
        ttl_seconds: TTL + 5,
        acquired_at: ServiceTime(NOW + 5_000),
        held: Some(Duration::from_millis(4_321)),
        left: Left::Nothing,
    }
}

fn completion(token: u64) -> Completion {
    Completion {
        key: "customer/42".into(),
        attempt: id(1),
        token,
        until: ServiceTime(NOW + 3_600_000),
        keep: Duration::from_secs(3_600),
        ttl_seconds: Some(TTL + 3_600),
        done: Done {
            at: ServiceTime(NOW + 4_321),
            failed: false,
            input: Some(b"fingerprint"[..].into()),
        },
        result: Some(b"result"[..].into()),
        held: Some(Duration::from_millis(4_321)),
    }
}

/// A run that failed, without a service clock and without a result.
fn failed() -> Completion {
    Completion {
        until: FOR_EVER,
        ttl_seconds: None,
        done: Done {
            at: ServiceTime(NOW + 4_321),
            failed: true,
            input: None,
        },
        result: None,
        held: None,
        ..completion(1_799_999_999_001)
    }
}

/// What 1 has done.
fn done() -> Record {
    let write = Write::Complete(completion(1_799_999_999_001));
    let done = apply(Some(&held(&[])), &write).expect("ours");
    done.expect("a record")
}

fn join(n: u8) -> Write {
    Write::Join {
        key: "customer/42".into(),
        place: place(n),
        limit: None,
        most: PLACES,
        bound_to_process: false,
    }
}

fn leave(n: u8, index: usize) -> Write {
    Write::Leave {
        key: "customer/42".into(),
        place: place(n),
        index,
    }
}

fn renew(by_ms: i64) -> Write {
    Write::Renew {
        key: "customer/42".into(),
        attempt: id(1),
        token: 1_799_999_999_001,
        expires_at: ServiceTime(NOW + 21_000 + by_ms),
        ttl_seconds: TTL + 7,
        bound_to_process: false,
        lease: None,
        description: None,
    }
}

fn lengthened(mut renewal: Write, lease_ms: u64) -> Write {
    if let Write::Renew { lease, .. } = &mut renewal {
        *lease = Some(Duration::from_millis(lease_ms));
    }
    renewal
}

fn described(mut renewal: Write) -> Write {
    if let Write::Renew { description, .. } = &mut renewal {
        *description = Some(Description {
            holder: "a-host worker 12".into(),
            data: Some(b"payload".as_slice().into()),
        });
    }
    renewal
}

/// The key was handed over, and its record says nothing of the holder.
fn handed_over() -> Record {
    Record {
        holder: None,
        data: None,
        ..held(&[2])
    }
}

fn seen(record: &Record) -> Seen {
    match (record.native, &record.owner) {
        (Some(native), Some(owner)) => Seen::Native {
            owner: owner.clone(),
            token: native.token,
            renew_count: native.renew_count,
        },
        (_, owner) => Seen::Foreign {
            owner: owner.clone().unwrap_or_default(),
            expires_at: record.expires_at,
        },
    }
}

fn cases() -> Vec<(&'static str, Option<Record>, Write)> {
    let full: Vec<u8> = (10..).take(PLACES).collect();
    let guess = Grant {
        ttl_is_guess: true,
        ttl_seconds: TTL - 1,
        data: None,
        ..grant(2)
    };
    let take_over =
        |from: &Record, n, removed: &[u8]| Write::TakeOver(grant(n), seen(from), places(removed));
    let withdraw = Write::Withdraw {
        key: "customer/42".into(),
        attempt: id(1),
        token: 1_799_999_999_001,
    };
    vec![
        ("acquire: no record", None, Write::Acquire(grant(2))),
        (
            "acquire: a released record counts on",
            Some(released()),
            Write::Acquire(grant(2)),
        ),
        (
            "acquire: without a payload, what was left stays",
            Some(with_data(released())),
            Write::Acquire(without_data(2)),
        ),
        (
            "acquire: refused, it is held",
            Some(held(&[])),
            Write::Acquire(grant(2)),
        ),
        (
            "acquire: refused, a guessed TTL would shorten the record's",
            Some(released()),
            Write::Acquire(guess),
        ),
        (
            "acquire: refused, a record of the F# library",
            Some(foreign()),
            Write::Acquire(grant(2)),
        ),
        (
            "take over: exactly what was seen",
            Some(held(&[])),
            take_over(&held(&[]), 2, &[]),
        ),
        (
            "take over: without a payload, that of the dead holder stays",
            Some(with_data(held(&[]))),
            Write::TakeOver(without_data(2), seen(&held(&[])), Vec::new()),
        ),
        (
            "take over: by force",
            Some(held(&[])),
            Write::TakeOver(by_force(2), seen(&held(&[])), Vec::new()),
        ),
        (
            "take over: with the places that are passed",
            Some(held(&[2, 3, 4])),
            take_over(&held(&[]), 3, &[2, 3]),
        ),
        (
            "take over: refused, another is first",
            Some(held(&[4, 3])),
            take_over(&held(&[]), 3, &[3]),
        ),
        (
            "take over: a record of the F# library",
            Some(foreign()),
            take_over(&foreign(), 2, &[]),
        ),
        ("renew", Some(held(&[2])), renew(1_000)),
        (
            "renew: after a hand-over, with what people see",
            Some(handed_over()),
            described(renew(1_000)),
        ),
        (
            "renew: for a longer lease",
            Some(held(&[])),
            lengthened(renew(60_000), 60_000),
        ),
        (
            "renew: refused, for a shorter lease",
            Some(held(&[])),
            lengthened(renew(60_000), 19_999),
        ),
        ("renew: refused, not forward", Some(held(&[])), renew(0)),
        (
            "release: nobody waits",
            Some(held(&[])),
            release(Some(1_799_999_999_001), &[]),
        ),
        (
            "release: the payload goes",
            Some(with_data(held(&[]))),
            release(Some(1_799_999_999_001), &[]),
        ),
        (
            "release: the payload is kept",
            Some(with_data(held(&[]))),
            leaving(release(Some(1_799_999_999_001), &[]), Left::AsItIs),
        ),
        (
            "release: with a payload that no renewal has written",
            Some(with_data(held(&[]))),
            leaving(
                release(Some(1_799_999_999_001), &[]),
                Left::Payload(b"new"[..].into()),
            ),
        ),
        (
            "release: without the token",
            Some(held(&[])),
            release(None, &[]),
        ),
        (
            "release: refused, somebody waits",
            Some(held(&[2])),
            release(Some(1_799_999_999_001), &[]),
        ),
        (
            "release: all have ceased to wait",
            Some(held(&[2, 3])),
            release(Some(1_799_999_999_001), &[2, 3]),
        ),
        (
            "hand over: to the first place",
            Some(held(&[2, 3])),
            hand_over(&[], 2),
        ),
        (
            "hand over: the payload is kept",
            Some(with_data(held(&[2, 3]))),
            leaving(hand_over(&[], 2), Left::AsItIs),
        ),
        (
            "hand over: past one that has ceased to wait",
            Some(held(&[2, 3, 4])),
            hand_over(&[2], 3),
        ),
        (
            "hand over: refused, the queue has changed",
            Some(held(&[3])),
            hand_over(&[2], 3),
        ),
        (
            "complete: nobody waits any more",
            Some(held(&[2])),
            Write::Complete(completion(1_799_999_999_001)),
        ),
        (
            "complete: a failure, without a service clock",
            Some(held(&[])),
            Write::Complete(failed()),
        ),
        (
            "complete: refused, another grant",
            Some(held(&[])),
            Write::Complete(completion(1_799_999_999_002)),
        ),
        ("renew: refused, it is done", Some(done()), renew(9_000_000)),
        ("join: refused, it is done", Some(done()), join(2)),
        (
            "take over: what is done runs again",
            Some(done()),
            take_over(&done(), 2, &[]),
        ),
        (
            "take over: what is done runs again, and its result is no payload",
            Some(done()),
            Write::TakeOver(without_data(2), seen(&done()), Vec::new()),
        ),
        ("join: the first place", Some(held(&[])), join(2)),
        ("join: behind another", Some(held(&[2])), join(3)),
        ("join: refused, it has the key", Some(held(&[2])), join(1)),
        (
            "join: refused, it has its place",
            Some(held(&[2, 3])),
            join(2),
        ),
        (
            "join: refused, the queue is full",
            Some(held(&full)),
            join(2),
        ),
        ("join: refused, the key is free", Some(released()), join(2)),
        ("leave", Some(held(&[2, 3])), leave(2, 0)),
        (
            "leave: refused, it is elsewhere",
            Some(held(&[3, 2])),
            leave(2, 0),
        ),
        ("withdraw", Some(held(&[])), withdraw),
    ]
}

fn binary(bytes: &[u8]) -> Value {
    json!({ "B": BASE64_STANDARD.encode(bytes) })
}

fn json_of(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(digits) => json!({ "N": digits }),
        AttributeValue::B(bytes) => binary(bytes.as_ref()),
        AttributeValue::L(values) => json!({ "L": values.iter().map(json_of).collect::<Vec<_>>() }),
        AttributeValue::M(entries) => {
            let entries = entries.iter().map(|(name, value)| (name, json_of(value)));
            json!({ "M": entries.collect::<BTreeMap<_, _>>() })
        }
        other => panic!("no request has {other:?}"),
    }
}

/// The item of a record. `emptied`: it has had a queue.
fn item(record: &Record, emptied: bool) -> Value {
    let number = |n: &dyn ToString| json!({ "N": n.to_string() });
    let mut item = BTreeMap::new();
    item.insert(attribute::KEY, json!({ "S": record.key }));
    item.insert(attribute::EXPIRES_MS, number(&record.expires_at.0));
    if let Some(owner) = &record.owner {
        item.insert(attribute::CLIENT_ID, json!({ "S": owner }));
    }
    if let Some(native) = record.native {
        item.insert(attribute::VERSION, number(&RECORD_VERSION));
        item.insert(attribute::TOKEN, number(&native.token));
        item.insert(attribute::LEASE_MS, number(&native.lease.as_millis()));
        item.insert(attribute::RENEW_COUNT, number(&native.renew_count));
    }
    if let Some(ttl) = record.ttl_seconds {
        item.insert(attribute::TTL_SECONDS, number(&ttl));
    }
    if let Some(holder) = &record.holder {
        item.insert(attribute::HOLDER, json!({ "S": holder }));
    }
    if let Some(acquired_at) = record.acquired_at {
        item.insert(attribute::ACQUIRED_MS, number(&acquired_at.0));
    }
    if let Some(force) = &record.last_force {
        item.insert(attribute::LAST_FORCE, json!({ "S": force }));
    }
    if let Some(hold) = record.last_hold {
        item.insert(attribute::HELD_MS, number(&hold.as_millis()));
    }
    if let Some(data) = &record.data {
        item.insert(attribute::DATA, binary(data));
    }
    if let Some(done) = &record.done {
        let input = done.input.as_deref().map(binary);
        let parts = [number(&done.at.0), number(&u8::from(done.failed))];
        let parts: Vec<Value> = parts.into_iter().chain(input).collect();
        item.insert(attribute::DONE, json!({ "L": parts }));
    }
    if let Some(slots) = &record.slots {
        let held = slots.held.iter();
        let held = held.map(|slot| (slot.attempt.digits(), binary(&slot.to_bytes())));
        item.insert(
            attribute::SLOTS,
            json!({ "M": held.collect::<BTreeMap<_, _>>() }),
        );
        item.insert(attribute::LIMIT, number(&slots.limit));
    }
    if emptied || !record.queue.is_empty() {
        let queue: Vec<Value> = record
            .queue
            .iter()
            .map(|place| binary(&place.to_bytes()))
            .collect();
        item.insert(attribute::QUEUE, json!({ "L": queue }));
    }
    json!(item)
}

fn vector(name: &str, before: Option<&Record>, write: &Write) -> Value {
    let deletes = matches!(write, Write::Withdraw { .. });
    let expression = if deletes {
        expressions::delete(write)
    } else {
        expressions::update(write)
    };
    let values: BTreeMap<_, _> = expression
        .values
        .iter()
        .map(|(name, value)| (name, json_of(value)))
        .collect();
    let mut request = json!({
        "api": if deletes { "DeleteItem" } else { "UpdateItem" },
        "ConditionExpression": expression.condition,
        "ExpressionAttributeNames": expression.names.iter().collect::<BTreeMap<_, _>>(),
        "ExpressionAttributeValues": values,
    });
    if !deletes {
        request["UpdateExpression"] = json!(expression.update);
    }
    let queued = before.is_some_and(|record| !record.queue.is_empty())
        && !matches!(write, Write::Complete(_));
    let mut vector = json!({
        "name": name,
        "before": before.map(|record| item(record, false)),
        "request": request,
    });
    match apply(before, write) {
        Ok(after) => vector["after"] = json!(after.map(|record| item(&record, queued))),
        Err(_) => vector["refused"] = json!(true),
    }
    vector
}

#[test]
fn the_vectors_of_every_write_are_those_of_the_file() {
    let vectors: Vec<Value> = cases()
        .iter()
        .chain(&slots::cases())
        .map(|(name, before, write)| vector(name, before.as_ref(), write))
        .collect();
    let text = serde_json::to_string_pretty(&vectors).expect("text") + "\n";
    if std::env::var_os("LEASEHOLD_BLESS").is_some() {
        std::fs::write(FILE, &text).expect("written");
    }
    let file = std::fs::read_to_string(FILE).expect("docs/vectors.json");
    assert!(
        file == text,
        "the format has changed: if that is meant, run this test with LEASEHOLD_BLESS=1"
    );
}

/// A shape refuses to name a key or TTL like one of these, so its list must be complete.
#[test]
fn the_shape_knows_every_attribute_that_is_written() {
    let keys = [attribute::KEY, attribute::TTL_SECONDS];
    for (name, before, write) in cases().into_iter().chain(slots::cases()) {
        let expression = match write {
            Write::Withdraw { .. } => expressions::delete(&write),
            _ => expressions::update(&write),
        };
        for written in expression.names.values().map(String::as_str) {
            // An entry of a slot has the name of its attempt.
            let entry = AttemptId::from_digits(written).is_some();
            let known = entry || keys.contains(&written) || shape::FIXED.contains(&written);
            assert!(known, "{name}: `{written}` ({before:?})");
        }
    }
}
