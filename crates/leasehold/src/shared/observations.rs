//! Observations of held keys.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use leasehold_protocol::takeover::Observation;

/// How many held keys are remembered between calls.
const REMEMBERED_KEYS: usize = 1_024;

/// Observations of held keys. They let calls that are shorter than a lease take over a dead holder by
/// the observation rule. Bounded; the key seen longest ago is forgotten first.
#[derive(Debug, Default)]
pub(super) struct Observations {
    seen: HashMap<Arc<str>, Observation>,
    order: VecDeque<Arc<str>>,
}

impl Observations {
    pub(super) fn of(&self, key: &str) -> Observation {
        self.seen.get(key).cloned().unwrap_or_default()
    }

    pub(super) fn remember(&mut self, key: &Arc<str>, observation: &Observation) {
        if observation.is_empty() {
            if self.seen.remove(key).is_some() {
                self.order.retain(|k| k != key);
            }
            return;
        }
        if self.seen.insert(key.clone(), observation.clone()).is_none() {
            self.order.push_back(key.clone());
            if self.order.len() > REMEMBERED_KEYS
                && let Some(oldest) = self.order.pop_front()
            {
                self.seen.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use leasehold_protocol::record::{Native, Record};
    use leasehold_protocol::takeover::Rules;
    use leasehold_protocol::time::{ClockBounds, Elapsed, Reading, ServiceClock, ServiceTime};

    use super::*;

    /// The observation of a held key.
    fn seen() -> Observation {
        let record = Record {
            last_hold: None,
            key: "k".into(),
            owner: Some("11111111-1111-4111-8111-111111111111".into()),
            expires_at: ServiceTime(1_000),
            native: Some(Native {
                token: 7,
                lease: std::time::Duration::from_secs(20),
                renew_count: 1,
            }),
            ttl_seconds: None,
            holder: None,
            acquired_at: None,
            data: None,
            queue: Vec::new(),
            done: None,
            slots: None,
            last_force: None,
            holder_is_dead: false,
        };
        let rules = Rules {
            strict: true,
            expiry_padding: std::time::Duration::ZERO,
            bounds: ClockBounds::default(),
        };
        let now = Reading {
            elapsed: Elapsed::default(),
            wall_ms: 0,
        };
        let clock = ServiceClock::new(ClockBounds::default());
        let mut seen = Observation::default();
        seen.judge(None, Some(&record), now.elapsed, now, &clock, &rules);
        seen
    }

    #[test]
    fn a_bounded_number_of_keys_is_remembered_and_the_oldest_goes_first() {
        let mut all = Observations::default();
        let key = |n: usize| Arc::<str>::from(format!("k{n}"));
        for n in 0..=REMEMBERED_KEYS {
            all.remember(&key(n), &seen());
        }
        assert!(all.of("k0").is_empty() && !all.of("k1").is_empty());
        assert_eq!(
            (all.seen.len(), all.order.len()),
            (REMEMBERED_KEYS, REMEMBERED_KEYS)
        );
        // A free key is forgotten, which makes room.
        all.remember(&key(1), &Observation::default());
        assert!(all.of("k1").is_empty());
        all.remember(&key(0), &seen());
        assert!(!all.of("k0").is_empty() && !all.of("k2").is_empty());
        // And nothing else has left the order.
        all.remember(&key(1), &seen());
        assert!(all.of("k2").is_empty() && !all.of("k1").is_empty());
        assert_eq!(
            (all.seen.len(), all.order.len()),
            (REMEMBERED_KEYS, REMEMBERED_KEYS)
        );
    }
}
