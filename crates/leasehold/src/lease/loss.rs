//! Why a lease is over, and what a release found.

use std::fmt;
use std::sync::Arc;

use leasehold_protocol::record::{Record, Seen, State};
use leasehold_protocol::renewal::Ended;

use crate::held::Held;
use crate::lease_id::LeaseId;

const SUPERSEDED: &str = "another took it over, and has released it since";

/// Why a lease is over.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Loss {
    /// No renewal was acknowledged in time; the cause is that of the last failure, if there was
    /// one. Without a cause this process was paused, or nobody renewed.
    Expired {
        /// The last failure.
        cause: Option<Arc<str>>,
    },
    /// Another took it over.
    TakenOver(Box<Held>),
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
    KeeperGone,
    /// Its guard was released or dropped; only clones of its signal see this.
    Released,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Loss::Expired { cause: Some(cause) } => {
                write!(f, "it could not be renewed in time ({cause})")
            }
            Loss::Expired { cause: None } => {
                f.write_str("its time ran out without a renewal (was this process paused or busy?)")
            }
            Loss::TakenOver(held) => write!(f, "{held}"),
            Loss::Superseded => f.write_str(SUPERSEDED),
            Loss::ReleasedElsewhere => f.write_str("it was released by its identity"),
            Loss::HeldTooLong => f.write_str("it was held for longer than `max_hold` allows"),
            Loss::NoRecord => f.write_str("its record was deleted"),
            Loss::KeeperGone => f.write_str("its background task ended"),
            Loss::Released => f.write_str("it was released"),
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
    TakenOver(Held),
    /// The lease had run out, another took the key over, and has released it since. Nothing was changed.
    Superseded,
    /// There is no record: the grant ended and its record was deleted, or it never was.
    NoRecord,
    /// The grant was ours until now, and goes on under the next waiter of this client, with a larger
    /// token ([`hand_off`](crate::PolicyBuilder::hand_off)). Nothing was written.
    HandedOn,
}

impl ReleaseOutcome {
    /// Whether this release is what freed the key, for others or for the next in line.
    pub fn is_released(&self) -> bool {
        matches!(
            self,
            ReleaseOutcome::Released | ReleaseOutcome::ReleasedLate | ReleaseOutcome::HandedOn
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
            ReleaseOutcome::HandedOn => f.write_str("handed on to the next waiter of this client"),
        }
    }
}

impl From<Ended> for Loss {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Released => Loss::ReleasedElsewhere,
            Ended::TakenOver(record) => Loss::TakenOver(Box::new(Held::of(&record))),
            Ended::Superseded => Loss::Superseded,
            Ended::NoRecord => Loss::NoRecord,
        }
    }
}

/// The grant of `id` as a record shows it, or why it is over.
pub(crate) fn seen_in(record: Option<&Record>, id: &LeaseId) -> Result<Seen, Loss> {
    let Some(record) = record else {
        return Err(Loss::NoRecord);
    };
    let ours = id.attempt().owns(record);
    let token = record.token();
    match record.state() {
        State::Granted(seen) if ours && token == Some(id.token().stored()) => Ok(seen),
        State::Granted(_) => Err(Loss::TakenOver(Box::new(Held::of(record)))),
        State::Released if token == Some(id.token().stored()) => Err(Loss::ReleasedElsewhere),
        State::Released => Err(Loss::Superseded),
    }
}
