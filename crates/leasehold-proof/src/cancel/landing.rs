//! What requests do to the records, and what they may not do.
//!
//! None changes the rival's grant (S4), and no release overtakes a renewal in flight (holder rule 5).

use leasehold::store::Outcome;
use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::done::Completion;
use leasehold_protocol::record::Record;
use leasehold_protocol::slot_write::{Entry, SlotWrite};
use leasehold_protocol::slots::Slot;
use leasehold_protocol::write::{Write, apply};

use super::slots;
use super::stage::{Inner, Party, Stage};

impl Stage {
    pub(super) fn apply(&self, party: Party, write: &Write) -> Outcome {
        let now = self.now();
        let mut inner = self.lock();
        let current = inner.records.get(write.key()).cloned();
        let Ok(after) = apply(current.as_ref(), write) else {
            return Outcome::Refused(current);
        };
        if let Some(text) = inner.runs.judge(current.as_ref(), write, now) {
            inner.violations.push(text.to_owned());
        }
        let bound = match write {
            Write::Acquire(grant)
            | Write::TakeOver(grant, ..)
            | Write::Slot(SlotWrite::Claim(grant, _) | SlotWrite::Enter(Entry { grant, .. })) => {
                Some(grant.bound_to_process)
            }
            Write::Renew {
                bound_to_process, ..
            }
            | Write::Slot(SlotWrite::Extend {
                bound_to_process, ..
            }) => Some(*bound_to_process),
            _ => None,
        };
        if party == Party::Ours {
            inner.bound = bound.or(inner.bound);
        }
        let owner = |record: &Option<Record>| record.as_ref().and_then(|r| r.owner.clone());
        if let Some(next) = owner(&after)
            && owner(&current).as_ref() != Some(&next)
        {
            let whose = match write {
                Write::HandOver { .. }
                | Write::Slot(SlotWrite::Exit { .. } | SlotWrite::Open { .. }) => {
                    next.parse().ok().map(|next| inner.whose(next))
                }
                // What is done belongs to nobody.
                Write::Complete(_) => None,
                _ => Some(party),
            };
            match whose {
                Some(Party::Rival) => inner.rivals.push(next),
                Some(Party::Ours) => inner.granted |= inner.armed,
                None => {}
            }
        }
        if let Write::Join { place, .. } = write
            && party == Party::Ours
        {
            inner.places.push(place.attempt());
        }
        let same_grant = match (&current, &after) {
            (Some(before), Some(after)) => {
                // What becomes of its slots is judged below.
                let (queue, slots) = (after.queue.clone(), after.slots.clone());
                matches!(write, Write::Join { .. } | Write::Leave { .. })
                    && *after
                        == Record {
                            queue,
                            slots,
                            ..before.clone()
                        }
            }
            _ => false,
        };
        let ends = (current.as_ref(), after.as_ref());
        slots::judge(&mut inner, party, write, ends, now);
        let owner = owner(&current);
        let of_rival = owner.is_some_and(|owner| inner.rivals.contains(&owner));
        if party == Party::Ours && of_rival && !same_grant {
            let text = format!("S4: {} changed the rival's grant", write.operation());
            inner.violations.push(text);
        }
        match &after {
            Some(record) => inner.records.insert(record.key.clone(), record.clone()),
            None => inner.records.remove(write.key()),
        };
        Outcome::Applied(after)
    }

    /// Whether a place of ours is left in a queue.
    pub(super) fn has_place(&self) -> bool {
        let inner = self.lock();
        let left = |record: &Record| {
            inner
                .places
                .iter()
                .any(|place| record.place_of(*place).is_some())
        };
        inner.records.values().any(left)
    }

    /// Takes note of what holder rule 5 is about; gives the number of a renewal.
    pub(super) fn depart(&self, write: &Write) -> Option<u64> {
        let now = self.elapsed();
        let mut inner = self.lock();
        match write {
            Write::Renew { attempt, .. }
            | Write::Slot(SlotWrite::Extend {
                slot: Slot { attempt, .. },
                ..
            }) => {
                if inner.no_renewals {
                    let text = "rule 4: a lost lease is renewed".to_owned();
                    inner.violations.push(text);
                }
                inner.next += 1;
                let number = inner.next;
                inner.renewing.push((number, *attempt, now));
                Some(number)
            }
            Write::Complete(Completion { attempt, .. })
            | Write::Release {
                attempt,
                token: Some(_),
                ..
            }
            | Write::HandOver {
                attempt,
                token: Some(_),
                ..
            }
            | Write::Slot(
                SlotWrite::Exit {
                    attempt,
                    token: Some(_),
                    ..
                }
                | SlotWrite::Open {
                    attempt,
                    token: Some(_),
                    ..
                },
            ) => {
                let waits = self.request_timeout;
                let overtaken = inner
                    .renewing
                    .iter()
                    .any(|(_, renewing, since)| renewing == attempt && now.since(*since) < waits);
                if overtaken {
                    let text = "rule 5: a release overtakes a renewal in flight".to_owned();
                    inner.violations.push(text);
                }
                None
            }
            _ => None,
        }
    }

    pub(super) fn shows(&self, record: Option<&Record>) {
        let now = self.now();
        self.lock().runs.shows(record, now);
    }

    pub(super) fn land(&self, renewal: Option<u64>) {
        self.lock()
            .renewing
            .retain(|(number, ..)| Some(*number) != renewal);
    }
}

impl Inner {
    /// Who made this attempt, which has taken a slot or joined a queue.
    pub(super) fn whose(&self, attempt: AttemptId) -> Party {
        let ours = self.places.contains(&attempt) || self.entered.contains(&attempt);
        if ours { Party::Ours } else { Party::Rival }
    }
}
