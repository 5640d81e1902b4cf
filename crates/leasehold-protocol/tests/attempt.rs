//! One acquisition: its requests, the meaning of answers, the release or withdrawal of its grant.

use crate::support::*;
use leasehold_protocol::attempt::{Attempt, Refusal, SEED_TOLERANCE, Wish};
use leasehold_protocol::record::{Record, State};
use leasehold_protocol::takeover::Observation;
use leasehold_protocol::time::{Reading, ServiceClock, ServiceTime, Stamp};
use leasehold_protocol::write::{Write, apply};

fn landed(write: &Write) -> Record {
    apply(None, write).expect("free").expect("a record")
}

/// The deadline of a refusal that shows our own record, in ms.
fn ours(me: &mut Attempt, record: &Record, clock: &ServiceClock, ms: u64) -> u128 {
    let now = reading(ms);
    match me.refused(Some(record), &shown(now), now, clock) {
        Refusal::Ours(granted) => granted.deadline.at.0.as_millis(),
        Refusal::Others(verdict) => panic!("ours, not {verdict:?}"),
    }
}

#[test]
fn an_id_shows_itself() {
    let id = id(7);
    assert_eq!(format!("{id:?}"), format!("AttemptId({id})"));
}

#[test]
fn any_of_several_requests_is_found_again_by_its_expiry() {
    let (mut me, clock) = (attempt(1), unsampled());
    let writes: Vec<_> = [0, 2_000, 4_000]
        .map(|ms| me.request(None, &clock, reading(ms)).1)
        .into();
    for (write, sent) in writes.iter().zip([0, 2_000, 4_000]) {
        let deadline = ours(&mut me, &landed(write), &clock, 4_001);
        assert_eq!(deadline, 19_980 + sent);
    }
}

#[test]
fn only_so_many_are_found_again_and_the_others_count_from_the_first() {
    let (mut me, clock) = (attempt(1), unsampled());
    let writes: Vec<_> = (0..34u64)
        .map(|n| me.request(None, &clock, reading(n * 100)).1)
        .collect();
    // Two requests are forgotten. The first one is kept apart, and the second counts from it.
    for (n, sent) in [(0, 0), (1, 0), (2, 200), (33, 3_300)] {
        let deadline = ours(&mut me, &landed(&writes[n]), &clock, 3_301);
        assert_eq!(deadline, 19_980 + sent, "request {n}");
    }
}

#[test]
fn an_unknown_expiry_of_ours_bounds_the_belief() {
    let (mut me, clock) = (attempt(1), sampled(WALL));
    let mut record = landed(&me.request(None, &clock, reading(0)).1);
    assert!(ours(&mut me, &record, &clock, 1) > 19_000);
    // P is 10 s before any published one: the deadline is that P less the expiry padding.
    record.expires_at = ServiceTime(record.expires_at.0 - 10_000);
    let deadline = ours(&mut me, &record, &clock, 1);
    assert!(deadline > 9_000 && deadline < 10_001, "{deadline}");
}

#[test]
fn what_was_seen_is_there_to_be_remembered() {
    let mut me = attempt(1);
    assert!(me.observation().is_empty());
    let now = reading(5);
    me.refused(Some(&held_by(2)), &shown(now), now, &unsampled());
    assert!(!me.observation().is_empty());
    me.refused(None, &shown(now), now, &unsampled());
    assert!(me.observation().is_empty());
}

#[test]
fn tokens_are_best_effort_where_fsharp_clients_share_the_key() {
    let clock = sampled(WALL);
    let mut foreign = held_by(2);
    foreign.native = None;
    let State::Granted(seen) = foreign.state() else {
        panic!("granted");
    };
    for (shared, over_foreign, expected) in [
        (false, false, false),
        (true, false, true),
        (false, true, true),
    ] {
        let wish = Wish {
            shared_with_fsharp: shared,
            ..wish()
        };
        let mut me = Attempt::new(id(1), wish, terms(), rules(), Observation::default());
        let before = over_foreign.then_some(&foreign);
        let seen = over_foreign.then(|| (seen.clone(), Vec::new()));
        let (request, write) = me.request(seen, &clock, reading(0));
        let record = apply(before, &write).expect("allowed").expect("a record");
        let token = me.applied(&request, &record, &clock, reading(0)).token;
        assert_eq!(token.is_best_effort(), expected);
        assert_eq!(token.pass(), 0);
    }
}

#[test]
fn a_token_that_is_one_above_the_seed_by_chance_was_not_seeded() {
    let mut me = attempt(1);
    let (request, write) = me.request(None, &unsampled(), reading(0));
    // A released record whose token is the seed; the service's own time is a year away.
    let mut free = held_by(2);
    free.owner = None;
    free.ttl_seconds = None;
    free.native.as_mut().expect("ours").token = u64::try_from(WALL).expect("positive");
    let record = apply(Some(&free), &write).expect("free").expect("a record");
    let clock = sampled(WALL + 365 * 86_400_000);
    assert!(
        !me.applied(&request, &record, &clock, reading(0))
            .impossible_seed
    );
    // A token that a store has raised above its floor is not seeded either.
    let mut raised = landed(&write);
    raised.native.as_mut().expect("ours").token += 5;
    assert!(
        !me.applied(&request, &raised, &clock, reading(0))
            .impossible_seed
    );
    assert!(
        me.applied(&request, &landed(&write), &clock, reading(0))
            .impossible_seed
    );
}

#[test]
fn a_seed_is_impossible_beyond_the_tolerance_and_not_at_it() {
    let tolerance = i64::try_from(SEED_TOLERANCE.as_millis()).expect("short");
    let clock = sampled(WALL);
    let now = reading(0);
    let latest = clock.latest(now).expect("sampled").0;
    let earliest = clock.earliest(now.elapsed).expect("sampled").0;
    for (seed, impossible) in [
        (latest + tolerance, false),
        (latest + tolerance + 1, true),
        (earliest - tolerance, false),
        (earliest - tolerance - 1, true),
    ] {
        let mut me = attempt(1);
        let sent = Reading {
            wall_ms: seed,
            ..now
        };
        let (request, write) = me.request(None, &unsampled(), sent);
        let granted = me.applied(&request, &landed(&write), &clock, now);
        assert_eq!(granted.impossible_seed, impossible, "{seed}");
    }
}

#[test]
fn what_is_given_back_is_ours_and_how_depends_on_its_seed() {
    let wrong = sampled(WALL + 365 * 86_400_000);
    let (right, unknown) = (sampled(WALL), unsampled());
    let mut me = attempt(1);
    let (_, write) = me.request(None, &unknown, reading(0));
    let record = landed(&write);
    let token = record.token().expect("ours");
    let withdraws =
        |record: &Record, clock: &ServiceClock| match me.give_back(record, clock, reading(1)) {
            Some(Write::Withdraw { token: t, .. }) => {
                assert_eq!(Some(t), record.token());
                Some(true)
            }
            Some(Write::Release { token: t, .. }) => {
                assert_eq!(t, record.token());
                Some(false)
            }
            None => None,
            Some(other) => panic!("{other:?}"),
        };
    // The wall clock seeded it: without service time, or far from it, the record is withdrawn.
    assert_eq!(withdraws(&record, &unknown), Some(true));
    assert_eq!(withdraws(&record, &wrong), Some(true));
    assert_eq!(withdraws(&record, &right), Some(false));
    // A record that another grant began stays.
    let mut older = record.clone();
    older.native.as_mut().expect("ours").renew_count = 2;
    assert_eq!(withdraws(&older, &unknown), Some(false));
    let mut other_token = record.clone();
    other_token.native.as_mut().expect("ours").token = token + 1;
    assert_eq!(withdraws(&other_token, &unknown), Some(false));
    // Another's record, a released one, an F# record.
    assert_eq!(withdraws(&held_by(2), &unknown), None);
    let mut free = record.clone();
    free.owner = None;
    assert_eq!(withdraws(&free, &unknown), None);
    let mut foreign = record.clone();
    foreign.native = None;
    assert_eq!(withdraws(&foreign, &unknown), None);
}

#[test]
fn a_seed_by_service_time_needs_no_second_look_later() {
    // Sampled at the send; the sample is too old now.
    let mut me = attempt(1);
    let (_, write) = me.request(None, &sampled(WALL), reading(0));
    let given_back = me.give_back(&landed(&write), &unsampled(), reading(1));
    assert!(
        matches!(given_back, Some(Write::Release { .. })),
        "{given_back:?}"
    );
}

#[test]
fn ttl_of_a_release_needs_a_sample() {
    let me = attempt(1);
    let ttl = |clock: &ServiceClock| match me.abandon(clock, reading(0)) {
        Write::Release { ttl_seconds, .. } => ttl_seconds,
        other => panic!("{other:?}"),
    };
    assert_eq!(ttl(&unsampled()), None);
    // Rounded up: the upper bound is a part of a millisecond later.
    assert_eq!(ttl(&sampled(WALL)), Some(WALL / 1_000 + 7 * 86_400 + 1));
    let mut dated = unsampled();
    dated.learn(Stamp::WholeSeconds(WALL / 1_000), reading(0), reading(0));
    assert_eq!(ttl(&dated), Some(WALL / 1_000 + 7 * 86_400 + 2));
}
