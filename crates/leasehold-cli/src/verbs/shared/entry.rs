//! A lock as `ls`, `show` and `watch` show it.

use std::time::SystemTime;

use leasehold::store::protocol::MOST;
use leasehold::{Done, Error, FencingToken, HolderInfo, LastHolder, LockState, LockStatus};
use serde::Serialize;

use super::output::VERSION;
use crate::text::{duration, times};

/// A lock as a JSON object. Field names are stable; new ones may be added.
#[derive(Debug, Serialize)]
pub(crate) struct Entry {
    v: u8,
    pub(crate) name: String,
    pub(crate) state: &'static str,
    pub(crate) holder: Option<String>,
    since: Option<String>,
    pub(crate) until: Option<String>,
    pub(crate) lease_ms: Option<u64>,
    pub(crate) token: Option<u64>,
    pub(crate) data: Option<String>,
    pub(crate) waiting: Option<usize>,
    /// How many slots may be held.
    pub(crate) limit: Option<u32>,
    /// Who holds one.
    pub(crate) slots: Option<Vec<Slot>>,
    pub(crate) error: Option<String>,
    /// Of a free lock: the label of its last holder.
    pub(crate) last_holder: Option<String>,
    /// Of a free lock: the payload that its last holder left for the next one.
    pub(crate) left: Option<String>,
    /// Who ended a grant by force last, and why.
    pub(crate) last_force: Option<String>,
    /// Of work that is done: the label of its runner.
    pub(crate) runner: Option<String>,
    pub(crate) done_at: Option<String>,
    /// Whether it failed, and is remembered all the same.
    failed: Option<bool>,
    /// What it has left.
    pub(crate) result: Option<String>,
    #[serde(skip)]
    pub(crate) done: Option<Done>,
    #[serde(skip)]
    pub(crate) last_token: Option<u64>,
    #[serde(skip)]
    pub(crate) held: Option<HolderInfo>,
}

/// The holder of a slot.
#[derive(Debug, Serialize)]
pub(crate) struct Slot {
    pub(crate) holder: String,
    until: String,
    #[serde(skip)]
    pub(crate) ends: SystemTime,
    lease_ms: Option<u64>,
    pub(crate) token: Option<u64>,
}

impl Slot {
    fn of(held: &HolderInfo) -> Slot {
        Slot {
            holder: held.label().to_owned(),
            until: times::utc(held.until()),
            ends: held.until(),
            lease_ms: held.lease_duration().map(duration::millis),
            token: held.token().map(FencingToken::get),
        }
    }
}

impl Entry {
    /// The status of a lock.
    pub(crate) fn of(status: &LockStatus) -> Entry {
        let (held, last, slots) = (status.holder(), status.last_holder(), status.slots());
        let done = match status.state() {
            LockState::Done(done) => Some(done),
            _ => None,
        };
        let since = held.and_then(HolderInfo::since);
        let until = held.map(HolderInfo::until);
        Entry {
            v: VERSION,
            name: status.key().to_owned(),
            state: match status.state() {
                LockState::Free => "free",
                LockState::Held(_) => "held",
                LockState::Expired(_) => "expired",
                LockState::Done(done) if done.is_failed() => "failed",
                LockState::Done(_) => "done",
                _ => "unknown",
            },
            holder: held.map(|held| held.label().to_owned()),
            since: since.or_else(|| done?.began()).map(times::utc),
            until: until.or_else(|| done?.until()).map(times::utc),
            lease_ms: held
                .and_then(HolderInfo::lease_duration)
                .map(duration::millis),
            token: held
                .and_then(HolderInfo::token)
                .or_else(|| done?.token())
                .map(FencingToken::get),
            data: held
                .and_then(HolderInfo::data)
                .map(|data| String::from_utf8_lossy(data).into_owned()),
            waiting: held.and_then(HolderInfo::waiting),
            limit: held.and_then(HolderInfo::slots).map(|(_, limit)| limit),
            slots: (!slots.is_empty()).then(|| slots.iter().map(Slot::of).collect()),
            error: None,
            last_holder: last.map(|last| last.label().to_owned()),
            left: last
                .and_then(LastHolder::data)
                .map(|data| String::from_utf8_lossy(data).into_owned()),
            last_force: status.last_force().map(str::to_owned),
            runner: done.map(|done| done.runner().to_owned()),
            done_at: done.map(|done| times::utc(done.at())),
            failed: done.map(Done::is_failed),
            result: done
                .and_then(Done::result)
                .map(|result| String::from_utf8_lossy(result).into_owned()),
            done: done.cloned(),
            last_token: last.and_then(LastHolder::token).map(FencingToken::get),
            held: held.cloned(),
        }
    }

    /// How many of its slots are held.
    pub(crate) fn taken(&self) -> Option<String> {
        let held = self.slots.as_ref()?.len();
        match self.limit? {
            MOST => Some(format!("shared by {held}")),
            limit => Some(format!("{held} of {limit}")),
        }
    }

    /// Who holds its slots.
    pub(crate) fn slot_holders(&self) -> Option<String> {
        let labels = self.slots.as_ref()?.iter().map(|slot| slot.holder.as_str());
        Some(format!(
            "{}: {}",
            self.taken()?,
            labels.collect::<Vec<_>>().join(", ")
        ))
    }

    /// A lock without a record.
    pub(crate) fn free(name: &str) -> Entry {
        Entry::empty(name, "free")
    }

    /// A lock whose record is unreadable: a person must inspect it.
    pub(crate) fn malformed(error: &Error) -> Entry {
        Entry {
            error: Some(error.message().to_owned()),
            ..Entry::empty(error.key().unwrap_or_default(), "malformed")
        }
    }

    fn empty(name: &str, state: &'static str) -> Entry {
        Entry {
            v: VERSION,
            name: name.to_owned(),
            state,
            holder: None,
            since: None,
            until: None,
            lease_ms: None,
            token: None,
            data: None,
            waiting: None,
            limit: None,
            slots: None,
            error: None,
            last_holder: None,
            left: None,
            last_force: None,
            runner: None,
            done_at: None,
            failed: None,
            result: None,
            done: None,
            last_token: None,
            held: None,
        }
    }
}
