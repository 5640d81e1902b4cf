//! Service time from stamps: which samples count, for how long, and what they bound.

use std::time::Duration;

use crate::support::*;
use leasehold_protocol::time::{ClockBounds, Elapsed, Reading, ServiceClock, ServiceTime, Stamp};

/// Half of the life of a sample.
const HALF: u64 = 300_000;

fn dated(clock: &mut ServiceClock, seconds: i64, sent: u64, received: u64) -> bool {
    clock.learn(
        Stamp::WholeSeconds(seconds),
        reading(sent),
        reading(received),
    )
}

fn width(clock: &ServiceClock, ms: u64) -> i64 {
    clock.latest(reading(ms)).expect("sampled").0 - clock.earliest(at(ms)).expect("sampled").0
}

#[test]
fn times_show_themselves_and_their_distance() {
    assert_eq!(format!("{:?}", ServiceTime(5)), "ServiceTime(5 ms)");
    for (a, b) in [(5, 9), (9, 5)] {
        let distance = ServiceTime(a).distance(ServiceTime(b));
        assert_eq!(distance, Duration::from_millis(4));
    }
}

#[test]
fn a_clock_has_the_bounds_that_it_was_made_with() {
    let bounds = ClockBounds {
        disagreement: Duration::from_millis(7),
        drift_ppm: 9,
    };
    assert_eq!(ServiceClock::new(bounds).bounds(), bounds);
}

#[test]
fn a_stamp_at_the_very_bound_contradicts_nothing() {
    let mut clock = sampled(WALL);
    let latest = clock.latest(reading(0)).expect("sampled");
    assert!(!clock.learn(Stamp::Exact(latest), reading(0), reading(0)));
    let mut clock = sampled(WALL);
    assert!(clock.learn(
        Stamp::Exact(ServiceTime(latest.0 + 1)),
        reading(0),
        reading(0)
    ));
    // A lower stamp: its greatest possible time is below the known earliest one.
    let mut clock = sampled(WALL);
    let allows_just = ServiceTime(WALL - 1);
    assert!(!clock.learn(Stamp::Exact(allows_just), reading(0), reading(0)));
    let mut clock = sampled(WALL);
    let allows_less = ServiceTime(WALL - 2);
    assert!(clock.learn(Stamp::Exact(allows_less), reading(0), reading(0)));
    assert_eq!(clock.earliest(at(0)), Some(allows_less), "replaced");
}

#[test]
fn a_later_sample_narrows_either_end_and_older_ones_stay() {
    let mut clock = unsampled();
    let start = WALL / 1_000;
    dated(&mut clock, start, 900, 901);
    let first = width(&clock, 901);
    // The same second, a little later: the upper end comes down.
    dated(&mut clock, start, 950, 951);
    let second = width(&clock, 951);
    assert!(second < first, "{second} of {first}");
    // The next second: the lower end goes up.
    dated(&mut clock, start + 1, 1_000, 1_001);
    let third = width(&clock, 1_001);
    assert!(third < second - 800, "{third} of {second}");
    // Many worse stamps change nothing.
    for n in 0..20 {
        dated(&mut clock, start + 1, 1_002, 1_300 + n);
    }
    assert!(width(&clock, 1_320) <= third + 2);
}

#[test]
fn a_sample_that_says_just_the_same_replaces_nothing() {
    let mut clock = unsampled();
    let start = WALL / 1_000;
    dated(&mut clock, start, 0, 0);
    let before = clock.clone();
    // This stamp equals the aged lower bound; its upper bound is worse.
    let received = Reading {
        elapsed: Elapsed(Duration::from_micros(1_001_002)),
        wall_ms: WALL + 1_001,
    };
    clock.learn(Stamp::WholeSeconds(start + 1), reading(900), received);
    assert_eq!(clock, before);
    // The upper bound: another clock, of exact stamps that are a part of a millisecond apart.
    let mut clock = sampled(WALL);
    let before = clock.clone();
    let sent = Reading {
        elapsed: Elapsed(Duration::from_nanos(500)),
        wall_ms: WALL,
    };
    let received = reading(10);
    clock.learn(Stamp::Exact(ServiceTime(WALL)), sent, received);
    assert_eq!(clock.latest(reading(10)), before.latest(reading(10)));
    assert_eq!(clock, before);
}

#[test]
fn samples_live_in_two_halves() {
    let mut clock = sampled(WALL);
    let service = |ms: u64| Stamp::Exact(ServiceTime(WALL + i64::try_from(ms).expect("small")));
    clock.learn(service(HALF), reading(HALF), reading(HALF));
    // The first half is over at twice its length, to the millisecond; the second goes on.
    assert!(clock.earliest(at(2 * HALF)).is_some());
    assert!(clock.earliest(at(3 * HALF - 1)).is_some());
    assert_eq!(clock.earliest(at(3 * HALF)), None);
    assert_eq!(clock.latest(reading(3 * HALF)), None);
    // A stamp before the end of a half belongs to it, and expires with it.
    let mut clock = sampled(WALL);
    clock.learn(service(HALF - 1), reading(HALF - 1), reading(HALF - 1));
    assert!(clock.earliest(at(2 * HALF - 1)).is_some());
    assert_eq!(clock.earliest(at(2 * HALF)), None);
    // A stamp long after it begins a new half.
    let mut clock = sampled(WALL);
    clock.learn(service(2 * HALF), reading(2 * HALF), reading(2 * HALF));
    assert!(clock.earliest(at(4 * HALF - 1)).is_some());
}

#[test]
fn moments_at_the_sample_itself() {
    let clock = sampled(WALL);
    let now = reading(0);
    // Not past until the sample, where the time is just the sample's; never, where it is past.
    let mut later = unsampled();
    let stamp = Stamp::Exact(ServiceTime(WALL));
    later.learn(stamp, reading(5_000), reading(5_000));
    let until = |time| later.not_past_until(ServiceTime(time), reading(5_000));
    assert_eq!(until(WALL), Some(at(5_000)));
    assert_eq!(until(WALL - 1), Some(at(0)));
    // Past from the sample on, where the time is earlier; a little later, where it is the sample's.
    let from = |time| later.past_from(ServiceTime(time), at(5_000));
    assert_eq!(from(WALL - 1), Some(at(5_000)));
    assert_eq!(from(WALL - 1_000), Some(at(5_000)));
    let just = from(WALL).expect("sampled");
    assert!(just > at(5_001) && just < at(5_003), "{just:?}");
    assert!(clock.past_from(ServiceTime(WALL), now.elapsed) > Some(at(0)));
}

#[test]
fn a_wall_clock_is_off_by_what_is_certain() {
    let deviation = |wall_ms| {
        let now = Reading {
            elapsed: at(0),
            wall_ms,
        };
        let mut clock = unsampled();
        clock.learn(Stamp::WholeSeconds(WALL / 1_000), now, now);
        clock.wall_deviation_ms(now)
    };
    // The date's second, the hosts of the service that disagree, and a part of a millisecond.
    let (earliest, latest) = (WALL - 200, WALL + 1_201);
    assert_eq!(deviation(earliest), Some(0));
    assert_eq!(deviation(latest), Some(0));
    assert_eq!(deviation(earliest - 3), Some(-3));
    assert_eq!(deviation(latest + 3), Some(3));
}
