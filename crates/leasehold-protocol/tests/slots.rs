//! Slots: what each write does to a record, and when it is refused (S8).

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

#[test]
fn a_slot_and_its_name_read_back() {
    for n in [0, 7, 255] {
        let attempt = id(n);
        assert_eq!(attempt.digits().len(), 22);
        assert_eq!(AttemptId::from_digits(&attempt.digits()), Some(attempt));
    }
    assert_eq!(id(0).digits(), "AAAAAAAABAAIAAAAAAAAAA");
    for odd in [
        "",
        "A",
        "AAAAAAAABAAIAAAAAAAAA=",
        "EAAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAABAAIAAAAAAAAAA",
    ] {
        assert_eq!(AttemptId::from_digits(odd), None, "{odd}");
    }
    let (token, end) = (0x0102_0304_0506_0708, ServiceTime(0x090a_0b0c_0d0e));
    let slot = Slot::new(id(1), token, end, Duration::from_millis(0x0f10_1112), "ab");
    let bytes = slot.to_bytes();
    assert_eq!(bytes[..18], (1..=18).collect::<Vec<u8>>());
    assert_eq!(bytes[18..], *b"ab");
    assert_eq!(Slot::from_bytes(id(1), &bytes), Some(slot));
    assert_eq!(Slot::from_bytes(id(1), &bytes[..17]), None);
    assert_eq!(
        Slot::from_bytes(id(1), &[&bytes[..], &[0xff]].concat()),
        None
    );
    let least = Slot::new(id(1), 1, ServiceTime(-5), Duration::from_nanos(1), "");
    assert_eq!(
        (least.expires_at, least.lease),
        (ServiceTime(0), Duration::from_millis(1))
    );
    let most = Slot::new(id(1), 1, ServiceTime(1), Duration::MAX, "");
    assert_eq!(most.lease, Duration::from_millis(u32::MAX.into()));
    assert_eq!(Slot::from_bytes(id(1), &most.to_bytes()), Some(most));
}

#[test]
fn stored_slots_of_a_token_are_in_the_order_of_their_expiries() {
    let at = |token, ms| Slot::new(id(1), token, ServiceTime(ms), LEASE, "me").to_bytes();
    let (low, high) = Slot::stored_before(7, Some(ServiceTime(500)));
    let within = |bytes: &[u8]| bytes >= &low[..] && bytes < &high[..];
    assert!(within(&at(7, 0)) && within(&at(7, 499)));
    for other in [at(7, 500), at(7, 501), at(6, 499), at(8, 0)] {
        assert!(!within(&other));
    }
    let (low, high) = Slot::stored_before(7, None);
    let within = |bytes: &[u8]| bytes >= &low[..] && bytes < &high[..];
    assert!(within(&at(7, 0)) && within(&at(7, i64::MAX >> 16)));
    assert!(!within(&at(6, 9)) && !within(&at(8, 0)));
}

#[test]
fn no_lease_of_a_slot_outlasts_the_retention_of_another() {
    assert_eq!(LONGEST_LEASE, Duration::from_secs(43_200));
}

#[test]
fn a_label_is_cut_between_characters() {
    assert_eq!(
        short_label("a label of some length"),
        "a label of some leng"
    );
    assert_eq!(short_label("short"), "short");
    assert_eq!(short_label(""), "");
    assert_eq!(
        short_label("1234567890123456789\u{e4}\u{e4}"),
        "1234567890123456789"
    );
    assert_eq!(short_label(&"x".repeat(LABEL_BYTES)).len(), LABEL_BYTES);
}

#[test]
fn fewer_places_are_behind_more_slots() {
    let places: Vec<usize> = [1, 3, 8, 1_000].map(Slots::places).into();
    assert_eq!(places, [PLACES - 2, PLACES - 6, PLACES - 8, PLACES - 8]);
    assert_eq!(slotted(&[], &[]).places(None), PLACES - 6);
    assert_eq!(slotted(&[], &[]).places(Some(1)), PLACES - 2);
    assert_eq!(held_by(9).places(None), PLACES);
}

#[test]
fn the_first_slot_begins_a_record_or_is_added_to_one() {
    let first = Entry {
        first: true,
        ..entry(1)
    };
    let made = apply(None, &enter(first.clone()))
        .expect("free")
        .expect("a record");
    assert_eq!(
        (made.key.as_str(), &made.owner, made.expires_at),
        ("k", &None, ServiceTime(0))
    );
    let slots = made.slots.expect("slots");
    assert_eq!((slots.limit, &slots.held[..]), (3, &[first.slot()][..]));
    assert_eq!(made.native.expect("ours").token, TOKEN + 1);
    assert_eq!(made.ttl_seconds, Some(55));
    // The record of a lock that is free.
    let free = Record {
        slots: None,
        ..slotted(&[], &[])
    };
    let made = applied(&free, &enter(first.clone()));
    assert_eq!(holders(&made), ids(&[1]));
    // What the caller has not seen is refused.
    refused(&slotted(&[], &[]), &enter(first.clone()));
    refused(&free, &enter(entry(1)));
    assert_eq!(apply(None, &enter(entry(1))), Err(ConditionFailed));
    let over = Entry {
        over: Some(Over::Slot(slot(2))),
        ..first.clone()
    };
    assert_eq!(apply(None, &enter(over)), Err(ConditionFailed));
    refused(&held_by(9), &enter(first.clone()));
    let foreign = Record {
        native: None,
        ..held_by(9)
    };
    refused(&foreign, &enter(first));
}

#[test]
fn no_more_slots_are_taken_than_the_limit() {
    let before = slotted(&[1, 2], &[]);
    let after = applied(&before, &enter(entry(3)));
    assert_eq!(holders(&after), ids(&[1, 2, 3]));
    assert_eq!(after.ttl_seconds, Some(55));
    assert_eq!(after.token(), Some(TOKEN + 1));
    let late = Entry {
        token: TOKEN + 2,
        ..entry(4)
    };
    refused(&after, &enter(late));
    // The token is above that of the record.
    let same = Entry {
        token: TOKEN,
        ..entry(3)
    };
    refused(&before, &enter(same));
    // The same attempt does not get a second one.
    refused(&before, &enter(entry(1)));
    // Not while the whole key is held.
    refused(&whole(&[]), &enter(entry(3)));
}

#[test]
fn a_limit_changes_only_while_nobody_holds_or_waits() {
    let with = |limit| Entry { limit, ..entry(3) };
    for limit in [2, 4] {
        refused(&slotted(&[1], &[]), &enter(with(limit)));
        refused(&slotted(&[], &[4]), &enter(with(limit)));
        let changed = applied(&slotted(&[], &[]), &enter(with(limit)));
        assert_eq!(changed.slots.expect("slots").limit, limit);
    }
    let join = |limit| Write::Join {
        key: "k".into(),
        place: place(5).for_slot(),
        limit: Some(limit),
        most: PLACES,
        bound_to_process: false,
    };
    refused(&slotted(&[1], &[]), &join(4));
    refused(&whole(&[6]), &join(4));
    assert_eq!(
        applied(&whole(&[]), &join(4)).slots.expect("slots").limit,
        4
    );
    assert_eq!(
        applied(&held_by(9), &join(4)).slots.expect("slots").limit,
        4
    );
}

#[test]
fn a_dead_holder_is_replaced_exactly_as_it_was_seen() {
    let over = |over| Entry {
        over: Some(over),
        ..entry(4)
    };
    let full = slotted(&[1, 2, 3], &[]);
    let after = applied(&full, &enter(over(Over::Slot(slot(2)))));
    assert_eq!(holders(&after), ids(&[1, 3, 4]));
    let renewed = Slot {
        expires_at: ServiceTime(WALL + 21_001),
        ..slot(2)
    };
    refused(&full, &enter(over(Over::Slot(renewed))));
    refused(&slotted(&[1, 3], &[]), &enter(over(Over::Slot(slot(2)))));

    let seen = |token, renew_count| {
        over(Over::Whole(Seen::Native {
            owner: id(9).to_string(),
            token,
            renew_count,
        }))
    };
    // The token of the grant there is 7.
    let after = applied(&whole(&[]), &enter(seen(7, 2)));
    assert_eq!((&after.owner, after.expires_at), (&None, ServiceTime(0)));
    assert_eq!(
        after.data,
        whole(&[]).data,
        "for the next holder of the whole key"
    );
    assert_eq!(holders(&after), ids(&[4]));
    let done = Record {
        done: Some(Done {
            at: ServiceTime(WALL),
            failed: false,
            input: None,
        }),
        ..whole(&[])
    };
    let after = applied(&done, &enter(seen(7, 2)));
    assert_eq!(
        (after.data, after.done),
        (None, None),
        "a result is no payload"
    );
    refused(&whole(&[]), &enter(seen(8, 2)));
    refused(&whole(&[]), &enter(seen(7, 3)));
    let dead = Record {
        holder_is_dead: true,
        ..whole(&[])
    };
    assert!(!applied(&dead, &enter(seen(7, 2))).holder_is_dead);
}

#[test]
fn whoever_waits_is_not_passed() {
    let from = |places: &[u8]| Entry {
        places: places.iter().map(|n| place(*n).for_slot()).collect(),
        ..entry(5)
    };
    refused(&slotted(&[1], &[4]), &enter(from(&[])));
    let after = applied(&slotted(&[1], &[4, 5, 6]), &enter(from(&[4, 5])));
    assert_eq!(after.queue, [place(6).for_slot()]);
    refused(&slotted(&[1], &[5, 4]), &enter(from(&[4, 5])));
    // The same for the whole key.
    let claim = |places: &[u8]| {
        let places = places.iter().map(|n| place(*n)).collect();
        Write::Slot(SlotWrite::Claim(grant(5), places))
    };
    let free = |waiting: &[u8]| Record {
        queue: waiting.iter().map(|n| place(*n)).collect(),
        ..slotted(&[], &[])
    };
    let after = applied(&free(&[5, 6]), &claim(&[5]));
    assert_eq!(after.owner, Some(id(5).to_string()));
    assert_eq!(
        (after.queue.clone(), after.token()),
        (vec![place(6)], Some(TOKEN + 1))
    );
    assert_eq!(after.slots, free(&[]).slots);
    refused(&free(&[5]), &claim(&[]));
    refused(&free(&[6, 5]), &claim(&[5]));
    applied(&free(&[]), &claim(&[]));
    refused(&slotted(&[1], &[]), &claim(&[]));
    assert_eq!(apply(None, &claim(&[])), Err(ConditionFailed));
    refused(&free(&[5]), &Write::Acquire(grant(5)));
    refused(&slotted(&[1], &[]), &Write::Acquire(grant(5)));
    applied(&free(&[]), &Write::Acquire(grant(5)));
}

#[test]
fn a_renewal_moves_the_expiry_of_one_slot_forward() {
    let to = |n, token, ms| {
        Write::Slot(SlotWrite::Extend {
            key: "k".into(),
            slot: Slot {
                token,
                ..Slot::new(id(n), 0, ServiceTime(WALL + ms), LEASE, "renewed")
            },
            ttl_seconds: 88,
            bound_to_process: false,
        })
    };
    let before = slotted(&[1, 2], &[]);
    let after = applied(&before, &to(2, slot(2).token, 21_001));
    let held = after.slots.expect("slots").held;
    assert_eq!(held[0], slot(1));
    assert_eq!(
        (held[1].expires_at, held[1].label.as_str()),
        (ServiceTime(WALL + 21_001), "renewed")
    );
    assert_eq!((after.ttl_seconds, after.native), (Some(88), before.native));
    refused(&before, &to(2, slot(2).token, 21_000));
    refused(&before, &to(2, slot(2).token + 1, 21_001));
    refused(&before, &to(3, slot(3).token, 21_001));
    assert_eq!(apply(None, &to(2, 1, 1)), Err(ConditionFailed));
}

#[test]
fn a_slot_is_released_if_nobody_waits() {
    let nobody =
        |places: &[u8]| Next::Nobody(places.iter().map(|n| place(*n).for_slot()).collect());
    let before = slotted(&[1, 2], &[4]);
    let after = applied(&before, &exit(1, Some(slot(1).token), nobody(&[4])));
    assert_eq!(holders(&after), ids(&[2]));
    assert_eq!((&after.queue[..], after.ttl_seconds), (&[][..], Some(77)));
    assert_eq!(after.last_hold, Some(Duration::from_millis(4_321)));
    assert_eq!(after.native, before.native);
    applied(&before, &exit(1, None, nobody(&[4])));
    refused(&before, &exit(1, Some(slot(1).token), nobody(&[])));
    refused(&before, &exit(1, Some(slot(2).token), nobody(&[4])));
    refused(&before, &exit(3, None, nobody(&[4])));
    let mut without = exit(1, None, nobody(&[4]));
    if let Write::Slot(SlotWrite::Exit {
        ttl_seconds, held, ..
    }) = &mut without
    {
        (*ttl_seconds, *held) = (None, None);
    }
    let after = applied(&before, &without);
    assert_eq!(
        (after.ttl_seconds, after.last_hold),
        (before.ttl_seconds, before.last_hold)
    );
}

#[test]
fn a_slot_is_left_to_a_place_that_waits_for_the_whole_key() {
    let waits = |holders: &[u8]| Record {
        queue: vec![place(4), place(5).for_slot()],
        ..slotted(holders, &[])
    };
    let after = applied(&waits(&[1, 2]), &exit(1, None, Next::Others));
    assert_eq!(
        (holders(&after), &after.queue),
        (ids(&[2]), &waits(&[]).queue)
    );
    refused(&waits(&[1]), &exit(1, None, Next::Others));

    let to = |n: u8, passed: &[u8]| {
        let passed = passed.iter().map(|n| place(*n)).collect();
        Next::Whole(
            place(n),
            Given {
                passed,
                ..given(&[])
            },
        )
    };
    let after = applied(&waits(&[1]), &exit(1, None, to(4, &[])));
    assert_eq!(after.owner, Some(id(4).to_string()));
    assert_eq!(holders(&after), ids(&[]));
    assert_eq!(after.queue, [place(5).for_slot()]);
    assert_eq!(
        (after.expires_at, after.holder, after.data),
        (ServiceTime(WALL + 9_000), None, None)
    );
    assert_eq!(
        (after.ttl_seconds, after.acquired_at),
        (Some(66), Some(ServiceTime(WALL + 5_000)))
    );
    let native = Native {
        token: TOKEN + 1,
        lease: LEASE,
        renew_count: 3,
    };
    assert_eq!(after.native, Some(native));
    refused(&waits(&[1, 2]), &exit(1, None, to(4, &[])));
    refused(&waits(&[1]), &exit(1, None, to(5, &[])));
    refused(&waits(&[1]), &exit(1, None, to(4, &[6])));
    let behind = Record {
        queue: vec![place(6), place(4)],
        ..slotted(&[1], &[])
    };
    assert!(
        applied(&behind, &exit(1, None, to(4, &[6])))
            .queue
            .is_empty()
    );
}

#[test]
fn slots_are_handed_over_to_places_as_many_as_there_is_room() {
    let before = slotted(&[1, 2], &[4, 5, 6]);
    let after = applied(&before, &exit(1, None, Next::Slots(given(&[4, 5]))));
    assert_eq!(holders(&after), ids(&[2, 4, 5]));
    let held = &after.slots.as_ref().expect("slots").held;
    let of = |n: usize| {
        (
            held[n].token,
            held[n].expires_at,
            held[n].lease,
            held[n].label.as_str(),
        )
    };
    assert_eq!(of(1), (TOKEN + 5, ServiceTime(WALL + 9_000), LEASE, ""));
    assert_eq!(of(2).0, TOKEN + 6);
    assert_eq!(
        (after.token(), after.ttl_seconds),
        (Some(TOKEN + 6), Some(66))
    );
    assert_eq!(after.queue, [place(6).for_slot()]);
    let with = |change: fn(&mut Given)| {
        let mut given = given(&[4, 5]);
        change(&mut given);
        exit(1, None, Next::Slots(given))
    };
    refused(&before, &with(|given| given.limit = 4));
    refused(&before, &with(|given| given.token = TOKEN));
    refused(&before, &with(|given| given.places.clear()));
    refused(
        &before,
        &with(|given| given.passed = vec![place(4).for_slot()]),
    );
    refused(&slotted(&[1, 2, 3], &[4, 5, 6]), &with(|_| {}));
    // One that has a slot by now.
    refused(&slotted(&[1, 4], &[4, 5, 6]), &with(|_| {}));
    let behind = applied(
        &slotted(&[1], &[7, 4, 5]),
        &with(|given| given.passed = vec![place(7).for_slot()]),
    );
    assert!(behind.queue.is_empty());
}

#[test]
fn the_whole_key_is_opened_for_places() {
    let before = whole(&[4, 5]);
    let after = applied(&before, &open(Some(7), given(&[4, 5])));
    assert_eq!(
        (&after.owner, after.expires_at, &after.data),
        (&None, ServiceTime(0), &None)
    );
    assert_eq!(holders(&after), ids(&[4, 5]));
    assert_eq!(after.last_hold, Some(Duration::from_millis(4_321)));
    applied(&before, &open(None, given(&[4])));
    let mut keeps = open(None, given(&[4]));
    if let Write::Slot(SlotWrite::Open { left, .. }) = &mut keeps {
        *left = Left::AsItIs;
    }
    assert_eq!(applied(&before, &keeps).data, before.data);
    refused(&before, &open(Some(8), given(&[4])));
    refused(&slotted(&[], &[4]), &open(None, given(&[4])));
    assert_eq!(apply(None, &open(None, given(&[4]))), Err(ConditionFailed));
    // Without slots there is no limit.
    let unknown = Record {
        slots: None,
        ..before
    };
    refused(&unknown, &open(Some(7), given(&[4])));
}

#[test]
fn a_dead_slot_is_removed_exactly_as_it_was_seen() {
    let before = slotted(&[1, 2], &[4]);
    let after = applied(&before, &evict(1));
    assert_eq!((holders(&after), &after.queue), (ids(&[2]), &before.queue));
    refused(&before, &evict(3));
    refused(&held_by(9), &evict(1));
    assert_eq!(apply(None, &evict(1)), Err(ConditionFailed));
}

#[test]
fn a_queue_is_behind_slots_and_behind_places() {
    let join = |place: Place, limit| Write::Join {
        key: "k".into(),
        place,
        limit,
        most: 2,
        bound_to_process: false,
    };
    let after = applied(&slotted(&[1], &[]), &join(place(4), None));
    assert_eq!(after.queue, [place(4)]);
    // It waits although there is room, since others wait before it.
    let waits = applied(&slotted(&[], &[4]), &join(place(5).for_slot(), Some(3)));
    assert_eq!(waits.queue.len(), 2);
    refused(&waits, &join(place(6).for_slot(), Some(3)));
    refused(&slotted(&[], &[]), &join(place(4).for_slot(), Some(3)));
    refused(&slotted(&[1], &[]), &join(place(1).for_slot(), Some(3)));
}

#[test]
fn each_write_has_a_name_and_a_key() {
    let named = [
        (enter(entry(1)), Operation::Acquire),
        (
            Write::Slot(SlotWrite::Claim(grant(1), Vec::new())),
            Operation::Acquire,
        ),
        (
            enter(Entry {
                over: Some(Over::Slot(slot(2))),
                ..entry(1)
            }),
            Operation::TakeOver,
        ),
        (evict(1), Operation::TakeOver),
        (
            Write::Slot(SlotWrite::Extend {
                key: "k".into(),
                slot: slot(1),
                ttl_seconds: 1,
                bound_to_process: false,
            }),
            Operation::Renew,
        ),
        (exit(1, None, Next::Nobody(Vec::new())), Operation::Release),
        (exit(1, None, Next::Others), Operation::Release),
        (exit(1, None, Next::Slots(given(&[4]))), Operation::HandOver),
        (
            exit(1, None, Next::Whole(place(4), given(&[]))),
            Operation::HandOver,
        ),
        (open(None, given(&[4])), Operation::HandOver),
    ];
    for (write, operation) in named {
        assert_eq!((write.operation(), write.key()), (operation, "k"));
    }
}
