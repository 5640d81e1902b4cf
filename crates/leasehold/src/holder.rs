//! Who holds a key, as refused callers, waiters and observers see it.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::text::one_line;
use leasehold_protocol::id::AttemptId;
use leasehold_protocol::record::Record;
use leasehold_protocol::slots::MOST;
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::token::FencingToken;

/// The current grant of a key, as its record describes it.
///
/// The holder *published* these values. The label is for people. If [`until`](HolderInfo::until)
/// has passed, the holder may have died without a release.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HolderInfo {
    key: String,
    holder: Option<String>,
    since: Option<ServiceTime>,
    until: ServiceTime,
    token: Option<FencingToken>,
    lease: Option<Duration>,
    data: Option<Vec<u8>>,
    ours: bool,
    waiting: Option<usize>,
    place: Option<usize>,
    /// How many slots are held, and how many there are.
    slots: Option<(usize, u32)>,
    /// It has ended: the work of the key is done.
    done: bool,
}

impl HolderInfo {
    pub(crate) fn of(record: &Record) -> HolderInfo {
        HolderInfo {
            key: record.key.clone(),
            holder: record.holder.clone().or_else(|| record.owner.clone()),
            since: record.acquired_at,
            until: record.expires_at,
            token: record.token().map(|t| FencingToken::new(t, 0, false)),
            lease: record.native.map(|n| n.lease),
            data: record.data.clone(),
            ours: false,
            waiting: record.native.map(|_| record.queue.len()),
            place: None,
            slots: record
                .slots
                .as_ref()
                .filter(|slots| !slots.held.is_empty())
                .map(|slots| (slots.held.len(), slots.limit)),
            done: record.done.is_some(),
        }
    }

    /// The same, for an attempt that may wait for the key.
    pub(crate) fn seen_by(record: &Record, attempt: AttemptId) -> HolderInfo {
        HolderInfo {
            place: record.place_of(attempt).map(|index| index + 1),
            ..HolderInfo::of(record)
        }
    }

    /// A grant of this client.
    pub(crate) fn here(
        key: &str,
        token: FencingToken,
        holder: &str,
        since: ServiceTime,
        until: ServiceTime,
        lease: Duration,
        data: Option<&[u8]>,
    ) -> HolderInfo {
        HolderInfo {
            key: key.to_owned(),
            holder: Some(holder.to_owned()),
            since: Some(since),
            until,
            token: Some(token),
            lease: Some(lease),
            data: data.map(<[u8]>::to_vec),
            ours: true,
            waiting: None,
            place: None,
            slots: None,
            done: false,
        }
    }

    /// The key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The holder's label, or its client id if it wrote none (F# clients).
    pub fn label(&self) -> &str {
        self.holder.as_deref().unwrap_or("unknown")
    }

    /// When the grant began. `None` for F# clients.
    pub fn since(&self) -> Option<SystemTime> {
        self.since.map(system_time)
    }

    /// When the grant ends unless it is renewed, in service time.
    pub fn until(&self) -> SystemTime {
        system_time(self.until)
    }

    /// The fencing token. `None` for F# clients.
    pub fn token(&self) -> Option<FencingToken> {
        self.token
    }

    /// The lease duration. `None` for F# clients.
    pub fn lease_duration(&self) -> Option<Duration> {
        self.lease
    }

    /// Whether a guard of the asking client holds it.
    pub fn is_ours(&self) -> bool {
        self.ours
    }

    /// How many clients wait for the key in its queue. `None` where that is not known: for F# clients,
    /// and for a guard of the asking client.
    pub fn waiting(&self) -> Option<usize> {
        self.waiting
    }

    /// The place of the asking call in the queue, counted from 1. `None` without a place.
    pub fn place(&self) -> Option<usize> {
        self.place
    }

    /// How many [slots](crate::LockClient::slots) of the key are held, and how many it has. This holder has one of
    /// them. `None` for a holder of the whole key.
    pub fn slots(&self) -> Option<(usize, u32)> {
        self.slots
    }

    /// The holder's payload: the one that it wrote, or else the one that the holder before left.
    pub fn data(&self) -> Option<&[u8]> {
        self.data.as_deref()
    }
}

impl fmt::Display for HolderInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let itself = if self.ours {
            "this client itself, "
        } else {
            ""
        };
        let queue = match (self.place, self.waiting) {
            (Some(place), Some(all)) => format!(", place {place} of {all} in its queue"),
            (_, Some(1)) => ", 1 waits for it".to_owned(),
            (_, Some(all)) if all > 1 => format!(", {all} wait for it"),
            _ => String::new(),
        };
        let how = if self.done { "done" } else { "held" };
        let (key, label) = (&self.key, self.label());
        let held = match self.slots {
            Some((held, MOST)) => format!("`{key}` is shared by {held}, among them {label}{queue}"),
            Some((held, all)) => {
                format!("{held} of {all} slots of `{key}` are held, one by {label}{queue}")
            }
            None => format!("`{key}` is {how} by {itself}{label}{queue}"),
        };
        f.write_str(&one_line(held))
    }
}

/// The last holder of a free key, as its record describes it after the release. After a
/// [forced release](crate::LockClient::force_release), the label says who forced it, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LastHolder {
    label: String,
    since: Option<ServiceTime>,
    token: Option<FencingToken>,
    data: Option<Vec<u8>>,
}

impl LastHolder {
    /// `None` for a record without a label, of a client that removed it.
    pub(crate) fn of(record: &Record) -> Option<LastHolder> {
        Some(LastHolder {
            label: record.holder.clone()?,
            since: record.acquired_at,
            token: record.token().map(|t| FencingToken::new(t, 0, false)),
            // The result of a run that is forgotten is no payload.
            data: record.data.clone().filter(|_| record.done.is_none()),
        })
    }

    /// Its label.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// When its grant began.
    pub fn since(&self) -> Option<SystemTime> {
        self.since.map(system_time)
    }

    /// The fencing token of its grant.
    pub fn token(&self) -> Option<FencingToken> {
        self.token
    }

    /// The payload that it [left](crate::Lease::release_keeping_data) for the next holder.
    pub fn data(&self) -> Option<&[u8]> {
        self.data.as_deref()
    }
}

pub(crate) fn system_time(t: ServiceTime) -> SystemTime {
    let distance = Duration::from_millis(t.0.unsigned_abs());
    let time = if t.0 < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    };
    time.unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_and_after_the_epoch() {
        assert_eq!(
            system_time(ServiceTime(1_500)),
            UNIX_EPOCH + Duration::from_millis(1_500)
        );
        assert_eq!(
            system_time(ServiceTime(-1_500)),
            UNIX_EPOCH - Duration::from_millis(1_500)
        );
        // Whatever a record says, nothing panics.
        system_time(ServiceTime(i64::MIN));
        system_time(ServiceTime(i64::MAX));
    }
}
