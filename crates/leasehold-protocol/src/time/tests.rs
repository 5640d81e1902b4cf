use super::*;

fn ms(n: u64) -> Elapsed {
    Elapsed(Duration::from_millis(n))
}

/// Both clocks of a host that is never paused.
fn at(n: u64) -> Reading {
    Reading {
        elapsed: ms(n),
        wall_ms: i64::try_from(n).expect("small"),
    }
}

#[test]
fn whole_seconds_give_an_interval_that_counts_from_the_right_ends() {
    let mut clock = ServiceClock::new(ClockBounds::default());
    clock.learn(Stamp::WholeSeconds(100), at(5_000), at(6_000));
    assert_eq!(clock.earliest(ms(6_000)), Some(ServiceTime(99_800)));
    // From the send: one second of delay, 0.1 % of drift, rounded up.
    assert_eq!(clock.latest(at(6_000)), Some(ServiceTime(102_202)));
}

#[test]
fn the_interval_narrows_with_phases_and_forgets() {
    let mut clock = ServiceClock::new(ClockBounds::default());
    clock.learn(Stamp::WholeSeconds(100), at(900), at(901));
    let width = |c: &ServiceClock, n| {
        c.latest(at(n)).expect("sampled").0 - c.earliest(ms(n)).expect("sampled").0
    };
    let before = width(&clock, 901);
    // A tenth of a second later the second turns over: now we know the phase.
    clock.learn(Stamp::WholeSeconds(101), at(1_000), at(1_001));
    assert!(width(&clock, 1_001) < before - 800);
    assert_eq!(clock.earliest(ms(1_001 + 600_000)), None);
    assert_eq!(clock.latest(at(1_001 + 600_000)), None);
}

#[test]
fn past_and_not_past_agree_with_the_bounds() {
    let mut clock = ServiceClock::new(ClockBounds::default());
    clock.learn(Stamp::WholeSeconds(100), at(5_000), at(5_040));
    for target in [90_000, 100_000, 101_500, 150_000, 400_000] {
        let target = ServiceTime(target);
        let past = clock.past_from(target, ms(5_040)).expect("sampled");
        let then = past.max(ms(5_040));
        assert!(clock.earliest(then).expect("sampled") > target);
        let safe = clock.not_past_until(target, at(5_040)).expect("sampled");
        if safe >= ms(5_000) {
            // Rounding up to milliseconds may show one more.
            let n = u64::try_from(safe.0.as_millis()).expect("small");
            assert!(clock.latest(at(n)).expect("sampled").0 <= target.0 + 1);
        }
        assert!(safe < past);
    }
}

#[test]
fn an_exact_stamp_of_now_is_past_everything_earlier() {
    let mut clock = ServiceClock::new(ClockBounds::default());
    clock.learn(Stamp::Exact(ServiceTime(1_000)), at(10), at(10));
    assert!(clock.earliest(ms(10)).expect("sampled") > ServiceTime(999));
    assert_eq!(clock.latest(at(10)), Some(ServiceTime(1_001)));
}

#[test]
fn a_wall_clock_is_measured_against_the_interval() {
    let mut clock = ServiceClock::new(ClockBounds::default());
    clock.learn(Stamp::WholeSeconds(100), at(0), at(10));
    assert!(clock.wall_deviation_ms(at(10)) < Some(-90_000));
    // The same host with a right clock, and with one that is an hour ahead.
    for (ahead_ms, least) in [(100_500, 0), (3_700_000, 3_500_000)] {
        let off = |n| Reading {
            wall_ms: ahead_ms,
            ..at(n)
        };
        let mut clock = ServiceClock::new(ClockBounds::default());
        clock.learn(Stamp::WholeSeconds(100), off(0), off(10));
        let deviation = clock.wall_deviation_ms(off(10)).expect("sampled");
        assert!(deviation >= least && (least > 0 || deviation == 0));
    }
}

#[test]
fn a_pause_that_only_the_wall_clock_saw_ages_the_upper_bound() {
    let mut clock = ServiceClock::new(ClockBounds::default());
    clock.learn(Stamp::Exact(ServiceTime(100_000)), at(0), at(0));
    let paused = Reading {
        elapsed: ms(10),
        wall_ms: 60_010,
    };
    assert!(clock.latest(paused) >= Some(ServiceTime(160_010)));
    let until = clock.not_past_until(ServiceTime(120_000), paused);
    assert!(until <= Some(ms(0)), "already past: {until:?}");
}

#[test]
fn b10_the_wall_clock_adds_nothing_to_a_clock_of_the_same_host() {
    let mut clock = ServiceClock::new(ClockBounds::default());
    clock.learn(Stamp::Host(ServiceTime(100_000)), at(0), at(0));
    assert!(clock.is_of_host());
    let stepped = Reading {
        elapsed: ms(10),
        wall_ms: 3_600_010,
    };
    assert_eq!(clock.latest(stepped), clock.latest(at(10)));
    let until = |now| clock.not_past_until(ServiceTime(120_000), now);
    assert_eq!(until(stepped), until(at(10)));
    // A client with another elapsed clock must use the wall clock.
    let taken = Stamp::Host(ServiceTime(100_000)).of_another_clock();
    assert_eq!(taken, Stamp::Exact(ServiceTime(100_000)));
    clock.learn(taken, at(20), at(20));
    assert!(!clock.is_of_host());
}

#[test]
fn b7_dates_want_a_second_source_and_the_clock_of_a_store_does_not() {
    let now = Reading {
        elapsed: ms(0),
        wall_ms: 100_000,
    };
    for (stamp, agrees) in [
        (Stamp::WholeSeconds(100), true),
        (Stamp::WholeSeconds(101), true),
        (Stamp::WholeSeconds(98), true),
        (Stamp::WholeSeconds(102), false),
        (Stamp::WholeSeconds(130), false),
        (Stamp::WholeSeconds(97), false),
        (Stamp::Exact(ServiceTime(130_000)), true),
        (Stamp::Host(ServiceTime(130_000)), true),
    ] {
        let mut clock = ServiceClock::new(ClockBounds::default());
        assert!(clock.is_corroborated(now), "nothing is claimed yet");
        clock.learn(stamp, now, now);
        assert_eq!(clock.is_corroborated(now), agrees, "{stamp:?}");
    }
}

#[test]
fn a_contradiction_replaces_what_was_known() {
    for late in [1_000_000, 0] {
        let mut clock = ServiceClock::new(ClockBounds::default());
        clock.learn(Stamp::Exact(ServiceTime(100_000)), at(0), at(0));
        // Time passed that neither clock of ours counted, or the service's clock was set back.
        clock.learn(Stamp::Exact(ServiceTime(late)), at(10), at(10));
        assert_eq!(clock.earliest(ms(10)), Some(ServiceTime(late)));
        assert_eq!(clock.latest(at(10)), Some(ServiceTime(late + 1)));
    }
}
