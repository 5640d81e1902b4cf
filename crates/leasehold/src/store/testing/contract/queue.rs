//! The queue in the record: each part of the condition of each write on it.

use std::time::Duration;

use super::{Bench, attempt, later, seen, token};
use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::queue::{PLACES, Place};
use leasehold_protocol::record::Record;
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::write::{Left, Write};

const CLAIM: Duration = Duration::from_secs(3);

pub(super) fn place(attempt: AttemptId) -> Place {
    let lease = Duration::from_secs(30);
    Place::new(attempt, lease, CLAIM, ServiceTime(i64::MAX))
}

impl Bench {
    pub(super) fn join(&self, place: Place) -> Write {
        Write::Join {
            key: self.key.clone(),
            place,
            limit: None,
            most: PLACES,
            bound_to_process: false,
        }
    }

    fn leave(&self, place: Place, index: usize) -> Write {
        Write::Leave {
            key: self.key.clone(),
            place,
            index,
        }
    }

    pub(super) fn hand_over(
        &self,
        record: &Record,
        me: AttemptId,
        passed: &[Place],
        next: Place,
    ) -> Write {
        Write::HandOver {
            held: None,
            key: self.key.clone(),
            attempt: me,
            token: Some(token(record)),
            next,
            passed: passed.to_vec(),
            expires_at: later(),
            ttl_seconds: super::FAR + 3,
            acquired_at: later(),
            left: Left::Nothing,
        }
    }

    fn end(&self, record: &Record, me: AttemptId, passed: &[Place]) -> Write {
        let mut write = self.release(me, Some(token(record)));
        if let Write::Release { passed: places, .. } = &mut write {
            *places = passed.to_vec();
        }
        write
    }

    /// A key that `me` holds, with so many places in its queue.
    async fn queued(&self, me: AttemptId, waiting: usize) -> (Record, Vec<Place>) {
        let mut record = self.acquired(me).await;
        let places: Vec<Place> = (0..waiting).map(|_| place(attempt())).collect();
        for place in &places {
            record = self.applied(self.join(*place)).await;
        }
        assert_eq!(record.queue, places, "in the order of joining");
        (record, places)
    }
}

pub(super) async fn a_queue_is_joined_behind_a_holder_only(bench: &Bench) {
    let (me, place) = (attempt(), place(attempt()));
    assert_eq!(bench.refused(bench.join(place)).await, None);
    let record = bench.acquired(me).await;
    let joined = bench.applied(bench.join(place)).await;
    let expected = Record {
        queue: vec![place],
        ..record.clone()
    };
    assert_eq!(joined, expected, "nothing else changes");
    let left = bench.applied(bench.leave(place, 0)).await;
    assert_eq!(left, record);
    bench.applied(bench.release(me, Some(token(&record)))).await;
    bench.refused(bench.join(place)).await;
}

pub(super) async fn nobody_joins_twice(bench: &Bench) {
    let (_, places) = bench.queued(attempt(), 3).await;
    for place in places {
        bench.refused(bench.join(place)).await;
    }
}

pub(super) async fn a_full_queue_takes_nobody(bench: &Bench) {
    let (_, places) = bench.queued(attempt(), PLACES).await;
    let next = place(attempt());
    bench.refused(bench.join(next)).await;
    bench.applied(bench.leave(places[0], 0)).await;
    bench.applied(bench.join(next)).await;
}

pub(super) async fn a_place_is_left_where_it_is(bench: &Bench) {
    let first = place(attempt());
    assert_eq!(bench.refused(bench.leave(first, 0)).await, None);
    let (_, places) = bench.queued(attempt(), 3).await;
    bench.refused(bench.leave(places[1], 0)).await;
    bench.refused(bench.leave(places[1], 2)).await;
    bench.refused(bench.leave(places[1], 3)).await;
    let left = bench.applied(bench.leave(places[1], 1)).await;
    assert_eq!(left.queue, [places[0], places[2]]);
    bench.refused(bench.leave(places[1], 1)).await;
}

pub(super) async fn a_hand_over_gives_the_key_to_a_place(bench: &Bench) {
    let me = attempt();
    let (before, places) = bench.queued(me, 4).await;
    let write = bench.hand_over(&before, me, &places[..1], places[1]);
    let Write::HandOver {
        expires_at,
        acquired_at,
        ..
    } = &write
    else {
        unreachable!("made just now");
    };
    let (expires_at, acquired_at) = (*expires_at, *acquired_at);
    let after = bench.applied(write.clone()).await;
    assert!(places[1].attempt().owns(&after));
    assert_eq!(token(&after), token(&before) + 1);
    assert_eq!(after.queue, places[2..]);
    assert_eq!(after.expires_at, expires_at);
    assert_eq!(after.acquired_at, Some(acquired_at));
    assert_eq!(after.ttl_seconds, Some(super::FAR + 3));
    assert_eq!((&after.holder, &after.data), (&None, &None));
    let native = after.native.expect("one of ours");
    assert_eq!(native.lease, Duration::from_secs(30), "that of the place");
    bench.refused(write).await;
    // The new holder renews and ends it as any grant.
    let next = places[1].attempt();
    bench
        .applied(bench.renewal(next, token(&after), expires_at.plus(CLAIM)))
        .await;
    bench.applied(bench.end(&after, next, &places[2..])).await;
}

pub(super) async fn a_hand_over_needs_our_grant_and_that_queue(bench: &Bench) {
    let me = attempt();
    let (record, places) = bench.queued(me, 3).await;
    let other = place(attempt());
    for write in [
        bench.hand_over(&record, attempt(), &[], places[0]),
        bench.hand_over(&record, me, &[], places[1]),
        bench.hand_over(&record, me, &[other], places[1]),
        bench.hand_over(&record, me, &places[1..2], places[0]),
        bench.hand_over(&record, me, &places, other),
        bench.hand_over(&record, me, &[], other),
    ] {
        bench.refused(write).await;
    }
    let mut other_token = bench.hand_over(&record, me, &[], places[0]);
    if let Write::HandOver { token, .. } = &mut other_token {
        *token = token.map(|token| token + 1);
    }
    bench.refused(other_token).await;
    let mut without_token = bench.hand_over(&record, me, &[], places[0]);
    if let Write::HandOver { token, .. } = &mut without_token {
        *token = None;
    }
    bench.applied(without_token).await;
}

pub(super) async fn a_release_is_refused_while_others_wait(bench: &Bench) {
    let me = attempt();
    let (record, places) = bench.queued(me, 2).await;
    bench.refused(bench.end(&record, me, &[])).await;
    bench.refused(bench.end(&record, me, &places[..1])).await;
    bench
        .refused(bench.end(&record, me, &[places[1], places[0]]))
        .await;
    let mut too_many = places.clone();
    too_many.push(place(attempt()));
    bench.refused(bench.end(&record, me, &too_many)).await;
    let free = bench.applied(bench.end(&record, me, &places)).await;
    assert_eq!((&free.owner, free.queue.len()), (&None, 0));
    // An emptied queue is as none: the next holder is released without it, and joined.
    let next = attempt();
    let record = bench.acquired(next).await;
    bench.applied(bench.join(places[0])).await;
    bench.applied(bench.leave(places[0], 0)).await;
    bench.applied(bench.end(&record, next, &[])).await;
}

pub(super) async fn a_take_over_removes_the_first_places(bench: &Bench) {
    let (record, places) = bench.queued(attempt(), 3).await;
    let take_over = |removed: &[Place]| {
        let grant = bench.grant(places[1].attempt());
        Write::TakeOver(grant, seen(&record), removed.to_vec())
    };
    bench.refused(take_over(&places[1..2])).await;
    bench.refused(take_over(&[places[0], places[2]])).await;
    let mut too_many = places.clone();
    too_many.push(place(attempt()));
    bench.refused(take_over(&too_many)).await;
    let taken = bench.applied(take_over(&places[..2])).await;
    assert_eq!(taken.queue, places[2..]);
    let again = Write::TakeOver(bench.grant(attempt()), seen(&taken), Vec::new());
    assert_eq!(bench.applied(again).await.queue, places[2..]);
}
