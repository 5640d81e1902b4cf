//! One acquisition: its identity, its requests, and "did my write land?"
//!
//! Invariants (`docs/protocol.md` sections 4, 5 and 8):
//!
//! - An attempt id belongs to one acquire call and is never used again. One id per process breaks
//!   exclusion in 13 steps.
//! - A refusal that carries our own id is a success. Its deadline counts from the request that
//!   published the stored expiry, or from the first one. Counted from the latest, exclusion breaks
//!   in 12 steps.

mod answer;
mod give_back;
mod waiting;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub use self::waiting::Shown;
pub use crate::id::AttemptId;

use self::waiting::Waiting;

use crate::deadline::{Deadline, Sent, Terms, service_now};
use crate::ending::next_token;
use crate::lens::{Crowd, Want};
use crate::queue::{PLACES, Place};
use crate::record::{Record, Seen};
use crate::slot_write::{self, Entry, Over, SlotWrite};
use crate::slots::Slots;
use crate::takeover::{Observation, Rules, Verdict};
use crate::time::{Elapsed, Reading, ServiceClock, ServiceTime};
use crate::token::FencingToken;
use crate::write::{Description, Grant, Write};

/// The largest credible distance between a token's seed and service time. The service refuses
/// older signatures, so no correct request carries a seed that is further away.
pub const SEED_TOLERANCE: Duration = Duration::from_secs(15 * 60);

/// How many of an attempt's latest requests are remembered.
const REMEMBERED: usize = 32;

/// The fields that an attempt writes besides times and identity.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Wish {
    /// The key.
    pub key: Arc<str>,
    /// Label of the holder, for people.
    pub holder: Arc<str>,
    /// The holder's payload.
    pub data: Option<Arc<[u8]>>,
    /// Whether it takes over a grant by its identity, while that lives.
    pub adopts: bool,
    /// As in [`Grant::force`].
    pub force: Option<Arc<str>>,
    /// As in [`Grant::bound_to_process`].
    pub bound_to_process: bool,
    /// Whether F# clients share the table, so that tokens are best effort only.
    pub shared_with_fsharp: bool,
    /// What it wants of the key.
    pub want: Want,
}

/// A grant of the caller, as the store's answer shows it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Granted {
    /// The token.
    pub token: FencingToken,
    /// When its answer was read.
    pub at: Elapsed,
    /// Service time was at most this at `at`; `None` without a recent stamp.
    pub began: Option<ServiceTime>,
    /// Until when the holder may believe in it.
    pub deadline: Deadline,
    /// The stored P.
    pub expires_at: ServiceTime,
    /// Whether the token's seed is further than [`SEED_TOLERANCE`] from service time. If so, the
    /// record must be withdrawn.
    pub impossible_seed: bool,
    /// Who waits for the key behind it.
    pub queue: Vec<Place>,
    /// The TTL of the record.
    pub ttl_seconds: Option<i64>,
    /// What the record does not say of it, because the key was handed over.
    pub description: Option<Description>,
    /// Of a key with slots.
    pub crowd: Option<Crowd>,
    /// The payload that the last holder left. `None` for an attempt with a payload of its own, which replaces it.
    pub left: Option<Arc<[u8]>>,
}

/// What a refusal means.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// The record carries the attempt's id: an earlier request of it landed.
    Ours(Granted),
    /// Another client has or had the key.
    Others(Verdict),
}

/// A request of the attempt.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Request {
    sent: Sent,
    seed: ServiceTime,
    /// The seed comes from the host's wall clock.
    unsampled: bool,
    over_foreign: bool,
}

/// One acquisition under way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Attempt {
    id: AttemptId,
    wish: Wish,
    terms: Terms,
    rules: Rules,
    first: Option<Request>,
    recent: VecDeque<Request>,
    observation: Observation,
    /// The TTL in the latest refused record, kept only while there is no recent stamp.
    seen_ttl_seconds: Option<i64>,
    waiting: Option<Waiting>,
    /// The latest record, of a key with slots.
    latest: Option<Box<Record>>,
    /// Whether it wants a slot, and has seen no answer yet.
    blind: bool,
}

impl Attempt {
    /// An attempt that has sent nothing yet. `observation` holds earlier observations of the key.
    pub fn new(
        id: AttemptId,
        wish: Wish,
        terms: Terms,
        rules: Rules,
        observation: Observation,
    ) -> Self {
        let blind = wish.want != Want::Whole;
        Attempt {
            id,
            wish,
            terms,
            rules,
            first: None,
            recent: VecDeque::new(),
            observation,
            seen_ttl_seconds: None,
            waiting: None,
            latest: None,
            blind,
        }
    }

    /// What a record shows to this attempt.
    pub fn view<'a>(&self, record: &'a Record) -> Cow<'a, Record> {
        record.seen_by(self.id, self.wish.want, None)
    }

    /// The label of its holder.
    pub fn label(&self) -> Arc<str> {
        self.wish.holder.clone()
    }

    /// Whether it wants a slot, and does not know the record: a read comes before its first request.
    pub fn must_look(&self) -> bool {
        self.blind
    }

    /// The limit of slots in a record, if it is in use and another than this attempt knows.
    pub fn other_limit(&self, record: &Record) -> Option<u32> {
        let limit = self.wish.want.limit()?;
        let other = record.slots.as_ref()?.limit;
        (!slot_write::has_limit(record, limit)).then_some(other)
    }

    /// The contender's observations of the key.
    pub fn observation(&self) -> &Observation {
        &self.observation
    }

    /// Its identity.
    pub fn id(&self) -> AttemptId {
        self.id
    }

    /// The next request: an acquire, or a take-over of what was seen. `now` must be read before any
    /// other step of the request.
    pub fn request(
        &mut self,
        take_over: Option<(Seen, Vec<Place>)>,
        clock: &ServiceClock,
        now: Reading,
    ) -> (Request, Write) {
        let last = self.recent.back().map(|r| r.sent.expires_at);
        let expires_at = self.terms.publish(clock, now, last);
        let seed = service_now(clock, now);
        let sampled = clock.latest_by_elapsed(now.elapsed);
        let unsampled = sampled.is_none();
        let ttl_seconds = self.terms.ttl_seconds(expires_at, clock, now);
        let request = Request {
            sent: Sent {
                at: now,
                expires_at,
            },
            seed,
            unsampled,
            over_foreign: matches!(take_over, Some((Seen::Foreign { .. }, _))),
        };
        self.first.get_or_insert(request);
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(request);
        let grant = Grant {
            key: self.wish.key.clone(),
            attempt: self.id,
            expires_at,
            ttl_seconds: match self.seen_ttl_seconds {
                Some(seen) if unsampled => ttl_seconds.max(seen),
                _ => ttl_seconds,
            },
            ttl_is_guess: unsampled,
            lease: self.terms.lease,
            seed: match take_over {
                // A wall clock starts a token, where there is no other, and raises none.
                Some((Seen::Native { .. }, _)) => sampled.unwrap_or(ServiceTime(0)),
                _ => seed,
            },
            acquired_at: seed,
            holder: self.wish.holder.clone(),
            data: self.wish.data.clone(),
            force: self.wish.force.clone(),
            bound_to_process: self.wish.bound_to_process,
        };
        let (over, places) = match take_over {
            Some((seen, places)) => (self.over(seen), Some(places)),
            None => (None, self.own_place()),
        };
        let drains = self.drains(clock.earliest(now.elapsed));
        let write = match (self.wish.want, over, places) {
            (_, Some(Over::Slot(slot)), _) if drains => Write::Slot(SlotWrite::Evict {
                key: self.wish.key.clone(),
                slot,
            }),
            (Want::Slot(limit), over, places) => {
                self.enter(grant, limit, over, places.unwrap_or_default(), clock, now)
            }
            (Want::Whole, Some(Over::Whole(seen)), Some(places)) => {
                Write::TakeOver(grant, seen, places)
            }
            (Want::Whole, _, Some(places)) => Write::Slot(SlotWrite::Claim(grant, places)),
            (Want::Whole, _, None) => Write::Acquire(grant),
        };
        (request, write)
    }

    /// The first place of a free key, if it is ours.
    fn own_place(&self) -> Option<Vec<Place>> {
        let latest = self
            .latest
            .as_ref()
            .filter(|record| record.owner.is_none())?;
        let first = latest
            .queue
            .first()
            .filter(|place| place.attempt() == self.id)?;
        Some(vec![*first])
    }

    /// Whether it waits until no slot is held, by the record that was seen last.
    fn drains(&self, earliest: Option<ServiceTime>) -> bool {
        let latest = self.latest.as_ref();
        latest.is_some_and(|record| record.must_drain(self.id, self.wish.want, earliest))
    }

    /// The grant that was seen: a slot or the whole key. `None`: it was the first place of a free key.
    fn over(&self, seen: Seen) -> Option<Over> {
        let owner = match &seen {
            Seen::Native { owner, .. } => owner.parse().ok(),
            Seen::Foreign { .. } => None,
        };
        let Some(latest) = self.latest.as_ref().filter(|record| record.owner.is_none()) else {
            return Some(Over::Whole(seen));
        };
        let slot = latest.slot_of(owner?)?.clone();
        Some(match self.wish.adopts {
            true => Over::Adopted(slot),
            false => Over::Slot(slot),
        })
    }

    fn enter(
        &self,
        grant: Grant,
        limit: u32,
        over: Option<Over>,
        places: Vec<Place>,
        clock: &ServiceClock,
        now: Reading,
    ) -> Write {
        let latest = self.latest.as_deref();
        Write::Slot(SlotWrite::Enter(Entry {
            token: next_token(latest.and_then(Record::token), clock, now),
            limit,
            first: latest.is_none_or(|record| record.slots.is_none()),
            over,
            places,
            grant,
        }))
    }

    /// A request for a place at the end of the queue, the same place each time. `now` must be read
    /// before any other step of the request. `until` is when the wait ends, in service time.
    pub fn join(&mut self, claim: Duration, until: ServiceTime, now: Reading) -> Write {
        let (id, lease) = (self.id, self.terms.lease);
        let limit = self.wish.want.limit();
        let seen = self.latest.as_ref().map(|record| record.places(limit));
        let waiting = self.waiting.get_or_insert_with(|| {
            let place = Place::new(id, lease, claim.min(lease), until);
            Waiting {
                place: limit.map_or(place, |_| place.for_slot()),
                since: now,
                before: VecDeque::new(),
            }
        });
        Write::Join {
            key: self.wish.key.clone(),
            place: waiting.place,
            limit,
            most: seen.or(limit.map(Slots::places)).unwrap_or(PLACES),
            bound_to_process: self.wish.bound_to_process,
        }
    }

    /// A request to give up its place, which was seen at this index of the queue; `None` if it has not
    /// joined.
    pub fn leave(&self, index: usize) -> Option<Write> {
        let waiting = self.waiting.as_ref()?;
        Some(Write::Leave {
            key: self.wish.key.clone(),
            place: waiting.place,
            index,
        })
    }

    /// Whether a request for a place was made. The key may then be handed to this attempt at any time.
    pub fn has_joined(&self) -> bool {
        self.waiting.is_some()
    }
}

#[cfg(test)]
mod tests;
