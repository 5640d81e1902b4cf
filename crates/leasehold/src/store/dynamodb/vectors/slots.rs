//! The vectors of the writes on slots.

use std::time::Duration;

use leasehold_protocol::queue::{PLACES, Place};
use leasehold_protocol::record::Record;
use leasehold_protocol::slot_write::{Entry, Given, Next, Over, SlotWrite};
use leasehold_protocol::slots::{Slot, Slots};
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::write::{Grant, Left, Write};

use super::{NOW, TTL, by_force, grant, held, id, place, places, released, seen};

const TOKEN: u64 = 1_799_999_999_001;

fn slot(n: u8) -> Slot {
    let token = TOKEN - 10 + u64::from(n);
    Slot::new(
        id(n),
        token,
        ServiceTime(NOW + 21_000),
        Duration::from_secs(20),
        "host-a worker 17",
    )
}

/// A key with three slots, held by these, with these waiting for one.
fn slotted(holders: &[u8], waiting: &[u8]) -> Record {
    Record {
        slots: Some(Slots {
            limit: 3,
            held: holders.iter().map(|n| slot(*n)).collect(),
        }),
        queue: waiting.iter().map(|n| place(*n).for_slot()).collect(),
        ..released()
    }
}

fn entry(n: u8) -> Entry {
    Entry {
        grant: Grant {
            data: None,
            ..grant(n)
        },
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
        expires_at: ServiceTime(NOW + 9_000),
        token: TOKEN + 5,
        ttl_seconds: TTL + 5,
        acquired_at: ServiceTime(NOW + 5_000),
    }
}

fn exit(token: Option<u64>, next: Next) -> Write {
    Write::Slot(SlotWrite::Exit {
        key: "customer/42".into(),
        attempt: id(1),
        token,
        ttl_seconds: Some(TTL + 5),
        held: Some(Duration::from_millis(4_321)),
        next,
    })
}

fn extend(by_ms: i64) -> Write {
    Write::Slot(SlotWrite::Extend {
        key: "customer/42".into(),
        slot: Slot {
            expires_at: ServiceTime(NOW + 21_000 + by_ms),
            ..slot(1)
        },
        ttl_seconds: TTL + 7,
        bound_to_process: false,
    })
}

fn join(place: Place, limit: Option<u32>) -> Write {
    Write::Join {
        key: "customer/42".into(),
        place,
        limit,
        most: limit.map_or(PLACES, Slots::places),
        bound_to_process: false,
    }
}

pub(super) fn cases() -> Vec<(&'static str, Option<Record>, Write)> {
    let first = Entry {
        first: true,
        ..entry(2)
    };
    let over_slot = Entry {
        over: Some(Over::Slot(slot(1))),
        ..entry(2)
    };
    let over_by_force = Entry {
        grant: by_force(2),
        ..over_slot.clone()
    };
    let adopted = Entry {
        over: Some(Over::Adopted(slot(1))),
        ..entry(2)
    };
    let over_whole = Entry {
        over: Some(Over::Whole(seen(&held(&[])))),
        ..entry(2)
    };
    let in_turn = Entry {
        places: vec![place(2).for_slot()],
        ..entry(2)
    };
    let mine = Some(slot(1).token);
    let whole = place(2);
    let for_whole = |holders: &[u8]| Record {
        queue: places(&[2]),
        ..slotted(holders, &[])
    };
    let held_with_slots = Record {
        slots: Some(Slots {
            limit: 3,
            held: Vec::new(),
        }),
        queue: slotted(&[], &[2, 3]).queue,
        ..held(&[])
    };
    let open = Write::Slot(SlotWrite::Open {
        key: "customer/42".into(),
        attempt: id(1),
        token: Some(TOKEN),
        held: Some(Duration::from_millis(4_321)),
        left: Left::Nothing,
        given: given(&[2, 3]),
    });
    let evict = Write::Slot(SlotWrite::Evict {
        key: "customer/42".into(),
        slot: slot(1),
    });
    let claim = Write::Slot(SlotWrite::Claim(grant(2), places(&[2])));
    vec![
        ("slot: no record", None, enter(first.clone())),
        (
            "slot: the first of a record",
            Some(released()),
            enter(first),
        ),
        (
            "slot: beside another",
            Some(slotted(&[1], &[])),
            enter(entry(2)),
        ),
        (
            "slot: refused, all are held",
            Some(slotted(&[1, 3, 4], &[])),
            enter(entry(2)),
        ),
        (
            "slot: refused, somebody waits",
            Some(slotted(&[1], &[3])),
            enter(entry(2)),
        ),
        (
            "slot: from the first place",
            Some(slotted(&[1], &[2, 3])),
            enter(in_turn),
        ),
        (
            "slot: refused, another limit",
            Some(slotted(&[1], &[])),
            enter(Entry {
                limit: 4,
                ..entry(2)
            }),
        ),
        (
            "slot: over a dead one, by force",
            Some(slotted(&[1, 3], &[])),
            enter(over_by_force),
        ),
        (
            "slot: takes over exactly what was seen",
            Some(slotted(&[1, 3, 4], &[])),
            enter(over_slot.clone()),
        ),
        (
            "slot: adopts exactly what was seen, and others wait on",
            Some(slotted(&[1, 3, 4], &[5])),
            enter(adopted),
        ),
        (
            "slot: refused, what was seen is gone",
            Some(slotted(&[3, 4], &[])),
            enter(over_slot),
        ),
        (
            "slot: takes over the whole key",
            Some(Record {
                queue: Vec::new(),
                ..held_with_slots.clone()
            }),
            enter(over_whole),
        ),
        ("slot: renew", Some(slotted(&[1], &[2])), extend(1_000)),
        (
            "slot: renew: refused, not forward",
            Some(slotted(&[1], &[])),
            extend(0),
        ),
        (
            "slot: release",
            Some(slotted(&[1, 2], &[])),
            exit(mine, Next::Nobody(Vec::new())),
        ),
        (
            "slot: release: without the token",
            Some(slotted(&[1], &[])),
            exit(None, Next::Nobody(Vec::new())),
        ),
        (
            "slot: release: refused, somebody waits",
            Some(slotted(&[1], &[2])),
            exit(mine, Next::Nobody(Vec::new())),
        ),
        (
            "slot: release: the first place waits for the whole key",
            Some(for_whole(&[1, 3])),
            exit(mine, Next::Others),
        ),
        (
            "slot: release: refused, no other slot is held",
            Some(for_whole(&[1])),
            exit(mine, Next::Others),
        ),
        (
            "slot: hand over: to places",
            Some(slotted(&[1, 4], &[2, 3])),
            exit(mine, Next::Slots(given(&[2, 3]))),
        ),
        (
            "slot: hand over: refused, too many",
            Some(slotted(&[1, 4, 5], &[2, 3])),
            exit(mine, Next::Slots(given(&[2, 3]))),
        ),
        (
            "slot: hand over: the whole key",
            Some(for_whole(&[1])),
            exit(mine, Next::Whole(whole, given(&[]))),
        ),
        (
            "slot: hand over: refused, another slot is held",
            Some(for_whole(&[1, 3])),
            exit(mine, Next::Whole(whole, given(&[]))),
        ),
        ("open: slots for places", Some(held_with_slots), open),
        (
            "claim: the whole key from the first place",
            Some(for_whole(&[])),
            claim.clone(),
        ),
        (
            "claim: refused, a slot is held",
            Some(for_whole(&[1])),
            claim,
        ),
        (
            "evict: exactly what was seen",
            Some(slotted(&[1, 3], &[])),
            evict.clone(),
        ),
        (
            "evict: refused, it is gone",
            Some(slotted(&[3], &[])),
            evict,
        ),
        (
            "acquire: refused, a slot is held",
            Some(slotted(&[1], &[])),
            Write::Acquire(grant(2)),
        ),
        (
            "join: for a slot, with the limit",
            Some(held(&[])),
            join(place(2).for_slot(), Some(3)),
        ),
        (
            "join: for the whole key, behind a slot",
            Some(slotted(&[1], &[])),
            join(place(2), None),
        ),
        (
            "join: refused, it has a slot",
            Some(slotted(&[1], &[])),
            join(place(1).for_slot(), Some(3)),
        ),
        (
            "join: refused, another limit of slots",
            Some(slotted(&[1], &[])),
            join(place(2).for_slot(), Some(4)),
        ),
    ]
}
