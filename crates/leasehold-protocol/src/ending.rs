//! The write that ends a grant: a hand-over to the next place of the queue, or a release.

use std::sync::Arc;
use std::time::Duration;

use super::deadline::{Terms, service_now};
use super::id::AttemptId;
use super::lens::Crowd;
use super::queue::Place;
use super::slot_write::{Given, Next, SlotWrite};
use super::time::{Reading, ServiceClock};
use super::write::{Left, Write};

/// What is known of a grant that is to end.
#[derive(Debug)]
pub(super) struct Ending<'a> {
    pub(super) key: &'a Arc<str>,
    pub(super) attempt: AttemptId,
    /// `None` for an attempt whose answer was never seen.
    pub(super) token: Option<u64>,
    pub(super) terms: &'a Terms,
    /// The queue as it was last seen. If it has changed, the write is refused and shows it.
    pub(super) queue: &'a [Place],
    /// The TTL of the record, where it is known.
    pub(super) ttl_seconds: Option<i64>,
    /// How long it was held, where that is known.
    pub(super) held: Option<Duration>,
    /// Whether it is a slot.
    pub(super) is_slot: bool,
    /// Of a key with slots.
    pub(super) crowd: Option<&'a Crowd>,
    /// The payload for the next holder.
    pub(super) left: Left,
}

impl Ending<'_> {
    /// The write. A grant that is handed over ends after the claim of its place, unless it is renewed.
    pub(super) fn write(&self, clock: &ServiceClock, now: Reading) -> Write {
        let (key, attempt, token) = (self.key.clone(), self.attempt, self.token);
        let earliest = clock.earliest(now.elapsed);
        // A join that lands after its attempt has got the key leaves a place of its own behind it.
        let others = self.crowd.map_or(&[][..], |crowd| &crowd.others);
        let has_it =
            |place: &Place| place.attempt() == attempt || others.contains(&place.attempt());
        let waits = |place: &Place| !has_it(place) && !place.has_ended(earliest);
        let Some(index) = self.queue.iter().position(waits) else {
            if self.is_slot {
                return self.exit(Next::Nobody(self.queue.to_vec()), clock, now);
            }
            return Write::Release {
                key,
                attempt,
                token,
                ttl_seconds: self.terms.released_ttl_seconds(clock, now),
                passed: self.queue.to_vec(),
                held: self.held,
                left: self.left.clone(),
            };
        };
        let next = self.queue[index];
        if self.is_slot && !next.is_for_slot() && !others.is_empty() {
            return self.exit(Next::Others, clock, now);
        }
        if let Some(crowd) = self.crowd.filter(|_| next.is_for_slot()) {
            let room = usize::try_from(crowd.limit)
                .unwrap_or(usize::MAX)
                .saturating_sub(others.len());
            let places = self.queue[index..].iter();
            let places = places
                .take_while(|place| place.is_for_slot() && waits(place))
                .take(room.max(1));
            let given = self.given(index, places.copied().collect(), clock, now);
            return match self.is_slot {
                true => self.exit(Next::Slots(given), clock, now),
                false => Write::Slot(SlotWrite::Open {
                    key,
                    attempt,
                    token,
                    held: self.held,
                    left: self.left.clone(),
                    given,
                }),
            };
        }
        let given = self.given(index, vec![next], clock, now);
        if self.is_slot {
            let given = Given {
                places: Vec::new(),
                ..given
            };
            return self.exit(Next::Whole(next, given), clock, now);
        }
        Write::HandOver {
            key,
            attempt,
            token,
            next,
            passed: given.passed,
            expires_at: given.expires_at,
            ttl_seconds: given.ttl_seconds,
            acquired_at: given.acquired_at,
            held: self.held,
            left: self.left.clone(),
        }
    }

    fn exit(&self, next: Next, clock: &ServiceClock, now: Reading) -> Write {
        Write::Slot(SlotWrite::Exit {
            key: self.key.clone(),
            attempt: self.attempt,
            token: self.token,
            ttl_seconds: self.terms.released_ttl_seconds(clock, now),
            held: self.held,
            next,
        })
    }

    /// What these places get, which begin at an index of the queue. It ends after the longest of their claims, unless
    /// it is renewed.
    fn given(&self, index: usize, places: Vec<Place>, clock: &ServiceClock, now: Reading) -> Given {
        let claim = places.iter().map(Place::claim).max();
        let claimed = Terms {
            lease: claim.unwrap_or_default(),
            ..*self.terms
        };
        let expires_at = claimed.publish(clock, now, None);
        // A clock far behind must not shorten the TTL: the record would be deleted with its token.
        let ttl_seconds = self.terms.ttl_seconds(expires_at, clock, now);
        Given {
            passed: self.queue[..index].to_vec(),
            places,
            limit: self.crowd.map_or(0, |crowd| crowd.limit),
            expires_at,
            token: next_token(self.crowd.map(|crowd| crowd.token), clock, now),
            ttl_seconds: ttl_seconds.max(self.ttl_seconds.unwrap_or(0)),
            acquired_at: service_now(clock, now),
        }
    }
}

/// The token of a slot: above that of the record, if it is known, and above those of a deleted record.
pub(super) fn next_token(record: Option<u64>, clock: &ServiceClock, now: Reading) -> u64 {
    let seed = match record {
        Some(_) => clock.latest_by_elapsed(now.elapsed),
        // A wall clock starts a token, where there is no other.
        None => Some(service_now(clock, now)),
    };
    let seed = seed.and_then(|seed| u64::try_from(seed.0).ok());
    seed.max(record).unwrap_or(0).saturating_add(1)
}
