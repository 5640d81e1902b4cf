//! How a client waits in the queue of the record: the third part of [`Client`].
//!
//! It follows `leasehold/src/acquire/turn.rs`. A client whose wait has begun joins the queue of a held key, and
//! joins again when an answer shows no place of its own.

use leasehold_protocol::attempt::{Attempt, Granted, Refusal, Shown};
use leasehold_protocol::deadline::{Deadline, Sent, service_now};
use leasehold_protocol::queue::Place;
use leasehold_protocol::record::{Record, State};
use leasehold_protocol::renewal::Kept;
use leasehold_protocol::takeover::Verdict;
use leasehold_protocol::time::{Reading, ServiceClock, ServiceTime};
use leasehold_protocol::write::{Left, Write};
use std::time::Duration;

use super::broken::Broken;
use super::client::Client;
use super::message::{Answer, Outcome};
use super::phase::{Choice, Next, Output, Phase, Purpose, Waiting};
use super::shape::Shape;

impl Purpose {
    /// Whether an answer shows all writes before the request.
    pub(super) fn is_consistent(&self) -> bool {
        match self {
            Purpose::Acquire { .. } | Purpose::Join => true,
            Purpose::Read { strong } => *strong,
            _ => false,
        }
    }
}

impl Client {
    fn joins(&self, shape: &Shape) -> bool {
        shape.clients[usize::from(self.index)].joins
    }

    /// Whether a poll or a join is open, as long as there are requests left.
    pub(super) fn may_queue(&self, choice: Choice, shape: &Shape) -> bool {
        let Phase::Acquiring { next, .. } = &self.phase else {
            return false;
        };
        let reads = self.unanswered(|p| matches!(p, Purpose::Read { .. }));
        let queueing = &shape.queueing;
        let polls = *next == Next::Poll && (queueing.reads == 1 || reads < queueing.reads);
        match choice {
            Choice::Join => {
                *next == Next::Join && self.unanswered(|p| *p == Purpose::Join) < shape.open
            }
            Choice::PollStrong => polls && self.joins(shape),
            _ => polls && (queueing.weak || !self.joins(shape)),
        }
    }

    /// Asks for a place in the queue, the same one each time.
    pub(super) fn join(&mut self, phase: Phase, now: (Reading, u8), shape: &Shape) -> Output {
        let Phase::Acquiring {
            mut attempt,
            next,
            place,
            counts,
        } = phase
        else {
            self.phase = phase;
            return Output::NOTHING;
        };
        let until = shape.queueing.wait_ms.map_or(i64::MAX, |wait_ms| {
            service_now(&self.clock, now.0).0.saturating_add(wait_ms)
        });
        let claim = Duration::from_millis(shape.queueing.claim_ms);
        let write = attempt.join(claim, ServiceTime(until), now.0);
        let counts = match shape.lacks(Broken::OwnGrantFromJoin) {
            true => counts.or(Some(now.0)),
            false => counts,
        };
        self.phase = Phase::Acquiring {
            attempt,
            next,
            place,
            counts,
        };
        self.write(Purpose::Join, now, write)
    }

    /// What a waiter does after an answer that does not show the key as its own, and where its place is.
    pub(super) fn next_turn(
        &self,
        attempt: &Attempt,
        (next, place): (Next, Option<u8>),
        verdict: Verdict,
        (waiting, answer): (&Waiting, &Answer),
        shape: &Shape,
    ) -> (Next, Option<u8>) {
        let take = |verdict| match verdict {
            Verdict::Free => Next::Acquire,
            Verdict::TakeOver(seen, places) => Next::TakeOver(seen, places, answer.sight),
            Verdict::Wait { .. } | Verdict::Done { .. } => Next::Poll,
        };
        if !self.joins(shape) {
            return (take(verdict), None);
        }
        let reads = matches!(waiting.purpose, Purpose::Read { .. });
        if next == Next::Poll && !reads {
            // A late answer to a write is older than what was seen: it only matters if it shows a grant.
            return (next, place);
        }
        let (Outcome::Applied(record) | Outcome::Refused(record) | Outcome::Read(record)) =
            &answer.outcome;
        let held = record
            .as_ref()
            .filter(|record| record.owner.is_some() && record.native.is_some());
        let seen = held.and_then(|record| record.place_of(attempt.id()));
        if seen.is_none() && !waiting.purpose.is_consistent() && attempt.has_joined() {
            // It may be from before the join.
            return (next, place);
        }
        let place = seen.and_then(|index| u8::try_from(index).ok());
        match take(verdict) {
            Next::Poll if held.is_some() && place.is_none() => (Next::Join, None),
            next => (next, place),
        }
    }

    /// The write that ends a grant.
    pub(super) fn release(
        &self,
        attempt: &Attempt,
        kept: &Kept,
        now: Reading,
        shape: &Shape,
    ) -> Write {
        // Nobody has a payload, so it is kept as by a clean-up: two writes that do the same are one.
        let mut write = kept.release(true, now.elapsed, &self.clock, now);
        if let Write::Release { held, .. } | Write::HandOver { held, .. } = &mut write {
            // It decides nothing, and would make many states of one.
            *held = None;
        }
        let own = kept
            .queue()
            .iter()
            .position(|p| p.attempt() == attempt.id());
        let (Some(own), Write::Release { .. }) = (own, &write) else {
            return write;
        };
        if !shape.lacks(Broken::OwnPlaceHanded) {
            return write;
        }
        let next = kept.queue()[own];
        let claimed = leasehold_protocol::deadline::Terms {
            lease: next.claim(),
            ..shape.terms
        };
        Write::HandOver {
            key: "k".into(),
            attempt: attempt.id(),
            token: None,
            next,
            passed: kept.queue()[..own].to_vec(),
            expires_at: claimed.publish(&self.clock, now, None),
            ttl_seconds: i64::from(u32::MAX),
            acquired_at: ServiceTime(0),
            held: None,
            left: Left::AsItIs,
        }
    }

    /// From when a broken receiver counts, after an answer that does not show the key as its own.
    pub(super) fn counts_wrongly(
        &self,
        waiting: &Waiting,
        counts: Option<Reading>,
        shape: &Shape,
    ) -> Option<Reading> {
        if !shape.lacks(Broken::ReceivedFromLatest) || !waiting.purpose.is_consistent() {
            return counts;
        }
        let later = |counts: &Reading| counts.elapsed >= waiting.sent.elapsed;
        counts.filter(later).or(Some(waiting.sent))
    }

    /// The deadline of a broken receiver.
    pub(super) fn count_wrongly(
        &self,
        granted: &mut Granted,
        (waiting, counts): (&Waiting, Option<Reading>),
        now: Reading,
        shape: &Shape,
    ) {
        let (at, expires_at) = match shape.broken {
            Some(Broken::ReceivedFromPoll) => (waiting.sent, granted.expires_at),
            Some(Broken::ReceivedFromLatest | Broken::OwnGrantFromJoin) => {
                let Some(at) = counts else { return };
                (at, granted.expires_at)
            }
            Some(Broken::ReceiverTrustsLease) => {
                let sent_at = granted.deadline.sent_at();
                let passed = now.elapsed.since(sent_at).as_millis();
                let at = Reading {
                    elapsed: sent_at,
                    wall_ms: now.wall_ms - i64::try_from(passed).unwrap_or(0),
                };
                (at, ServiceTime(i64::MAX))
            }
            _ => return,
        };
        let sent = Sent { at, expires_at };
        granted.deadline = Deadline::of(&sent, &shape.terms, &self.clock, now);
    }
}

/// The judgement of a contender that leaves no time to those before it.
pub(super) fn without_claims(
    attempt: &mut Attempt,
    record: Option<&Record>,
    shown: &Shown,
    now: Reading,
    clock: &ServiceClock,
) -> Refusal {
    let mut hasty = record.cloned();
    for place in hasty.iter_mut().flat_map(|record| &mut record.queue) {
        *place = Place::new(
            place.attempt(),
            place.lease(),
            Duration::ZERO,
            place.until(),
        );
    }
    match (attempt.refused(hasty.as_ref(), shown, now, clock), record) {
        (Refusal::Others(Verdict::TakeOver(_, places)), Some(record)) => {
            let State::Granted(seen) = record.state() else {
                return Refusal::Others(Verdict::Free);
            };
            let places = record.queue[..places.len()].to_vec();
            Refusal::Others(Verdict::TakeOver(seen, places))
        }
        (refusal, _) => refusal,
    }
}
