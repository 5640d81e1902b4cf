//! What the writes share: what an acquisition writes, what its end leaves, and the names of requests.

use std::sync::Arc;
use std::time::Duration;

use super::id::AttemptId;
use super::queue::Place;
use super::record::{Native, Record};
use super::time::ServiceTime;

/// What an acquisition writes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Grant {
    /// The key.
    pub key: Arc<str>,
    /// The identity of this acquisition.
    pub attempt: AttemptId,
    /// P, the published expiry.
    pub expires_at: ServiceTime,
    /// TTL, Unix seconds.
    pub ttl_seconds: i64,
    /// Whether the TTL comes from a wall clock. An acquire is then refused if it would shorten the TTL
    /// of the record: a clock far behind would delete record and token at once (S2).
    pub ttl_is_guess: bool,
    /// L, the lease duration.
    pub lease: Duration,
    /// Service time: the start of the token if the record has none, and the lower bound of a token
    /// after a take-over. It is 0, without effect, for a take-over of a record of this library while service
    /// time is unknown.
    pub seed: ServiceTime,
    /// When the grant began, for people.
    pub acquired_at: ServiceTime,
    /// Label of the holder, for people. It never decides ownership.
    pub holder: Arc<str>,
    /// The holder's payload. `None` leaves that of the record, which the last holder left.
    pub data: Option<Arc<[u8]>>,
    /// Who ends a grant by force with this one, and why. `None` leaves that of the record.
    pub force: Option<Arc<str>>,
    /// Whether the grant ends when this process dies, on stores that can see that.
    pub bound_to_process: bool,
}

/// What people see of a grant.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Description {
    /// Label of the holder. It never decides ownership.
    pub holder: Arc<str>,
    /// The holder's payload. `None` leaves that of the record.
    pub data: Option<Arc<[u8]>>,
}

/// The payload that the end of a grant leaves in its record, for the next holder.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Left {
    /// None.
    Nothing,
    /// That of the record.
    AsItIs,
    /// This one, which the record may lack.
    Payload(Arc<[u8]>),
}

/// The name of a request, for messages, metering and fault injection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Operation {
    /// [`Write::Acquire`](super::write::Write::Acquire)
    Acquire,
    /// [`Write::TakeOver`](super::write::Write::TakeOver)
    TakeOver,
    /// [`Write::Renew`](super::write::Write::Renew)
    Renew,
    /// [`Write::Release`](super::write::Write::Release)
    Release,
    /// [`Write::HandOver`](super::write::Write::HandOver)
    HandOver,
    /// [`Write::Complete`](super::write::Write::Complete)
    Complete,
    /// [`Write::Join`](super::write::Write::Join)
    Join,
    /// [`Write::Leave`](super::write::Write::Leave)
    Leave,
    /// [`Write::Withdraw`](super::write::Write::Withdraw)
    Withdraw,
    /// Reading one record.
    Read,
    /// Reading many records.
    List,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Operation::Acquire => "acquire",
            Operation::TakeOver => "take over",
            Operation::Renew => "renew",
            Operation::Release => "release",
            Operation::HandOver => "hand over",
            Operation::Complete => "complete",
            Operation::Join => "join",
            Operation::Leave => "leave",
            Operation::Withdraw => "withdraw",
            Operation::Read => "read",
            Operation::List => "list",
        })
    }
}

impl Left {
    pub(super) fn of(&self, record: &Record) -> Option<Vec<u8>> {
        match self {
            Left::Nothing => None,
            Left::AsItIs => record.data.clone(),
            Left::Payload(data) => Some(data.to_vec()),
        }
    }
}

/// The condition of a write was false, and nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConditionFailed;

/// Whether the record is a released one of this library whose TTL the grant does not shorten by a guess.
pub(super) fn is_free_for(record: &Record, grant: &Grant) -> bool {
    let free = record.owner.is_none() && record.native.is_some() && !record.has_slots();
    let shortens = record.ttl_seconds > Some(grant.ttl_seconds);
    free && !(grant.ttl_is_guess && shortens)
}

/// The token of a take-over: one more than the larger of the token seen and service time. A clock
/// far behind may have seeded the token seen, below those of a deleted record (S2).
pub fn taken_over(seen: u64, seed: ServiceTime) -> u64 {
    let seed = u64::try_from(seed.0).unwrap_or(0);
    seen.max(seed).saturating_add(1)
}

/// The queue behind these places, which are its first ones.
pub(super) fn behind(record: &Record, places: &[Place]) -> Result<Vec<Place>, ConditionFailed> {
    let rest = record.queue.strip_prefix(places).ok_or(ConditionFailed)?;
    Ok(rest.to_vec())
}

pub(super) fn granted(before: Option<&Record>, grant: &Grant) -> Record {
    let queue = before.map_or_else(Vec::new, |record| record.queue.clone());
    let last_hold = before.and_then(|record| record.last_hold);
    let slots = before.and_then(|record| record.slots.clone());
    let left = before.and_then(|record| record.data.clone());
    let last_force = last_force(before, grant);
    let before = before.and_then(|record| record.native);
    let seed = u64::try_from(grant.seed.0).unwrap_or(0);
    Record {
        key: grant.key.to_string(),
        owner: Some(grant.attempt.to_string()),
        expires_at: grant.expires_at,
        native: Some(Native {
            token: before.map_or(seed, |n| n.token).saturating_add(1),
            lease: grant.lease,
            renew_count: before.map_or(0, |n| n.renew_count).saturating_add(1),
        }),
        ttl_seconds: Some(grant.ttl_seconds),
        holder: Some(grant.holder.to_string()),
        acquired_at: Some(grant.acquired_at),
        data: grant.data.as_ref().map(|data| data.to_vec()).or(left),
        last_force,
        last_hold,
        queue,
        slots,
        done: None,
        holder_is_dead: false,
    }
}

/// Who ended a grant by force last, with this one.
pub(super) fn last_force(before: Option<&Record>, grant: &Grant) -> Option<String> {
    let last = || before.and_then(|record| record.last_force.clone());
    grant.force.as_deref().map(str::to_owned).or_else(last)
}

/// The record of a grant, if it is that of this attempt and token.
pub(super) fn owned<'a>(
    current: Option<&'a Record>,
    attempt: &AttemptId,
    token: Option<u64>,
) -> Result<(&'a Record, Native), ConditionFailed> {
    let record = current.ok_or(ConditionFailed)?;
    let native = record.native.ok_or(ConditionFailed)?;
    let ours = attempt.owns(record) && token.is_none_or(|token| token == native.token);
    if ours {
        Ok((record, native))
    } else {
        Err(ConditionFailed)
    }
}

/// Gives the whole key to a place of the queue, behind those that do not wait any more.
pub(super) fn hand_over(
    record: &mut Record,
    passed: &[Place],
    next: &Place,
    expires_at: ServiceTime,
    ttl_seconds: i64,
    acquired_at: ServiceTime,
) -> Result<(), ConditionFailed> {
    let native = record.native.ok_or(ConditionFailed)?;
    let queue = behind(record, passed)?;
    record.queue = match queue.split_first() {
        Some((first, rest)) if first == next => rest.to_vec(),
        _ => return Err(ConditionFailed),
    };
    record.owner = Some(next.attempt().to_string());
    record.expires_at = expires_at;
    record.native = Some(Native {
        token: native.token.saturating_add(1),
        lease: next.lease(),
        renew_count: native.renew_count.saturating_add(1),
    });
    record.ttl_seconds = Some(ttl_seconds);
    record.holder = None;
    record.acquired_at = Some(acquired_at);
    Ok(())
}
