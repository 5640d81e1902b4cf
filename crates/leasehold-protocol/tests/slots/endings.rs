//! Renewals, releases, hand-overs and removals.

use super::*;

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
