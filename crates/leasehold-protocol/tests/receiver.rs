//! Who waits and is handed the key: its place, and until when it believes in its grant.

use crate::support::*;
use leasehold_protocol::attempt::{Attempt, Refusal, Shown};
use leasehold_protocol::record::Record;
use leasehold_protocol::renewal::Kept;
use leasehold_protocol::takeover::Observation;
use leasehold_protocol::time::{Elapsed, ServiceTime};
use leasehold_protocol::write::{Write, apply};

/// An attempt that has a place since `ms`, and the record that was handed to it.
fn waiting(ms: u64) -> (Attempt, Record) {
    let mut me = attempt(2);
    let join = me.join(CLAIM, ServiceTime(i64::MAX), reading(ms));
    let joined = applied(&queued(&[]), &join);
    // It is the same place in every request.
    assert_eq!(me.join(LEASE, ServiceTime(0), reading(ms + 1)), join);
    let handed = applied(&joined, &hand_over(9, Some(7), &[], 2));
    (me, handed)
}

fn answer(sent: u64, received: u64, consistent: bool) -> Shown {
    Shown {
        sent: reading(sent),
        received: at(received),
        consistent,
    }
}

/// Until when it believes, without a service clock: so by the lease alone.
fn believes(me: &mut Attempt, record: &Record, shown: Shown) -> Elapsed {
    let now = reading(30_000);
    match me.refused(Some(record), &shown, now, &unsampled()) {
        Refusal::Ours(granted) => granted.deadline.at,
        Refusal::Others(verdict) => panic!("ours, not {verdict:?}"),
    }
}

fn others(me: &mut Attempt, shown: Shown) {
    let answer = me.refused(Some(&queued(&[2])), &shown, reading(30_000), &unsampled());
    assert!(matches!(answer, Refusal::Others(_)));
}

#[test]
fn a_place_asks_for_the_lease_and_claims_no_more_than_that() {
    let write = attempt(2).join(2 * LEASE, ServiceTime(77), reading(0));
    let Write::Join { place, .. } = write else {
        panic!("a join");
    };
    assert_eq!((place.attempt(), place.lease()), (id(2), LEASE));
    assert_eq!((place.claim(), place.until()), (LEASE, ServiceTime(77)));
}

#[test]
fn a_handed_over_grant_counts_from_the_last_answer_that_came_before_the_poll() {
    let after = |sent: u64| at(sent + 19_980);
    let (mut me, record) = waiting(1_000);
    assert_eq!(
        believes(&mut me, &record, answer(9_000, 9_005, true)),
        after(1_000)
    );
    let (mut me, record) = waiting(1_000);
    others(&mut me, answer(2_000, 2_005, true));
    others(&mut me, answer(3_000, 3_005, true));
    // Sent before that answer came, or at the same instant: it may show an older time.
    assert_eq!(
        believes(&mut me, &record, answer(3_004, 3_009, true)),
        after(2_000)
    );
    assert_eq!(
        believes(&mut me, &record, answer(3_005, 3_009, true)),
        after(2_000)
    );
    assert_eq!(
        believes(&mut me, &record, answer(3_006, 3_010, true)),
        after(3_000)
    );
    // An answer that comes out of order counts by its send.
    others(&mut me, answer(2_500, 3_020, true));
    assert_eq!(
        believes(&mut me, &record, answer(3_030, 3_035, true)),
        after(3_000)
    );
}

#[test]
fn an_answer_that_may_be_old_proves_nothing() {
    let after = |sent: u64| at(sent + 19_980);
    let (mut me, record) = waiting(1_000);
    others(&mut me, answer(2_000, 2_005, false));
    assert_eq!(
        believes(&mut me, &record, answer(3_000, 3_005, true)),
        after(1_000)
    );
    others(&mut me, answer(4_000, 4_005, true));
    assert_eq!(
        believes(&mut me, &record, answer(5_000, 5_005, false)),
        after(1_000)
    );
    assert_eq!(
        believes(&mut me, &record, answer(5_000, 5_005, true)),
        after(4_000)
    );
}

#[test]
fn the_latest_answers_are_remembered() {
    let (mut me, record) = waiting(0);
    for n in 1..=20 {
        others(&mut me, answer(n * 100, n * 100 + 50, true));
    }
    assert_eq!(
        believes(&mut me, &record, answer(2_060, 2_070, true)),
        at(2_000 + 19_980)
    );
    assert_eq!(
        believes(&mut me, &record, answer(1_351, 1_360, true)),
        at(1_300 + 19_980)
    );
    // Forgotten: it counts from the first request to join.
    assert_eq!(
        believes(&mut me, &record, answer(1_349, 1_360, true)),
        at(19_980)
    );
}

#[test]
fn a_grant_of_one_who_waits_never_counts_from_a_request_with_the_same_expiry() {
    let (mut me, mut record) = waiting(1_000);
    let (_, write) = me.request(None, &unsampled(), reading(9_000));
    let Write::Acquire(grant) = write else {
        panic!("an acquire");
    };
    // Handed over before that request was sent, with the same P by chance.
    record.expires_at = grant.expires_at;
    let shown = answer(9_001, 9_005, true);
    assert_eq!(believes(&mut me, &record, shown), at(1_000 + 19_980));
}

#[test]
fn a_grant_from_before_the_join_counts_from_its_own_request_however_late_it_is_shown() {
    let mut me = attempt(2);
    let (_, write) = me.request(None, &unsampled(), reading(1_000));
    let own = apply(None, &write).expect("free").expect("a record");
    // Its answer is lost. Another takes over, a refusal shows that, and the attempt joins.
    me.join(CLAIM, ServiceTime(i64::MAX), reading(25_000));
    others(&mut me, answer(25_000, 25_005, true));
    let of_first = at(1_000 + 19_980);
    assert_eq!(
        believes(&mut me, &own, answer(2_000, 2_005, true)),
        of_first
    );
    // So does a request that was sent after the join.
    let mut early = attempt(2);
    early.join(CLAIM, ServiceTime(i64::MAX), reading(0));
    early.request(None, &unsampled(), reading(1_000));
    assert_eq!(
        believes(&mut early, &own, answer(2_000, 2_005, true)),
        of_first
    );
    // An old read shows it as well.
    assert_eq!(
        believes(&mut me, &own, answer(26_000, 26_005, false)),
        of_first
    );
}

#[test]
fn a_hand_over_that_comes_late_is_not_believed() {
    let (mut me, record) = waiting(0);
    let now = reading(60_000);
    let shown = answer(60_000, 60_000, true);
    others(&mut me, answer(59_000, 59_005, true));
    // It was written for the first seconds: P is long past.
    match me.refused(Some(&record), &shown, now, &sampled(WALL)) {
        Refusal::Ours(granted) => assert!(granted.deadline.at < now.elapsed),
        Refusal::Others(verdict) => panic!("ours, not {verdict:?}"),
    }
}

#[test]
fn an_attempt_knows_whether_it_has_joined() {
    let mut me = attempt(1);
    assert!(!me.has_joined());
    me.join(CLAIM, ServiceTime(5), reading(0));
    assert!(me.has_joined());
}

#[test]
fn a_grant_that_was_handed_over_is_described_by_its_first_renewal() {
    for data in [None, Some(b"payload".as_slice())] {
        let clock = sampled(WALL);
        let (me, record) = kept(&[2]);
        let handed = applied(
            &record,
            &me.release(false, reading(100).elapsed, &clock, reading(100)),
        );
        let mut wish = wish();
        wish.data = data.map(Into::into);
        let mut next = Attempt::new(id(2), wish, terms(), rules(), Observation::default());
        next.join(CLAIM, ServiceTime(i64::MAX), reading(0));
        let shown = Shown {
            sent: reading(110),
            received: reading(120).elapsed,
            consistent: true,
        };
        let Refusal::Ours(granted) = next.refused(Some(&handed), &shown, reading(120), &clock)
        else {
            panic!("it was handed over");
        };
        let mut kept = Kept::new("k".into(), id(2), &granted, terms());
        assert_eq!(kept.hides_data(), data.is_some());
        assert!(kept.is_undescribed() && !me.is_undescribed());
        let (sent, write) = kept.renew(&clock, reading(200), false);
        let renewed = applied(&handed, &write);
        assert!(renewed.holder.is_some());
        assert_eq!(renewed.data.as_deref(), data);
        kept.renewed(&sent, &clock, reading(210));
        assert!(!kept.hides_data() && !kept.is_undescribed());
        // From then on a renewal changes neither.
        let (_, write) = kept.renew(&clock, reading(300), false);
        assert!(matches!(
            write,
            Write::Renew {
                description: None,
                ..
            }
        ));
    }
}
