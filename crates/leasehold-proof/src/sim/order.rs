//! S9 and L3: the order of the queue, by the record before and after each write.
//!
//! It knows nothing of calls. So S9 is a little stricter than promised: nobody who waits is passed over, not even one
//! whose call has just ended. L3 is judged in fair worlds only, where nothing goes wrong.

use std::collections::HashMap;
use std::time::Duration;

use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::queue::Place;
use leasehold_protocol::record::Record;
use leasehold_protocol::slot_write::{Entry, Given, Next, Over, SlotWrite};
use leasehold_protocol::write::Write;

use super::shape::{Nanos, millis};

/// Times are whole milliseconds, and rounded.
const GRAIN_MS: i64 = 2;

/// The queue of one key, as it was seen to grow.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// When each place was taken, and how many others were before it.
    since: HashMap<AttemptId, (Nanos, usize)>,
    /// Grants to a place.
    pub(super) turns: u64,
    /// The longest wait, in thousandths of what L3 allows.
    pub(super) longest: u128,
}

/// A write, and what it found.
pub(super) struct Order<'a> {
    pub(super) write: &'a Write,
    pub(super) before: Option<&'a Record>,
    pub(super) after: Option<&'a Record>,
    /// The end of the grant before: P, or a lease after its last write. While there is room: the last grant.
    pub(super) grant_ends_ms: i64,
    pub(super) time_ms: i64,
}

fn queue(record: Option<&Record>) -> &[Place] {
    record.map_or(&[], |record| &record.queue)
}

impl Order<'_> {
    /// S9: what is wrong with the write.
    pub(super) fn fault(&self) -> Option<String> {
        let (before, after) = (queue(self.before), queue(self.after));
        let passed =
            |places: &[Place], by: AttemptId| places.iter().any(|place| self.waits(place, by));
        let right = match self.write {
            Write::Acquire(_) => before.is_empty() && after.is_empty(),
            Write::Renew { .. } => before == after,
            // The record is deleted, and its queue with it.
            Write::Withdraw { .. } => true,
            Write::Slot(write) => self.is_right_for_slots(write, &passed),
            Write::Complete(_) => after.is_empty(),
            Write::Join { place, .. } => {
                let again = before.iter().any(|p| p.attempt() == place.attempt());
                !again && after.strip_prefix(before) == Some(&[*place][..])
            }
            Write::Leave { place, .. } => {
                let others = before.iter().filter(|p| p.attempt() != place.attempt());
                others.eq(after)
            }
            Write::Release { attempt, .. } => after.is_empty() && !passed(before, *attempt),
            Write::HandOver { attempt, next, .. } => {
                let at = before.iter().position(|place| place == next);
                at.is_some_and(|at| {
                    next.attempt() != *attempt
                        && !passed(&before[..at], *attempt)
                        && before[at + 1..] == *after
                })
            }
            Write::TakeOver(grant, _, named) => {
                before.strip_prefix(&named[..]) == Some(after)
                    && self.claims_have_passed(named, grant.attempt)
            }
        };
        (!right).then(|| {
            format!(
                "at {}, the grant before ended at {}: {:?} made {after:?} of {before:?}",
                self.time_ms, self.grant_ends_ms, self.write
            )
        })
    }

    /// Whether a place is another's, who still waits.
    fn waits(&self, place: &Place, by: AttemptId) -> bool {
        place.attempt() != by && self.time_ms <= place.until().0
    }

    fn is_right_for_slots(
        &self,
        write: &SlotWrite,
        passed: &impl Fn(&[Place], AttemptId) -> bool,
    ) -> bool {
        let (before, after) = (queue(self.before), queue(self.after));
        let given = |by: AttemptId, given: &Given, places: &[Place]| {
            let rest = before.strip_prefix(&given.passed[..]);
            rest.and_then(|rest| rest.strip_prefix(places)) == Some(after)
                && !passed(&given.passed, by)
                && !places.is_empty()
        };
        match write {
            SlotWrite::Extend { .. } | SlotWrite::Evict { .. } => before == after,
            // Its slot changes hands, and no other: those who wait lose nothing.
            SlotWrite::Enter(Entry {
                over: Some(Over::Adopted(_)),
                places,
                ..
            }) => before == after && places.is_empty(),
            SlotWrite::Enter(entry) => {
                let (places, by) = (&entry.places[..], entry.grant.attempt);
                let whole = |place: &Place| self.waits(place, by) && !place.is_for_slot();
                before.strip_prefix(places) == Some(after)
                    && (after.is_empty() || !places.is_empty())
                    && self.claims_have_passed(places, by)
                    // Whoever waits for the whole key cannot have it yet.
                    && !(self.has_slots_held() && places.iter().any(whole))
            }
            SlotWrite::Claim(grant, places) => {
                before.strip_prefix(&places[..]) == Some(after)
                    && (after.is_empty() || !places.is_empty())
                    && self.claims_have_passed(places, grant.attempt)
            }
            SlotWrite::Exit { attempt, next, .. } => match next {
                Next::Nobody(_) => after.is_empty() && !passed(before, *attempt),
                // The first wants the whole key, which it gets after the last slot.
                Next::Others => before == after,
                Next::Slots(slots) => given(*attempt, slots, &slots.places),
                Next::Whole(place, whole) => given(*attempt, whole, &[*place]),
            },
            SlotWrite::Open {
                attempt,
                given: slots,
                ..
            } => given(*attempt, slots, &slots.places),
        }
    }

    fn has_slots_held(&self) -> bool {
        let slots = self.before.and_then(|record| record.slots.as_ref());
        slots.is_some_and(|slots| !slots.held.is_empty())
    }

    /// Each place that a take-over passes over has had its time.
    fn claims_have_passed(&self, named: &[Place], by: AttemptId) -> bool {
        let waits = |place: &&Place| self.waits(place, by);
        let claims: Duration = named.iter().filter(waits).map(Place::claim).sum();
        claims.is_zero() || self.time_ms + GRAIN_MS >= self.grant_ends_ms + millis(claims)
    }
}

impl Line {
    /// L3: each turn takes `turn` at most. What is wrong, if anything is.
    pub(super) fn watch(
        &mut self,
        now: Nanos,
        order: &Order<'_>,
        turn: Option<Duration>,
    ) -> Option<String> {
        let (before, after) = (queue(order.before), queue(order.after));
        if let Write::Join { place, .. } = order.write {
            self.since.insert(place.attempt(), (now, before.len()));
        }
        let granted = |place: &&Place| {
            let has = |r: &Record| place.attempt().owns(r) || r.slot_of(place.attempt()).is_some();
            order.after.is_some_and(has)
        };
        self.turns += before.iter().filter(granted).count() as u64;
        let mut found = None;
        for place in before {
            let (Some((since, ahead)), Some(turn)) = (self.since.get(&place.attempt()), turn)
            else {
                continue;
            };
            let waited = u128::from(now - since);
            let allowed = turn.as_nanos() * (*ahead as u128 + 1);
            self.longest = self.longest.max(waited * 1_000 / allowed.max(1));
            if waited > allowed {
                found = Some(format!(
                    "{:?} has waited {} ms with {ahead} before it",
                    place.attempt(),
                    waited / 1_000_000
                ));
            }
        }
        let gone = |place: &&Place| !after.contains(place);
        for place in before.iter().filter(gone) {
            self.since.remove(&place.attempt());
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use leasehold_protocol::record::{Seen, State};
    use leasehold_protocol::time::ServiceTime;
    use leasehold_protocol::write::{Grant, Left, apply};

    use super::*;

    const END: i64 = 10_000;

    fn id(n: u8) -> AttemptId {
        AttemptId::from_random([n; 16])
    }

    fn place(n: u8, until: i64) -> Place {
        let (lease, claim) = (Duration::from_secs(6), Duration::from_secs(2));
        Place::new(id(n), lease, claim, ServiceTime(until))
    }

    fn grant(n: u8) -> Grant {
        Grant {
            key: "k".into(),
            attempt: id(n),
            expires_at: ServiceTime(END),
            ttl_seconds: 0,
            ttl_is_guess: false,
            lease: Duration::from_secs(6),
            seed: ServiceTime(5),
            acquired_at: ServiceTime(5),
            holder: "h".into(),
            data: None,
            force: None,
            bound_to_process: false,
        }
    }

    /// A key that 9 holds, with these waiting for it.
    fn held(queue: Vec<Place>) -> Record {
        let record = apply(None, &Write::Acquire(grant(9)));
        Record {
            queue,
            ..record.expect("free").expect("a record")
        }
    }

    fn fault(before: &Record, write: &Write, queue: Vec<Place>, time_ms: i64) -> Option<String> {
        let after = Record {
            queue,
            ..before.clone()
        };
        let order = Order {
            write,
            before: Some(before),
            after: Some(&after),
            grant_ends_ms: END,
            time_ms,
        };
        order.fault()
    }

    #[test]
    fn a_hand_over_passes_over_nobody_who_waits() {
        let (first, second) = (place(1, 100), place(2, 900));
        let before = held(vec![first, second]);
        let write = |next, passed| Write::HandOver {
            left: Left::Nothing,
            key: "k".into(),
            attempt: id(9),
            token: None,
            next,
            passed,
            expires_at: ServiceTime(END),
            ttl_seconds: 0,
            acquired_at: ServiceTime(0),
            held: None,
        };
        assert_eq!(
            fault(&before, &write(first, vec![]), vec![second], 50),
            None
        );
        assert!(fault(&before, &write(first, vec![]), vec![], 50).is_some());
        let over_first = write(second, vec![first]);
        assert!(fault(&before, &over_first, vec![], 100).is_some());
        assert_eq!(fault(&before, &over_first, vec![], 101), None);
    }

    #[test]
    fn a_take_over_waits_for_the_claims_before_it() {
        let places = vec![place(1, i64::MAX), place(2, i64::MAX), place(3, i64::MAX)];
        let before = held(places.clone());
        let State::Granted(seen @ Seen::Native { .. }) = before.state() else {
            panic!("it is held");
        };
        let by_second = Write::TakeOver(grant(2), seen, places[..2].to_vec());
        let behind = || places[2..].to_vec();
        assert!(fault(&before, &by_second, behind(), END + 1_990).is_some());
        assert_eq!(fault(&before, &by_second, behind(), END + 2_000), None);
        assert!(fault(&before, &by_second, vec![], END + 2_000).is_some());
    }

    #[test]
    fn a_wait_is_bounded_by_the_turns_before_it() {
        let (before, after) = (
            held(vec![place(1, 0)]),
            held(vec![place(1, 0), place(2, 0)]),
        );
        let join = Write::Join {
            key: "k".into(),
            place: place(2, 0),
            limit: None,
            most: 24,
            bound_to_process: false,
        };
        let leave = Write::Leave {
            key: "k".into(),
            place: place(7, 0),
            index: 0,
        };
        let wait = |until| {
            let mut line = Line::default();
            let mut watch = |now, write, before, after| {
                let order = Order {
                    write,
                    before: Some(before),
                    after: Some(after),
                    grant_ends_ms: 0,
                    time_ms: 0,
                };
                line.watch(now, &order, Some(Duration::from_nanos(100)))
            };
            assert_eq!(watch(1_000, &join, &before, &after), None);
            let found = watch(until, &leave, &after, &after);
            (found.is_some(), line.longest)
        };
        // One before it: two turns.
        assert_eq!(wait(1_200), (false, 1_000));
        assert_eq!(wait(1_201), (true, 1_005));
    }
}
