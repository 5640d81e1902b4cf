//! Work that is done: who may record it, for how long it stays, and that nothing undoes it (S7).

use std::collections::BTreeMap;
use std::time::Duration;

use leasehold_protocol::attempt::{Granted, Refusal};
use leasehold_protocol::done::{Done, FOR_EVER};
use leasehold_protocol::record::{Record, Seen, State, Value};
use leasehold_protocol::renewal::Kept;
use leasehold_protocol::takeover::{Observation, Rules, Verdict};
use leasehold_protocol::time::{ClockBounds, Reading, ServiceClock, ServiceTime, Stamp};
use leasehold_protocol::write::{Write, apply};

use crate::support::*;

const KEEP: Duration = Duration::from_secs(3_600);

/// What the runner asks to remember.
fn fine() -> Done {
    Done {
        at: ServiceTime(0),
        failed: false,
        input: Some([3, 4].into()),
    }
}

/// The end of its keep: bounds are rounded up to the next millisecond.
fn end() -> ServiceTime {
    ServiceTime(WALL + 3_600_001)
}

fn complete(kept: &Kept, clock: &ServiceClock, ms: u64) -> Write {
    kept.complete(KEEP, fine(), Some([1].into()), clock, reading(ms))
}

/// A run of 1 that was granted at zero and recorded after two seconds.
fn done() -> (Kept, Record) {
    let (kept, record) = kept(&[2]);
    let done = applied(&record, &complete(&kept, &sampled(WALL), 2_000));
    (kept, done)
}

fn seen(record: &Record) -> Seen {
    match record.state() {
        State::Granted(seen) => seen,
        State::Released => panic!("released"),
    }
}

/// What a contender with this clock finds at `ms` of its own clocks, which show `wall_ms`.
fn judged(record: &Record, clock: &ServiceClock, now: Reading, strict: bool) -> Verdict {
    let rules = Rules { strict, ..rules() };
    Observation::default().judge(Some(id(5)), Some(record), now.elapsed, now, clock, &rules)
}

#[test]
fn a_completed_run_is_remembered_from_its_beginning() {
    let (kept, record) = done();
    let (_, before) = crate::support::kept(&[2]);
    let count = |record: &Record| record.native.map(|native| native.renew_count);
    assert_eq!(count(&record), count(&before).map(|count| count + 1));
    assert_eq!(record.expires_at, end());
    assert_eq!(record.native.map(|native| native.lease), Some(KEEP));
    assert_eq!(record.data, Some(vec![1]));
    let remembered = record.done.as_ref().expect("done");
    assert!(remembered.at > ServiceTime(WALL + 2_000) && !remembered.failed);
    assert_eq!(remembered.input.as_deref(), Some(&[3, 4][..]));
    assert_eq!(record.last_hold, Some(Duration::from_secs(2)));
    assert!(record.queue.is_empty(), "nobody waits for what is done");
    assert!(record.ttl_seconds >= Some((WALL + 3_600_000) / 1_000 + 7 * 86_400));
    assert!(kept.shows_completion(Some(&record)));
    let mut other_token = record.clone();
    if let Some(native) = &mut other_token.native {
        native.token += 1;
    }
    assert!(!kept.shows_completion(Some(&other_token)));
    assert!(!kept.shows_completion(Some(&before)), "it is held");
}

#[test]
fn a_completion_is_one_write_of_the_grant_itself() {
    let (kept, record) = kept(&[]);
    let write = complete(&kept, &sampled(WALL), 2_000);
    // Applied twice: the second is refused by a record that shows the first.
    let once = applied(&record, &write);
    assert!(apply(Some(&once), &write).is_err());
    // After a release, and after a take-over.
    let release = kept.release(
        false,
        reading(1_000).elapsed,
        &sampled(WALL),
        reading(1_000),
    );
    assert!(apply(Some(&applied(&record, &release)), &write).is_err());
    let (_, taking) = attempt(2).request(
        Some((seen(&record), Vec::new())),
        &sampled(WALL),
        reading(90_000),
    );
    let taken = applied(&record, &taking);
    assert!(apply(Some(&taken), &write).is_err());
    assert!(!kept.shows_completion(Some(&taken)));
    assert!(apply(None, &write).is_err());
}

#[test]
fn no_delayed_request_undoes_what_is_done() {
    let (mut kept, record) = kept(&[2]);
    let clock = sampled(WALL);
    let (_, renewal) = kept.renew(&clock, reading(1_000), false);
    let (_, longer) = kept.renew_for(2 * KEEP, &clock, reading(1_000), false);
    let release = kept.release(false, reading(1_000).elapsed, &clock, reading(1_000));
    let (_, taking) =
        attempt(5).request(Some((seen(&record), Vec::new())), &clock, reading(90_000));
    let join = attempt(3).join(CLAIM, ServiceTime(i64::MAX), reading(1_000));
    let handed = hand_over(1, None, &[], 2);
    let abandoned = attempt(1).abandon(&clock, reading(1_000));
    let done = applied(&record, &complete(&kept, &clock, 2_000));
    for write in [renewal, longer, release, taking, join, handed, abandoned] {
        assert!(apply(Some(&done), &write).is_err(), "{write:?}");
    }
}

#[test]
fn it_runs_again_only_after_the_end_of_its_keep_in_service_time() {
    let (_, record) = done();
    for strict in [false, true] {
        let before = judged(&record, &sampled(end().0), reading(0), strict);
        assert!(
            matches!(before, Verdict::Done { ends: Some(_) }),
            "{before:?}"
        );
        let after = judged(&record, &sampled(end().0 + 2), reading(0), strict);
        assert_eq!(after, Verdict::TakeOver(seen(&record), Vec::new()));
    }
    // Whoever has seen it for the whole keep needs no service clock.
    let mut watched = Observation::default();
    let mut at = |ms| {
        let now = reading(ms);
        watched.judge(
            None,
            Some(&record),
            now.elapsed,
            now,
            &unsampled(),
            &rules(),
        )
    };
    assert!(matches!(at(0), Verdict::Done { .. }));
    assert!(matches!(at(3_603_599), Verdict::Done { .. }));
    assert!(matches!(at(3_603_600), Verdict::TakeOver(..)));
}

#[test]
fn a_wall_clock_that_is_an_hour_off_neither_hastens_nor_stops_a_run() {
    let (_, record) = done();
    for off in [-3_600_000, 3_600_000] {
        for (service, free) in [(3_590_000, false), (3_610_000, true)] {
            let now = Reading {
                wall_ms: WALL + service + off,
                ..reading(0)
            };
            let mut clock = ServiceClock::new(ClockBounds::default());
            clock.learn(Stamp::WholeSeconds((WALL + service) / 1_000), now, now);
            let verdict = judged(&record, &clock, now, false);
            assert_eq!(
                matches!(verdict, Verdict::TakeOver(..)),
                free,
                "{verdict:?}"
            );
        }
    }
}

#[test]
fn the_keep_counts_from_the_latest_time_at_which_the_run_can_have_begun() {
    let (_, record) = kept(&[]);
    let mut clock = unsampled();
    // The stamp says only that service time was between these two seconds, and delta.
    clock.learn(Stamp::WholeSeconds(WALL / 1_000), reading(0), reading(0));
    let mut me = attempt(1);
    let (request, _) = me.request(None, &clock, reading(0));
    let granted = me.applied(&request, &record, &clock, reading(0));
    let kept = Kept::new("k".into(), id(1), &granted, terms());
    let Write::Complete(completion) = complete(&kept, &clock, 60_000) else {
        panic!("another write");
    };
    let latest = clock.latest(reading(0)).expect("sampled");
    assert!(latest >= ServiceTime(WALL + 1_200));
    assert_eq!(completion.until, latest.plus(KEEP), "however long it took");
}

#[test]
fn without_service_time_it_is_remembered_until_it_is_forgotten() {
    let (_, record) = kept(&[]);
    let granted = Granted {
        began: None,
        ..{
            let mut me = attempt(1);
            let (request, _) = me.request(None, &unsampled(), reading(0));
            me.applied(&request, &record, &unsampled(), reading(0))
        }
    };
    let kept = Kept::new("k".into(), id(1), &granted, terms());
    let done = applied(&record, &complete(&kept, &unsampled(), 2_000));
    assert_eq!(done.expires_at, FOR_EVER);
    assert_eq!(done.ttl_seconds, None, "nothing deletes it");
    let forever = kept.complete(Duration::MAX, fine(), None, &sampled(WALL), reading(1));
    let Write::Complete(completion) = forever else {
        panic!("another write");
    };
    assert_eq!(completion.until, FOR_EVER);
    let keep = i64::try_from(completion.keep.as_millis());
    assert!(keep.is_ok(), "a store has 63 bits for it");
}

#[test]
fn the_death_of_its_process_does_not_free_it() {
    let (_, record) = done();
    let dead = Record {
        holder_is_dead: true,
        ..record
    };
    let verdict = judged(&dead, &sampled(WALL), reading(0), false);
    assert!(matches!(verdict, Verdict::Done { .. }), "{verdict:?}");
}

#[test]
fn the_next_run_forgets_the_last_one() {
    let (_, record) = done();
    let mut next = attempt(5);
    let clock = sampled(end().0 + 2);
    let refused = next.refused(Some(&record), &shown(reading(0)), reading(0), &clock);
    let Refusal::Others(Verdict::TakeOver(seen, places)) = refused else {
        panic!("{refused:?}");
    };
    let (_, write) = next.request(Some((seen, places)), &clock, reading(0));
    let taken = applied(&record, &write);
    assert_eq!(taken.done, None);
    assert!(taken.token() > record.token());
}

#[test]
fn what_a_completed_run_leaves_is_read_or_is_malformed() {
    let mut item = BTreeMap::from([
        ("LockKey", Value::Text("k".into())),
        ("ClientId", Value::Text(id(1).when_done().to_string())),
        ("ExpireInUnixMs", Value::Number("5".into())),
        ("V", Value::Number("3".into())),
        ("FencingToken", Value::Number("7".into())),
        ("LeaseMs", Value::Number("20".into())),
        ("RenewCount", Value::Number("2".into())),
    ]);
    let number = |n: &str| Value::Number(n.into());
    for (parts, input) in [
        (vec![number("9"), number("1")], None),
        (
            vec![number("9"), number("1"), Value::Binary(vec![1, 2])],
            Some(vec![1, 2]),
        ),
        (
            vec![number("9"), number("1"), Value::Binary(vec![0; 64])],
            Some(vec![0; 64]),
        ),
    ] {
        item.insert("Done", Value::List(parts));
        let done = Record::parse(&item).expect("well formed").done;
        let done = done.expect("done");
        assert_eq!((done.at, done.failed), (ServiceTime(9), true));
        assert_eq!(done.input.as_deref(), input.as_deref());
    }
    item.insert("Done", Value::List(vec![number("9"), number("0")]));
    let done = Record::parse(&item).expect("well formed").done;
    assert!(done.is_some_and(|done| !done.failed));
    for odd in [
        Value::Number("9".into()),
        Value::List(vec![]),
        Value::List(vec![number("9"), number("2")]),
        Value::List(vec![number("x"), number("0")]),
        Value::List(vec![number("9"), number("0"), Value::Binary(vec![0; 65])]),
        Value::List(vec![number("9"), number("0"), number("1")]),
    ] {
        item.insert("Done", odd);
        assert_eq!(Record::parse(&item).expect_err("odd").attribute, "Done");
    }
}
