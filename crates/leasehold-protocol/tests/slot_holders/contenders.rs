//! Slots, as those see them who want one.

use super::*;

#[test]
fn a_client_sees_one_holder() {
    let seen = |record: &Record, n, want| {
        let view = record.seen_by(id(n), want, None).into_owned();
        (owner(&view), view.expires_at, view.native.expect("ours"))
    };
    let two = Want::Slot(2);
    let as_seen = |n| {
        let native = Native {
            token: slot(n).token,
            lease: LEASE,
            renew_count: u64::try_from(ends(n).0).expect("late"),
        };
        (Some(id(n).to_string()), ends(n), native)
    };
    // Its own slot; without one, and without room, the one that ends first.
    assert_eq!(seen(&slotted(&[2, 1], &[]), 2, two), as_seen(2));
    assert_eq!(seen(&slotted(&[2, 1], &[]), 3, two), as_seen(1));
    assert_eq!(seen(&slotted(&[2], &[]), 3, Want::Whole), as_seen(2));
    // With room, nobody.
    assert_eq!(seen(&slotted(&[2], &[]), 3, two).0, None);
    assert_eq!(seen(&slotted(&[2], &[3, 4]), 3, two).0, None);
    assert_eq!(seen(&slotted(&[], &[]), 3, Want::Whole).0, None);
    // With room, and others before it, the first of them.
    let (who, until, native) = seen(&slotted(&[2], &[4, 3]), 3, two);
    assert_eq!((who, until), (Some(id(4).to_string()), FOR_EVER));
    assert_eq!(
        (native.token, native.lease, native.renew_count),
        (TOKEN, Duration::ZERO, 0)
    );
    let first = slotted(&[2], &[4, 3])
        .seen_by(id(3), two, None)
        .into_owned();
    assert_eq!(first.holder.as_deref(), Some("the first in its queue"));
    let each: Vec<_> = slotted(&[2, 1], &[])
        .held_slots()
        .map(|view| owner(&view))
        .collect();
    assert_eq!(each, [2, 1].map(|n| Some(id(n).to_string())));
    // The holder of the whole key.
    let whole = Record {
        slots: slotted(&[], &[]).slots,
        ..held_by(9)
    };
    assert_eq!(whole.seen_by(id(3), two, None).into_owned(), whole);
    let view = slotted(&[1], &[]).seen_by(id(1), two, None).into_owned();
    assert_eq!(
        (view.holder.as_deref(), &view.data, view.acquired_at),
        (Some("other"), &None, None)
    );
    let mut unnamed = slotted(&[1], &[]);
    unnamed.slots.as_mut().expect("slots").held[0].label.clear();
    assert_eq!(unnamed.seen_by(id(1), two, None).holder, None);
    assert_eq!((Want::Whole.limit(), two.limit()), (None, Some(2)));
}

#[test]
fn a_slot_is_asked_for_by_what_was_seen_of_the_record() {
    let clock = sampled(WALL);
    let mut me = wants(3, Want::Slot(2));
    assert!(me.must_look() && !wants(3, Want::Whole).must_look());
    let entry = |me: &mut Attempt, over, clock: &ServiceClock, ms| match me
        .request(over, clock, reading(ms))
        .1
    {
        Write::Slot(SlotWrite::Enter(entry)) => entry,
        other => panic!("{other:?}"),
    };
    // Nothing is known: the token starts at service time, and the slots with this one.
    let first = entry(&mut me, None, &clock, 0);
    let seed = u64::try_from(WALL).expect("late") + 1;
    assert_eq!((first.token, first.limit, first.first), (seed + 1, 2, true));
    assert_eq!((&first.over, &first.places[..]), (&None, &[][..]));
    assert_eq!(
        verdict(&mut me, &slotted(&[1], &[]), 0, &clock),
        Verdict::Free
    );
    assert!(!me.must_look());
    let known = entry(&mut me, None, &clock, 0);
    assert_eq!((known.token, known.first), (seed + 1, false));
    assert_eq!(known.slot().label, "me");
    // Above the record's token, where service time is not known, or is behind.
    let entered = entry(&mut me, None, &unsampled(), 0);
    assert_eq!(entered.token, TOKEN + 1);
    let mut late = slotted(&[1], &[]);
    late.native.as_mut().expect("ours").token = 2 * seed;
    verdict(&mut me, &late, 0, &clock);
    assert_eq!(entry(&mut me, None, &clock, 0).token, 2 * seed + 1);
    // From its own place.
    verdict(&mut me, &slotted(&[1], &[3, 4]), 0, &clock);
    assert_eq!(
        entry(&mut me, None, &clock, 0).places,
        [place(3).for_slot()]
    );
    // A record without slots.
    let free = Record {
        slots: None,
        ..slotted(&[], &[])
    };
    assert_eq!(verdict(&mut me, &free, 0, &clock), Verdict::Free);
    assert!(entry(&mut me, None, &clock, 0).first);
    // Its token counts all the same.
    let mut late = free;
    late.native.as_mut().expect("ours").token = 3 * seed;
    verdict(&mut me, &late, 0, &clock);
    assert_eq!(entry(&mut me, None, &clock, 0).token, 3 * seed + 1);
}

#[test]
fn a_place_for_the_whole_key_is_not_passed_while_a_slot_is_held() {
    let two = Want::Slot(2);
    let mut record = slotted(&[2], &[5, 3, 6]);
    record.queue[0] = place(4);
    // There is room, but the first place wants the whole key: all wait for the slot that is held.
    for n in [3, 6, 7] {
        let view = record.seen_by(id(n), two, None).into_owned();
        assert_eq!(owner(&view), Some(id(2).to_string()), "{n}");
        assert!(record.must_drain(id(n), two, None), "{n}");
    }
    assert!(record.must_drain(id(4), Want::Whole, None));
    // Its end is removed at once by the first two, and only removed.
    let clock = sampled(WALL);
    let removal = Write::Slot(SlotWrite::Evict {
        key: "k".into(),
        slot: slot(2),
    });
    for (n, want) in [(4, Want::Whole), (3, two)] {
        let mut me = wants(n, want);
        let end = verdict(&mut me, &record, 23_300, &clock);
        let Verdict::TakeOver(seen, places) = end else {
            panic!("{end:?}");
        };
        assert_eq!(places, [], "{n}");
        let write = me.request(Some((seen, places)), &clock, reading(23_300)).1;
        assert_eq!(write, removal, "{n}");
    }
    // Others leave it to those before them, for the claims of these.
    for n in [6, 7] {
        let mut me = wants(n, two);
        let wait = verdict(&mut me, &record, 23_300, &clock);
        assert!(matches!(wait, Verdict::Wait { .. }), "{n}");
        let end = verdict(&mut me, &record, 53_300, &clock);
        let Verdict::TakeOver(seen, places) = end else {
            panic!("{end:?}");
        };
        let write = me.request(Some((seen, places)), &clock, reading(53_300)).1;
        assert_eq!(write, removal, "{n}");
    }
    // Behind a place for a slot, too, and no longer than that contender waits.
    record.queue.swap(0, 1);
    record.queue[1] = Place::new(id(4), LEASE, CLAIM, ServiceTime(WALL + 1_000));
    let by = |ms| record.seen_by(id(6), two, Some(ServiceTime(WALL + ms)));
    assert_eq!(owner(&by(1_000)), Some(id(2).to_string()));
    assert_eq!(owner(&by(1_001)), Some(id(3).to_string()));
    assert!(!record.must_drain(id(6), two, Some(ServiceTime(WALL + 1_001))));
    // The first place has room.
    assert!(!record.must_drain(id(3), two, None));
    assert_eq!(owner(&record.seen_by(id(3), two, None)), None);
    // Without a slot that is held, the claim of the first place counts.
    record.slots.as_mut().expect("slots").held.clear();
    assert_eq!(
        owner(&record.seen_by(id(6), two, None)),
        Some(id(3).to_string())
    );
    assert!(!record.must_drain(id(6), two, None) && !record.must_drain(id(4), Want::Whole, None));
    // Nor while somebody has the whole key.
    record = Record {
        slots: slotted(&[1], &[]).slots,
        ..held_by(9)
    };
    assert!(!record.must_drain(id(4), Want::Whole, None));
}

#[test]
fn what_is_over_is_taken_over_exactly() {
    let clock = sampled(WALL);
    let over = |me: &mut Attempt, record: &Record, ms| match verdict(me, record, ms, &clock) {
        Verdict::TakeOver(seen, places) => me.request(Some((seen, places)), &clock, reading(ms)).1,
        other => panic!("{other:?}"),
    };
    let full = slotted(&[1, 2], &[]);
    let mut me = wants(3, Want::Slot(2));
    assert!(matches!(
        verdict(&mut me, &full, 20_000, &clock),
        Verdict::Wait { ends: Some(_) }
    ));
    match over(&mut me, &full, 22_300) {
        Write::Slot(SlotWrite::Enter(entry)) => assert_eq!(entry.over, Some(Over::Slot(slot(1)))),
        other => panic!("{other:?}"),
    }
    // A contender for the whole key removes it, and goes on.
    let mut whole = wants(4, Want::Whole);
    let write = over(&mut whole, &full, 22_300);
    assert_eq!(
        write,
        Write::Slot(SlotWrite::Evict {
            key: "k".into(),
            slot: slot(1)
        })
    );
    let left = applied(&full, &write);
    assert!(matches!(
        verdict(&mut whole, &left, 22_300, &clock),
        Verdict::Wait { .. }
    ));
    let write = over(&mut whole, &left, 23_300);
    let left = applied(&left, &write);
    assert_eq!(verdict(&mut whole, &left, 23_300, &clock), Verdict::Free);
    let (request, write) = whole.request(None, &clock, reading(23_300));
    assert!(matches!(write, Write::Acquire(_)));
    let record = applied(&left, &write);
    let granted = whole.applied(&request, &record, &clock, reading(23_300));
    assert_eq!(
        granted.crowd.map(|crowd| (crowd.limit, crowd.others)),
        Some((2, vec![]))
    );
    // A dead holder of the whole key.
    let held = Record {
        slots: slotted(&[], &[]).slots,
        ..held_by(9)
    };
    match over(&mut wants(3, Want::Slot(2)), &held, 21_300) {
        Write::Slot(SlotWrite::Enter(entry)) => match entry.over {
            Some(Over::Whole(Seen::Native { owner, .. })) => assert_eq!(owner, id(9).to_string()),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
    match over(&mut wants(3, Want::Whole), &held, 21_300) {
        Write::TakeOver(_, Seen::Native { owner, .. }, _) => assert_eq!(owner, id(9).to_string()),
        other => panic!("{other:?}"),
    }
    // Records of F# clients are left alone.
    let foreign = Record {
        native: None,
        ..held_by(9)
    };
    let mut me = wants(3, Want::Slot(2));
    assert_eq!(
        verdict(&mut me, &foreign, 90_000, &clock),
        Verdict::Wait { ends: None }
    );
}

#[test]
fn a_place_that_does_not_take_its_slot_in_time_is_passed() {
    let clock = sampled(WALL);
    let record = slotted(&[1], &[5, 4]);
    let mut second = wants(4, Want::Slot(2));
    assert!(matches!(
        verdict(&mut second, &record, 0, &clock),
        Verdict::Wait { .. }
    ));
    let claim = u64::try_from(CLAIM.as_millis()).expect("short");
    assert!(matches!(
        verdict(&mut second, &record, claim, &clock),
        Verdict::Wait { .. }
    ));
    let places = record.queue.clone();
    let Verdict::TakeOver(seen, passed) = verdict(&mut second, &record, claim + 4, &clock) else {
        panic!("its claim has passed");
    };
    assert_eq!(passed, places);
    match second
        .request(Some((seen, passed)), &clock, reading(claim + 4))
        .1
    {
        Write::Slot(SlotWrite::Enter(entry)) => {
            assert_eq!((entry.over, entry.places), (None, places))
        }
        other => panic!("{other:?}"),
    }
    // The same for the whole key.
    let record = Record {
        queue: vec![place(5), place(4)],
        ..slotted(&[], &[])
    };
    let mut whole = wants(4, Want::Whole);
    verdict(&mut whole, &record, 0, &clock);
    let Verdict::TakeOver(seen, passed) = verdict(&mut whole, &record, claim + 4, &clock) else {
        panic!("its claim has passed");
    };
    match whole
        .request(Some((seen, passed)), &clock, reading(claim + 4))
        .1
    {
        Write::Slot(SlotWrite::Claim(_, places)) => assert_eq!(places, record.queue),
        other => panic!("{other:?}"),
    }
    let mut first = wants(5, Want::Whole);
    assert_eq!(verdict(&mut first, &record, 0, &clock), Verdict::Free);
    match first.request(None, &clock, reading(0)).1 {
        Write::Slot(SlotWrite::Claim(_, places)) => assert_eq!(places, [place(5)]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_place_says_what_it_waits_for() {
    let join = |me: &mut Attempt| match me.join(CLAIM, ServiceTime(i64::MAX), reading(0)) {
        Write::Join {
            place, limit, most, ..
        } => (place.is_for_slot(), limit, most),
        other => panic!("{other:?}"),
    };
    let clock = sampled(WALL);
    assert_eq!(
        join(&mut wants(3, Want::Slot(2))),
        (true, Some(2), Slots::places(2))
    );
    assert_eq!(join(&mut wants(3, Want::Whole)), (false, None, PLACES));
    let mut whole = wants(3, Want::Whole);
    verdict(&mut whole, &slotted(&[1], &[]), 0, &clock);
    assert_eq!(join(&mut whole), (false, None, Slots::places(2)));
}

#[test]
fn another_limit_is_told() {
    let other = |record: &Record, limit| wants(3, Want::Slot(limit)).other_limit(record);
    assert_eq!(other(&slotted(&[1], &[]), 3), Some(2));
    assert_eq!(other(&slotted(&[], &[4]), 3), Some(2));
    assert_eq!(other(&slotted(&[1], &[]), 2), None);
    assert_eq!(other(&slotted(&[], &[]), 3), None);
    assert_eq!(other(&held_by(9), 3), None);
    assert_eq!(wants(3, Want::Whole).other_limit(&slotted(&[1], &[])), None);
}
