//! The simulated service: records, its clock, old reads, TTL.
//!
//! Conditional writes are carried out by the library's own [`apply`]; the `ledger` judges them without it.

mod entries;
mod ledger;
mod slots;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use leasehold::store::Outcome;
use leasehold_protocol::attempt::{AttemptId, SEED_TOLERANCE};
use leasehold_protocol::record::{Native, Record, Seen, State};
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::write::{ConditionFailed, Write, apply};

use self::entries::Entries;
use super::order::Line;
use super::random::Rng;
use super::runs::Runs;
use super::shape::{MILLI, Nanos, SECOND, Shape, millis};

/// What an F# client sends.
#[derive(Clone, Debug)]
pub(super) enum ForeignWrite {
    /// PutItem, if the record is missing or expired by the client's own clock.
    Put {
        key: String,
        owner: String,
        expires_ms: i64,
        now_ms: i64,
    },
    /// DeleteItem, if the record is its own.
    Delete { key: String, owner: String },
}

/// One grant, as the service made it.
#[derive(Clone, Debug)]
pub(super) struct Granted {
    /// `None`: of an F# client.
    pub(super) attempt: Option<AttemptId>,
    /// Of a slot: how many its caller knows of.
    pub(super) limit: Option<u32>,
    pub(super) token: u64,
    pub(super) at: Nanos,
    /// The largest expiry that was stored for it.
    pub(super) expires_ms: i64,
    /// A lease after the last write that was applied for it, in service time.
    pub(super) ends_ms: i64,
    /// Whether a caller was given its token.
    visible: bool,
    /// The newest of its guards that a caller was given: passes only grow.
    pass: u16,
    /// Whether it was released: nothing may revive it.
    released: bool,
    /// When an answer first showed it to its process.
    seen: Option<Nanos>,
}

/// A key, its record, its past and its grants.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) key: String,
    pub(super) record: Option<Record>,
    /// Earlier records, and until when each was current.
    past: VecDeque<(Nanos, Option<Record>)>,
    /// Since when each grant and renewal can have been seen, in strict worlds.
    since: HashMap<Seen, Nanos>,
    /// The same of each entry of a slot.
    entries: Entries,
    pub(super) grants: Vec<Granted>,
    /// No visible token may be smaller: the last of an earlier life of the record.
    floor: u64,
    /// A token that a host far ahead has started was counted on before that host, dead or without an
    /// answer, could withdraw it: the one hole that is known (`docs/protocol.md`, section 14).
    ahead: bool,
    /// Who waits in the queue of the record.
    pub(super) line: Line,
    /// Work that runs once.
    pub(super) runs: Runs,
    /// Grants of slots, and those that left no room for another.
    pub(super) slots: [u64; 2],
    /// The newest grant that has written to the fenced register, and its token.
    register: Option<(usize, u64)>,
}

/// What a write makes of a record.
pub(super) type Apply = fn(Option<&Record>, &Write) -> Result<Option<Record>, ConditionFailed>;

/// The service.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) items: Vec<Item>,
    /// What was found wrong, taken by the driver.
    pub(super) violations: Vec<(&'static str, String)>,
    /// F# owners whose lock another F# client has taken by its own clock. Between two of them it is
    /// what their library gives.
    pub(super) deposed: Vec<u64>,
    /// What a write does; tests break it.
    pub(super) apply: Apply,
    start_ms: i64,
    tokens: bool,
    next_life: bool,
    retention_ms: i64,
    /// How long a turn in the queue takes at most, where nothing goes wrong.
    pub(super) turn: Option<Duration>,
    /// Clocks keep within bounds, so places are given their time.
    ordered: bool,
    /// Contenders trust nothing but the rate of their elapsed clocks, which keep within bounds.
    strict: bool,
    /// Attempts whose grants another process adopts, by the identity of the detached guard.
    pub(super) adopted: HashSet<String>,
    /// Who asks for grants, in worlds with work that runs once.
    senders: Option<HashMap<AttemptId, usize>>,
}

impl Service {
    pub(super) fn new(shape: &Shape, rng: &mut Rng) -> Service {
        let promises = shape.promises();
        let retention_ms = millis(shape.retention);
        // Before the world began the record may have lived and been deleted, R after its last use;
        // its tokens were seeded with the same tolerance.
        let floor = if promises.next_life {
            shape.start_ms - retention_ms + millis(SEED_TOLERANCE)
        } else {
            0
        };
        let items = (0..shape.keys).map(|number| {
            let key = format!("k{number}");
            Item {
                record: first_record(&key, shape, rng),
                key,
                past: VecDeque::new(),
                since: HashMap::new(),
                entries: Entries::default(),
                grants: Vec::new(),
                floor: u64::try_from(floor).unwrap_or(0),
                ahead: false,
                line: Line::default(),
                runs: Runs::default(),
                slots: [0; 2],
                register: None,
            }
        });
        Service {
            items: items.collect(),
            violations: Vec::new(),
            deposed: Vec::new(),
            apply,
            start_ms: shape.start_ms,
            tokens: promises.tokens,
            next_life: promises.next_life,
            retention_ms,
            turn: shape.turn(),
            ordered: promises.exclusion,
            strict: shape.strict && !shape.lawless,
            adopted: HashSet::new(),
            senders: shape.keep.map(|_| HashMap::new()),
        }
    }

    /// True service time, Unix milliseconds.
    pub(super) fn time_ms(&self, now: Nanos) -> i64 {
        self.start_ms + (now / MILLI).cast_signed()
    }

    pub(super) fn index(&self, key: &str) -> usize {
        let found = self.items.iter().position(|item| item.key == key);
        found.unwrap_or(0)
    }

    /// The record as an eventually consistent read sees it that is `age` behind.
    pub(super) fn read(&self, key: &str, now: Nanos, age: Nanos) -> (Option<Record>, bool) {
        let item = &self.items[self.index(key)];
        let moment = now.saturating_sub(age);
        match item.past.iter().find(|(until, _)| *until > moment) {
            Some((_, old)) => (old.clone(), true),
            None => (item.record.clone(), false),
        }
    }

    /// Carries out one of our writes.
    pub(super) fn write(&mut self, now: Nanos, write: &Write) -> Outcome {
        let index = self.index(write.key());
        let before = self.items[index].record.clone();
        let Ok(after) = (self.apply)(before.as_ref(), write) else {
            return Outcome::Refused(before);
        };
        self.judge(before.as_ref(), write);
        self.judge_slots(before.as_ref(), write, after.as_ref());
        self.judge_runs(now, index, write);
        self.judge_patience(now, index, write);
        self.judge_order(now, index, write, after.as_ref());
        self.enter(now, index, write, after.as_ref());
        self.replace(now, index, after.clone());
        Outcome::Applied(after)
    }

    /// Carries out an F# client's request; whether its condition held.
    pub(super) fn foreign(&mut self, now: Nanos, write: &ForeignWrite) -> bool {
        match write {
            ForeignWrite::Put {
                key,
                owner,
                expires_ms,
                now_ms,
            } => {
                let index = self.index(key);
                let item = &mut self.items[index];
                let free = item.record.as_ref();
                if free.is_some_and(|record| *now_ms <= record.expires_at.0) {
                    return false;
                }
                if let Some(old) = free.filter(|record| record.native.is_none()) {
                    self.deposed
                        .extend(old.owner.as_deref().and_then(foreign_number));
                }
                item.grants.push(Granted {
                    attempt: None,
                    limit: None,
                    token: 0,
                    at: now,
                    expires_ms: *expires_ms,
                    ends_ms: *expires_ms,
                    visible: false,
                    pass: 0,
                    released: false,
                    seen: None,
                });
                let record = Record {
                    last_hold: None,
                    key: key.clone(),
                    owner: Some(owner.clone()),
                    expires_at: ServiceTime(*expires_ms),
                    native: None,
                    ttl_seconds: Some(expires_ms.div_euclid(1_000)),
                    holder: None,
                    acquired_at: None,
                    data: None,
                    queue: Vec::new(),
                    done: None,
                    slots: None,
                    last_force: None,
                    holder_is_dead: false,
                };
                self.replace(now, index, Some(record));
                true
            }
            ForeignWrite::Delete { key, owner } => {
                let index = self.index(key);
                let record = self.items[index].record.as_ref();
                let ours = record.is_some_and(|r| r.owner.as_ref() == Some(owner));
                if ours {
                    self.replace(now, index, None);
                }
                ours
            }
        }
    }

    /// At the end of the world: every key forgets what is done. Gives how many runs were completed, and told of.
    pub(super) fn forget(&mut self, now: Nanos) -> [u64; 3] {
        let mut all = [0; 3];
        for index in 0..self.items.len() {
            let item = &self.items[index];
            let runs = &item.runs;
            all[0] += runs.completed();
            all[1] += runs.told;
            all[2] += runs.told_own;
            let denied = runs.judge_denied();
            let done = item.record.clone().filter(|record| record.done.is_some());
            self.violations.extend(denied.map(|text| ("S7", text)));
            if let Some(record) = done {
                let free = Record {
                    owner: None,
                    expires_at: ServiceTime(0),
                    done: None,
                    ..record
                };
                self.replace(now, index, Some(free));
            }
        }
        all
    }

    /// Deletes a record whose TTL has passed; whether there was one.
    pub(super) fn expire(&mut self, now: Nanos, index: usize) -> bool {
        let time_s = self.time_ms(now).div_euclid(1_000);
        let due = self.items[index].record.as_ref().is_some_and(|record| {
            // The F# library's TTL has no reserve for the clocks of its clients. Here it is late by the expiry padding
            // and the rounding.
            let room = if record.native.is_none() { 3 } else { 0 };
            record
                .ttl_seconds
                .is_some_and(|ttl| time_s > ttl.saturating_add(room))
        });
        if due {
            let time_ms = self.time_ms(now);
            let item = &self.items[index];
            let found = item
                .record
                .as_ref()
                .and_then(|r| item.runs.judge_deletion(r, time_ms));
            self.violations.extend(found.map(|text| ("S7", text)));
            self.replace(now, index, None);
        }
        due
    }

    fn replace(&mut self, now: Nanos, index: usize, record: Option<Record>) {
        let item = &mut self.items[index];
        let state = |record: &Option<Record>| record.as_ref().map(Record::state);
        // A join and a leave change no grant.
        if let Some(State::Granted(seen)) = state(&record)
            && self.strict
            && state(&item.record) != state(&record)
        {
            item.since.entry(seen).or_insert(now);
        }
        item.entries
            .watch(now, item.record.as_ref(), record.as_ref());
        let old = std::mem::replace(&mut item.record, record);
        item.past.push_back((now, old));
        while item
            .past
            .front()
            .is_some_and(|(until, _)| until + 5 * SECOND < now)
        {
            item.past.pop_front();
        }
    }
}

/// The record of the key when the world begins.
fn first_record(key: &str, shape: &Shape, rng: &mut Rng) -> Option<Record> {
    let kind = rng.below(10);
    let past_ms = rng.within(1_000, 80_000_000).cast_signed();
    let ahead_ms = rng.around(4_000);
    // L3 is promised from the first holder on.
    if kind < 5 || shape.fair {
        return None;
    }
    let held = kind >= 8;
    let expires_ms = if held { shape.start_ms + ahead_ms } else { 0 };
    let used_ms = (shape.start_ms - past_ms).max(expires_ms);
    Some(Record {
        last_hold: None,
        key: key.to_owned(),
        owner: held.then(|| "11111111-1111-4111-8111-111111111111".to_owned()),
        expires_at: ServiceTime(expires_ms),
        native: Some(Native {
            token: u64::try_from(shape.start_ms - past_ms).unwrap_or(0),
            lease: shape.lease,
            renew_count: 3,
        }),
        ttl_seconds: Some((used_ms + millis(shape.retention)).div_euclid(1_000) + 1),
        holder: None,
        acquired_at: None,
        data: None,
        queue: Vec::new(),
        done: None,
        slots: None,
        last_force: None,
        holder_is_dead: false,
    })
}

/// How an F# client of this world names its grant.
pub(super) fn foreign_owner(number: u64) -> String {
    format!("f{number:x}")
}

fn foreign_number(owner: &str) -> Option<u64> {
    u64::from_str_radix(owner.strip_prefix('f')?, 16).ok()
}
