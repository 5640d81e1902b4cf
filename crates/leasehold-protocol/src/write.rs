//! The conditional writes of the protocol, and their exact meaning.
//!
//! [`apply`] is the reference. Stores that run code in a transaction call it. The DynamoDB store
//! has the same conditions as expressions, and the contract suite compares them.
//!
//! Invariants:
//!
//! - No write is unconditional.
//! - No condition contains a clock reading, with two exceptions. A renewal may only move the expiry
//!   forward, and a guessed TTL may not shorten that of the record.
//! - No write of one grant changes another's, except a take-over of exactly what was seen (S4). The
//!   queue belongs to the record, not to a grant.

use std::sync::Arc;
use std::time::Duration;

use super::done::Completion;
pub use super::grant::taken_over;
pub use super::grant::{ConditionFailed, Description, Grant, Left, Operation};
use super::grant::{behind, granted, hand_over, is_free_for, owned};
use super::id::AttemptId;
use super::queue::Place;
use super::record::{Native, Record, Seen, State};
use super::slot_write::{self, SlotWrite};
use super::time::ServiceTime;

/// One conditional write on one record.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Write {
    /// Take a key that has no record or a released one.
    Acquire(Grant),
    /// Take a key whose grant has ended: compare-and-set on what was seen. It removes these first
    /// places of the queue: our own, and those that did not take the key in time.
    TakeOver(Grant, Seen, Vec<Place>),
    /// Move the expiry of our grant forward, and perhaps lengthen its lease.
    Renew {
        /// The key.
        key: Arc<str>,
        /// Our attempt.
        attempt: AttemptId,
        /// Our stored token.
        token: u64,
        /// The new P.
        expires_at: ServiceTime,
        /// The new TTL.
        ttl_seconds: i64,
        /// As in [`Grant::bound_to_process`].
        bound_to_process: bool,
        /// The new L, if it changes. It never becomes shorter: an observer may time the grant by the L that it
        /// sees, while its holder still believes in the longer one.
        lease: Option<Duration>,
        /// What changes of it. Of a grant that was handed over, all: the releaser did not know it.
        description: Option<Description>,
    },
    /// End the caller's grant; the record, its token and the label of its holder stay.
    Release {
        /// The key.
        key: Arc<str>,
        /// Our attempt.
        attempt: AttemptId,
        /// Our stored token; `None` for an attempt whose answer was never seen.
        token: Option<u64>,
        /// The new TTL: the time of the release plus R. `None` keeps the TTL of the record.
        ttl_seconds: Option<i64>,
        /// The whole queue. None of its contenders waits any more.
        passed: Vec<Place>,
        /// How long the grant was held, if known.
        held: Option<Duration>,
        /// The payload for the next holder.
        left: Left,
    },
    /// End our grant, and give the key to a place in the queue.
    HandOver {
        /// The key.
        key: Arc<str>,
        /// Our attempt.
        attempt: AttemptId,
        /// As in [`Write::Release`].
        token: Option<u64>,
        /// The place that gets the key.
        next: Place,
        /// The places before it. Their contenders do not wait any more.
        passed: Vec<Place>,
        /// P of the new grant.
        expires_at: ServiceTime,
        /// The new TTL.
        ttl_seconds: i64,
        /// For people.
        acquired_at: ServiceTime,
        /// As in [`Write::Release`].
        held: Option<Duration>,
        /// As in [`Write::Release`].
        left: Left,
    },
    /// End our grant, and remember its work as done. Nobody waits for a key whose work is done, so the
    /// queue goes.
    Complete(Completion),
    /// Wait for a key that another holds: append our place to its queue.
    Join {
        /// The key.
        key: Arc<str>,
        /// Our place.
        place: Place,
        /// Of a place that waits for a slot: the limit that the caller knows.
        limit: Option<u32>,
        /// How many places the queue has.
        most: usize,
        /// Whether the place ends when this process dies, on stores that can see that.
        bound_to_process: bool,
    },
    /// Give up our place.
    Leave {
        /// The key.
        key: Arc<str>,
        /// Our place.
        place: Place,
        /// Where in the queue it was seen.
        index: usize,
    },
    /// A write on the slots of a key.
    Slot(SlotWrite),
    /// Delete a record that the caller's grant created with an impossible token.
    Withdraw {
        /// The key.
        key: Arc<str>,
        /// Our attempt.
        attempt: AttemptId,
        /// The stored token.
        token: u64,
    },
}

impl Write {
    /// The key that it writes.
    pub fn key(&self) -> &str {
        match self {
            Write::Acquire(grant) | Write::TakeOver(grant, ..) => &grant.key,
            Write::Complete(completion) => &completion.key,
            Write::Slot(write) => write.key(),
            Write::Renew { key, .. }
            | Write::Release { key, .. }
            | Write::HandOver { key, .. }
            | Write::Join { key, .. }
            | Write::Leave { key, .. }
            | Write::Withdraw { key, .. } => key,
        }
    }

    /// The name of the write.
    pub fn operation(&self) -> Operation {
        match self {
            Write::Acquire(_) => Operation::Acquire,
            Write::TakeOver(..) => Operation::TakeOver,
            Write::Renew { .. } => Operation::Renew,
            Write::Release { .. } => Operation::Release,
            Write::HandOver { .. } => Operation::HandOver,
            Write::Complete(_) => Operation::Complete,
            Write::Join { .. } => Operation::Join,
            Write::Leave { .. } => Operation::Leave,
            Write::Slot(write) => write.operation(),
            Write::Withdraw { .. } => Operation::Withdraw,
        }
    }
}

/// The record after a write, or `None` if the write deletes it.
///
/// # Errors
///
/// [`ConditionFailed`] when the write's condition does not hold.
pub fn apply(current: Option<&Record>, write: &Write) -> Result<Option<Record>, ConditionFailed> {
    match write {
        Write::Acquire(grant) => match current {
            None => Ok(Some(granted(None, grant))),
            Some(record) if record.queue.is_empty() && is_free_for(record, grant) => {
                Ok(Some(granted(Some(record), grant)))
            }
            Some(_) => Err(ConditionFailed),
        },
        Write::TakeOver(grant, seen, places) => match current {
            Some(record) if record.state() == State::Granted(seen.clone()) => {
                let mut taken = granted(Some(record), grant);
                taken.queue = behind(record, places)?;
                if seen.is_done() && grant.data.is_none() {
                    // The result of a run is no holder's payload.
                    taken.data = None;
                }
                if let (Some(native), Some(token)) = (&mut taken.native, record.token()) {
                    native.token = taken_over(token, grant.seed);
                }
                Ok(Some(taken))
            }
            _ => Err(ConditionFailed),
        },
        Write::Renew {
            attempt,
            token,
            expires_at,
            ttl_seconds,
            lease,
            description,
            ..
        } => {
            let (record, native) = owned(current, attempt, Some(*token))?;
            // Without this, a late renewal shortens a live lease (breaks in 15 steps).
            if record.expires_at >= *expires_at {
                return Err(ConditionFailed);
            }
            let lease = lease.unwrap_or(native.lease);
            // S1: the holder of another renewal relies on the longer one.
            if lease < native.lease {
                return Err(ConditionFailed);
            }
            let mut renewed = Record {
                expires_at: *expires_at,
                ttl_seconds: Some(*ttl_seconds),
                native: Some(Native {
                    renew_count: native.renew_count.saturating_add(1),
                    lease,
                    ..native
                }),
                ..record.clone()
            };
            if let Some(Description { holder, data }) = description {
                renewed.holder = Some(holder.to_string());
                let data = data.as_ref().map(|data| data.to_vec());
                renewed.data = data.or(renewed.data);
            }
            Ok(Some(renewed))
        }
        Write::Release {
            attempt,
            token,
            ttl_seconds,
            passed,
            held,
            left,
            ..
        } => {
            let (record, _) = owned(current, attempt, *token)?;
            // Whoever waits is to get the key by the release, not to find it.
            if record.queue != *passed {
                return Err(ConditionFailed);
            }
            Ok(Some(Record {
                queue: Vec::new(),
                // Were the owner kept, a delayed renewal would revive the record (7 steps).
                owner: None,
                expires_at: ServiceTime(0),
                ttl_seconds: ttl_seconds.or(record.ttl_seconds),
                data: left.of(record),
                last_hold: held.or(record.last_hold),
                ..record.clone()
            }))
        }
        Write::HandOver {
            attempt,
            token,
            next,
            passed,
            expires_at,
            ttl_seconds,
            acquired_at,
            held,
            left,
            ..
        } => {
            let (record, _) = owned(current, attempt, *token)?;
            let mut record = Record {
                data: left.of(record),
                last_hold: held.or(record.last_hold),
                ..record.clone()
            };
            hand_over(
                &mut record,
                passed,
                next,
                *expires_at,
                *ttl_seconds,
                *acquired_at,
            )?;
            Ok(Some(record))
        }
        Write::Complete(completion) => {
            let (record, native) = owned(current, &completion.attempt, Some(completion.token))?;
            Ok(Some(Record {
                // Were the owner kept, a delayed renewal or release of the runner would change the record.
                owner: Some(completion.attempt.when_done().to_string()),
                expires_at: completion.until,
                native: Some(Native {
                    lease: completion.keep,
                    // A contender that saw the grant before its end must not take over what was done.
                    renew_count: native.renew_count.saturating_add(1),
                    ..native
                }),
                ttl_seconds: completion.ttl_seconds,
                data: completion.result.as_ref().map(|result| result.to_vec()),
                last_hold: completion.held.or(record.last_hold),
                queue: Vec::new(),
                done: Some(completion.done.clone()),
                ..record.clone()
            }))
        }
        Write::Join {
            place, limit, most, ..
        } => {
            let record = current.ok_or(ConditionFailed)?;
            let waits = record.owner.is_some() || record.has_slots() || !record.queue.is_empty();
            let held = waits && record.native.is_some() && record.done.is_none();
            // A join that was delayed until its attempt got the key would wait behind itself.
            let ours = place.attempt().owns(record) || record.slot_of(place.attempt()).is_some();
            let fits = limit.is_none_or(|limit| slot_write::has_limit(record, limit));
            let full = record.queue.len() >= *most;
            if !held || ours || !fits || full || record.queue.contains(place) {
                return Err(ConditionFailed);
            }
            let mut record = record.clone();
            if let Some(limit) = limit {
                slot_write::slots(&mut record).limit = *limit;
            }
            record.queue.push(*place);
            Ok(Some(record))
        }
        Write::Slot(write) => slot_write::apply(current, write).map(Some),
        Write::Leave { place, index, .. } => {
            let record = current.ok_or(ConditionFailed)?;
            if record.queue.get(*index) != Some(place) {
                return Err(ConditionFailed);
            }
            let mut record = record.clone();
            record.queue.remove(*index);
            Ok(Some(record))
        }
        Write::Withdraw { attempt, token, .. } => {
            owned(current, attempt, Some(*token))?;
            Ok(None)
        }
    }
}
