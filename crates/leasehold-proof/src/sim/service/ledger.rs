//! The ledger of the simulated service: what it judges of each write, without [`apply`](leasehold_protocol::write::apply).
//!
//! Invariants checked here: no write of one grant changes another's record, except a take-over of exactly what it saw
//! (S4); visible tokens grow from grant to grant (S2); the fenced register takes nothing older than it has (S3).

use std::time::Duration;

use leasehold_protocol::attempt::{AttemptId, SEED_TOLERANCE};
use leasehold_protocol::record::{Record, Seen, State};
use leasehold_protocol::slot_write::{Entry, Over, SlotWrite};
use leasehold_protocol::token::FencingToken;
use leasehold_protocol::write::Write;

use super::{Granted, Service, slots};
use crate::sim::order::Order;
use crate::sim::shape::{MILLI, Nanos, millis};

impl Service {
    /// S4: who may change what, said a second time.
    pub(super) fn judge(&mut self, before: Option<&Record>, write: &Write) {
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
            (Write::Join { .. } | Write::Leave { .. }, None) => {
                before.is_some_and(|record| record.slots.is_some())
            }
            (Write::Slot(write), owner) => slots::may_change_owner(write, before, owner),
            (_, None) => false,
        };
        if !legal {
            let what = write.operation();
            let text = format!("{what} changed a record of {owner:?}: {write:?}");
            self.violations.push(("S4", text));
        }
    }

    /// S7.
    pub(super) fn judge_runs(&mut self, now: Nanos, index: usize, write: &Write) {
        let time_ms = self.time_ms(now);
        let grant = self.items[index].grants.last();
        let began = grant.map_or(0, |grant| grant.seen.unwrap_or(grant.at));
        let times = (self.time_ms(began), time_ms);
        let bounded = self.ordered;
        let item = &mut self.items[index];
        let found = item.runs.judge(write, item.record.as_ref(), times, bounded);
        self.violations.extend(found.map(|text| ("S7", text)));
    }

    /// A process sends a write.
    pub(in crate::sim) fn sends(&mut self, process: usize, write: &Write) {
        if let (Some(senders), Write::Acquire(grant) | Write::TakeOver(grant, ..)) =
            (&mut self.senders, write)
        {
            senders.insert(grant.attempt, process);
        }
    }

    /// An answer shows a record to a process.
    pub(in crate::sim) fn shows(&mut self, now: Nanos, process: usize, record: Option<&Record>) {
        let (Some(senders), Some(record)) = (&self.senders, record) else {
            return;
        };
        let owner = record.owner.as_deref().and_then(|owner| owner.parse().ok());
        let index = self.index(&record.key);
        let newest_first = self.items[index].grants.iter_mut().rev();
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
    pub(super) fn judge_order(
        &mut self,
        now: Nanos,
        index: usize,
        write: &Write,
        after: Option<&Record>,
    ) {
        let time_ms = self.time_ms(now);
        let item = &mut self.items[index];
        let order = Order {
            write,
            before: item.record.as_ref(),
            after,
            grant_ends_ms: item.ends_ms(write, |at| time_ms - ((now - at) / MILLI).cast_signed()),
            time_ms,
        };
        if let Some(text) = item.line.watch(now, &order, self.turn) {
            self.violations.push(("L3", text));
        }
        if self.ordered
            && let Some(text) = order.fault()
        {
            self.violations.push(("S9", text));
        }
        if let Write::Slot(SlotWrite::Enter(Entry {
            over: Some(Over::Adopted(slot)),
            ..
        })) = write
            && !self.adopted.contains(&slot.attempt.to_string())
        {
            let text = format!("a slot that nobody was to adopt: {write:?}");
            self.violations.push(("S9", text));
        }
    }

    /// `strict`: a grant is only taken over after its own lease. A request that arrives twice, with a deletion by an F#
    /// client in between, makes the same grant twice: it counts from the first time, as for its holder.
    pub(super) fn judge_patience(&mut self, now: Nanos, index: usize, write: &Write) {
        let item = &self.items[index];
        let native = item.record.as_ref().and_then(|record| record.native);
        if !self.strict {
            return;
        }
        let (seen, lease) = match (write, native) {
            (Write::TakeOver(_, seen, _), Some(native)) => (seen, native.lease),
            (
                Write::Slot(SlotWrite::Enter(Entry {
                    over: Some(Over::Whole(seen)),
                    ..
                })),
                Some(native),
            ) => (seen, native.lease),
            (Write::Slot(write), _) => {
                let impatient = item.entries.impatience(now, write, &self.adopted);
                self.violations.extend(impatient.map(|text| ("S8", text)));
                return;
            }
            _ => return,
        };
        if item
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
        let changed = item.since.get(seen).copied().unwrap_or(0);
        let still = Duration::from_nanos(now - changed);
        if still < lease {
            let text = format!("a strict client took over after {still:?}, the lease is {lease:?}");
            self.violations.push(("S1", text));
        }
    }

    pub(super) fn enter(
        &mut self,
        now: Nanos,
        index: usize,
        write: &Write,
        after: Option<&Record>,
    ) {
        let time_ms = self.time_ms(now);
        let item = &mut self.items[index];
        let (Some(record), Some(native)) = (after, after.and_then(|r| r.native)) else {
            return;
        };
        if let Write::Slot(write) = write {
            return self.enter_slots(now, index, write, record);
        }
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
            item.ahead |= native.token > possible;
        }
        let granted = |attempt| Granted {
            attempt: Some(attempt),
            limit: None,
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
                item.grants.push(granted(grant.attempt))
            }
            Write::Renew { .. } => {
                if let Some(last) = item.grants.last_mut() {
                    last.expires_ms = last.expires_ms.max(record.expires_at.0);
                    last.ends_ms = ends_ms;
                    if last.released {
                        let text = format!("a grant that was released is revived: {write:?}");
                        self.violations.push(("S4", text));
                    }
                }
            }
            Write::Release { .. } | Write::Complete(_) => {
                if let Some(last) = item.grants.last_mut() {
                    last.released = true;
                }
            }
            Write::HandOver { next, .. } => {
                if let Some(last) = item.grants.last_mut() {
                    last.released = true;
                }
                item.grants.push(granted(next.attempt()));
            }
            Write::Join { .. } | Write::Leave { .. } | Write::Withdraw { .. } | Write::Slot(_) => {}
        }
    }

    /// A caller is told that nothing of its completion was written.
    pub(in crate::sim) fn deny(&mut self, key: &str, token: u64) {
        let index = self.index(key);
        self.items[index].runs.deny(token);
    }

    /// A caller was given a token: S2, also from guard to guard of one grant. Gives the grant's place in the order of grants.
    pub(in crate::sim) fn show(
        &mut self,
        key: &str,
        attempt: AttemptId,
        visible: FencingToken,
    ) -> Option<usize> {
        let token = visible.stored();
        let index = self.index(key);
        let item = &mut self.items[index];
        let place = item
            .grants
            .iter()
            .rposition(|g| g.attempt == Some(attempt) && g.token == token)?;
        let first_time = !std::mem::replace(&mut item.grants[place].visible, true);
        let before = std::mem::replace(&mut item.grants[place].pass, visible.pass());
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
        for (other, grant) in item.grants.iter().enumerate().filter(|(_, g)| g.visible) {
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
        if token <= item.floor {
            let text = format!(
                "{key}: token {token} is not above {}, which the record had before it was deleted",
                item.floor
            );
            self.violations.push(("S2", text));
        }
        Some(place)
    }

    /// Whether some caller was given a lease of this attempt.
    pub(in crate::sim) fn was_shown(&self, key: &str, attempt: AttemptId) -> bool {
        let grants = &self.items[self.index(key)].grants;
        let mut newest_first = grants.iter().rev();
        newest_first.any(|grant| grant.visible && grant.attempt == Some(attempt))
    }

    /// Whether the record is that of a grant now.
    pub(in crate::sim) fn carries(&self, index: usize, attempt: AttemptId, token: u64) -> bool {
        let record = self.items[index].record.as_ref();
        record.is_some_and(|r| attempt.owns(r) && r.token() == Some(token))
    }

    /// A holder's write reaches the fenced register, with its visible token: S3.
    pub(in crate::sim) fn register(&mut self, index: usize, place: usize, token: u64) -> bool {
        let item = &mut self.items[index];
        let accepted = item.register.is_none_or(|(_, newest)| newest <= token);
        if !accepted {
            return false;
        }
        if let Some((newest, _)) = item.register
            && newest > place
            && self.tokens
        {
            let text = format!(
                "{}: the register took a write of grant {place} after grant {newest}",
                item.key
            );
            self.violations.push(("S3", text));
        }
        item.register = Some((place, token));
        true
    }

    /// S2 after the deletion of records: a client that creates one again after its TTL, with the smallest accepted seed,
    /// must get a larger token.
    pub(in crate::sim) fn judge_next_life(&mut self, now: Nanos) {
        let time_s = self.time_ms(now).div_euclid(1_000);
        if !self.next_life {
            return;
        }
        for item in self.items.iter().filter(|item| !item.ahead) {
            let Some(record) = &item.record else { continue };
            let largest = item.grants.iter().filter(|g| g.visible).map(|g| g.token);
            let (Some(largest), Some(ttl)) = (largest.max(), record.ttl_seconds) else {
                continue;
            };
            // A TTL in the past, by a wall clock behind, deletes it now at the earliest.
            let ttl = ttl.max(time_s);
            let smallest = ttl.saturating_mul(1_000) - millis(SEED_TOLERANCE);
            if u64::try_from(smallest).unwrap_or(0) < largest {
                let text = format!(
                    "{}: the record may be deleted at {ttl} s and start again at {smallest}, but {largest} was given out",
                    item.key
                );
                self.violations.push(("S2", text));
            }
        }
    }
}
