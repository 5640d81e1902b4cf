//! What a client sees of a key with slots, what it asks for, and how it keeps and ends its slot.

mod contenders;
mod holders;

use std::time::Duration;

use crate::support::*;
use leasehold_protocol::attempt::{Attempt, Granted, Refusal, Wish};
use leasehold_protocol::done::FOR_EVER;
use leasehold_protocol::lens::{Crowd, Want};
use leasehold_protocol::queue::{PLACES, Place};
use leasehold_protocol::record::{Native, Record, Seen, State};
use leasehold_protocol::renewal::{Ended, Kept, RenewalRefused};
use leasehold_protocol::slot_write::{Next, Over, SlotWrite};
use leasehold_protocol::slots::{Slot, Slots};
use leasehold_protocol::takeover::{Observation, Verdict};
use leasehold_protocol::time::{ServiceClock, ServiceTime};
use leasehold_protocol::write::{Write, apply};

const TOKEN: u64 = 100;

fn ends(n: u8) -> ServiceTime {
    ServiceTime(WALL + 21_000 + i64::from(n) * 1_000)
}

fn slot(n: u8) -> Slot {
    Slot::new(id(n), TOKEN - 20 + u64::from(n), ends(n), LEASE, "other")
}

/// A key with two slots, held by these, with these waiting for one.
fn slotted(holders: &[u8], waiting: &[u8]) -> Record {
    Record {
        owner: None,
        expires_at: ServiceTime(0),
        holder: Some("the last".into()),
        native: Some(Native {
            token: TOKEN,
            lease: LEASE,
            renew_count: 2,
        }),
        slots: Some(Slots {
            limit: 2,
            held: holders.iter().map(|n| slot(*n)).collect(),
        }),
        queue: waiting.iter().map(|n| place(*n).for_slot()).collect(),
        ..held_by(9)
    }
}

fn wants(n: u8, want: Want) -> Attempt {
    let wish = Wish {
        data: None,
        want,
        ..wish()
    };
    Attempt::new(id(n), wish, terms(), rules(), Observation::default())
}

fn sees(me: &mut Attempt, record: &Record, ms: u64, clock: &ServiceClock) -> Refusal {
    let now = reading(ms);
    me.refused(Some(record), &shown(now), now, clock)
}

fn verdict(me: &mut Attempt, record: &Record, ms: u64, clock: &ServiceClock) -> Verdict {
    match sees(me, record, ms, clock) {
        Refusal::Others(verdict) => verdict,
        Refusal::Ours(granted) => panic!("{granted:?}"),
    }
}

fn ours(me: &mut Attempt, record: &Record, ms: u64, clock: &ServiceClock) -> Granted {
    match sees(me, record, ms, clock) {
        Refusal::Ours(granted) => granted,
        Refusal::Others(verdict) => panic!("{verdict:?}"),
    }
}

fn owner(record: &Record) -> Option<String> {
    record.owner.clone()
}
