//! How a slot is taken, and when not.

use super::*;

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
