//! What the screen shows: snapshots go in, rows and events come out. Pure.
//!
//! The store keeps no history, so an event is a difference between two snapshots. What happens and is undone between them is not
//! seen: a lock that is released and acquired again is handed over.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

/// The most events that are kept.
const EVENTS: usize = 200;

/// Of more renewals in one snapshot, only the number is an event.
const RENEWALS: usize = 3;

/// What a published end may have on top of the lease, for old clients.
const PADDING: Duration = Duration::from_secs(1);

/// The state of a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Held,
    /// Its lease has certainly ended without a release.
    Expired,
    /// Its record cannot be read.
    Malformed,
}

/// A lock in a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Lock {
    pub(super) state: State,
    pub(super) holder: String,
    /// In service time, as is the end.
    pub(super) since: Option<SystemTime>,
    pub(super) until: SystemTime,
    pub(super) lease: Option<Duration>,
    pub(super) token: Option<u64>,
    pub(super) waiting: Option<usize>,
}

/// All locks at one time.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    /// This host's wall clock after the read.
    pub(super) at: SystemTime,
    pub(super) locks: BTreeMap<String, Lock>,
    /// Whether all of the store was read.
    pub(super) complete: bool,
}

/// A lock on the screen.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) lock: Lock,
    /// Seen ones, of this grant.
    pub(super) renewals: u64,
}

/// What happened to a lock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Acquired {
        by: String,
    },
    Renewed {
        times: u64,
    },
    /// So many locks.
    RenewedMany(usize),
    HandedOver {
        from: String,
        to: String,
    },
    Released {
        by: String,
    },
    /// The lease ended without a release.
    Lost {
        by: String,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Event {
    pub(super) at: SystemTime,
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// The state of the screen.
#[derive(Debug, Default)]
pub(super) struct Model {
    rows: BTreeMap<String, Row>,
    events: VecDeque<Event>,
    last: Option<SystemTime>,
    complete: bool,
    /// Service time less this host's wall clock, in milliseconds, as far as renewals show it.
    offset_ms: i64,
}

impl Model {
    pub(super) fn rows(&self) -> impl ExactSizeIterator<Item = (&str, &Row)> {
        self.rows.iter().map(|(name, row)| (name.as_str(), row))
    }

    /// Newest first.
    pub(super) fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().rev()
    }

    /// Whether all of the store was read; true before the first snapshot.
    pub(super) fn is_complete(&self) -> bool {
        self.complete || self.last.is_none()
    }

    pub(super) fn count(&self, state: State) -> usize {
        let same = |row: &&Row| row.lock.state == state;
        self.rows.values().filter(same).count()
    }

    pub(super) fn waiting(&self) -> usize {
        let waiting = self.rows.values().filter_map(|row| row.lock.waiting);
        waiting.sum()
    }

    /// What is left of a lease, at most all of it.
    pub(super) fn left(&self, lock: &Lock, wall: SystemTime) -> Duration {
        if lock.state != State::Held {
            return Duration::ZERO;
        }
        let left = millis(lock.until, wall) - self.offset_ms;
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        lock.lease.map_or(left, |lease| left.min(lease))
    }

    /// Takes a snapshot in.
    pub(super) fn update(&mut self, snapshot: Snapshot) {
        let before = std::mem::take(&mut self.rows);
        let gap = self.last.map(|last| millis(snapshot.at, last).max(0));
        let mut renewed = Vec::new();
        for (name, lock) in snapshot.locks {
            let old = before.get(&name);
            let renewals = match old {
                Some(old) if is_same_grant(&old.lock, &lock) => {
                    let is_renewed = lock.until > old.lock.until;
                    if is_renewed {
                        self.learn(&lock, snapshot.at, gap);
                        renewed.push((name.clone(), old.renewals + 1));
                    }
                    old.renewals + u64::from(is_renewed)
                }
                _ => 0,
            };
            // The first snapshot is the start of the story.
            if self.last.is_some() {
                let kinds = changes(old.map(|row| &row.lock), &lock);
                for kind in kinds.into_iter().flatten() {
                    self.push(snapshot.at, &name, kind);
                }
            }
            self.rows.insert(name, Row { lock, renewals });
        }
        self.push_renewals(snapshot.at, renewed);
        // What was not read may still be there.
        if self.last.is_some() && snapshot.complete {
            for (name, old) in &before {
                if !self.rows.contains_key(name) && old.lock.state == State::Held {
                    let by = old.lock.holder.clone();
                    self.push(snapshot.at, name, Kind::Released { by });
                }
            }
        }
        self.last = Some(snapshot.at);
        self.complete = snapshot.complete;
    }

    /// A renewal happened since the last snapshot, so its published end shows the service's clock.
    fn learn(&mut self, lock: &Lock, wall: SystemTime, gap: Option<i64>) {
        let (Some(lease), Some(gap)) = (lock.lease, gap) else {
            return;
        };
        let milliseconds = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        // Service time at the renewal is within the padding of end less lease.
        let at_renewal = millis(lock.until, wall).saturating_sub(milliseconds(lease));
        let low = at_renewal.saturating_sub(milliseconds(PADDING));
        let high = at_renewal.saturating_add(gap);
        self.offset_ms = self.offset_ms.clamp(low.min(high), high);
    }

    fn push_renewals(&mut self, at: SystemTime, renewed: Vec<(String, u64)>) {
        if renewed.len() > RENEWALS {
            self.events
                .retain(|event| !matches!(event.kind, Kind::RenewedMany(_)));
            self.push(at, "", Kind::RenewedMany(renewed.len()));
            return;
        }
        for (name, times) in renewed {
            // One line for each lock, so that renewals do not drive out what matters more.
            self.events
                .retain(|event| event.name != name || !matches!(event.kind, Kind::Renewed { .. }));
            self.push(at, &name, Kind::Renewed { times });
        }
    }

    fn push(&mut self, at: SystemTime, name: &str, kind: Kind) {
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(Event {
            at,
            name: name.to_owned(),
            kind,
        });
    }
}

/// `a` less `b`, in milliseconds.
fn millis(a: SystemTime, b: SystemTime) -> i64 {
    let whole = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
    match a.duration_since(b) {
        Ok(ahead) => whole(ahead),
        Err(behind) => -whole(behind.duration()),
    }
}

fn is_same_grant(old: &Lock, new: &Lock) -> bool {
    // Old clients write no token.
    old.token == new.token && (new.token.is_some() || old.holder == new.holder)
}

/// The events between two looks at a lock, renewals excepted.
fn changes(old: Option<&Lock>, new: &Lock) -> [Option<Kind>; 2] {
    let acquired = || Kind::Acquired {
        by: new.holder.clone(),
    };
    let lost = |lock: &Lock| Kind::Lost {
        by: lock.holder.clone(),
    };
    let holds = |lock: &&Lock| lock.state == State::Held;
    match (old, new.state) {
        (_, State::Malformed) => [None, None],
        (None, State::Held) => [Some(acquired()), None],
        (None, State::Expired) => [None, None],
        (Some(old), State::Held) if is_same_grant(old, new) => [None, None],
        // The next holder began after the end of the last one.
        (Some(old), State::Held) if new.since.is_some_and(|since| since > old.until) => {
            let lost = Some(old).filter(holds).map(lost);
            [lost, Some(acquired())]
        }
        (Some(old), State::Held) if holds(&old) => [
            Some(Kind::HandedOver {
                from: old.holder.clone(),
                to: new.holder.clone(),
            }),
            None,
        ],
        (Some(_), State::Held) => [Some(acquired()), None],
        (Some(old), State::Expired) if !is_same_grant(old, new) => {
            [Some(acquired()), Some(lost(new))]
        }
        (Some(old), State::Expired) => [Some(old).filter(holds).map(lost), None],
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
