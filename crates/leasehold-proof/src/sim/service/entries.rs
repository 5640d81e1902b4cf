//! Since when the entries of a key's slots can have been seen.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use leasehold_protocol::record::Record;
use leasehold_protocol::slot_write::{Entry, Over, SlotWrite};
use leasehold_protocol::slots::Slot;

use crate::sim::shape::Nanos;

/// Since when each entry of a key can have been seen.
#[derive(Debug, Default)]
pub(super) struct Entries {
    since: HashMap<Slot, Nanos>,
}

/// The slots that are held.
pub(super) fn held(record: Option<&Record>) -> &[Slot] {
    let slots = record.and_then(|record| record.slots.as_ref());
    slots.map_or(&[], |slots| &slots.held)
}

impl Entries {
    /// The record has changed.
    pub(super) fn watch(&mut self, now: Nanos, before: Option<&Record>, after: Option<&Record>) {
        for slot in held(after) {
            if !held(before).contains(slot) {
                self.since.entry(slot.clone()).or_insert(now);
            }
        }
    }

    /// `strict`: an entry is only removed by others after its own lease.
    pub(super) fn impatience(
        &self,
        now: Nanos,
        write: &SlotWrite,
        adopted: &HashSet<String>,
    ) -> Option<String> {
        let (SlotWrite::Evict { slot, .. }
        | SlotWrite::Enter(Entry {
            over: Some(Over::Slot(slot) | Over::Adopted(slot)),
            ..
        })) = write
        else {
            return None;
        };
        let still = Duration::from_nanos(now - self.since.get(slot).copied().unwrap_or(0));
        let early = still < slot.lease && !adopted.contains(&slot.attempt.to_string());
        early.then(|| format!("a strict client removed {slot:?} after {still:?}"))
    }
}
