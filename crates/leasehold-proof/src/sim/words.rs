//! Requests and answers in the trace: as numbers for its hash, and as words for people.

use leasehold::store::Outcome;
use leasehold_protocol::record::Record;
use leasehold_protocol::write::Write;

use super::request::{Body, Value};
use super::service::ForeignWrite;

/// The part of an answer that the trace's hash includes.
pub(super) fn digest(number: usize, value: &Value) -> [u64; 3] {
    let of = |record: Option<&Record>| match record {
        Some(r) => {
            let native = r
                .native
                .map_or(0, |n| n.token.wrapping_add(n.renew_count << 48));
            let slots = r.slots.iter().flat_map(|slots| &slots.held);
            let slots = slots.fold(0, |all: u64, slot| {
                all.rotate_left(7) ^ slot.token ^ slot.expires_at.0.cast_unsigned()
            });
            native ^ r.expires_at.0.cast_unsigned().rotate_left(17) ^ slots
        }
        None => 1,
    };
    let (kind, what) = match value {
        Value::Write(Outcome::Applied(record)) => (1, of(record.as_ref())),
        Value::Write(Outcome::Refused(record)) => (2, of(record.as_ref())),
        Value::Read(record) => (3, of(record.as_ref())),
        Value::List(records) => (4, records.len() as u64),
        Value::Foreign(done) => (5, u64::from(*done)),
    };
    [number as u64, kind, what]
}

pub(super) fn words(body: &Body) -> String {
    match body {
        Body::Write(write) => {
            let more = match &**write {
                Write::Acquire(g) | Write::TakeOver(g, ..) => {
                    format!(
                        "by {} until {}",
                        short(&g.attempt.to_string()),
                        g.expires_at.0
                    )
                }
                Write::Renew { expires_at, .. } => format!("until {}", expires_at.0),
                Write::Slot(write) => format!("{write:?}"),
                _ => String::new(),
            };
            format!("{} {} {more}", write.operation(), write.key())
        }
        Body::Read(key, consistency) => format!("read {key} {consistency:?}"),
        Body::List => "list".into(),
        Body::Foreign(ForeignWrite::Put {
            key, expires_ms, ..
        }) => {
            format!("F# put {key} until {expires_ms}")
        }
        Body::Foreign(ForeignWrite::Delete { key, .. }) => format!("F# delete {key}"),
    }
}

pub(super) fn outcome(value: &Value) -> String {
    let record = |r: &Option<Record>| match r {
        None => "no record".to_owned(),
        Some(r) => {
            let slots = r.slots.iter().map(|slots| {
                let held = slots.held.iter().map(|slot| {
                    let owner = slot.attempt.to_string();
                    format!("{} until {}", short(&owner), slot.expires_at.0)
                });
                format!(", of {} slots {:?}", slots.limit, held.collect::<Vec<_>>())
            });
            format!(
                "{} holds until {}, token {:?}, count {:?}{}",
                r.owner.as_deref().map_or("nobody", short),
                r.expires_at.0,
                r.token(),
                r.native.map(|n| n.renew_count),
                slots.collect::<String>()
            )
        }
    };
    match value {
        Value::Write(Outcome::Applied(r)) => format!("applied: {}", record(r)),
        Value::Write(Outcome::Refused(r)) => format!("refused: {}", record(r)),
        Value::Read(r) => format!("shows: {}", record(r)),
        Value::List(r) => format!("lists {}", r.len()),
        Value::Foreign(done) => format!("F#: {}", if *done { "done" } else { "refused" }),
    }
}

fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}
