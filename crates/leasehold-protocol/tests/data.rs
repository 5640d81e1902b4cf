//! The payload: whose it is, and what of it the next holder finds.

use std::sync::Arc;
use std::time::Duration;

use crate::support::*;
use leasehold_protocol::attempt::{Attempt, Refusal, Wish};
use leasehold_protocol::done::Done;
use leasehold_protocol::record::{Record, Seen, State};
use leasehold_protocol::renewal::Kept;
use leasehold_protocol::takeover::Observation;
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::write::{Description, Left, Write};

/// An attempt with this payload.
fn with(n: u8, data: Option<&[u8]>) -> Attempt {
    let wish = Wish {
        data: data.map(Into::into),
        ..wish()
    };
    Attempt::new(id(n), wish, terms(), rules(), Observation::default())
}

fn left_in(write: &Write) -> &Left {
    match write {
        Write::Release { left, .. } | Write::HandOver { left, .. } => left,
        other => panic!("no end of a grant: {other:?}"),
    }
}

fn seen(record: &Record) -> Seen {
    match record.state() {
        State::Granted(seen) => seen,
        State::Released => panic!("granted"),
    }
}

/// A released record that has this payload.
fn released(data: &[u8]) -> Record {
    Record {
        owner: None,
        expires_at: ServiceTime(0),
        data: Some(data.to_vec()),
        ..held_by(9)
    }
}

fn description(data: &[u8]) -> Description {
    Description {
        holder: "me".into(),
        data: Some(data.into()),
    }
}

#[test]
fn a_grant_without_a_payload_finds_what_was_left() {
    let clock = sampled(WALL);
    for (own, finds, record_has) in [
        (None, Some(&b"left"[..]), &b"left"[..]),
        (Some(&b"own"[..]), None, b"own"),
    ] {
        let mut me = with(1, own);
        let (request, write) = me.request(None, &clock, reading(0));
        let taken = applied(&released(b"left"), &write);
        assert_eq!(taken.data.as_deref(), Some(record_has));
        let granted = me.applied(&request, &taken, &clock, reading(0));
        assert_eq!(granted.left.as_deref(), finds);
        // The same by a take-over of a holder that died.
        let dead = Record {
            data: Some(b"left".to_vec()),
            ..held_by(9)
        };
        let (_, write) = me.request(Some((seen(&dead), Vec::new())), &clock, reading(0));
        let taken = applied(&dead, &write);
        assert_eq!(taken.data.as_deref(), Some(record_has));
    }
    // Where nothing was left, nothing is found.
    let mut me = with(1, None);
    let (request, write) = me.request(None, &clock, reading(0));
    let first = leasehold_protocol::write::apply(None, &write).expect("free");
    let granted = me.applied(&request, &first.expect("a record"), &clock, reading(0));
    assert_eq!(granted.left, None);
}

#[test]
fn the_result_of_a_run_is_never_a_payload() {
    let clock = sampled(WALL);
    let (runner, record) = kept(&[]);
    let done = Done {
        at: ServiceTime(0),
        failed: false,
        input: None,
    };
    let result = Some(Arc::from(&b"result"[..]));
    let completion = runner.complete(Duration::from_secs(60), done, result, &clock, reading(0));
    let done = applied(&record, &completion);
    assert!(done.data.is_some() && seen(&done).is_done());
    assert!(!seen(&record).is_done() && !seen(&held_by(2)).is_done());
    let foreign = Record {
        native: None,
        ..done.clone()
    };
    assert!(!seen(&foreign).is_done(), "no run of an F# client is done");
    for own in [None, Some(&b"own"[..])] {
        let (_, write) = with(2, own).request(Some((seen(&done), Vec::new())), &clock, reading(0));
        assert_eq!(applied(&done, &write).data.as_deref(), own);
    }
}

#[test]
fn the_end_of_a_grant_leaves_what_it_is_to() {
    let clock = sampled(WALL);
    for (waiting, left) in [(&[][..], "released"), (&[2][..], "handed over")] {
        let (mut kept, record) = kept(waiting);
        let ended = |kept: &Kept, keeps| {
            let write = kept.release(keeps, reading(1_000).elapsed, &clock, reading(1_000));
            applied(&record, &write).data
        };
        assert_eq!(ended(&kept, false), None, "{left}");
        assert_eq!(ended(&kept, true), record.data, "{left}");
        assert!(record.data.is_some());
        // The record may lack what no acknowledged renewal has written.
        kept.describe(description(b"new"));
        assert_eq!(ended(&kept, false), None, "{left}");
        assert_eq!(ended(&kept, true), Some(b"new".to_vec()), "{left}");
    }
}

#[test]
fn a_new_payload_is_written_by_each_renewal_until_one_with_it_is_acknowledged() {
    let clock = sampled(WALL);
    let (mut kept, record) = kept(&[]);
    let (before, old) = kept.renew(&clock, reading(1_000), false);
    kept.describe(description(b"new"));
    assert!(kept.hides_data() && kept.is_undescribed());
    let (first, write) = kept.renew(&clock, reading(1_000), false);
    let (_, again) = kept.renew(&clock, reading(1_000), false);
    assert_eq!(applied(&record, &again).data.as_deref(), Some(&b"new"[..]));
    // One from before it says nothing of it.
    kept.renewed(&before, &clock, reading(1_100));
    assert!(kept.hides_data());
    let renewed = applied(&applied(&record, &old), &write);
    assert_eq!(renewed.data.as_deref(), Some(&b"new"[..]));
    kept.renewed(&first, &clock, reading(1_100));
    assert!(!kept.hides_data() && !kept.is_undescribed());
    let (_, later) = kept.renew(&clock, reading(1_200), false);
    let renewed = applied(&renewed, &later);
    assert_eq!(renewed.data.as_deref(), Some(&b"new"[..]));
    // A late one of before it does not bring the old payload back.
    refused(&renewed, &old);
}

#[test]
fn a_grant_that_nobody_saw_leaves_what_it_found() {
    let clock = sampled(WALL);
    for (own, left) in [(None, Left::AsItIs), (Some(&b"own"[..]), Left::Nothing)] {
        let mut me = with(1, own);
        let (_, write) = me.request(None, &clock, reading(0));
        let taken = applied(&released(b"left"), &write);
        assert_eq!(left_in(&me.abandon(&clock, reading(0))), &left);
        assert_eq!(left_in(&me.release_late(8, &clock, reading(0))), &left);
        let given_back = me.give_back(&taken, &clock, reading(0)).expect("ours");
        assert_eq!(left_in(&given_back), &left);
        // A key that was handed over has no payload of this attempt yet.
        let handed = Record {
            holder: None,
            ..taken
        };
        let given_back = me.give_back(&handed, &clock, reading(0)).expect("ours");
        assert_eq!(left_in(&given_back), &Left::AsItIs);
    }
}

#[test]
fn a_key_that_is_handed_over_brings_what_was_kept() {
    let clock = sampled(WALL);
    for own in [None, Some(&b"own"[..])] {
        let (holder, record) = kept(&[2]);
        let handed = applied(
            &record,
            &holder.release(true, reading(100).elapsed, &clock, reading(100)),
        );
        let mut next = with(2, own);
        next.join(CLAIM, ServiceTime(i64::MAX), reading(0));
        let answer = next.refused(Some(&handed), &shown(reading(120)), reading(120), &clock);
        let Refusal::Ours(granted) = answer else {
            panic!("it was handed over");
        };
        let left = record.data.as_deref().filter(|_| own.is_none());
        assert_eq!(granted.left.as_deref(), left);
        let mut next = Kept::new("k".into(), id(2), &granted, terms());
        let (_, write) = next.renew(&clock, reading(200), false);
        let data = applied(&handed, &write).data;
        assert_eq!(data.as_deref(), own.or(record.data.as_deref()));
    }
}
