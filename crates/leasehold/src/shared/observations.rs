//! What was seen of held keys.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use leasehold_protocol::takeover::Observation;

/// How many held keys are remembered between calls.
const REMEMBERED_KEYS: usize = 1_024;

/// What was seen of held keys, so that calls that are shorter than a lease can take over a dead
/// holder by observation all the same. Bounded; the key seen longest ago is forgotten first.
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
