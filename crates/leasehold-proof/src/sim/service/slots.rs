//! The ledger of slots: S8 and S4 by the record before and after each write, and the grants of slots.
//!
//! It compares the entries of the records, and reads no condition of the protocol.

use leasehold_protocol::attempt::{AttemptId, SEED_TOLERANCE};
use leasehold_protocol::record::{Record, State};
use leasehold_protocol::slot_write::{Entry, Next, Over, SlotWrite};
use leasehold_protocol::slots::Slot;
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::write::Write;

use super::entries::held;
use super::{Granted, Item, Service};
use crate::sim::shape::{Nanos, millis};

/// S4: whether a write on slots may find, and leave, the whole key held.
pub(super) fn may_change_owner(
    write: &SlotWrite,
    before: Option<&Record>,
    owner: Option<&str>,
) -> bool {
    match (write, owner) {
        (SlotWrite::Open { attempt, .. }, Some(owner)) => attempt.to_string() == owner,
        (
            SlotWrite::Enter(Entry {
                over: Some(Over::Whole(seen)),
                ..
            }),
            Some(_),
        ) => before.is_some_and(|record| record.state() == State::Granted(seen.clone())),
        (SlotWrite::Open { .. }, None) | (_, Some(_)) => false,
        (_, None) => true,
    }
}

/// What is wrong with the change of a record.
fn fault(
    before: Option<&Record>,
    write: &Write,
    after: Option<&Record>,
) -> Option<(&'static str, String)> {
    let (old, new) = (held(before), held(after));
    let limit = |record: Option<&Record>| Some(record?.slots.as_ref()?.limit);
    let most = limit(after).unwrap_or(0);
    let in_use = !old.is_empty() || before.is_some_and(|record| !record.queue.is_empty());
    let limit_changed = after.is_some() && limit(before).is_some_and(|was| was != most) && in_use;
    let beside = after.is_some_and(|record| record.owner.is_some()) && !new.is_empty();
    if new.len() as u64 > u64::from(most) || beside || limit_changed {
        return Some(("S8", format!("{write:?} made {after:?} of {before:?}")));
    }
    let gone: Vec<&Slot> = old.iter().filter(|slot| !new.contains(slot)).collect();
    let come: Vec<&Slot> = new.iter().filter(|slot| !old.contains(slot)).collect();
    let newest = before.and_then(Record::token);
    // Each new entry, and no more, is of one of these attempts, with a token above all before.
    let granted = |to: &[AttemptId]| {
        let of = |slot: &&Slot| to.contains(&slot.attempt) && Some(slot.token) > newest;
        come.len() == to.len() && come.iter().all(of)
    };
    let legal = match write {
        Write::Slot(SlotWrite::Enter(entry)) => {
            let over = match &entry.over {
                Some(Over::Slot(slot) | Over::Adopted(slot)) => vec![slot],
                _ => vec![],
            };
            gone == over && granted(&[entry.grant.attempt])
        }
        Write::Slot(SlotWrite::Extend { slot, .. }) => matches!(
            (&gone[..], &come[..]),
            ([old], [new]) if *new == slot
                && (old.attempt, old.token) == (slot.attempt, slot.token)
                && old.expires_at < slot.expires_at
        ),
        Write::Slot(SlotWrite::Exit {
            attempt,
            token,
            next,
            ..
        }) => {
            let own = |slot: &Slot| {
                slot.attempt == *attempt && token.is_none_or(|token| token == slot.token)
            };
            matches!(gone[..], [slot] if own(slot)) && granted(&attempts(next))
        }
        Write::Slot(SlotWrite::Open { given, .. }) => {
            let to: Vec<AttemptId> = given.places.iter().map(|place| place.attempt()).collect();
            gone.is_empty() && granted(&to)
        }
        Write::Slot(SlotWrite::Evict { slot, .. }) => gone == [slot] && come.is_empty(),
        _ => gone.is_empty() && come.is_empty(),
    };
    (!legal).then(|| ("S4", format!("{write:?} made {after:?} of {before:?}")))
}

/// Who is given a slot.
fn attempts(next: &Next) -> Vec<AttemptId> {
    match next {
        Next::Slots(given) => given.places.iter().map(|place| place.attempt()).collect(),
        _ => vec![],
    }
}

impl Item {
    /// When the grant before a write ended; places have their time from then on. `at` gives the service's time of a
    /// moment. While there is room the time counts from the last grant: calls of a client share what they have seen,
    /// and others of them may have had room before.
    pub(super) fn ends_ms(&self, write: &Write, at: impl Fn(Nanos) -> i64) -> i64 {
        match write {
            Write::Slot(SlotWrite::Enter(Entry { over: None, .. }) | SlotWrite::Claim(..)) => {
                at(self.grants.last().map_or(0, |grant| grant.at))
            }
            Write::Slot(SlotWrite::Enter(Entry {
                over: Some(Over::Slot(slot) | Over::Adopted(slot)),
                ..
            })) => {
                let grant = self
                    .grants
                    .iter()
                    .rfind(|grant| grant.is(slot.attempt, slot.token));
                let watched = grant.map_or(0, |grant| grant.ends_ms);
                slot.expires_at.0.min(watched)
            }
            _ => {
                let published = self.record.as_ref().map_or(0, |r| r.expires_at.0);
                let watched = self.grants.last().map_or(0, |grant| grant.ends_ms);
                published.min(watched)
            }
        }
    }
}

impl Granted {
    fn is(&self, attempt: AttemptId, token: u64) -> bool {
        self.attempt == Some(attempt) && self.token == token
    }
}

impl Service {
    /// S4 and S8, said a second time.
    pub(super) fn judge_slots(
        &mut self,
        before: Option<&Record>,
        write: &Write,
        after: Option<&Record>,
    ) {
        let has_slots = |record: Option<&Record>| record.is_some_and(|r| r.slots.is_some());
        if has_slots(before) || has_slots(after) {
            self.violations.extend(fault(before, write, after));
        }
    }

    /// Notes the grants that a write on slots has made, renewed or ended.
    pub(super) fn enter_slots(
        &mut self,
        now: Nanos,
        index: usize,
        write: &SlotWrite,
        after: &Record,
    ) {
        let time_ms = self.time_ms(now);
        self.judge_slot_ttl(write, after);
        self.judge_slot_token(time_ms, index, after);
        let item = &mut self.items[index];
        let granted = |attempt, limit, token, expires_at: ServiceTime, lease| Granted {
            attempt: Some(attempt),
            limit,
            token,
            at: now,
            expires_ms: expires_at.0,
            ends_ms: time_ms + millis(lease),
            visible: false,
            pass: 0,
            released: false,
            seen: None,
        };
        let of_slot = |slot: &Slot, limit| {
            granted(
                slot.attempt,
                Some(limit),
                slot.token,
                slot.expires_at,
                slot.lease,
            )
        };
        let Some(native) = after.native else { return };
        let of_whole =
            |attempt| granted(attempt, None, native.token, after.expires_at, native.lease);
        let ended = match write {
            SlotWrite::Exit { attempt, token, .. } | SlotWrite::Open { attempt, token, .. } => {
                Some((*attempt, *token))
            }
            _ => None,
        };
        if let Some((attempt, token)) = ended {
            let own = |grant: &&mut Granted| match token {
                Some(token) => grant.is(attempt, token),
                None => grant.attempt == Some(attempt),
            };
            if let Some(grant) = item.grants.iter_mut().rfind(own) {
                grant.released = true;
            }
        }
        let before = item.grants.len();
        match write {
            SlotWrite::Enter(entry) => item.grants.push(of_slot(&entry.slot(), entry.limit)),
            SlotWrite::Extend { slot, .. } => {
                let own = |grant: &&mut Granted| grant.is(slot.attempt, slot.token);
                let Some(grant) = item.grants.iter_mut().rfind(own).filter(|g| !g.released) else {
                    let text = format!("a slot that was given back is revived: {write:?}");
                    self.violations.push(("S4", text));
                    return;
                };
                grant.expires_ms = grant.expires_ms.max(slot.expires_at.0);
                grant.ends_ms = time_ms + millis(slot.lease);
            }
            SlotWrite::Exit {
                next: Next::Slots(given),
                ..
            }
            | SlotWrite::Open { given, .. } => {
                let slots = given.slots().map(|slot| of_slot(&slot, given.limit));
                item.grants.extend(slots);
            }
            SlotWrite::Exit {
                next: Next::Whole(place, _),
                ..
            } => item.grants.push(of_whole(place.attempt())),
            SlotWrite::Claim(grant, _) => item.grants.push(of_whole(grant.attempt)),
            SlotWrite::Exit { .. } | SlotWrite::Evict { .. } => {}
        }
        let slots = item.grants[before..]
            .iter()
            .filter(|grant| grant.limit.is_some());
        let slots = slots.count() as u64;
        let full = after
            .slots
            .as_ref()
            .is_some_and(|s| s.held.len() as u64 == u64::from(s.limit));
        item.slots[0] += slots;
        item.slots[1] += u64::from(full && slots > 0);
    }

    /// S2: no record is deleted within R of its last use, nor before the end of a slot.
    fn judge_slot_ttl(&mut self, write: &SlotWrite, after: &Record) {
        let kept_until_ms = after.ttl_seconds.map(|s| s.saturating_mul(1_000));
        let written = match write {
            SlotWrite::Enter(entry) => Some(entry.grant.expires_at),
            SlotWrite::Extend { slot, .. } => Some(slot.expires_at),
            SlotWrite::Exit {
                next: Next::Slots(given) | Next::Whole(_, given),
                ..
            }
            | SlotWrite::Open { given, .. } => Some(given.expires_at),
            SlotWrite::Claim(grant, _) => Some(grant.expires_at),
            SlotWrite::Exit { .. } | SlotWrite::Evict { .. } => None,
        };
        let written = written.map(|at| at.0.saturating_add(self.retention_ms));
        // Without the service's time the holders' clocks may be days apart.
        let others = held(Some(after)).iter().map(|slot| slot.expires_at.0);
        let others = others.filter(|_| self.next_life).max();
        if kept_until_ms.is_some_and(|kept| Some(kept) < written.max(others)) {
            let text = format!("the TTL leaves too little after the expiry: {write:?}");
            self.violations.push(("S2", text));
        }
    }

    /// S2: a token that no clock within the tolerance can have made is counted on, or new.
    fn judge_slot_token(&mut self, time_ms: i64, index: usize, after: &Record) {
        let possible = u64::try_from(time_ms + millis(SEED_TOLERANCE)).unwrap_or(0);
        let item = &mut self.items[index];
        let ahead = |record: Option<&Record>| record.and_then(Record::token) > Some(possible);
        if !ahead(Some(after)) {
            return;
        }
        if self.next_life && !ahead(item.record.as_ref()) {
            let text = format!("a slot's token is ahead of {possible}: {after:?}");
            self.violations.push(("S2", text));
        }
        item.ahead = true;
    }
}
