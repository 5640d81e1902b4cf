//! S8: worlds in which the callers of the last key want slots of it, or the whole of it.

use leasehold::{Error, LockClient, LockRequest};
use leasehold_protocol::slots::MOST;

use super::random::Rng;

/// What the callers of a key want.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wants {
    /// How many slots there are; as many as possible for a shared lock.
    limit: u32,
    /// How many of a hundred calls want the whole key.
    whole: u64,
    /// How many of the others name another limit, which counts while the key is out of use.
    other: u64,
}

impl Wants {
    /// Of one seed in ten, with how many more tasks of each process want the same. It has a separate stream, as with
    /// crowds. No seed that ever failed before is one of these.
    pub(super) fn of(seed: u64) -> Option<(Wants, u64)> {
        if seed % 10 != 2 {
            return None;
        }
        let mut rng = Rng::new(seed, 16);
        let limit = rng.pick(&[2, 2, 3, 3, MOST]);
        let wants = Wants {
            limit,
            whole: match limit {
                MOST => rng.pick(&[20, 50]),
                _ => rng.pick(&[0, 10, 30]),
            },
            other: rng.pick(&[0, 0, 10]),
        };
        Some((wants, rng.pick(&[0, 0, 1, 3])))
    }

    /// A request of one caller.
    pub(super) fn request(
        self,
        key: &str,
        locks: &LockClient,
        rng: &mut Rng,
    ) -> Result<LockRequest, Error> {
        if rng.chance(self.whole) {
            return locks.exclusive(key);
        }
        match self.limit {
            _ if rng.chance(self.other) => locks.slots(key, 4),
            MOST => locks.shared(key),
            limit => locks.slots(key, limit),
        }
    }
}

/// Whether grants of one key may be believed in at once: each by its limit of slots, or `None` for the whole key.
pub(super) fn fit(limits: &[Option<u32>]) -> bool {
    let least = limits.iter().map(|limit| limit.unwrap_or(1)).min();
    let least = least.and_then(|least| usize::try_from(least).ok());
    least.is_none_or(|least| limits.len() <= least)
}

#[cfg(test)]
mod tests {
    use leasehold_protocol::record::Record;
    use leasehold_protocol::slot_write::SlotWrite;
    use leasehold_protocol::slots::MOST;
    use leasehold_protocol::time::ServiceTime;
    use leasehold_protocol::write::{ConditionFailed, Write, apply};

    use super::fit;
    use crate::sim::driver::run_with;
    use crate::sim::service::Apply;

    /// The first violation of S8 in the worlds with slots of a broken service.
    fn found(broken: Apply) -> String {
        let seeds = (2..400).step_by(10);
        let worlds = seeds.map(|seed| run_with(broken, seed, 30, false).expect("runs"));
        let mut found = worlds.flat_map(|world| world.violations);
        let found = found.find(|(rule, _)| *rule == "S8");
        found.expect("a violation of S8").1
    }

    #[test]
    fn a_service_without_the_size_condition_is_found() {
        fn sizeless(
            before: Option<&Record>,
            write: &Write,
        ) -> Result<Option<Record>, ConditionFailed> {
            let (Some(record), Write::Slot(SlotWrite::Enter(entry))) = (before, write) else {
                return apply(before, write);
            };
            let (mut entry, mut record) = (entry.clone(), record.clone());
            let limit = std::mem::replace(&mut entry.limit, MOST);
            for slots in record.slots.iter_mut().filter(|slots| slots.limit == limit) {
                slots.limit = MOST;
            }
            let mut after = apply(Some(&record), &Write::Slot(SlotWrite::Enter(entry)))?;
            for slots in after.iter_mut().flat_map(|record| &mut record.slots) {
                slots.limit = limit;
            }
            Ok(after)
        }
        let found = found(sizeless);
        assert!(found.contains("made"), "{found}");
    }

    #[test]
    fn slots_that_others_see_end_too_early_are_found_by_what_their_holders_believe() {
        fn early(
            before: Option<&Record>,
            write: &Write,
        ) -> Result<Option<Record>, ConditionFailed> {
            let mut after = apply(before, write)?;
            if let (Some(record), Write::Slot(SlotWrite::Enter(entry))) = (&mut after, write) {
                let held = record.slots.iter_mut().flat_map(|slots| &mut slots.held);
                for slot in held.filter(|slot| slot.attempt == entry.grant.attempt) {
                    slot.expires_at = ServiceTime(1);
                }
            }
            Ok(after)
        }
        let found = found(early);
        assert!(found.contains("believe in it"), "{found}");
    }

    #[test]
    fn no_more_slots_than_the_least_limit_and_none_beside_the_whole_key() {
        assert!(fit(&[]) && fit(&[None]) && fit(&[Some(2), Some(2)]));
        assert!(!fit(&[Some(2), Some(2), Some(2)]));
        assert!(!fit(&[Some(3), Some(2), Some(3)]));
        assert!(!fit(&[None, None]) && !fit(&[Some(1_000), None]));
    }
}
