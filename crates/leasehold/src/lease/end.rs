//! Why a lease is over, and what a release found.

use std::fmt;
use std::sync::Arc;

use leasehold_protocol::record::{Record, Seen, State};
use leasehold_protocol::renewal::Ended;

use crate::holder::HolderInfo;
use crate::lease_id::LeaseId;

const SUPERSEDED: &str = "another took it over, and has released it since";

/// Why a lease is over.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum EndReason {
    /// No renewal was acknowledged in time; the cause is that of the last failure, if there was
    /// one. Without a cause this process was paused, or nobody renewed.
    Expired {
        /// The last failure.
        cause: Option<Arc<str>>,
    },
    /// Another took it over.
    TakenOver(Box<HolderInfo>),
    /// Another took it over, and has released the key since.
    Superseded,
    /// Somebody released it by its identity.
    ReleasedElsewhere,
    /// It was held for as long as the policy allows at all
    /// ([`max_hold`](crate::PolicyBuilder::max_hold)).
    HeldTooLong,
    /// The record is gone.
    NoRecord,
    /// The background task of this lease ended: its runtime shut down, or it panicked.
    TaskEnded,
    /// Its guard was released or dropped; only clones of its signal see this.
    Released,
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndReason::Expired { cause: Some(cause) } => {
                write!(f, "it could not be renewed in time ({cause})")
            }
            EndReason::Expired { cause: None } => {
                f.write_str("its time ran out without a renewal (was this process paused or busy?)")
            }
            EndReason::TakenOver(held) => write!(f, "{held}"),
            EndReason::Superseded => f.write_str(SUPERSEDED),
            EndReason::ReleasedElsewhere => f.write_str("it was released by its identity"),
            EndReason::HeldTooLong => f.write_str("it was held for longer than `max_hold` allows"),
            EndReason::NoRecord => f.write_str("its record was deleted"),
            EndReason::TaskEnded => f.write_str("its background task ended"),
            EndReason::Released => f.write_str("it was released"),
        }
    }
}

/// What a release found.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ReleaseOutcome {
    /// The grant was ours until now; the key is free.
    Released,
    /// The key is free now, but the lease had run out before. Nobody had taken it over.
    ReleasedLate,
    /// The grant had been released before.
    AlreadyReleased,
    /// The lease had run out and another holds the key. Nothing was changed.
    TakenOver(HolderInfo),
    /// The lease had run out, another took the key over, and has released it since. Nothing was changed.
    Superseded,
    /// There is no record: the grant ended and its record was deleted, or it never was.
    NoRecord,
    /// The grant was ours until now, and goes on under the next waiter of this client, with a larger
    /// token ([`hand_off`](crate::PolicyBuilder::hand_off)). Nothing was written.
    HandedOff,
}

impl ReleaseOutcome {
    /// Whether this release is what freed the key, for others or for the next waiter.
    pub fn is_released(&self) -> bool {
        matches!(
            self,
            ReleaseOutcome::Released | ReleaseOutcome::ReleasedLate | ReleaseOutcome::HandedOff
        )
    }
}

impl fmt::Display for ReleaseOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReleaseOutcome::Released => f.write_str("released"),
            ReleaseOutcome::ReleasedLate => f.write_str("released after its lease had run out"),
            ReleaseOutcome::AlreadyReleased => f.write_str("released already"),
            ReleaseOutcome::TakenOver(held) => write!(f, "taken over: {held}"),
            ReleaseOutcome::Superseded => f.write_str(SUPERSEDED),
            ReleaseOutcome::NoRecord => f.write_str("no record to release"),
            ReleaseOutcome::HandedOff => {
                f.write_str("handed off to the next waiter of this client")
            }
        }
    }
}

impl From<Ended> for EndReason {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Released => EndReason::ReleasedElsewhere,
            Ended::TakenOver(record) => EndReason::TakenOver(Box::new(HolderInfo::of(&record))),
            Ended::Superseded => EndReason::Superseded,
            Ended::NoRecord => EndReason::NoRecord,
        }
    }
}

/// The grant of `id` as a record shows it, or why it is over.
pub(crate) fn seen_in(record: Option<&Record>, id: &LeaseId) -> Result<Seen, EndReason> {
    let Some(record) = record else {
        return Err(EndReason::NoRecord);
    };
    let ours = id.attempt().owns(record);
    let token = record.token();
    match record.state() {
        State::Granted(seen) if ours && token == Some(id.token().stored()) => Ok(seen),
        State::Granted(_) => Err(EndReason::TakenOver(Box::new(HolderInfo::of(record)))),
        State::Released if token == Some(id.token().stored()) => Err(EndReason::ReleasedElsewhere),
        State::Released => Err(EndReason::Superseded),
    }
}
