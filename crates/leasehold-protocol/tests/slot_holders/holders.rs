//! Slots, as those see them who hold one.

use super::*;

/// A slot of 3, beside these, with these waiting.
fn entered(beside: &[u8], waiting: &[Place], clock: &ServiceClock) -> (Kept, Record) {
    let mut me = wants(3, Want::Slot(2));
    verdict(&mut me, &slotted(beside, &[]), 0, clock);
    let (request, write) = me.request(None, clock, reading(0));
    let mut record = applied(&slotted(beside, &[]), &write);
    record.queue = waiting.to_vec();
    let granted = me.applied(&request, &record, clock, reading(0));
    assert!(!granted.impossible_seed);
    assert_eq!(granted.description, None);
    let kept = Kept::new("k".into(), id(3), &granted, terms());
    assert!(!kept.is_slot());
    let kept = kept.of_slot(me.label());
    assert!(kept.is_slot());
    assert_eq!(kept.places(), Slots::places(2));
    (kept, record)
}

#[test]
fn a_slot_is_kept_by_its_own_entry() {
    let clock = sampled(WALL);
    let (mut kept, record) = entered(&[1], &[], &clock);
    let token = record.slot_of(id(3)).expect("ours").token;
    assert!(kept.is_ours(&record));
    let (_, write) = kept.renew(&clock, reading(7_000), false);
    let renewed = applied(&record, &write);
    assert_eq!(renewed.slot_of(id(1)), record.slot_of(id(1)));
    assert_eq!(
        renewed.slot_of(id(3)).expect("ours").expires_at,
        kept.expires_at()
    );
    assert_eq!(renewed.slot_of(id(3)).expect("ours").token, token);
    // A renewal that landed without an answer is recognised, and its deadline counts.
    let before = kept.deadline();
    let refused = kept.renewal_refused(Some(&renewed), &clock, reading(7_100));
    assert_eq!(refused, RenewalRefused::StillOurs);
    assert!(kept.deadline().at > before.at);
    // Once it is gone, it is lost.
    let gone = slotted(&[1], &[]);
    let lost = |kept: &mut Kept, record| kept.renewal_refused(record, &clock, reading(7_200));
    assert_eq!(
        lost(&mut kept, Some(&gone)),
        RenewalRefused::Lost(Ended::Superseded)
    );
    assert_eq!(lost(&mut kept, None), RenewalRefused::Lost(Ended::NoRecord));
    let mut last = gone.clone();
    last.native.as_mut().expect("ours").token = token;
    assert_eq!(
        lost(&mut kept, Some(&last)),
        RenewalRefused::Lost(Ended::Superseded)
    );
    assert!(kept.shows_release(Some(&gone)) && !kept.shows_release(Some(&renewed)));
    let other_token = Record {
        slots: Some(Slots {
            limit: 2,
            held: vec![Slot {
                token: token + 1,
                ..record.slot_of(id(3)).expect("ours").clone()
            }],
        }),
        ..record
    };
    assert!(!kept.is_ours(&other_token));
}

#[test]
fn the_end_of_a_slot_is_for_those_who_wait() {
    let clock = sampled(WALL);
    let end =
        |kept: &Kept| match kept.release(false, reading(1_000).elapsed, &clock, reading(1_000)) {
            Write::Slot(SlotWrite::Exit {
                token, next, held, ..
            }) => {
                assert!(token.is_some());
                assert_eq!(held, Some(Duration::from_secs(1)));
                next
            }
            other => panic!("{other:?}"),
        };
    let (shared, whole) = (place(5).for_slot(), place(6));
    let with = |beside: &[u8], waiting: &[Place]| {
        let (kept, record) = entered(beside, waiting, &clock);
        let next = end(&kept);
        let after = apply(
            Some(&record),
            &kept.release(false, reading(1_000).elapsed, &clock, reading(1_000)),
        );
        assert!(after.is_ok(), "{next:?}");
        next
    };
    assert_eq!(with(&[1], &[]), Next::Nobody(Vec::new()));
    // An own place is none.
    let own = place(3).for_slot();
    assert_eq!(with(&[1], &[own]), Next::Nobody(vec![own]));
    match with(&[1], &[own, shared, place(7).for_slot()]) {
        Next::Slots(given) => {
            assert_eq!((given.passed, given.places), (vec![own], vec![shared]));
            // The claim of the place, and the padding.
            assert_eq!(given.expires_at, ServiceTime(WALL + 1_002 + 3_000 + 1_000));
            assert_eq!(
                (given.limit, given.acquired_at),
                (2, ServiceTime(WALL + 1_002))
            );
            assert_eq!(given.token, u64::try_from(WALL).expect("late") + 1_003);
        }
        other => panic!("{other:?}"),
    }
    // As many as there is room, up to one that wants the whole key.
    match with(&[], &[shared, place(7).for_slot(), place(8).for_slot()]) {
        Next::Slots(given) => assert_eq!(given.places, [shared, place(7).for_slot()]),
        other => panic!("{other:?}"),
    }
    match with(&[], &[shared, whole, place(8).for_slot()]) {
        Next::Slots(given) => assert_eq!(given.places, [shared]),
        other => panic!("{other:?}"),
    }
    assert_eq!(with(&[1], &[whole, shared]), Next::Others);
    match with(&[], &[own, whole, shared]) {
        Next::Whole(next, given) => {
            assert_eq!(
                (next, given.passed, given.places),
                (whole, vec![own], Vec::new())
            );
        }
        other => panic!("{other:?}"),
    }
    // A place of one that has a slot by now.
    match with(&[1], &[place(1).for_slot(), shared]) {
        Next::Slots(given) => assert_eq!(
            (given.passed, given.places),
            (vec![place(1).for_slot()], vec![shared])
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_end_of_the_whole_key_opens_its_slots() {
    let clock = sampled(WALL);
    let mut me = wants(3, Want::Whole);
    let (request, write) = me.request(None, &clock, reading(0));
    let mut record = applied(&slotted(&[], &[]), &write);
    record.queue = [4, 5, 6].map(|n| place(n).for_slot()).to_vec();
    let granted = me.applied(&request, &record, &clock, reading(0));
    let kept = Kept::new("k".into(), id(3), &granted, terms());
    let write = kept.release(false, reading(1_000).elapsed, &clock, reading(1_000));
    match &write {
        Write::Slot(SlotWrite::Open { given, .. }) => assert_eq!(given.places.len(), 2),
        other => panic!("{other:?}"),
    }
    let after = applied(&record, &write);
    assert_eq!((after.state(), after.queue.len()), (State::Released, 1));
    assert!(!kept.shows_release(Some(&after)));
    // The receiver recognises its slot, and counts it from before the hand-over.
    let mut waiter = wants(4, Want::Slot(2));
    waiter.join(CLAIM, ServiceTime(i64::MAX), reading(500));
    let granted = ours(&mut waiter, &after, 1_100, &clock);
    assert!(granted.description.is_some());
    assert_eq!(
        granted.token.stored(),
        after.slot_of(id(4)).expect("its slot").token
    );
    assert_eq!(
        granted.crowd.as_ref().map(|crowd| &crowd.others[..]),
        Some(&[id(5)][..])
    );
    let claim = granted.deadline.at;
    assert!(claim < at(500 + 20_000), "{claim:?}");
    let mut kept = Kept::new("k".into(), id(4), &granted, terms()).of_slot("me".into());
    assert!(kept.is_undescribed());
    let (sent, write) = kept.renew(&clock, reading(1_200), false);
    let named = applied(&after, &write);
    assert_eq!(named.slot_of(id(4)).expect("its slot").label, "me");
    kept.renewed(&sent, &clock, reading(1_300));
    assert!(!kept.is_undescribed());
}

#[test]
fn what_an_attempt_has_got_is_given_back() {
    let clock = sampled(WALL);
    let me = wants(3, Want::Slot(2));
    let record = slotted(&[1, 3], &[]);
    let write = me.give_back(&record, &clock, reading(0)).expect("ours");
    let after = applied(&record, &write);
    assert!(after.slot_of(id(3)).is_none() && after.slot_of(id(1)).is_some());
    assert_eq!(me.give_back(&slotted(&[1], &[]), &clock, reading(0)), None);
    match me.give_back(&slotted(&[1, 3], &[5]), &clock, reading(0)) {
        Some(Write::Slot(SlotWrite::Exit {
            next: Next::Slots(given),
            ..
        })) => {
            assert_eq!(given.places, [place(5).for_slot()]);
        }
        other => panic!("{other:?}"),
    }
    for write in [
        me.abandon(&clock, reading(0)),
        me.release_late(slot(3).token, &clock, reading(0)),
    ] {
        assert!(applied(&record, &write).slot_of(id(3)).is_none());
    }
}

#[test]
fn who_else_holds_a_slot() {
    assert_eq!(Crowd::of(&held_by(9), id(1)), None);
    let crowd = Crowd::of(&slotted(&[1, 2], &[]), id(1)).expect("slots");
    assert_eq!(
        (crowd.limit, crowd.others, crowd.token),
        (2, vec![id(2)], TOKEN)
    );
}
