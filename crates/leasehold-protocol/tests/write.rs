//! What each write does to a record, field by field, and on which condition.

use crate::support::*;
use leasehold_protocol::record::{Native, Record, State};
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::write::{ConditionFailed, Left, Operation, Write, apply, taken_over};

fn seen(record: &Record) -> leasehold_protocol::record::Seen {
    match record.state() {
        State::Granted(seen) => seen,
        State::Released => panic!("granted"),
    }
}

fn done(before: Option<&Record>, write: &Write) -> Record {
    apply(before, write).expect("allowed").expect("a record")
}

#[test]
fn a_take_over_is_a_compare_and_set_on_exactly_what_was_seen() {
    let record = held_by(1);
    let clock = sampled(WALL);
    let (_, write) = attempt(2).request(Some((seen(&record), Vec::new())), &clock, reading(0));
    let taken = done(Some(&record), &write);
    assert_eq!(taken.owner, Some(id(2).to_string()));
    let native = taken.native.expect("ours");
    assert_eq!(native.renew_count, 3);
    assert!(native.token > 7 && native.token >= u64::try_from(WALL).expect("positive"));
    for change in [
        |r: &mut Record| r.owner = Some(id(3).to_string()),
        |r: &mut Record| r.owner = None,
        |r: &mut Record| r.native.as_mut().expect("ours").token = 8,
        |r: &mut Record| r.native.as_mut().expect("ours").renew_count = 3,
    ] {
        let mut other = record.clone();
        change(&mut other);
        assert_eq!(
            apply(Some(&other), &write),
            Err(ConditionFailed),
            "{other:?}"
        );
    }
    assert_eq!(apply(None, &write), Err(ConditionFailed));
}

#[test]
fn without_a_sample_a_take_over_counts_on_and_never_by_the_wall_clock() {
    let record = held_by(1);
    let (_, write) =
        attempt(2).request(Some((seen(&record), Vec::new())), &unsampled(), reading(0));
    assert_eq!(done(Some(&record), &write).token(), Some(8));
}

#[test]
fn the_token_of_a_take_over_is_above_both() {
    assert_eq!(taken_over(7, ServiceTime(5)), 8);
    assert_eq!(taken_over(5, ServiceTime(7)), 8);
    assert_eq!(taken_over(5, ServiceTime(-7)), 6);
    assert_eq!(taken_over(u64::MAX, ServiceTime(7)), u64::MAX);
}

#[test]
fn a_renewal_moves_expiry_ttl_and_count_and_nothing_else() {
    let before = held_by(1);
    let write = Write::Renew {
        key: "k".into(),
        attempt: id(1),
        token: 7,
        expires_at: ServiceTime(WALL + 30_000),
        ttl_seconds: 6,
        bound_to_process: true,
        lease: None,
        description: None,
    };
    let expected = Record {
        expires_at: ServiceTime(WALL + 30_000),
        ttl_seconds: Some(6),
        native: Some(Native {
            renew_count: 3,
            ..before.native.expect("ours")
        }),
        ..before.clone()
    };
    assert_eq!(done(Some(&before), &write), expected);
    // Not backwards, not in place, not another's.
    assert_eq!(apply(Some(&expected), &write), Err(ConditionFailed));
    assert_eq!(apply(Some(&held_by(2)), &write), Err(ConditionFailed));
}

#[test]
fn a_renewal_may_lengthen_the_lease_and_never_shortens_it() {
    let before = held_by(1);
    let renewal = |lease| Write::Renew {
        key: "k".into(),
        attempt: id(1),
        token: 7,
        expires_at: ServiceTime(WALL + 90_000),
        ttl_seconds: 6,
        bound_to_process: false,
        lease: Some(lease),
        description: None,
    };
    let longer = done(Some(&before), &renewal(LEASE * 4));
    assert_eq!(longer.native.expect("ours").lease, LEASE * 4);
    assert_eq!(longer.native.expect("ours").renew_count, 3);
    let same = done(Some(&before), &renewal(LEASE));
    assert_eq!(same.native.expect("ours").lease, LEASE);
    let shorter = renewal(LEASE - std::time::Duration::from_millis(1));
    assert_eq!(apply(Some(&before), &shorter), Err(ConditionFailed));
    assert_eq!(
        apply(Some(&held_by(2)), &renewal(LEASE * 4)),
        Err(ConditionFailed)
    );
}

#[test]
fn a_release_leaves_the_token_and_the_label_and_takes_the_rest() {
    let before = held_by(1);
    let release = |token, ttl_seconds| Write::Release {
        left: Left::Nothing,
        held: None,
        key: "k".into(),
        attempt: id(1),
        token,
        ttl_seconds,
        passed: Vec::new(),
    };
    let expected = Record {
        owner: None,
        expires_at: ServiceTime(0),
        ttl_seconds: Some(77),
        data: None,
        ..before.clone()
    };
    assert_eq!(done(Some(&before), &release(Some(7), Some(77))), expected);
    assert_eq!(done(Some(&before), &release(None, Some(77))), expected);
    assert_eq!(
        done(Some(&before), &release(None, None)).ttl_seconds,
        Some(5)
    );
    let wrong = release(Some(8), None);
    assert_eq!(apply(Some(&before), &wrong), Err(ConditionFailed));
    assert_eq!(
        apply(Some(&held_by(2)), &release(None, None)),
        Err(ConditionFailed)
    );
}

#[test]
fn a_withdrawal_deletes_exactly_its_own() {
    let withdraw = |token| Write::Withdraw {
        key: "k".into(),
        attempt: id(1),
        token,
    };
    assert_eq!(apply(Some(&held_by(1)), &withdraw(7)), Ok(None));
    assert_eq!(apply(Some(&held_by(1)), &withdraw(8)), Err(ConditionFailed));
    assert_eq!(apply(Some(&held_by(2)), &withdraw(7)), Err(ConditionFailed));
}

#[test]
fn every_write_names_its_key_and_itself() {
    let (mut me, clock) = (attempt(1), sampled(WALL));
    let acquire = me.request(None, &clock, reading(0)).1;
    let take_over = me
        .request(Some((seen(&held_by(2)), Vec::new())), &clock, reading(0))
        .1;
    for (write, name) in [(acquire, "acquire"), (take_over, "take over")] {
        assert_eq!(
            (write.key(), write.operation().to_string().as_str()),
            ("k", name)
        );
    }
    let release = me.abandon(&clock, reading(0));
    assert_eq!(
        (release.key(), release.operation()),
        ("k", Operation::Release)
    );
    let names: Vec<_> = [Operation::Renew, Operation::Release, Operation::Withdraw]
        .iter()
        .chain(&[Operation::Read, Operation::List])
        .map(ToString::to_string)
        .collect();
    assert_eq!(names, ["renew", "release", "withdraw", "read", "list"]);
}
