//! The write that ends a grant: a hand-over to the next place of the queue, or a release.

use std::sync::Arc;
use std::time::Duration;

use super::deadline::{Terms, service_now};
use super::id::AttemptId;
use super::queue::Place;
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
    /// The payload for the next holder.
    pub(super) left: Left,
}

impl Ending<'_> {
    /// The write. A grant that is handed over ends after the claim of its place, unless it is renewed.
    pub(super) fn write(&self, clock: &ServiceClock, now: Reading) -> Write {
        let (key, attempt, token) = (self.key.clone(), self.attempt, self.token);
        let earliest = clock.earliest(now.elapsed);
        // A join that lands after its attempt has got the key leaves a place of its own behind it.
        let waits = |place: &Place| place.attempt() != attempt && !place.has_ended(earliest);
        let Some(index) = self.queue.iter().position(waits) else {
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
        let claimed = Terms {
            lease: next.claim(),
            ..*self.terms
        };
        let expires_at = claimed.publish(clock, now, None);
        // A clock far behind must not shorten the TTL: the record would be deleted with its token.
        let ttl_seconds = self.terms.ttl_seconds(expires_at, clock, now);
        Write::HandOver {
            key,
            attempt,
            token,
            next,
            passed: self.queue[..index].to_vec(),
            expires_at,
            ttl_seconds: ttl_seconds.max(self.ttl_seconds.unwrap_or(0)),
            acquired_at: service_now(clock, now),
            held: self.held,
            left: self.left.clone(),
        }
    }
}
