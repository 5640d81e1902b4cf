//! When a contender may take a key (`docs/protocol.md` section 6).
//!
//! 1. **Free**: no record, or a released one.
//! 2. **Service rule**: the service's clock is certainly past the published expiry. For records of
//!    the F# library, it is also past the expiry padding, because a wall clock made their expiry.
//!    For other records, where only dates show that clock, the host's wall clock must agree.
//! 3. **Observation rule**: the same (owner, token, renew count) was seen for the record's own
//!    lease on the local elapsed clock, timed from the *answer* that first showed it.
//! 4. **Dead process**: the store can prove that the holding process is dead (SQLite only).
//!
//! A **done** record is taken by rules 2 and 3 with its keep as lease. Its dates need no wall clock that
//! agrees, and `strict` leaves rule 2 on: whoever asks once a day cannot watch a record for a day.
//!
//! A dead holder's key is for its queue first. Each place has its claim to take the key. After that,
//! the places behind it may, and last those without a place.
//!
//! A verdict is only ever acted on by a compare-and-set on exactly what was seen.

use std::time::Duration;

use super::id::AttemptId;
use super::queue::Place;
use super::record::{Record, Seen, State};
use super::time::{ClockBounds, Elapsed, Reading, ServiceClock};

/// What a contender may do about a key now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The key is free: acquire.
    Free,
    /// The grant that was seen has ended: take over exactly that, and these places of its queue with it.
    TakeOver(Seen, Vec<Place>),
    /// Somebody holds it.
    Wait {
        /// When the key can be taken at the latest, if nobody renews the grant; `None` if unknown.
        ends: Option<Elapsed>,
    },
    /// Its work is done.
    Done {
        /// When it may be run again at the latest; `None` if unknown.
        ends: Option<Elapsed>,
    },
}

/// Which rules a contender uses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Rules {
    /// Use rules 1, 3 and 4 only. They trust only the rate of the elapsed clock.
    pub strict: bool,
    /// S: added to the expiry of F# records.
    pub expiry_padding: Duration,
    /// What is assumed of clocks.
    pub bounds: ClockBounds,
}

/// The grant of a key that one contender observes, for the observation rule.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Observation {
    first: Option<First>,
}

/// The first answer that showed the watched grant.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct First {
    seen: Seen,
    /// When it came.
    at: Elapsed,
    /// L of the record; `None` on records of the F# library.
    lease: Option<Duration>,
    /// When its holder was first seen dead.
    dead: Option<Elapsed>,
}

impl First {
    /// When the grant ends by the observation rule, if no other record is seen.
    fn ends(&self, bounds: &ClockBounds) -> Option<Elapsed> {
        let lease = self.lease?;
        Some(self.at.plus(bounds.at_most(lease)))
    }
}

impl Observation {
    /// Whether no grant is watched.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Until when a record with a smaller token or renew count counts as an old eventual read. Both
    /// only grow, except after a withdrawn record. So the limit is the end of the grant that was seen.
    fn is_old_news(&self, seen: &Seen, now: Elapsed, bounds: &ClockBounds) -> Option<Elapsed> {
        let order = |seen: &Seen| match seen {
            Seen::Native {
                token, renew_count, ..
            } => Some((*token, *renew_count)),
            Seen::Foreign { .. } => None,
        };
        let first = self.first.as_ref()?;
        let is_older = order(seen)? < order(&first.seen)?;
        first.ends(bounds).filter(|end| is_older && now < *end)
    }

    /// Judges the record of an answer that came at `received`, for the attempt `me`. `None` asks about
    /// the grant alone: whether it has ended, and not whose turn it is.
    pub fn judge(
        &mut self,
        me: Option<AttemptId>,
        record: Option<&Record>,
        received: Elapsed,
        present: Reading,
        clock: &ServiceClock,
        rules: &Rules,
    ) -> Verdict {
        let now = present.elapsed;
        let Some(record) = record else {
            self.first = None;
            return Verdict::Free;
        };
        let seen = match record.state() {
            State::Released => {
                self.first = None;
                return Verdict::Free;
            }
            State::Granted(seen) => seen,
        };
        // Slots have no common order.
        if record.slots.is_none()
            && let Some(end) = self.is_old_news(&seen, now, &rules.bounds)
        {
            return Verdict::Wait { ends: Some(end) };
        }
        let first = First {
            seen: seen.clone(),
            // Timed from the answer: the holder may have renewed after the request.
            at: received,
            lease: record.native.map(|native| native.lease),
            dead: None,
        };
        let first = match &mut self.first {
            Some(before) if before.seen == seen => before,
            other => other.insert(first),
        };
        let done = record.done.is_some();
        if record.holder_is_dead && !done {
            first.dead.get_or_insert(received);
        }
        let earliest = clock.earliest(now);
        let (places, others) = me.map_or_else(Default::default, |me| record.before(me, earliest));
        let others = rules.bounds.at_most(others);
        let observed = [first.ends(&rules.bounds), first.dead]
            .into_iter()
            .flatten()
            .min()
            .map(|end| end.plus(others));
        // Uncorroborated dates, perhaps a proxy's, do not end a grant of this library: it is watched
        // for a lease instead. An F# grant has no lease to watch.
        let dates_will_do =
            done || !rules.strict && (record.native.is_none() || clock.is_corroborated(present));
        let by_service = if !dates_will_do {
            None
        } else {
            let end = match seen {
                Seen::Native { .. } => record.expires_at,
                Seen::Foreign { .. } => record.expires_at.plus(rules.expiry_padding),
            };
            let end = end.plus(others);
            if earliest.is_some_and(|earliest| earliest > end) {
                return Verdict::TakeOver(seen, places.to_vec());
            }
            clock.past_from(end, now)
        };
        if observed.is_some_and(|end| now >= end) {
            return Verdict::TakeOver(seen, places.to_vec());
        }
        let ends = [observed, by_service].into_iter().flatten().min();
        match done {
            true => Verdict::Done { ends },
            false => Verdict::Wait { ends },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Native;
    use super::super::time::{ServiceTime, Stamp};
    use super::*;

    const LEASE: Duration = Duration::from_secs(20);

    fn at(ms: u64) -> Elapsed {
        Elapsed(Duration::from_millis(ms))
    }

    fn present(now: Elapsed) -> Reading {
        Reading {
            elapsed: now,
            wall_ms: 0,
        }
    }

    fn me() -> Option<AttemptId> {
        Some(AttemptId::from_random([1; 16]))
    }

    fn held(expires_ms: i64, renew_count: u64) -> Record {
        Record {
            last_hold: None,
            key: "k".into(),
            owner: Some("a".into()),
            expires_at: ServiceTime(expires_ms),
            native: Some(Native {
                token: 1,
                lease: LEASE,
                renew_count,
            }),
            ttl_seconds: None,
            holder: None,
            acquired_at: None,
            data: None,
            queue: Vec::new(),
            slots: None,
            done: None,
            last_force: None,
            holder_is_dead: false,
        }
    }

    fn rules(strict: bool) -> Rules {
        Rules {
            strict,
            expiry_padding: Duration::from_secs(1),
            bounds: ClockBounds::default(),
        }
    }

    fn sampled(ms: i64) -> ServiceClock {
        let mut clock = ServiceClock::new(ClockBounds::default());
        clock.learn(
            Stamp::Exact(ServiceTime(ms)),
            Reading::default(),
            Reading::default(),
        );
        clock
    }

    fn judged(
        seen: &mut Observation,
        record: &Record,
        ms: u64,
        clock: &ServiceClock,
        strict: bool,
    ) -> Verdict {
        let now = present(at(ms));
        seen.judge(me(), Some(record), now.elapsed, now, clock, &rules(strict))
    }

    #[test]
    fn the_service_rule_needs_the_clock_to_be_past_p() {
        let mut seen = Observation::default();
        let clock = sampled(100_000);
        let judge = |seen: &mut Observation, p| judged(seen, &held(p, 1), 0, &clock, false);
        assert!(matches!(judge(&mut seen, 100_000), Verdict::Wait { .. }));
        assert!(matches!(judge(&mut seen, 99_999), Verdict::TakeOver(..)));
    }

    #[test]
    fn strict_ignores_the_published_expiry_and_watches_one_lease() {
        let mut seen = Observation::default();
        let clock = sampled(100_000);
        let mut judge = |ms, count| judged(&mut seen, &held(1, count), ms, &clock, true);
        assert_eq!(
            judge(0, 1),
            Verdict::Wait {
                ends: Some(at(20_020))
            }
        );
        assert!(matches!(judge(20_019, 1), Verdict::Wait { .. }));
        assert!(matches!(judge(20_020, 1), Verdict::TakeOver(..)));
        // A renewal starts the observation again, a read that goes backwards does not.
        assert!(matches!(judge(20_021, 2), Verdict::Wait { .. }));
        let ends = Some(at(40_041));
        assert_eq!(judge(30_000, 1), Verdict::Wait { ends });
        assert!(matches!(judge(40_041, 2), Verdict::TakeOver(..)));
    }

    #[test]
    fn b4_a_larger_token_that_is_gone_blocks_for_a_lease_at_most() {
        let mut seen = Observation::default();
        let clock = sampled(100_000);
        let mut withdrawn = held(i64::MAX, 1);
        if let Some(native) = &mut withdrawn.native {
            native.token = 1 << 50;
        }
        let mut judge = |record: &Record, ms, strict| judged(&mut seen, record, ms, &clock, strict);
        assert!(matches!(judge(&withdrawn, 0, false), Verdict::Wait { .. }));
        // The smaller token is the key's true one from here on.
        let true_one = held(i64::MAX, 7);
        let ends = Some(at(20_020));
        assert_eq!(judge(&true_one, 20_019, false), Verdict::Wait { ends });
        // It is watched for a lease of its own, from the first answer that counts.
        let ends = Some(at(40_040));
        assert_eq!(judge(&true_one, 20_020, true), Verdict::Wait { ends });
        assert!(matches!(
            judge(&true_one, 40_040, true),
            Verdict::TakeOver(..)
        ));
    }

    #[test]
    fn without_a_stamp_only_the_observation_counts() {
        let mut seen = Observation::default();
        let clock = ServiceClock::new(ClockBounds::default());
        let record = held(1, 1);
        let mut judge = |ms| judged(&mut seen, &record, ms, &clock, false);
        assert!(matches!(judge(0), Verdict::Wait { .. }));
        assert!(matches!(judge(20_020), Verdict::TakeOver(..)));
    }

    #[test]
    fn records_of_the_fsharp_library_get_the_pad_and_no_observation() {
        let mut seen = Observation::default();
        let mut record = held(100_000, 1);
        record.native = None;
        let mut judge =
            |clock: &ServiceClock, ms, strict| judged(&mut seen, &record, ms, clock, strict);
        assert!(matches!(
            judge(&sampled(101_000), 0, false),
            Verdict::Wait { ends: Some(_) }
        ));
        assert!(matches!(
            judge(&sampled(101_001), 0, false),
            Verdict::TakeOver(Seen::Foreign { .. }, _)
        ));
        let unsampled = ServiceClock::new(ClockBounds::default());
        assert_eq!(
            judge(&unsampled, 3_600_000, true),
            Verdict::Wait { ends: None }
        );
    }

    #[test]
    fn b7_dates_that_the_wall_clock_contradicts_take_no_live_lease() {
        let record = held(100_000, 1);
        let mut clock = ServiceClock::new(ClockBounds::default());
        // A proxy 30 s ahead: by its dates the lease is over.
        clock.learn(
            Stamp::WholeSeconds(125),
            Reading::default(),
            Reading::default(),
        );
        let judge = |seen: &mut Observation, ms: u64, wall_ms| {
            let present = Reading {
                elapsed: at(ms),
                wall_ms,
            };
            seen.judge(me(), Some(&record), at(ms), present, &clock, &rules(false))
        };
        let mut seen = Observation::default();
        let ends = Some(at(20_020));
        assert_eq!(judge(&mut seen, 0, 95_000), Verdict::Wait { ends });
        // A dead holder is still taken over, by watching it.
        assert!(matches!(
            judge(&mut seen, 20_020, 115_020),
            Verdict::TakeOver(..)
        ));
        // With a wall clock that agrees it is taken at once.
        let mut seen = Observation::default();
        assert!(matches!(
            judge(&mut seen, 0, 125_500),
            Verdict::TakeOver(..)
        ));
    }

    #[test]
    fn a_dead_process_is_taken_over_at_once() {
        let mut seen = Observation::default();
        let mut record = held(i64::MAX, 1);
        record.holder_is_dead = true;
        let clock = ServiceClock::new(ClockBounds::default());
        let verdict = judged(&mut seen, &record, 0, &clock, true);
        assert!(matches!(verdict, Verdict::TakeOver(..)));
    }
}
