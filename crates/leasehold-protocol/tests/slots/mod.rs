//! Slots: what each write does to a record, and when it is refused (S8).

mod endings;
mod entering;

use std::time::Duration;

use crate::support::*;
use leasehold_protocol::done::Done;
use leasehold_protocol::id::AttemptId;
use leasehold_protocol::queue::{PLACES, Place};
use leasehold_protocol::record::{Native, Record, Seen};
use leasehold_protocol::slot_write::{Entry, Given, Next, Over, SlotWrite};
use leasehold_protocol::slots::{LABEL_BYTES, LONGEST_LEASE, Slot, Slots, short_label};
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::write::{ConditionFailed, Grant, Left, Operation, Write, apply};

const TOKEN: u64 = 100;

fn slot(n: u8) -> Slot {
    let token = TOKEN - 20 + u64::from(n);
    Slot::new(id(n), token, ServiceTime(WALL + 21_000), LEASE, "other")
}

/// A key with three slots, held by these, with these waiting for one.
fn slotted(holders: &[u8], waiting: &[u8]) -> Record {
    Record {
        owner: None,
        expires_at: ServiceTime(0),
        data: None,
        native: Some(Native {
            token: TOKEN,
            lease: LEASE,
            renew_count: 2,
        }),
        slots: Some(Slots {
            limit: 3,
            held: holders.iter().map(|n| slot(*n)).collect(),
        }),
        queue: waiting.iter().map(|n| place(*n).for_slot()).collect(),
        ..held_by(9)
    }
}

/// The whole key is held by 9, and slots were held before.
fn whole(waiting: &[u8]) -> Record {
    Record {
        slots: slotted(&[], &[]).slots,
        queue: slotted(&[], waiting).queue,
        ..held_by(9)
    }
}

fn grant(n: u8) -> Grant {
    Grant {
        key: "k".into(),
        attempt: id(n),
        expires_at: ServiceTime(WALL + 30_000),
        ttl_seconds: 55,
        ttl_is_guess: false,
        lease: LEASE,
        seed: ServiceTime(WALL),
        acquired_at: ServiceTime(WALL),
        holder: "me".into(),
        data: None,
        force: None,
        bound_to_process: false,
    }
}

fn entry(n: u8) -> Entry {
    Entry {
        grant: grant(n),
        token: TOKEN + 1,
        limit: 3,
        first: false,
        over: None,
        places: Vec::new(),
    }
}

fn enter(entry: Entry) -> Write {
    Write::Slot(SlotWrite::Enter(entry))
}

fn given(waiting: &[u8]) -> Given {
    Given {
        passed: Vec::new(),
        places: waiting.iter().map(|n| place(*n).for_slot()).collect(),
        limit: 3,
        expires_at: ServiceTime(WALL + 9_000),
        token: TOKEN + 5,
        ttl_seconds: 66,
        acquired_at: ServiceTime(WALL + 5_000),
    }
}

fn exit(n: u8, token: Option<u64>, next: Next) -> Write {
    Write::Slot(SlotWrite::Exit {
        key: "k".into(),
        attempt: id(n),
        token,
        ttl_seconds: Some(77),
        held: Some(Duration::from_millis(4_321)),
        next,
    })
}

fn open(token: Option<u64>, given: Given) -> Write {
    Write::Slot(SlotWrite::Open {
        key: "k".into(),
        attempt: id(9),
        token,
        held: Some(Duration::from_millis(4_321)),
        left: Left::Nothing,
        given,
    })
}

fn evict(n: u8) -> Write {
    Write::Slot(SlotWrite::Evict {
        key: "k".into(),
        slot: slot(n),
    })
}

fn refused(before: &Record, write: &Write) {
    assert_eq!(
        apply(Some(before), write),
        Err(ConditionFailed),
        "{write:?}"
    );
}

fn holders(record: &Record) -> Vec<AttemptId> {
    let slots = record.slots.as_ref().expect("slots");
    slots.held.iter().map(|slot| slot.attempt).collect()
}

fn ids(of: &[u8]) -> Vec<AttemptId> {
    of.iter().map(|n| id(*n)).collect()
}
