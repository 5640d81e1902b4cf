//! The queue of a key: joining, leaving, handing over, taking over.

use std::time::Duration;

use crate::support::*;
use leasehold_protocol::queue::{PLACES, Place};
use leasehold_protocol::record::{Record, State};
use leasehold_protocol::takeover::{Observation, Rules, Verdict};
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::write::{ConditionFailed, Left, Write, apply};

fn join(n: u8) -> Write {
    Write::Join {
        key: "k".into(),
        place: place(n),
        limit: None,
        most: PLACES,
        bound_to_process: false,
    }
}

fn leave(n: u8, index: usize) -> Write {
    Write::Leave {
        key: "k".into(),
        place: place(n),
        index,
    }
}

#[test]
fn whoever_joins_is_the_last() {
    let before = queued(&[1]);
    let after = applied(&before, &join(2));
    assert_eq!(
        after,
        Record {
            queue: vec![place(1), place(2)],
            ..before
        }
    );
}

#[test]
fn a_join_that_is_applied_again_changes_nothing() {
    let once = applied(&queued(&[]), &join(1));
    refused(&once, &join(1));
    // With another behind it, too.
    refused(&applied(&once, &join(2)), &join(1));
}

#[test]
fn there_is_a_queue_behind_a_holder_of_this_library_only() {
    assert_eq!(apply(None, &join(1)), Err(ConditionFailed));
    let mut free = held_by(9);
    free.owner = None;
    refused(&free, &join(1));
    let mut foreign = held_by(9);
    foreign.native = None;
    refused(&foreign, &join(1));
}

#[test]
fn a_full_queue_takes_nobody() {
    let mut record = queued(&[]);
    for n in 0..PLACES {
        record = applied(&record, &join(u8::try_from(n).expect("few") + 10));
    }
    assert_eq!(record.queue.len(), PLACES);
    refused(&record, &join(1));
    // Not behind itself.
    refused(&queued(&[]), &join(9));
    let record = applied(&record, &leave(10, 0));
    applied(&record, &join(1));
}

#[test]
fn a_place_is_left_where_it_was_seen() {
    let record = queued(&[1, 2, 3]);
    let after = applied(&record, &leave(2, 1));
    assert_eq!(after.queue, [place(1), place(3)]);
    refused(&record, &leave(2, 0));
    refused(&record, &leave(2, 3));
    assert_eq!(apply(None, &leave(2, 1)), Err(ConditionFailed));
    // An attempt leaves the place that it has joined with.
    let mut me = attempt(4);
    assert_eq!(me.leave(0), None);
    let joined = applied(&record, &me.join(CLAIM, ServiceTime(5), reading(0)));
    let write = me.leave(3).expect("it has joined");
    assert_eq!(applied(&joined, &write).queue, record.queue);
}

#[test]
fn a_place_of_the_holder_itself_is_passed_when_its_grant_ends() {
    // A join that was delayed until its attempt had got the key.
    let (mut kept, record) = kept(&[1, 2]);
    kept.saw(&record);
    let after = applied(
        &record,
        &kept.release(false, reading(0).elapsed, &sampled(5_000), reading(0)),
    );
    assert!(id(2).owns(&after) && after.queue.is_empty());
    let record = Record {
        queue: vec![place(1)],
        ..record
    };
    kept.saw(&record);
    let after = applied(
        &record,
        &kept.release(false, reading(0).elapsed, &sampled(5_000), reading(0)),
    );
    assert_eq!(after.state(), State::Released);
}

#[test]
fn a_hand_over_makes_a_grant_of_the_next_place() {
    let before = queued(&[1, 2, 3]);
    let after = applied(&before, &hand_over(9, Some(7), &[1], 2));
    let native = before
        .native
        .map(|native| leasehold_protocol::record::Native {
            token: 8,
            renew_count: 3,
            ..native
        });
    assert_eq!(
        after,
        Record {
            owner: Some(id(2).to_string()),
            expires_at: ServiceTime(WALL + 4_000),
            native,
            ttl_seconds: Some(77),
            holder: None,
            acquired_at: Some(ServiceTime(WALL + 1_000)),
            data: None,
            queue: vec![place(3)],
            ..before.clone()
        }
    );
    // Its length is the one that the place asks for.
    let short = Place::new(id(2), CLAIM, CLAIM, ServiceTime(5));
    let mut write = hand_over(9, None, &[], 2);
    if let Write::HandOver { next, .. } = &mut write {
        *next = short;
    }
    let before = Record {
        queue: vec![short],
        ..before
    };
    let native = applied(&before, &write).native.expect("ours");
    assert_eq!(native.lease, CLAIM);
}

#[test]
fn a_hand_over_needs_our_grant_and_the_queue_as_it_was_seen() {
    let record = queued(&[1, 2]);
    refused(&record, &hand_over(8, Some(7), &[], 1));
    refused(&record, &hand_over(9, Some(6), &[], 1));
    refused(&record, &hand_over(9, Some(7), &[], 2));
    refused(&record, &hand_over(9, Some(7), &[2], 1));
    refused(&record, &hand_over(9, Some(7), &[1, 2], 3));
    refused(&queued(&[]), &hand_over(9, Some(7), &[], 1));
    assert_eq!(
        apply(None, &hand_over(9, Some(7), &[], 1)),
        Err(ConditionFailed)
    );
    // Twice is once too often.
    let after = applied(&record, &hand_over(9, Some(7), &[], 1));
    refused(&after, &hand_over(9, Some(7), &[], 1));
}

#[test]
fn nobody_is_released_past() {
    let release = |passed: &[u8]| Write::Release {
        left: Left::Nothing,
        held: None,
        key: "k".into(),
        attempt: id(9),
        token: Some(7),
        ttl_seconds: Some(6),
        passed: passed.iter().map(|n| place(*n)).collect(),
    };
    refused(&queued(&[1]), &release(&[]));
    refused(&queued(&[1, 2]), &release(&[1]));
    refused(&queued(&[1]), &release(&[1, 2]));
    let free = applied(&queued(&[1, 2]), &release(&[1, 2]));
    assert_eq!((free.state(), free.queue.len()), (State::Released, 0));
}

#[test]
fn a_take_over_removes_the_places_that_it_was_to() {
    let record = queued(&[1, 2, 3]);
    let State::Granted(seen) = record.state() else {
        panic!("granted");
    };
    let places = vec![place(1), place(2)];
    let taken = Some((seen.clone(), places));
    let (_, write) = attempt(2).request(taken, &unsampled(), reading(0));
    assert_eq!(applied(&record, &write).queue, [place(3)]);
    // The first has left meanwhile.
    refused(&queued(&[2, 3]), &write);
    let (_, write) = attempt(4).request(Some((seen, Vec::new())), &unsampled(), reading(0));
    assert_eq!(applied(&record, &write).queue, record.queue);
}

#[test]
fn a_release_hands_over_to_the_first_that_waits() {
    let (kept, record) = kept(&[2, 3]);
    assert_eq!(kept.queue(), record.queue);
    let clock = sampled(WALL);
    let after = applied(
        &record,
        &kept.release(false, reading(100).elapsed, &clock, reading(100)),
    );
    assert!(id(2).owns(&after));
    assert_eq!(after.queue, [place(3)]);
    // For as long as its claim, with the expiry padding; the record stays as long as any.
    let claimed = after.expires_at.0 - WALL - 100;
    assert!((4_000..4_010).contains(&claimed), "{claimed}");
    assert!(after.ttl_seconds >= record.ttl_seconds);
    assert!(kept.shows_release(Some(&after)));
}

#[test]
fn what_an_answer_shows_of_the_queue_is_known_at_the_release() {
    let (mut kept, mut record) = kept(&[]);
    let clock = sampled(WALL);
    record.queue = vec![place(2)];
    refused(
        &record,
        &kept.release(false, reading(100).elapsed, &clock, reading(100)),
    );
    // Of another grant nothing is learned.
    kept.saw(&Record {
        owner: Some(id(5).to_string()),
        ..record.clone()
    });
    assert_eq!(kept.queue(), []);
    kept.saw(&record);
    assert!(id(2).owns(&applied(
        &record,
        &kept.release(false, reading(100).elapsed, &clock, reading(100))
    )));
}

#[test]
fn contenders_that_have_ceased_to_wait_are_passed_over() {
    let (mut kept, mut record) = kept(&[]);
    let gone = |n| Place::new(id(n), LEASE, CLAIM, ServiceTime(WALL + 50));
    record.queue = vec![gone(2), place(3), gone(4)];
    kept.saw(&record);
    let clock = sampled(WALL);
    let early = applied(
        &record,
        &kept.release(false, reading(0).elapsed, &clock, reading(0)),
    );
    assert!(id(2).owns(&early));
    let late = applied(
        &record,
        &kept.release(false, reading(1_000).elapsed, &clock, reading(1_000)),
    );
    assert!(id(3).owns(&late));
    assert_eq!(late.queue, [gone(4)]);
    // Without anybody else it is released, and without a service clock nobody is passed over.
    record.queue = vec![gone(2), gone(4)];
    kept.saw(&record);
    let free = applied(
        &record,
        &kept.release(false, reading(1_000).elapsed, &clock, reading(1_000)),
    );
    assert_eq!((free.state(), free.queue.len()), (State::Released, 0));
    let blind = applied(
        &record,
        &kept.release(false, reading(1_000).elapsed, &unsampled(), reading(1_000)),
    );
    assert!(id(2).owns(&blind));
}

#[test]
fn a_hand_over_by_a_clock_far_behind_shortens_no_ttl() {
    let (mut kept, mut record) = kept(&[2]);
    record.ttl_seconds = Some(i64::MAX);
    kept.saw(&record);
    let after = applied(
        &record,
        &kept.release(false, reading(0).elapsed, &unsampled(), reading(0)),
    );
    assert_eq!(after.ttl_seconds, Some(i64::MAX));
}

#[test]
fn only_one_who_waited_shows_our_release() {
    let (kept, record) = kept(&[2]);
    let after = applied(
        &record,
        &kept.release(false, reading(0).elapsed, &sampled(WALL), reading(0)),
    );
    let by = |n: u8| Record {
        owner: Some(id(n).to_string()),
        ..after.clone()
    };
    assert!(kept.shows_release(Some(&by(2))));
    assert!(!kept.shows_release(Some(&by(3))));
    let mut later = by(2);
    if let Some(native) = &mut later.native {
        native.token += 1;
    }
    assert!(!kept.shows_release(Some(&later)));
}

#[test]
fn what_an_attempt_gives_back_is_handed_over_too() {
    let (_, record) = kept(&[2]);
    let (clock, me) = (sampled(WALL), attempt(1));
    refused(&record, &me.abandon(&clock, reading(5)));
    let token = record.token().expect("ours");
    refused(&record, &me.release_late(token, &clock, reading(5)));
    let write = me.give_back(&record, &clock, reading(5)).expect("ours");
    assert!(id(2).owns(&applied(&record, &write)));
}

fn judge(record: &Record, me: Option<u8>, now_ms: u64, strict: bool) -> Verdict {
    let mut seen = Observation::default();
    let rules = Rules { strict, ..rules() };
    let (clock, me) = (sampled(WALL), me.map(id));
    // Seen from the time zero on.
    seen.judge(me, Some(record), at(0), reading(0), &clock, &rules);
    let now = reading(now_ms);
    seen.judge(me, Some(record), now.elapsed, now, &clock, &rules)
}

/// Whether it may take over, and with how many places.
fn takes(record: &Record, me: Option<u8>, now_ms: u64, strict: bool) -> Option<usize> {
    match judge(record, me, now_ms, strict) {
        Verdict::TakeOver(_, places) => Some(places.len()),
        _ => None,
    }
}

#[test]
fn a_dead_holders_key_is_for_each_place_in_turn() {
    let mut record = queued(&[1, 2]);
    record.expires_at = ServiceTime(WALL + 1_000);
    // P at 1 s, and a claim of 3 s for each place before; rates are known to a thousandth.
    for (me, opens, places) in [
        (Some(1), 1_000, 1),
        (Some(2), 4_000, 2),
        (Some(3), 7_000, 2),
    ] {
        assert_eq!(takes(&record, me, opens, false), None, "{me:?}");
        assert_eq!(
            takes(&record, me, opens + 20, false),
            Some(places),
            "{me:?}"
        );
    }
    // Whether the grant has ended is another question.
    assert_eq!(takes(&record, None, 1_020, false), Some(0));
    // `ends` says when to look again.
    let Verdict::Wait { ends: Some(ends) } = judge(&record, Some(2), 2_000, false) else {
        panic!("not yet");
    };
    assert!((4_000..4_030).contains(&ends.0.as_millis()), "{ends:?}");
}

#[test]
fn by_observation_as_well() {
    let record = queued(&[1, 2]);
    for (me, opens) in [(1, 20_020), (2, 23_023), (3, 26_026)] {
        assert_eq!(takes(&record, Some(me), opens - 1, true), None, "{me}");
        assert!(takes(&record, Some(me), opens, true).is_some(), "{me}");
    }
}

#[test]
fn a_dead_process_is_seen_dead_before_its_queue_is_passed() {
    let mut record = queued(&[1, 2]);
    let (clock, mut seen) = (unsampled(), Observation::default());
    let mut judge = |record: &Record, ms| {
        let now = reading(ms);
        seen.judge(Some(id(2)), Some(record), at(ms), now, &clock, &rules())
    };
    assert!(matches!(judge(&record, 0), Verdict::Wait { .. }));
    record.holder_is_dead = true;
    // Long held, and dead since just now.
    let ends = Some(at(10_000 + 3_003));
    assert_eq!(judge(&record, 10_000), Verdict::Wait { ends });
    assert_eq!(judge(&record, 13_002), Verdict::Wait { ends });
    assert!(matches!(judge(&record, 13_003), Verdict::TakeOver(..)));
}

#[test]
fn those_who_have_ceased_to_wait_are_given_no_time() {
    let mut record = queued(&[1, 2]);
    record.expires_at = ServiceTime(WALL + 1_000);
    record.queue[0] = Place::new(id(1), LEASE, CLAIM, ServiceTime(WALL + 500));
    assert_eq!(takes(&record, Some(2), 1_020, false), Some(2));
}

#[test]
fn whoever_takes_over_gives_those_before_it_their_time() {
    let until = |n, ms| Place::new(id(n), LEASE, CLAIM, ServiceTime(ms));
    let queue = vec![until(1, 10), until(2, 30), until(3, 20)];
    let record = Record {
        queue: queue.clone(),
        ..held_by(9)
    };
    let before = |n, now| {
        let (removed, time) = record.before(id(n), now);
        (removed.len(), time.as_secs())
    };
    assert_eq!(before(1, None), (1, 0));
    assert_eq!(before(2, None), (2, 3));
    assert_eq!(before(3, None), (3, 6));
    assert_eq!(before(4, None), (3, 9));
    assert_eq!(before(4, Some(ServiceTime(10))), (3, 9));
    assert_eq!(before(4, Some(ServiceTime(11))), (3, 6));
    assert_eq!(before(4, Some(ServiceTime(31))), (3, 0));
    assert_eq!(record.place_of(queue[2].attempt()), Some(2));
    assert_eq!(record.place_of(id(4)), None);
}

#[test]
fn the_record_says_how_long_the_last_grant_was_held() {
    for waiting in [&[][..], &[2, 3]] {
        let (kept, record) = kept(waiting);
        assert_eq!(record.last_hold, None);
        let after = applied(
            &record,
            &kept.release(
                false,
                reading(1_234).elapsed,
                &sampled(WALL),
                // A release that is repeated.
                reading(1_300),
            ),
        );
        assert_eq!(after.last_hold, Some(Duration::from_millis(1_234)));
        // A writer that does not know leaves it as it was.
        let mut unknown = kept.release(false, reading(99).elapsed, &sampled(WALL), reading(99));
        match &mut unknown {
            Write::Release { held, .. } | Write::HandOver { held, .. } => *held = None,
            other => panic!("{other:?}"),
        }
        let before = Record {
            last_hold: after.last_hold,
            ..record
        };
        assert_eq!(applied(&before, &unknown).last_hold, after.last_hold);
    }
}
