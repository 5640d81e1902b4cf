//! Slots and shared locks: what their calls ask for, and what must hold on their entries (S8).

use std::time::Duration;

use leasehold::{Error, Lease, LockClient, LockRequest};
use leasehold_protocol::record::{Native, Record};
use leasehold_protocol::slot_write::SlotWrite;
use leasehold_protocol::slots::{Slot, Slots};
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::write::Write;

use super::call::{Call, KEY, LEASE};
use super::cast::Cast;
use super::stage::{Inner, Party};

impl Call {
    /// The limit of slots, of a call for a slot.
    pub(super) fn slots(self) -> Option<u32> {
        match self {
            Call::TrySlotFull
            | Call::AcquireSlotFull
            | Call::AcquireSlotDead
            | Call::ReleaseSlotAhead => Some(1),
            Call::TrySlot
            | Call::TrySlotBeside
            | Call::AcquireSlot
            | Call::AcquireSlotBeside
            | Call::ReleaseSlot
            | Call::RenewSlot
            | Call::DetachSlot
            | Call::AdoptSlot
            | Call::ReleaseSlotById
            | Call::RenewSlotById => Some(2),
            _ => None,
        }
    }

    /// A request of the client under test.
    pub(super) fn request(self, ours: &LockClient) -> Result<LockRequest, Error> {
        match self {
            Call::AcquireShared | Call::AcquireSharedHeld => ours.shared(KEY),
            Call::AcquireExclusiveHeld
            | Call::AcquireExclusiveDead
            | Call::ReleaseExclusiveAhead => ours.exclusive(KEY),
            _ => match self.slots() {
                Some(limit) => ours.slots(KEY, limit),
                None => ours.request(KEY),
            },
        }
    }

    /// The request of the rival that is there before the call.
    pub(super) fn rivals_request(self, rival: &LockClient) -> Result<LockRequest, Error> {
        match self {
            Call::AcquireSharedHeld => rival.exclusive(KEY),
            Call::AcquireShared | Call::AcquireExclusiveHeld | Call::ReleaseExclusiveAhead => {
                rival.shared(KEY)
            }
            _ => self.request(rival),
        }
    }
}

/// What the rival acquires after the call: all slots, or else the whole key.
pub(super) async fn take_all(call: Call, rival: &LockClient) -> Result<Vec<Lease>, Error> {
    let mut all = Vec::new();
    for _ in 0..call.slots().unwrap_or(1) {
        let request = match call.slots() {
            Some(limit) => rival.slots(KEY, limit)?,
            None => rival.request(KEY)?,
        };
        all.push(request.wait(LEASE * 4).acquire().await?);
    }
    Ok(all)
}

impl Cast {
    /// The one slot of a dead holder, whose lease ends after `left`.
    pub(super) fn plant_dead_slot(&self, limit: u32, left: Duration) {
        let attempt = "11111111-1111-4111-8111-111111111111".parse();
        let expires_at = self.stage.now().plus(left);
        let token = 1_700_000_000_000;
        let held = attempt.map(|attempt| Slot::new(attempt, token, expires_at, LEASE, "dead"));
        let mut record = Record::unused(KEY);
        record.native = record.native.map(|native| Native { token, ..native });
        record.slots = Some(Slots {
            limit,
            held: held.into_iter().collect(),
        });
        self.stage.plant(record);
    }
}

/// Judges what a write did to the slots of a record, and takes note of those that it gave.
pub(super) fn judge(
    inner: &mut Inner,
    party: Party,
    write: &Write,
    (before, after): (Option<&Record>, Option<&Record>),
    now: ServiceTime,
) {
    if let Write::Slot(SlotWrite::Enter(entry)) = write
        && party == Party::Ours
    {
        inner.entered.push(entry.grant.attempt);
    }
    let slots = |record: Option<&Record>| record.and_then(|record| record.slots.clone());
    let was = slots(before).unwrap_or_default();
    let is = slots(after).unwrap_or_default();
    let is_new = |slot: &&Slot| was.of(slot.attempt).is_none();
    for slot in is.held.iter().filter(is_new) {
        inner.granted |= inner.armed && inner.whose(slot.attempt) == Party::Ours;
    }
    for slot in &was.held {
        let kept = match is.of(slot.attempt) {
            Some(same) => same == slot,
            None => slot.expires_at < now,
        };
        if !kept && inner.whose(slot.attempt) != party {
            let text = format!("S8: {} changed the slot of another", write.operation());
            inner.violations.push(text);
        }
    }
    let whole = after.is_some_and(|record| record.owner.is_some());
    if is.held.len() > usize::try_from(is.limit).unwrap_or(usize::MAX) {
        inner
            .violations
            .push("S8: more slots are held than there are".to_owned());
    }
    if whole && !is.held.is_empty() {
        inner
            .violations
            .push("S8: a slot is held beside the whole key".to_owned());
    }
}
