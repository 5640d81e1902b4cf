//! Helpers of the tests of the rules.
#![expect(unreachable_pub, reason = "the tests are one program")]

use std::time::Duration;

use leasehold_protocol::attempt::{Attempt, AttemptId, Shown, Wish};
use leasehold_protocol::deadline::Terms;
use leasehold_protocol::lens::Want;
use leasehold_protocol::queue::Place;
use leasehold_protocol::record::{Native, Record};
use leasehold_protocol::renewal::Kept;
use leasehold_protocol::takeover::{Observation, Rules};
use leasehold_protocol::time::{ClockBounds, Elapsed, Reading, ServiceClock, ServiceTime, Stamp};
use leasehold_protocol::write::{ConditionFailed, Left, Write, apply};

pub const LEASE: Duration = Duration::from_secs(20);
/// The wall clock of a host at the elapsed time zero, in milliseconds since the Unix epoch.
pub const WALL: i64 = 1_800_000_000_000;

pub fn terms() -> Terms {
    Terms {
        lease: LEASE,
        expiry_padding: Duration::from_secs(1),
        retention: Duration::from_secs(7 * 86_400),
        safety_margin: Duration::from_secs(1),
        bounds: ClockBounds::default(),
    }
}

pub fn rules() -> Rules {
    Rules {
        strict: false,
        expiry_padding: terms().expiry_padding,
        bounds: terms().bounds,
    }
}

pub fn wish() -> Wish {
    Wish {
        key: "k".into(),
        holder: "me".into(),
        data: Some([1, 2].into()),
        adopts: false,
        force: None,
        bound_to_process: false,
        shared_with_fsharp: false,
        want: Want::Whole,
    }
}

pub fn id(n: u8) -> AttemptId {
    AttemptId::from_random([n; 16])
}

pub fn attempt(n: u8) -> Attempt {
    Attempt::new(id(n), wish(), terms(), rules(), Observation::default())
}

pub fn at(ms: u64) -> Elapsed {
    Elapsed(Duration::from_millis(ms))
}

/// Both clocks of a host whose wall clock is right.
pub fn reading(ms: u64) -> Reading {
    Reading {
        elapsed: at(ms),
        wall_ms: WALL + i64::try_from(ms).expect("small"),
    }
}

/// A consistent answer without delay.
pub fn shown(now: Reading) -> Shown {
    Shown {
        sent: now,
        received: now.elapsed,
        consistent: true,
    }
}

pub fn unsampled() -> ServiceClock {
    ServiceClock::new(ClockBounds::default())
}

/// A clock with an exact stamp of this time at the elapsed time zero.
pub fn sampled(service_ms: i64) -> ServiceClock {
    let mut clock = unsampled();
    clock.learn(
        Stamp::Exact(ServiceTime(service_ms)),
        reading(0),
        reading(0),
    );
    clock
}

/// A grant of `n`, renewed once.
pub fn held_by(n: u8) -> Record {
    Record {
        last_hold: None,
        key: "k".into(),
        owner: Some(id(n).to_string()),
        expires_at: ServiceTime(WALL + 21_000),
        native: Some(Native {
            token: 7,
            lease: LEASE,
            renew_count: 2,
        }),
        ttl_seconds: Some(5),
        holder: Some("other".into()),
        acquired_at: Some(ServiceTime(WALL)),
        data: Some(vec![9]),
        queue: Vec::new(),
        done: None,
        slots: None,
        last_force: None,
        holder_is_dead: false,
    }
}

pub const CLAIM: Duration = Duration::from_secs(3);

pub fn place(n: u8) -> Place {
    Place::new(id(n), LEASE, CLAIM, ServiceTime(i64::MAX))
}

/// A key that 9 holds, with these waiting for it.
pub fn queued(waiting: &[u8]) -> Record {
    Record {
        queue: waiting.iter().map(|n| place(*n)).collect(),
        ..held_by(9)
    }
}

pub fn applied(before: &Record, write: &Write) -> Record {
    apply(Some(before), write)
        .expect("allowed")
        .expect("a record")
}

pub fn refused(before: &Record, write: &Write) {
    assert_eq!(apply(Some(before), write), Err(ConditionFailed));
}

/// A grant of 1 on a key of its own, with these waiting.
pub fn kept(waiting: &[u8]) -> (Kept, Record) {
    let clock = sampled(WALL);
    let mut me = attempt(1);
    let (request, write) = me.request(None, &clock, reading(0));
    let mut record = apply(None, &write).expect("free").expect("a record");
    record.queue = waiting.iter().map(|n| place(*n)).collect();
    let granted = me.applied(&request, &record, &clock, reading(0));
    (Kept::new("k".into(), id(1), &granted, terms()), record)
}

pub fn hand_over(attempt: u8, token: Option<u64>, passed: &[u8], next: u8) -> Write {
    Write::HandOver {
        left: Left::Nothing,
        held: None,
        key: "k".into(),
        attempt: id(attempt),
        token,
        next: place(next),
        passed: passed.iter().map(|n| place(*n)).collect(),
        expires_at: ServiceTime(WALL + 4_000),
        ttl_seconds: 77,
        acquired_at: ServiceTime(WALL + 1_000),
    }
}
