//! Slots: several holders of one key at once, up to a limit.
//!
//! They are part of the record. A holder of a slot has an entry of its own, [`Slot`], with its own expiry and
//! token. A holder of the whole key excludes all of them, and they exclude it. A shared lock is a slot of
//! [`MOST`].
//!
//! Invariants (S8):
//!
//! - No more slots are held than the limit says, and none while the whole key is held.
//! - The limit changes only while nobody holds a slot and nobody waits.
//! - An entry is changed by its own holder, or removed by a compare-and-set on exactly what was seen.
//! - Whoever waits is not passed: a slot is taken with an empty queue, or by a place that names those before it.

use std::sync::Arc;
use std::time::Duration;

use super::id::AttemptId;
use super::queue::{PLACES, Place};
use super::record::{Native, Record, Seen, State};
use super::time::ServiceTime;
use super::write::{ConditionFailed, Grant, Left, Operation, behind, granted, is_free_for};

/// The largest limit, and that of a shared lock.
pub const MOST: u32 = 1_000;

/// The longest lease of a slot: shorter than the shortest retention, since all slots share one TTL.
pub const LONGEST_LEASE: Duration = Duration::from_secs(12 * 3_600);

/// How many bytes of a label an entry keeps.
pub const LABEL_BYTES: usize = 16;

/// The slots of a key.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Slots {
    /// How many may be held at once.
    pub limit: u32,
    /// Those that are held, by rising token.
    pub held: Vec<Slot>,
}

/// A slot that is held.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Slot {
    /// Whose it is.
    pub attempt: AttemptId,
    /// The fencing token of its grant.
    pub token: u64,
    /// P, its published expiry. It grows with each renewal.
    pub expires_at: ServiceTime,
    /// L, its lease duration.
    pub lease: Duration,
    /// The first bytes of its holder's label; empty after a hand-over, until it is renewed.
    pub label: String,
}

impl Slot {
    /// A slot of this attempt. The lease is rounded up to what can be stored: an observer must not wait too short.
    pub fn new(
        attempt: AttemptId,
        token: u64,
        expires_at: ServiceTime,
        lease: Duration,
        label: &str,
    ) -> Self {
        let lease = u32::try_from(lease.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX);
        Slot {
            attempt,
            token,
            expires_at: expires_at.max(ServiceTime(0)),
            lease: Duration::from_millis(lease.into()),
            label: short_label(label).to_owned(),
        }
    }

    /// As it is stored: 8 bytes of the token, 6 of the expiry, 4 of the lease, and the label. So entries of one token
    /// compare as their expiries do.
    pub fn to_bytes(&self) -> Vec<u8> {
        let expires_at = u64::try_from(self.expires_at.0).unwrap_or(0);
        let lease = u32::try_from(self.lease.as_millis()).unwrap_or(u32::MAX);
        let mut bytes = self.token.to_be_bytes().to_vec();
        bytes.extend_from_slice(&expires_at.to_be_bytes()[2..]);
        bytes.extend_from_slice(&lease.to_be_bytes());
        bytes.extend_from_slice(self.label.as_bytes());
        bytes
    }

    /// Reads a stored entry; `None` if it is not one.
    pub fn from_bytes(attempt: AttemptId, bytes: &[u8]) -> Option<Slot> {
        let (token, rest) = bytes.split_first_chunk()?;
        let (expires_at, rest) = rest.split_first_chunk::<6>()?;
        let (lease, label) = rest.split_first_chunk()?;
        let mut whole = [0; 8];
        whole[2..].copy_from_slice(expires_at);
        Some(Slot {
            attempt,
            token: u64::from_be_bytes(*token),
            expires_at: ServiceTime(i64::try_from(u64::from_be_bytes(whole)).ok()?),
            lease: Duration::from_millis(u32::from_be_bytes(*lease).into()),
            label: String::from_utf8(label.to_vec()).ok()?,
        })
    }

    /// The stored entries of this token: the first, and one behind the last whose expiry is before `before`.
    pub fn stored_before(token: u64, before: Option<ServiceTime>) -> (Vec<u8>, Vec<u8>) {
        let first = |token, expires_at| {
            let expires_at = ServiceTime(expires_at);
            Slot::new(
                AttemptId::from_bits(0),
                token,
                expires_at,
                Duration::ZERO,
                "",
            )
            .to_bytes()
        };
        match before {
            Some(before) => (first(token, 0), first(token, before.0)),
            None => (first(token, 0), first(token.saturating_add(1), 0)),
        }
    }
}

impl AttemptId {
    /// Its 22 digits to the base of 64, as the entry of a slot is named.
    pub fn digits(self) -> String {
        let digit =
            |index: u32| DIGITS[usize::try_from(self.to_bits() >> (6 * index) & 63).unwrap_or(0)];
        (0..22)
            .rev()
            .map(|index| char::from(digit(index)))
            .collect()
    }

    /// The attempt of the entry with this name.
    pub fn from_digits(name: &str) -> Option<AttemptId> {
        let digit = |byte: u8| DIGITS.iter().position(|digit| *digit == byte);
        let value = |bits: u128, byte| {
            let digit = u128::try_from(digit(byte)?).ok()?;
            Some(bits.checked_mul(64)? + digit)
        };
        let attempt = AttemptId::from_bits(name.bytes().try_fold(0, value)?);
        (attempt.digits() == name).then_some(attempt)
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl Slots {
    /// The slot of this attempt.
    pub fn of(&self, attempt: AttemptId) -> Option<&Slot> {
        self.held.iter().find(|slot| slot.attempt == attempt)
    }

    /// How many places the queue of a key with this limit has. With few slots, they and the places stay below
    /// the 1 KB that one write unit pays for.
    pub fn places(limit: u32) -> usize {
        PLACES - 2 * usize::try_from(limit.min(8)).unwrap_or(8)
    }
}

/// The first bytes of a label, as an entry keeps them.
pub fn short_label(label: &str) -> &str {
    let end = (0..=LABEL_BYTES.min(label.len())).rev();
    let end = end.into_iter().find(|end| label.is_char_boundary(*end));
    &label[..end.unwrap_or(0)]
}

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
    /// A slot.
    Slot(Slot),
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
            let (mut record, index) = owned(current, slot.attempt, Some(slot.token))?;
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
            let (mut record, index) = owned(current, *attempt, *token)?;
            let others = slots(&mut record).held.len() - 1;
            slots(&mut record).held.remove(index);
            record.ttl_seconds = ttl_seconds.or(record.ttl_seconds);
            record.last_hold = held.or(record.last_hold);
            match next {
                Next::Nobody(passed) if record.queue == *passed => record.queue.clear(),
                Next::Others if others > 0 => {}
                Next::Slots(given) => give(&mut record, given)?,
                Next::Whole(place, given) if others == 0 => give_whole(&mut record, place, given)?,
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
            let record = current.ok_or(ConditionFailed)?;
            let native = record.native.ok_or(ConditionFailed)?;
            if !attempt.owns(record) || token.is_some_and(|token| token != native.token) {
                return Err(ConditionFailed);
            }
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
    let mut record = match current {
        Some(record) => record.clone(),
        None if entry.over.is_none() => unused(&grant.key),
        None => return Err(ConditionFailed),
    };
    let native = record.native.ok_or(ConditionFailed)?;
    let known = entry.first == record.slots.is_none();
    if !known || entry.token <= native.token || !has_limit(&record, entry.limit) {
        return Err(ConditionFailed);
    }
    match &entry.over {
        None => {}
        Some(Over::Slot(slot)) => remove(&mut record, slot)?,
        Some(Over::Whole(seen)) if record.state() == State::Granted(seen.clone()) => {
            free(&mut record);
        }
        Some(Over::Whole(_)) => return Err(ConditionFailed),
    }
    record.queue = in_turn(&record, &entry.places)?;
    // Once more, it would have two.
    if record.owner.is_some() || record.slot_of(grant.attempt).is_some() {
        return Err(ConditionFailed);
    }
    let slots = slots(&mut record);
    slots.limit = entry.limit;
    if slots.held.len() >= usize::try_from(entry.limit).unwrap_or(usize::MAX) {
        return Err(ConditionFailed);
    }
    slots.held.push(entry.slot());
    record.ttl_seconds = Some(grant.ttl_seconds);
    record.native = Some(Native {
        token: entry.token,
        ..native
    });
    Ok(record)
}

/// The record of a key that nobody has used.
fn unused(key: &Arc<str>) -> Record {
    Record {
        key: key.to_string(),
        owner: None,
        expires_at: ServiceTime(0),
        native: Some(Native {
            token: 0,
            lease: Duration::ZERO,
            renew_count: 0,
        }),
        ttl_seconds: None,
        holder: None,
        acquired_at: None,
        data: None,
        last_hold: None,
        queue: Vec::new(),
        slots: None,
        done: None,
        holder_is_dead: false,
    }
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

fn owned(
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

fn give_whole(record: &mut Record, place: &Place, given: &Given) -> Result<(), ConditionFailed> {
    let native = record.native.ok_or(ConditionFailed)?;
    let queue = behind(record, &given.passed)?;
    record.queue = match queue.split_first() {
        Some((first, rest)) if first == place => rest.to_vec(),
        _ => return Err(ConditionFailed),
    };
    record.owner = Some(place.attempt().to_string());
    record.expires_at = given.expires_at;
    record.native = Some(Native {
        token: native.token.saturating_add(1),
        lease: place.lease(),
        renew_count: native.renew_count.saturating_add(1),
    });
    record.ttl_seconds = Some(given.ttl_seconds);
    record.holder = None;
    record.acquired_at = Some(given.acquired_at);
    Ok(())
}
