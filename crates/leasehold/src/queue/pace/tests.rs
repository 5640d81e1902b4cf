use super::*;
use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::slots::Slot;
use leasehold_protocol::time::{Reading, ServiceTime};

const DELAYS: Delays = Delays {
    first: Duration::from_millis(3),
    max: Duration::from_secs(1),
};

fn at(ms: u64) -> Elapsed {
    Elapsed(Duration::from_millis(ms))
}

fn shown(sent: u64, received: u64) -> Shown {
    Shown {
        sent: Reading {
            elapsed: at(sent),
            wall_ms: 0,
        },
        received: at(received),
        consistent: true,
    }
}

fn newly(token: u64, held: Option<u64>) -> KeyShown {
    KeyShown {
        token,
        held: held.map(Duration::from_millis),
        ..KeyShown::default()
    }
}

/// Answers without a round trip: token, time.
fn seen(answers: &[(u64, u64)], held: Option<u64>) -> Pace {
    let mut pace = Pace::default();
    for (token, ms) in answers {
        pace.saw(newly(*token, held), &shown(*ms, *ms));
    }
    pace
}

fn next(pace: &Pace, ahead: usize, last: u64) -> u128 {
    let mut pace = *pace;
    pace.next(ahead, at(last), at(last), DELAYS).0.as_millis()
}

#[test]
fn a_turn_is_as_long_as_the_record_says_or_as_answers_have_shown() {
    assert_eq!(seen(&[(7, 100)], None).length(), None);
    // The first turn had begun before it was seen.
    assert_eq!(seen(&[(7, 100), (8, 130)], None).length(), None);
    let three = seen(&[(7, 100), (8, 100), (11, 190)], None);
    assert_eq!(three.length(), Some(Duration::from_millis(30)));
    let mut pace = seen(&[(7, 100)], Some(20));
    assert_eq!(pace.length(), Some(Duration::from_millis(20)));
    // With the way there and back.
    pace.saw(newly(8, Some(40)), &shown(200, 240));
    assert_eq!(pace.length(), Some(Duration::from_millis(80)));
    // A long pause counts for little, and older answers for nothing.
    let paused = seen(&[(7, 0), (8, 0), (9, 20), (8, 25), (10, 60_000)], None);
    assert!(
        paused.length() < Some(Duration::from_millis(40)),
        "{paused:?}"
    );
}

#[test]
fn the_first_waiter_polls_when_it_expects_its_grant() {
    let mut pace = seen(&[(1, 0), (2, 0), (2, 60)], Some(100));
    // With half of the shortest delay.
    assert_eq!(next(&pace, 0, 60), 101);
    // Then with the shortest delay, and later with growing ones.
    assert_eq!(next(&pace, 0, 102), 105);
    assert_eq!(next(&pace, 0, 901), 1_000);
    assert_eq!(next(&pace, 0, 60_000), 61_000);
    // A poll is sent so that it arrives then. Turns are longer by the way there and back.
    pace.saw(newly(2, None), &shown(60, 120));
    assert_eq!(next(&pace, 0, 120), 125);
}

#[test]
fn a_turn_that_was_there_before_may_end_before_it_is_expected() {
    // Expected at 60 s, or earlier by what was not seen.
    let pace = seen(&[(1, 0)], Some(60_000));
    assert_eq!(next(&pace, 0, 0), 2_000);
    assert_eq!(next(&pace, 0, 52_000), 53_000);
    assert_eq!(next(&pace, 0, 59_200), 59_300);
    assert_eq!(next(&pace, 0, 59_998), 60_001);
    // One whose beginning was seen ends then.
    let pace = seen(&[(1, 0), (2, 0)], Some(60_000));
    assert_eq!(next(&pace, 0, 59_200), 60_001);
}

#[test]
fn the_others_wait_by_their_place() {
    let pace = seen(&[(1, 0), (2, 0)], Some(100));
    assert_eq!(next(&pace, 1, 0), 131);
    assert_eq!(next(&pace, 2, 0), 233);
    assert_eq!(next(&pace, 9, 0), 812);
    // Never longer than the longest delay.
    assert_eq!(next(&pace, 23, 100), 1_100);
}

#[test]
fn turns_that_took_longer_do_not_make_waiters_come_late() {
    // Held for 10 ms each, and handed on every 100 ms. The last began between 100 and 200.
    let pace = seen(&[(1, 0), (2, 0), (3, 100), (4, 200)], Some(10));
    assert_eq!(pace.length(), Some(Duration::from_millis(10)));
    assert_eq!(next(&pace, 0, 200), 211);
    assert_eq!(next(&pace, 2, 200), 208);
}

#[test]
fn slots_are_handed_on_so_many_times_as_often() {
    let of_three = |token, ahead| KeyShown {
        slots: true,
        at_once: 3,
        ahead: Some(ahead),
        ..newly(token, Some(90))
    };
    let mut pace = Pace::default();
    pace.saw(of_three(1_000, 9), &shown(0, 0));
    assert_eq!(pace.length(), Some(Duration::from_millis(30)));
    // Tokens say nothing: three places were handed a slot in 300 ms, and one in 100 ms.
    pace.saw(of_three(50_000, 9), &shown(0, 0));
    pace.saw(of_three(60_000, 6), &shown(300, 300));
    pace.saw(of_three(99_000, 5), &shown(400, 400));
    assert_eq!(next(&pace, 1, 400), 406);
    // Two hold a slot, and the first waits for the whole key.
    let mut of_two = pace;
    of_two.saw(
        KeyShown {
            at_once: 1,
            ..of_three(99_000, 5)
        },
        &shown(400, 400),
    );
    assert_eq!(of_two.length(), Some(Duration::from_millis(90)));
    // It is unknown how many places were handed on in between.
    pace.saw(
        KeyShown {
            ahead: None,
            ..of_three(99_001, 0)
        },
        &shown(500, 500),
    );
    assert_eq!(next(&pace, 1, 500), 524);
}

#[test]
fn slots_that_are_given_together_are_one_turn() {
    let place = |n: u8| {
        let id = AttemptId::from_random([n; 16]);
        Place::new(id, Duration::ZERO, Duration::ZERO, ServiceTime(0))
    };
    let mut record = Record::unused("k");
    record.queue = vec![
        place(1).for_slot(),
        place(2).for_slot(),
        place(3),
        place(4),
        place(5).for_slot(),
        place(6).for_slot(),
    ];
    let turns = |record: &Record| (0..7).map(|n| turns_before(record, n)).collect::<Vec<_>>();
    assert_eq!(turns(&record), [0, 0, 1, 2, 3, 3, 3]);
    let held = Slot::new(
        AttemptId::from_random([7; 16]),
        1,
        ServiceTime(0),
        Duration::ZERO,
        "",
    );
    let mut slots = Slots {
        limit: 2,
        held: vec![held.clone()],
    };
    record.slots = Some(slots.clone());
    assert_eq!(turns(&record), [0, 0, 1, 2, 3, 3, 3]);
    slots.held.push(held);
    record.slots = Some(slots);
    assert_eq!(turns(&record), [0, 1, 2, 3, 4, 5, 5]);
    record.owner = Some("whole".into());
    assert_eq!(turns(&record), [0, 0, 1, 2, 3, 3, 3]);
}

#[test]
fn where_nothing_is_known_delays_grow_with_the_time_of_the_holder() {
    let pace = seen(&[(1, 0)], None);
    let delay = |ahead, now: u64| next(&pace, ahead, now) - u128::from(now);
    assert_eq!(
        (delay(0, 0), delay(0, 40), delay(0, 10_000)),
        (3, 10, 1_000)
    );
    assert_eq!(delay(9, 0), 30);
    // Each turn before its own takes a round trip.
    let mut far = Pace::default();
    far.saw(newly(1, None), &shown(0, 20));
    assert_eq!(next(&far, 0, 20) - 20, 6);
    assert_eq!(next(&far, 4, 20) - 20, 80);
}
