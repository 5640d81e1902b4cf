//! Why a lease ended, and the outcome of a release.

use std::fmt;
use std::sync::Arc;

use leasehold_protocol::record::{Record, Seen, State};
use leasehold_protocol::renewal::Ended;

use crate::holder::HolderInfo;
use crate::lease_id::LeaseId;

const SUPERSEDED: &str = "another client ended it by force, or took it over and released it";

/// Why a lease ended.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum EndReason {
    /// No renewal was acknowledged in time. Without a cause, this process was paused or busy, or
    /// the lease was not renewed.
    Expired {
        /// The last failed renewal.
        cause: Option<Arc<str>>,
    },
    /// Another client took it over.
    TakenOver(Box<HolderInfo>),
    /// Another client took it over and released the key, or ended it by
    /// [force](crate::LockClient::force_release).
    Superseded,
    /// It was released by its identity.
    ReleasedElsewhere,
    /// It was held for as long as [`max_hold`](crate::PolicyBuilder::max_hold) allows.
    HeldTooLong,
    /// The record does not exist any more.
    NoRecord,
    /// The background task of this lease ended: its runtime shut down, or it panicked.
    TaskEnded,
    /// Its guard was released or dropped. Only a [`LeaseWatch`](crate::LeaseWatch) returns this.
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

/// The outcome of a release.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ReleaseOutcome {
    /// The grant lasted until now, and the key is free.
    Released,
    /// The key is free now. The lease had run out before, but no other client had taken the key over.
    ReleasedLate,
    /// The grant had been released before.
    AlreadyReleased,
    /// The lease had run out, and another client holds the key. Nothing was changed.
    TakenOver(HolderInfo),
    /// The lease had run out, and another client took the key over and released it; or it was ended by
    /// [force](crate::LockClient::force_release). Nothing was changed.
    Superseded,
    /// There is no record: it was deleted after the grant ended, or never existed.
    NoRecord,
    /// The next waiter of this client has the grant now, with a larger token
    /// ([`hand_off`](crate::PolicyBuilder::hand_off)). Nothing was written.
    HandedOff,
}

impl ReleaseOutcome {
    /// Whether this release freed the key, for other clients or for the next waiter.
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

/// The outcome of a renewal by identity.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RenewOutcome {
    /// The grant lasts until [`until`](HolderInfo::until) now.
    Renewed(HolderInfo),
    /// The grant had ended. Nothing was changed.
    Ended(EndReason),
}

impl RenewOutcome {
    /// Whether the grant lasts.
    pub fn is_renewed(&self) -> bool {
        matches!(self, RenewOutcome::Renewed(_))
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

/// The grant of `id` as a record shows it, or why it ended.
pub(crate) fn seen_in(record: Option<&Record>, id: &LeaseId) -> Result<Seen, EndReason> {
    let Some(record) = record else {
        return Err(EndReason::NoRecord);
    };
    let record = &*id.view(record);
    let ours = id.attempt().owns(record);
    let token = record.token();
    match record.state() {
        State::Granted(seen) if ours && token == Some(id.token().stored()) => Ok(seen),
        State::Granted(_) if id.is_slot() => Err(EndReason::Superseded),
        State::Granted(_) => Err(EndReason::TakenOver(Box::new(HolderInfo::of(record)))),
        State::Released if token == Some(id.token().stored()) => Err(EndReason::ReleasedElsewhere),
        State::Released => Err(EndReason::Superseded),
    }
}
