//! A held grant: which answers move its deadline, and how it ends.

use std::time::Duration;

use crate::support::*;
use leasehold_protocol::attempt::Granted;
use leasehold_protocol::deadline::{Deadline, Sent};
use leasehold_protocol::queue::PLACES;
use leasehold_protocol::record::Record;
use leasehold_protocol::renewal::{Ended, Kept, RenewalRefused};
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::token::FencingToken;
use leasehold_protocol::write::{Write, apply};

fn granted(sent_ms: u64, expires_at: ServiceTime) -> Granted {
    let sent = Sent {
        at: reading(sent_ms),
        expires_at,
    };
    Granted {
        at: leasehold_protocol::time::Elapsed::default(),
        token: FencingToken::new(7, 0, false),
        deadline: Deadline::of(&sent, &terms(), &unsampled(), reading(sent_ms)),
        expires_at,
        began: None,
        impossible_seed: false,
        queue: Vec::new(),
        ttl_seconds: None,
        description: None,
        crowd: None,
        left: None,
    }
}

fn kept(sent_ms: u64, expires_at: ServiceTime) -> Kept {
    Kept::new("k".into(), id(1), &granted(sent_ms, expires_at), terms())
}

fn first() -> Kept {
    let kept = kept(0, held_by(1).expires_at);
    assert_eq!(kept.places(), PLACES);
    kept
}

#[test]
fn an_acknowledged_renewal_is_forgotten_with_those_before_it_and_later_ones_are_not() {
    let mut me = first();
    let clock = unsampled();
    let renewals: Vec<_> = [6_000, 7_000, 8_000]
        .map(|ms| me.renew(&clock, reading(ms), false))
        .into();
    me.renewed(&renewals[1].0, &clock, reading(8_100));
    assert_eq!(me.deadline().at, at(7_000 + 19_980));
    assert_eq!(me.deadline().sent_at(), at(7_000));
    // A refusal shows the third renewal, which is then acknowledged.
    let record = apply(Some(&held_by(1)), &renewals[2].1);
    let record = record.expect("ours").expect("a record");
    let refused = me.renewal_refused(Some(&record), &clock, reading(8_200));
    assert_eq!(refused, RenewalRefused::StillOurs);
    assert_eq!(me.deadline().at, at(8_000 + 19_980));
    // No unanswered renewal is left.
    assert_eq!(me, kept(8_000, record.expires_at));
    assert_eq!(me.expires_at(), record.expires_at);
}

#[test]
fn the_first_of_two_renewals_may_be_the_only_one_that_landed() {
    let mut me = first();
    let clock = unsampled();
    let (first_sent, write) = me.renew(&clock, reading(6_000), false);
    me.renew(&clock, reading(7_000), false);
    let record = apply(Some(&held_by(1)), &write)
        .expect("ours")
        .expect("a record");
    let refused = me.renewal_refused(Some(&record), &clock, reading(7_100));
    assert_eq!(refused, RenewalRefused::StillOurs);
    assert_eq!(
        me.deadline().at,
        first_sent.at.elapsed.plus(LEASE.mul_f64(0.999))
    );
}

#[test]
fn what_is_left_counts_down_to_the_margin() {
    let (me, clock) = (first(), unsampled());
    assert_eq!(
        me.remaining(reading(0), &clock),
        Duration::from_millis(18_980)
    );
    assert_eq!(
        me.remaining(reading(18_000), &clock),
        Duration::from_millis(980)
    );
    assert_eq!(me.remaining(reading(19_000), &clock), Duration::ZERO);
}

#[test]
fn of_two_deadlines_at_the_same_moment_the_first_stays() {
    let early = granted(0, ServiceTime(WALL)).deadline;
    let sent = Sent {
        at: reading(1_000),
        expires_at: ServiceTime(WALL),
    };
    let mut shorter = terms();
    // Of another send, and over at the same time.
    shorter.lease = LEASE - Duration::from_secs(1) - Duration::from_micros(1_001_002);
    let mut late = Deadline::of(&sent, &shorter, &unsampled(), reading(1_000));
    late.at = early.at;
    assert_eq!(early.later(late).sent_at(), at(0));
    late.at = at(30_000);
    assert_eq!(early.later(late).sent_at(), at(1_000));
    assert_eq!(late.later(early).sent_at(), at(1_000));
}

fn released(token: u64) -> Record {
    let mut record = held_by(1);
    record.owner = None;
    record.native.as_mut().expect("ours").token = token;
    record
}

#[test]
fn how_a_grant_ended_is_told_by_owner_and_token() {
    let me = first();
    assert_eq!(me.ended(None), Ended::NoRecord);
    assert_eq!(me.ended(Some(&released(7))), Ended::Released);
    assert_eq!(me.ended(Some(&released(8))), Ended::Superseded);
    let other = held_by(2);
    assert_eq!(
        me.ended(Some(&other)),
        Ended::TakenOver(Box::new(other.clone()))
    );
    assert!(me.shows_release(Some(&released(7))));
    assert!(!me.shows_release(Some(&released(8))));
    assert!(!me.shows_release(Some(&held_by(1))));
    assert!(!me.shows_release(None));
}

#[test]
fn an_adopted_identity_is_believed_in_only_after_a_renewal() {
    let clock = unsampled();
    let mut me = Kept::adopted("k".into(), id(1), 7, Some(held_by(1).expires_at), terms());
    assert_eq!(me.remaining(reading(0), &clock), Duration::ZERO);
    let (sent, write) = me.renew(&clock, reading(1), false);
    assert!(matches!(write, Write::Renew { token: 7, .. }));
    assert!(sent.expires_at > held_by(1).expires_at);
    me.renewed(&sent, &clock, reading(2));
    assert!(me.remaining(reading(2), &clock) > Duration::from_secs(18));
}

#[test]
fn a_renewal_for_a_longer_lease_moves_expiry_deadline_and_the_lease_of_the_record() {
    let clock = sampled(WALL);
    let hour = Duration::from_secs(3_600);
    let mut me = Kept::adopted("k".into(), id(1), 7, Some(held_by(1).expires_at), terms());
    // As often as it is sent again.
    me.renew_for(hour, &clock, reading(1_000), false);
    let (sent, write) = me.renew_for(hour, &clock, reading(2_000), false);
    let renewed = applied(&held_by(1), &write);
    assert_eq!(renewed.native.expect("ours").lease, hour);
    let least = ServiceTime(WALL + 2_000).plus(hour + terms().expiry_padding);
    assert!(renewed.expires_at >= least, "{renewed:?}");
    me.renewed(&sent, &clock, reading(2_100));
    assert!(me.remaining(reading(2_100), &clock) > hour - Duration::from_secs(10));
    // Whole milliseconds, rounded up, in every store.
    let odd = Duration::from_nanos(hour.as_secs() * 1_000_000_000 + 1);
    let (_, write) = me.renew_for(odd, &clock, reading(3_000), false);
    let lease = applied(&renewed, &write).native.expect("ours").lease;
    assert_eq!(lease, hour + Duration::from_millis(1));
}

#[test]
fn a_record_of_our_attempt_with_another_token_is_not_our_grant() {
    let (mut me, clock) = (first(), unsampled());
    me.renew(&clock, reading(6_000), false);
    let mut other = held_by(1);
    other.native.as_mut().expect("ours").token = 8;
    let refused = me.renewal_refused(Some(&other), &clock, reading(6_100));
    assert_eq!(
        refused,
        RenewalRefused::Lost(Ended::TakenOver(Box::new(other)))
    );
}
