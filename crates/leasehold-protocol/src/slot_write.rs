//! The conditional writes on the slots of a key, and their exact meaning.

use std::sync::Arc;
use std::time::Duration;

use super::grant::{
    ConditionFailed, Grant, Left, Operation, behind, granted, hand_over, is_free_for, last_force,
    owned,
};
use super::id::AttemptId;
use super::queue::Place;
use super::record::{Native, Record, Seen, State};
use super::slots::{Slot, Slots};
use super::time::ServiceTime;

/// One conditional write on the slots of a key.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum SlotWrite {
    /// Take a slot.
    Enter(Entry),
    /// Move the expiry of our slot forward.
    Extend {
        /// The key.
        key: Arc<str>,
        /// The slot as it is to be. Its entry has the same token and an earlier expiry.
        slot: Slot,
        /// The new TTL.
        ttl_seconds: i64,
        /// As in [`Grant::bound_to_process`].
        bound_to_process: bool,
    },
    /// End our slot.
    Exit {
        /// The key.
        key: Arc<str>,
        /// Our attempt.
        attempt: AttemptId,
        /// Our token; `None` for an attempt whose answer was never seen.
        token: Option<u64>,
        /// As in [`Write::Release`](super::write::Write::Release).
        ttl_seconds: Option<i64>,
        /// How long the slot was held, if known.
        held: Option<Duration>,
        /// Who comes next.
        next: Next,
    },
    /// End our grant of the whole key, and give slots to places of its queue.
    Open {
        /// The key.
        key: Arc<str>,
        /// Our attempt.
        attempt: AttemptId,
        /// Our stored token; `None` for an attempt whose answer was never seen.
        token: Option<u64>,
        /// How long the grant was held, if known.
        held: Option<Duration>,
        /// The payload for the next holder of the whole key.
        left: Left,
        /// Who gets the slots.
        given: Given,
    },
    /// Take the whole key from a place in its queue, while no slot is held. The places before it, and it, go.
    Claim(Grant, Vec<Place>),
    /// Remove exactly this slot, whose grant has ended.
    Evict {
        /// The key.
        key: Arc<str>,
        /// The slot as it was seen.
        slot: Slot,
    },
}

/// The taking of a slot.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Entry {
    /// Identity, expiry and lease.
    pub grant: Grant,
    /// Its fencing token, larger than that of the record.
    pub token: u64,
    /// The limit that the caller knows.
    pub limit: u32,
    /// The record was seen without slots, or not at all.
    pub first: bool,
    /// The ended grant that it takes over, exactly as it was seen.
    pub over: Option<Over>,
    /// The first places of the queue: our own, and those that did not take a slot in time.
    pub places: Vec<Place>,
}

/// A grant that a slot takes over.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Over {
    /// A slot that has ended. It goes to the first of the queue.
    Slot(Slot),
    /// A slot that is adopted by its identity, also while others wait.
    Adopted(Slot),
    /// The whole key.
    Whole(Seen),
}

/// Who comes after a slot.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Next {
    /// Nobody: this is the whole queue, and none of its contenders waits any more.
    Nobody(Vec<Place>),
    /// The first place waits for the whole key, and other slots are held.
    Others,
    /// These places get slots.
    Slots(Given),
    /// This place gets the whole key, since no other slot is held.
    Whole(Place, Given),
}

/// What a releaser gives to places.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Given {
    /// Places before them. Their contenders do not wait any more.
    pub passed: Vec<Place>,
    /// Those that get slots; none with [`Next::Whole`].
    pub places: Vec<Place>,
    /// The limit of slots.
    pub limit: u32,
    /// P of the new grants.
    pub expires_at: ServiceTime,
    /// The token of the first, larger than that of the record. Each further one has the next.
    pub token: u64,
    /// The new TTL.
    pub ttl_seconds: i64,
    /// For people.
    pub acquired_at: ServiceTime,
}

impl Given {
    /// The slots of the places.
    pub fn slots(&self) -> impl Iterator<Item = Slot> {
        let places = self.places.iter().zip(self.token..);
        places.map(|(place, token)| {
            Slot::new(place.attempt(), token, self.expires_at, place.lease(), "")
        })
    }

    /// The token of the record afterwards.
    pub fn last_token(&self) -> u64 {
        let more = u64::try_from(self.places.len()).unwrap_or(0).max(1) - 1;
        self.token.saturating_add(more)
    }
}

impl Entry {
    /// The slot that it takes.
    pub fn slot(&self) -> Slot {
        let grant = &self.grant;
        Slot::new(
            grant.attempt,
            self.token,
            grant.expires_at,
            grant.lease,
            &grant.holder,
        )
    }
}

impl SlotWrite {
    /// The key that it writes.
    pub fn key(&self) -> &Arc<str> {
        match self {
            SlotWrite::Enter(entry) => &entry.grant.key,
            SlotWrite::Claim(grant, _) => &grant.key,
            SlotWrite::Extend { key, .. }
            | SlotWrite::Exit { key, .. }
            | SlotWrite::Open { key, .. }
            | SlotWrite::Evict { key, .. } => key,
        }
    }
}

impl SlotWrite {
    /// The name of the write.
    pub fn operation(&self) -> Operation {
        match self {
            SlotWrite::Enter(Entry { over: None, .. }) | SlotWrite::Claim(..) => Operation::Acquire,
            SlotWrite::Enter(_) | SlotWrite::Evict { .. } => Operation::TakeOver,
            SlotWrite::Extend { .. } => Operation::Renew,
            SlotWrite::Exit {
                next: Next::Nobody(_) | Next::Others,
                ..
            } => Operation::Release,
            SlotWrite::Exit { .. } | SlotWrite::Open { .. } => Operation::HandOver,
        }
    }
}

/// The record after a write on its slots.
pub(super) fn apply(
    current: Option<&Record>,
    write: &SlotWrite,
) -> Result<Record, ConditionFailed> {
    match write {
        SlotWrite::Enter(entry) => enter(current, entry),
        SlotWrite::Extend {
            slot, ttl_seconds, ..
        } => {
            let (mut record, index) = own_slot(current, slot.attempt, Some(slot.token))?;
            let held = &mut slots(&mut record).held[index];
            // As with a renewal of the whole key: a late one must not shorten a live lease.
            if held.expires_at >= slot.expires_at {
                return Err(ConditionFailed);
            }
            held.clone_from(slot);
            record.ttl_seconds = Some(*ttl_seconds);
            Ok(record)
        }
        SlotWrite::Exit {
            attempt,
            token,
            ttl_seconds,
            held,
            next,
            ..
        } => {
            let (mut record, index) = own_slot(current, *attempt, *token)?;
            let others = slots(&mut record).held.len() - 1;
            slots(&mut record).held.remove(index);
            record.ttl_seconds = ttl_seconds.or(record.ttl_seconds);
            record.last_hold = held.or(record.last_hold);
            match next {
                Next::Nobody(passed) if record.queue == *passed => record.queue.clear(),
                Next::Others if others > 0 => {}
                Next::Slots(given) => give(&mut record, given)?,
                Next::Whole(place, given) if others == 0 => hand_over(
                    &mut record,
                    &given.passed,
                    place,
                    given.expires_at,
                    given.ttl_seconds,
                    given.acquired_at,
                )?,
                _ => return Err(ConditionFailed),
            }
            Ok(record)
        }
        SlotWrite::Open {
            attempt,
            token,
            held,
            left,
            given,
            ..
        } => {
            let (record, _) = owned(current, attempt, *token)?;
            let mut record = record.clone();
            record.data = left.of(&record);
            free(&mut record);
            record.last_hold = held.or(record.last_hold);
            give(&mut record, given)?;
            Ok(record)
        }
        SlotWrite::Claim(grant, places) => {
            let mut record = current.ok_or(ConditionFailed)?.clone();
            record.queue = in_turn(&record, places)?;
            match is_free_for(&record, grant) {
                true => Ok(granted(Some(&record), grant)),
                false => Err(ConditionFailed),
            }
        }
        SlotWrite::Evict { slot, .. } => {
            let mut record = current.ok_or(ConditionFailed)?.clone();
            remove(&mut record, slot)?;
            Ok(record)
        }
    }
}

fn enter(current: Option<&Record>, entry: &Entry) -> Result<Record, ConditionFailed> {
    let grant = &entry.grant;
    let mut record = current
        .cloned()
        .unwrap_or_else(|| Record::unused(&grant.key));
    let native = record.native.ok_or(ConditionFailed)?;
    let known = entry.first == record.slots.is_none();
    if !known || entry.token <= native.token || !has_limit(&record, entry.limit) {
        return Err(ConditionFailed);
    }
    match &entry.over {
        None => {}
        Some(Over::Slot(slot) | Over::Adopted(slot)) => remove(&mut record, slot)?,
        Some(Over::Whole(seen)) if record.state() == State::Granted(seen.clone()) => {
            free(&mut record);
        }
        Some(Over::Whole(_)) => return Err(ConditionFailed),
    }
    record.queue = match entry.over {
        Some(Over::Adopted(_)) => behind(&record, &entry.places)?,
        _ => in_turn(&record, &entry.places)?,
    };
    // Once more, it would have two.
    if record.owner.is_some() || record.slot_of(grant.attempt).is_some() {
        return Err(ConditionFailed);
    }
    let slots = slots(&mut record);
    slots.limit = entry.limit;
    if slots.is_full() {
        return Err(ConditionFailed);
    }
    slots.held.push(entry.slot());
    record.last_force = last_force(Some(&record), grant);
    record.ttl_seconds = Some(grant.ttl_seconds);
    record.native = Some(Native {
        token: entry.token,
        ..native
    });
    Ok(record)
}

/// Whether a contender with this limit may take or join: it is that of the record, or the record is out of use.
pub(super) fn has_limit(record: &Record, limit: u32) -> bool {
    let Some(slots) = &record.slots else {
        return true;
    };
    slots.limit == limit || slots.held.is_empty() && record.queue.is_empty()
}

/// The queue behind these first places. Without a place, nobody may wait.
pub(super) fn in_turn(record: &Record, places: &[Place]) -> Result<Vec<Place>, ConditionFailed> {
    let rest = behind(record, places)?;
    match rest.is_empty() || !places.is_empty() {
        true => Ok(rest),
        false => Err(ConditionFailed),
    }
}

pub(super) fn slots(record: &mut Record) -> &mut Slots {
    record.slots.get_or_insert_default()
}

fn own_slot(
    current: Option<&Record>,
    attempt: AttemptId,
    token: Option<u64>,
) -> Result<(Record, usize), ConditionFailed> {
    let record = current.ok_or(ConditionFailed)?;
    let held = record.slots.as_ref().map_or(&[][..], |slots| &slots.held);
    let ours =
        |slot: &Slot| slot.attempt == attempt && token.is_none_or(|token| token == slot.token);
    let index = held.iter().position(ours).ok_or(ConditionFailed)?;
    Ok((record.clone(), index))
}

/// Removes exactly this slot.
fn remove(record: &mut Record, slot: &Slot) -> Result<(), ConditionFailed> {
    let held = &mut slots(record).held;
    let index = held
        .iter()
        .position(|held| held == slot)
        .ok_or(ConditionFailed)?;
    held.remove(index);
    Ok(())
}

/// Ends the grant of the whole key. What it has done goes with its result.
fn free(record: &mut Record) {
    record.owner = None;
    record.expires_at = ServiceTime(0);
    if record.done.take().is_some() {
        record.data = None;
    }
    record.holder_is_dead = false;
}

fn give(record: &mut Record, given: &Given) -> Result<(), ConditionFailed> {
    let native = record.native.ok_or(ConditionFailed)?;
    let queue = behind(record, &given.passed)?;
    let queue = queue
        .strip_prefix(&given.places[..])
        .ok_or(ConditionFailed)?;
    let slots = record.slots.as_mut().ok_or(ConditionFailed)?;
    let has_one = |place: &Place| slots.of(place.attempt()).is_some();
    if given.places.iter().any(has_one) {
        return Err(ConditionFailed);
    }
    slots.held.extend(given.slots());
    let fits = slots.held.len() <= usize::try_from(slots.limit).unwrap_or(usize::MAX);
    if !fits || slots.limit != given.limit || given.places.is_empty() || given.token <= native.token
    {
        return Err(ConditionFailed);
    }
    record.queue = queue.to_vec();
    record.ttl_seconds = Some(given.ttl_seconds);
    record.native = Some(Native {
        token: given.last_token(),
        ..native
    });
    Ok(())
}
