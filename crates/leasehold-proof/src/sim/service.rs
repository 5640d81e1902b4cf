//! The simulated service: records, its clock, old reads, TTL; and the ledger that judges it.
//!
//! Conditional writes are carried out by the library's own [`apply`]; the ledger judges them
//! without it. Invariants checked here: no write of one grant changes another's record, except a
//! take-over of exactly what it saw (S4); visible tokens grow from grant to grant (S2); the fenced
//! register takes nothing older than it has (S3).

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use leasehold::store::Outcome;
use leasehold_protocol::attempt::{AttemptId, SEED_TOLERANCE};
use leasehold_protocol::record::{Native, Record, Seen, State};
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::token::FencingToken;
use leasehold_protocol::write::{Write, apply};

use super::order::{Line, Order};
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
pub(super) struct Slot {
    pub(super) key: String,
    pub(super) record: Option<Record>,
    /// Earlier records, and until when each was current.
    past: VecDeque<(Nanos, Option<Record>)>,
    /// Since when each grant and renewal can have been seen, in strict worlds.
    since: HashMap<Seen, Nanos>,
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
    /// The newest grant that has written to the fenced register, and its token.
    register: Option<(usize, u64)>,
}

/// The service.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) slots: Vec<Slot>,
    /// What was found wrong, taken by the driver.
    pub(super) violations: Vec<(&'static str, String)>,
    /// F# owners whose lock another F# client has taken by its own clock. Between two of them it is
    /// what their library gives.
    pub(super) deposed: Vec<u64>,
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
        let slots = (0..shape.keys).map(|number| {
            let key = format!("k{number}");
            Slot {
                record: first_record(&key, shape, rng),
                key,
                past: VecDeque::new(),
                since: HashMap::new(),
                grants: Vec::new(),
                floor: u64::try_from(floor).unwrap_or(0),
                ahead: false,
                line: Line::default(),
                runs: Runs::default(),
                register: None,
            }
        });
        Service {
            slots: slots.collect(),
            violations: Vec::new(),
            deposed: Vec::new(),
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
        let found = self.slots.iter().position(|slot| slot.key == key);
        found.unwrap_or(0)
    }

    /// The record as an eventually consistent read sees it that is `age` behind.
    pub(super) fn read(&self, key: &str, now: Nanos, age: Nanos) -> (Option<Record>, bool) {
        let slot = &self.slots[self.index(key)];
        let moment = now.saturating_sub(age);
        match slot.past.iter().find(|(until, _)| *until > moment) {
            Some((_, old)) => (old.clone(), true),
            None => (slot.record.clone(), false),
        }
    }

    /// Carries out one of our writes.
    pub(super) fn write(&mut self, now: Nanos, write: &Write) -> Outcome {
        let index = self.index(write.key());
        let before = self.slots[index].record.clone();
        let Ok(after) = apply(before.as_ref(), write) else {
            return Outcome::Refused(before);
        };
        self.judge(before.as_ref(), write);
        self.judge_runs(now, index, write);
        self.judge_patience(now, index, write);
        self.judge_order(now, index, write, after.as_ref());
        self.enter(now, index, write, after.as_ref());
        self.replace(now, index, after.clone());
        Outcome::Applied(after)
    }

    /// S4: who may change what, said a second time.
    fn judge(&mut self, before: Option<&Record>, write: &Write) {
        let owner = before.and_then(|record| record.owner.as_deref());
        let legal = match (write, owner) {
            (Write::Acquire(_), owner) => owner.is_none(),
            (Write::TakeOver(_, seen, _), Some(_)) => {
                before.is_some_and(|record| record.state() == State::Granted(seen.clone()))
            }
            (
                Write::Renew { attempt, .. }
                | Write::Release { attempt, .. }
                | Write::HandOver { attempt, .. }
                | Write::Withdraw { attempt, .. },
                Some(owner),
            ) => attempt.to_string() == owner,
            (Write::Complete(work), Some(owner)) => work.attempt.to_string() == owner,
            // The queue is part of the record, not of a grant.
            (Write::Join { .. } | Write::Leave { .. }, Some(_)) => true,
            // No world of the simulation has slots.
            (Write::Slot(_), _) | (_, None) => false,
        };
        if !legal {
            let what = write.operation();
            let text = format!("{what} changed a record of {owner:?}: {write:?}");
            self.violations.push(("S4", text));
        }
    }

    /// S7.
    fn judge_runs(&mut self, now: Nanos, index: usize, write: &Write) {
        let time_ms = self.time_ms(now);
        let grant = self.slots[index].grants.last();
        let began = grant.map_or(0, |grant| grant.seen.unwrap_or(grant.at));
        let times = (self.time_ms(began), time_ms);
        let bounded = self.ordered;
        let slot = &mut self.slots[index];
        let found = slot.runs.judge(write, slot.record.as_ref(), times, bounded);
        self.violations.extend(found.map(|text| ("S7", text)));
    }

    /// A process sends a write.
    pub(super) fn sends(&mut self, process: usize, write: &Write) {
        if let (Some(senders), Write::Acquire(grant) | Write::TakeOver(grant, ..)) =
            (&mut self.senders, write)
        {
            senders.insert(grant.attempt, process);
        }
    }

    /// An answer shows a record to a process.
    pub(super) fn shows(&mut self, now: Nanos, process: usize, record: Option<&Record>) {
        let (Some(senders), Some(record)) = (&self.senders, record) else {
            return;
        };
        let owner = record.owner.as_deref().and_then(|owner| owner.parse().ok());
        let index = self.index(&record.key);
        let newest_first = self.slots[index].grants.iter_mut().rev();
        let grant = newest_first
            .into_iter()
            .find(|g| g.attempt.is_some() && g.attempt == owner);
        if let Some(grant) = grant
            && owner.and_then(|owner| senders.get(&owner)) == Some(&process)
        {
            grant.seen.get_or_insert(now);
        }
    }

    /// S9, and L3 where it is promised.
    fn judge_order(&mut self, now: Nanos, index: usize, write: &Write, after: Option<&Record>) {
        let time_ms = self.time_ms(now);
        let slot = &mut self.slots[index];
        let published = slot.record.as_ref().map_or(0, |r| r.expires_at.0);
        let watched = slot.grants.last().map_or(0, |grant| grant.ends_ms);
        let order = Order {
            write,
            before: slot.record.as_ref(),
            after,
            grant_ends_ms: published.min(watched),
            time_ms,
        };
        if let Some(text) = slot.line.watch(now, &order, self.turn) {
            self.violations.push(("L3", text));
        }
        if self.ordered
            && let Some(text) = order.fault()
        {
            self.violations.push(("S9", text));
        }
    }

    /// `strict`: a grant is only taken over after its own lease. A request that arrives twice, with a deletion by an F#
    /// client in between, makes the same grant twice: it counts from the first time, as for its holder.
    fn judge_patience(&mut self, now: Nanos, index: usize, write: &Write) {
        let slot = &self.slots[index];
        let native = slot.record.as_ref().and_then(|record| record.native);
        let (Write::TakeOver(_, seen, _), Some(native), true) = (write, native, self.strict) else {
            return;
        };
        if slot
            .record
            .as_ref()
            .is_some_and(|record| record.done.is_some())
        {
            // By its keep, which counts from its beginning.
            return;
        }
        if matches!(seen, Seen::Native { owner, .. } if self.adopted.contains(owner)) {
            return;
        }
        let changed = slot.since.get(seen).copied().unwrap_or(0);
        let still = Duration::from_nanos(now - changed);
        if still < native.lease {
            let text = format!(
                "a strict client took over after {still:?}, the lease is {:?}",
                native.lease
            );
            self.violations.push(("S1", text));
        }
    }

    fn enter(&mut self, now: Nanos, index: usize, write: &Write, after: Option<&Record>) {
        let time_ms = self.time_ms(now);
        let slot = &mut self.slots[index];
        let (Some(record), Some(native)) = (after, after.and_then(|r| r.native)) else {
            return;
        };
        let ends_ms = time_ms + millis(native.lease);
        // S2 assumes that no record is deleted within R of its last use.
        let kept_until_ms = record.ttl_seconds.map(|s| s.saturating_mul(1_000));
        let for_ever = record.done.is_some() && record.ttl_seconds.is_none();
        let held = record.owner.is_some() && !for_ever;
        if held && kept_until_ms < Some(record.expires_at.0.saturating_add(self.retention_ms)) {
            let text = format!("the TTL leaves less than R after the expiry: {write:?}");
            self.violations.push(("S2", text));
        }
        if matches!(write, Write::TakeOver(..)) {
            let possible = u64::try_from(time_ms + millis(SEED_TOLERANCE)).unwrap_or(0);
            slot.ahead |= native.token > possible;
        }
        let granted = |attempt| Granted {
            attempt: Some(attempt),
            token: native.token,
            at: now,
            expires_ms: record.expires_at.0,
            ends_ms,
            visible: false,
            pass: 0,
            released: false,
            seen: None,
        };
        match write {
            Write::Acquire(grant) | Write::TakeOver(grant, ..) => {
                slot.grants.push(granted(grant.attempt))
            }
            Write::Renew { .. } => {
                if let Some(last) = slot.grants.last_mut() {
                    last.expires_ms = last.expires_ms.max(record.expires_at.0);
                    last.ends_ms = ends_ms;
                    if last.released {
                        let text = format!("a grant that was released is revived: {write:?}");
                        self.violations.push(("S4", text));
                    }
                }
            }
            Write::Release { .. } | Write::Complete(_) => {
                if let Some(last) = slot.grants.last_mut() {
                    last.released = true;
                }
            }
            Write::HandOver { next, .. } => {
                if let Some(last) = slot.grants.last_mut() {
                    last.released = true;
                }
                slot.grants.push(granted(next.attempt()));
            }
            Write::Join { .. } | Write::Leave { .. } | Write::Withdraw { .. } | Write::Slot(_) => {}
        }
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
                let slot = &mut self.slots[index];
                let free = slot.record.as_ref();
                if free.is_some_and(|record| *now_ms <= record.expires_at.0) {
                    return false;
                }
                if let Some(old) = free.filter(|record| record.native.is_none()) {
                    self.deposed
                        .extend(old.owner.as_deref().and_then(foreign_number));
                }
                slot.grants.push(Granted {
                    attempt: None,
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
                    holder_is_dead: false,
                };
                self.replace(now, index, Some(record));
                true
            }
            ForeignWrite::Delete { key, owner } => {
                let index = self.index(key);
                let record = self.slots[index].record.as_ref();
                let ours = record.is_some_and(|r| r.owner.as_ref() == Some(owner));
                if ours {
                    self.replace(now, index, None);
                }
                ours
            }
        }
    }

    /// A caller is told that nothing of its completion was written.
    pub(super) fn deny(&mut self, key: &str, token: u64) {
        let index = self.index(key);
        self.slots[index].runs.deny(token);
    }

    /// At the end of the world: every key forgets what is done. Gives how many runs were completed, and told of.
    pub(super) fn forget(&mut self, now: Nanos) -> [u64; 3] {
        let mut all = [0; 3];
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            let runs = &slot.runs;
            all[0] += runs.completed();
            all[1] += runs.told;
            all[2] += runs.told_own;
            let denied = runs.judge_denied();
            let done = slot.record.clone().filter(|record| record.done.is_some());
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
        let due = self.slots[index].record.as_ref().is_some_and(|record| {
            // The F# library's TTL has no reserve for the clocks of its clients. Here it is late by the expiry padding
            // and the rounding.
            let room = if record.native.is_none() { 3 } else { 0 };
            record
                .ttl_seconds
                .is_some_and(|ttl| time_s > ttl.saturating_add(room))
        });
        if due {
            let time_ms = self.time_ms(now);
            let slot = &self.slots[index];
            let found = slot
                .record
                .as_ref()
                .and_then(|r| slot.runs.judge_deletion(r, time_ms));
            self.violations.extend(found.map(|text| ("S7", text)));
            self.replace(now, index, None);
        }
        due
    }

    fn replace(&mut self, now: Nanos, index: usize, record: Option<Record>) {
        let slot = &mut self.slots[index];
        let state = |record: &Option<Record>| record.as_ref().map(Record::state);
        // A join and a leave change no grant.
        if let Some(State::Granted(seen)) = state(&record)
            && self.strict
            && state(&slot.record) != state(&record)
        {
            slot.since.entry(seen).or_insert(now);
        }
        let old = std::mem::replace(&mut slot.record, record);
        slot.past.push_back((now, old));
        while slot
            .past
            .front()
            .is_some_and(|(until, _)| until + 5 * SECOND < now)
        {
            slot.past.pop_front();
        }
    }

    /// A caller was given a token: S2, also from guard to guard of one grant. Gives the grant's place in the order of grants.
    pub(super) fn show(
        &mut self,
        key: &str,
        attempt: AttemptId,
        visible: FencingToken,
    ) -> Option<usize> {
        let token = visible.stored();
        let index = self.index(key);
        let slot = &mut self.slots[index];
        let place = slot
            .grants
            .iter()
            .rposition(|g| g.attempt == Some(attempt) && g.token == token)?;
        let first_time = !std::mem::replace(&mut slot.grants[place].visible, true);
        let before = std::mem::replace(&mut slot.grants[place].pass, visible.pass());
        if !first_time && visible.pass() <= before {
            let text = format!(
                "{key}: grant {place} was given to a caller with pass {before}, then with {}",
                visible.pass()
            );
            self.violations.push(("S2", text));
        }
        if !(self.tokens && first_time) {
            return Some(place);
        }
        for (other, grant) in slot.grants.iter().enumerate().filter(|(_, g)| g.visible) {
            let ordered = match other.cmp(&place) {
                std::cmp::Ordering::Less => grant.token < token,
                std::cmp::Ordering::Equal => true,
                std::cmp::Ordering::Greater => grant.token > token,
            };
            if !ordered {
                let text = format!(
                    "{key}: grant {place} has token {token}, grant {other} has {}",
                    grant.token
                );
                self.violations.push(("S2", text));
            }
        }
        if token <= slot.floor {
            let text = format!(
                "{key}: token {token} is not above {}, which the record had before it was deleted",
                slot.floor
            );
            self.violations.push(("S2", text));
        }
        Some(place)
    }

    /// Whether some caller was given a lease of this attempt.
    pub(super) fn was_shown(&self, key: &str, attempt: AttemptId) -> bool {
        let grants = &self.slots[self.index(key)].grants;
        let mut newest_first = grants.iter().rev();
        newest_first.any(|grant| grant.visible && grant.attempt == Some(attempt))
    }

    /// Whether the record is that of a grant now.
    pub(super) fn carries(&self, index: usize, attempt: AttemptId, token: u64) -> bool {
        let record = self.slots[index].record.as_ref();
        record.is_some_and(|r| attempt.owns(r) && r.token() == Some(token))
    }

    /// A holder's write reaches the fenced register, with its visible token: S3.
    pub(super) fn register(&mut self, index: usize, place: usize, token: u64) -> bool {
        let slot = &mut self.slots[index];
        let accepted = slot.register.is_none_or(|(_, newest)| newest <= token);
        if !accepted {
            return false;
        }
        if let Some((newest, _)) = slot.register
            && newest > place
            && self.tokens
        {
            let text = format!(
                "{}: the register took a write of grant {place} after grant {newest}",
                slot.key
            );
            self.violations.push(("S3", text));
        }
        slot.register = Some((place, token));
        true
    }

    /// S2 after the deletion of records: a client that creates one again after its TTL, with the smallest accepted seed,
    /// must get a larger token.
    pub(super) fn judge_next_life(&mut self, now: Nanos) {
        let time_s = self.time_ms(now).div_euclid(1_000);
        if !self.next_life {
            return;
        }
        for slot in self.slots.iter().filter(|slot| !slot.ahead) {
            let Some(record) = &slot.record else { continue };
            let largest = slot.grants.iter().filter(|g| g.visible).map(|g| g.token);
            let (Some(largest), Some(ttl)) = (largest.max(), record.ttl_seconds) else {
                continue;
            };
            // A TTL in the past, by a wall clock behind, deletes it now at the earliest.
            let ttl = ttl.max(time_s);
            let smallest = ttl.saturating_mul(1_000) - millis(SEED_TOLERANCE);
            if u64::try_from(smallest).unwrap_or(0) < largest {
                let text = format!(
                    "{}: the record may be deleted at {ttl} s and start again at {smallest}, but {largest} was given out",
                    slot.key
                );
                self.violations.push(("S2", text));
            }
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
