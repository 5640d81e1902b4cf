//! What one client sees of a record: the holder that keeps it from the key, or its own grant.
//!
//! The rules for taking a key and for keeping it are about one grant. A key with slots has several. So a client
//! sees the record as if one of them held the key:
//!
//! | the record | what a client sees as the holder |
//! |---|---|
//! | it has a slot | itself |
//! | there is room for it, and nobody waits before it | nobody |
//! | there is room, and others wait before it | the first place, for as long as its claim |
//! | a place before it is for the whole key, and a slot is held | the slot that ends first |
//! | there is no room | the slot that ends first |
//!
//! A place for the whole key cannot be used while a slot is held. So its claim begins when none is.

use std::borrow::Cow;
use std::time::Duration;

use super::done::FOR_EVER;
use super::id::AttemptId;
use super::queue::Place;
use super::record::{Native, Record};
use super::slots::{Slot, Slots};
use super::time::ServiceTime;

/// What a client wants of a key, or has of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Want {
    /// The whole key.
    #[default]
    Whole,
    /// One of this many slots.
    Slot(u32),
}

impl Want {
    /// The limit of slots.
    pub fn limit(self) -> Option<u32> {
        match self {
            Want::Whole => None,
            Want::Slot(limit) => Some(limit),
        }
    }

    fn has_room(self, slots: Option<&Slots>) -> bool {
        let Some(slots) = slots else { return true };
        match self {
            Want::Whole => slots.held.is_empty(),
            Want::Slot(limit) => slots.held.len() < usize::try_from(limit).unwrap_or(usize::MAX),
        }
    }
}

impl Record {
    /// The record as an attempt sees it. `earliest`: the service's clock is not before that, if it is known.
    pub fn seen_by(
        &self,
        me: AttemptId,
        want: Want,
        earliest: Option<ServiceTime>,
    ) -> Cow<'_, Record> {
        if self.owner.is_some() {
            return Cow::Borrowed(self);
        }
        if let Some(slot) = self.slot_of(me) {
            return Cow::Owned(self.held_by(slot));
        }
        if let Some(slot) = self.first_to_end()
            && (!want.has_room(self.slots.as_ref()) || self.has_whole_before(me, earliest))
        {
            return Cow::Owned(self.held_by(slot));
        }
        match self.queue.first() {
            Some(first) if first.attempt() != me => Cow::Owned(self.claimed_by(first)),
            _ => Cow::Borrowed(self),
        }
    }

    /// The record as each holder of a slot sees it.
    pub fn held_slots(&self) -> impl Iterator<Item = Record> {
        let slots = self.slots.iter().flat_map(|slots| &slots.held);
        slots.map(|slot| self.held_by(slot))
    }

    /// The record as the holder of a grant of this attempt sees it.
    pub fn seen_by_holder(&self, me: AttemptId, is_slot: bool) -> Cow<'_, Record> {
        // The limit does not matter to the holder of a slot.
        let want = if is_slot { Want::Slot(0) } else { Want::Whole };
        self.seen_by(me, want, None)
    }

    /// Whether an attempt waits until no slot is held: for itself, or for a place before it. Then it takes no slot
    /// over that has ended, but removes it.
    pub fn must_drain(&self, me: AttemptId, want: Want, earliest: Option<ServiceTime>) -> bool {
        let slots = self.slots.as_ref().filter(|_| self.owner.is_none());
        slots.is_some_and(|slots| !slots.held.is_empty())
            && (want == Want::Whole || self.has_whole_before(me, earliest))
    }

    /// Whether somebody waits for the whole key before an attempt.
    fn has_whole_before(&self, me: AttemptId, earliest: Option<ServiceTime>) -> bool {
        let before = self.queue.iter().take_while(|place| place.attempt() != me);
        let mut whole = before.filter(|place| !place.is_for_slot());
        whole.any(|place| !place.has_ended(earliest))
    }

    /// The slot that ends first.
    fn first_to_end(&self) -> Option<&Slot> {
        let held = self.slots.as_ref()?.held.iter();
        held.min_by_key(|slot| slot.expires_at)
    }

    fn held_by(&self, slot: &Slot) -> Record {
        let native = Native {
            token: slot.token,
            lease: slot.lease,
            // It grows with every renewal, too.
            renew_count: u64::try_from(slot.expires_at.0).unwrap_or(0),
        };
        Record {
            holder: Some(slot.label.clone()).filter(|label| !label.is_empty()),
            ..self.as_if(slot.attempt, slot.expires_at, native)
        }
    }

    fn claimed_by(&self, place: &Place) -> Record {
        let native = Native {
            token: self.token().unwrap_or(0),
            // Its claim is added where a contender waits for the places before it.
            lease: Duration::ZERO,
            renew_count: 0,
        };
        Record {
            holder: Some("the first in its queue".to_owned()),
            ..self.as_if(place.attempt(), FOR_EVER, native)
        }
    }

    fn as_if(&self, owner: AttemptId, expires_at: ServiceTime, native: Native) -> Record {
        Record {
            owner: Some(owner.to_string()),
            expires_at,
            native: Some(native),
            acquired_at: None,
            data: None,
            ..self.clone()
        }
    }
}

/// What a client knows of the slots of a key besides its own.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Crowd {
    /// The limit.
    pub limit: u32,
    /// Who else holds a slot.
    pub others: Vec<AttemptId>,
    /// The token of the record.
    pub token: u64,
}

impl Crowd {
    /// As a record shows it; `None` for a key without slots.
    pub fn of(record: &Record, me: AttemptId) -> Option<Crowd> {
        let slots = record.slots.as_ref()?;
        let others = slots.held.iter().map(|slot| slot.attempt);
        Some(Crowd {
            limit: slots.limit,
            others: others.filter(|other| *other != me).collect(),
            token: record.token()?,
        })
    }
}
