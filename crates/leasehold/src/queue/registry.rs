//! The queues of a client, by key.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Waker;

use super::state::State;
use crate::holder::HolderInfo;
use crate::lease::state::LeaseState;
use crate::lease_id::LeaseId;
use crate::runtime::clocks::Clocks;
use leasehold_protocol::time::{Elapsed, Reading};

/// The most queues that are kept after a release. With more, the one that was released first is
/// forgotten.
const REMEMBERED: usize = 256;

/// The queues of a client. A queue exists while it has a waiter or a holder. Those of keys that other
/// clients want too are kept after a release, for what they have seen.
#[derive(Debug)]
pub(crate) struct Queues {
    clock: Arc<Clocks>,
    by_key: Mutex<HashMap<Arc<str>, Weak<Queue>>>,
    recent: Mutex<Recent>,
}

/// Queues that are kept, and until when.
type Recent = VecDeque<(Elapsed, Arc<Queue>)>;

/// The queue of one key.
#[derive(Debug)]
pub(crate) struct Queue {
    key: Arc<str>,
    queues: Weak<Queues>,
    pub(super) clock: Arc<Clocks>,
    state: Mutex<State>,
}

impl Queues {
    pub(crate) fn new(clock: Arc<Clocks>) -> Arc<Self> {
        Arc::new(Queues {
            clock,
            by_key: Mutex::default(),
            recent: Mutex::default(),
        })
    }

    pub(crate) fn of(self: &Arc<Self>, key: &Arc<str>) -> Arc<Queue> {
        self.forget(self.clock.elapsed());
        let mut queues = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(key).and_then(Weak::upgrade) {
            return queue;
        }
        let queue = self.queue(key, Arc::downgrade(self));
        queues.insert(key.clone(), Arc::downgrade(&queue));
        queue
    }

    /// A queue that nobody waits in: of the guard of a slot, which is not handed off.
    pub(crate) fn alone(&self, key: &Arc<str>) -> Arc<Queue> {
        self.queue(key, Weak::new())
    }

    fn queue(&self, key: &Arc<str>, queues: Weak<Queues>) -> Arc<Queue> {
        Arc::new(Queue {
            key: key.clone(),
            queues,
            clock: self.clock.clone(),
            state: Mutex::default(),
        })
    }

    /// Keeps a queue until then.
    pub(super) fn remember(&self, queue: &Arc<Queue>, until: Elapsed) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|(_, other)| !Arc::ptr_eq(other, queue));
        recent.push_back((until, queue.clone()));
        let oldest = (recent.len() > REMEMBERED).then(|| recent.pop_front());
        // The drop of a queue locks this registry.
        drop(recent);
        drop(oldest);
    }

    /// Forgets the queues whose time has passed.
    fn forget(&self, now: Elapsed) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut over = Vec::new();
        while let Some(first) = recent.pop_front_if(|(until, _)| *until <= now) {
            over.push(first);
        }
        // The drop of a queue locks this registry.
        drop(recent);
        drop(over);
    }

    /// The queue of a key, if there is one.
    fn existing(&self, key: &str) -> Option<Arc<Queue>> {
        let queues = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        queues.get(key).and_then(Weak::upgrade)
    }

    /// The lease of this client that holds the key, if there is one.
    pub(crate) fn holder(&self, key: &str) -> Option<Arc<LeaseState>> {
        let queue = self.existing(key)?;
        let mut holders = queue.holders();
        holders.retain(|held| !held.remaining().is_zero());
        holders.pop()
    }

    /// The holder of a key that waiters wait for, as far as they know.
    pub(crate) fn seen(&self, key: &str) -> Option<HolderInfo> {
        let seen = |key: &str| {
            let queue = self.existing(key)?;
            let waits = queue.with(|state, _| !state.waiters.is_empty() || state.lookers > 0);
            waits.then(|| queue.held()).flatten()
        };
        seen(key).or_else(|| seen(&of_slots(key)))
    }

    /// Pins the grant of an identity (see [`LeaseId::pin`]), also if a guard here has another copy of the
    /// identity. False if the guard of that identity was handed off.
    pub(crate) fn pin(self: &Arc<Self>, id: &LeaseId) -> bool {
        let queue = self.of(&id.key().shared());
        let holders = queue.holders();
        let mut here = holders.iter().filter(|held| held.id.same_grant(id));
        id.pin() && here.all(|held| held.id == *id && held.id.pin())
    }
}

/// The name of the queue of those that wait for a slot of a key. Guards of slots do not keep each other's waiters from
/// the store, so slots have a queue of their own.
pub(crate) fn of_slots(key: &str) -> String {
    format!("{key}\0slots")
}

impl Drop for Queue {
    fn drop(&mut self) {
        let Some(queues) = self.queues.upgrade() else {
            return;
        };
        let mut queues = queues.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        // Another queue of the same key may exist by now.
        if queues.get(&self.key).is_some_and(|q| q.strong_count() == 0) {
            queues.remove(&self.key);
        }
    }
}

impl Queue {
    pub(super) fn queues(&self) -> Option<Arc<Queues>> {
        self.queues.upgrade()
    }

    /// Runs `f` under the mutex, and calls the wakers afterwards.
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut State, &mut Vec<Waker>) -> T) -> T {
        let mut wake = Vec::new();
        let value = f(
            &mut self.state.lock().unwrap_or_else(PoisonError::into_inner),
            &mut wake,
        );
        for waker in wake {
            waker.wake();
        }
        value
    }

    pub(super) fn held(&self) -> Option<HolderInfo> {
        match self.holders().last() {
            Some(here) => Some(here.describe()),
            None => self.with(|state, _| state.held.as_deref().cloned()),
        }
    }

    pub(super) fn holders(&self) -> Vec<Arc<LeaseState>> {
        self.with(|state, _| {
            let held = state.holders.iter();
            held.filter_map(|(_, held)| held.upgrade()).collect()
        })
    }

    /// Until when a guard of this client holds the key, or is being released. It does not depend on the
    /// renewal task (invariant 4). A guard that has ended is forgotten here.
    pub(super) fn held_until(&self, now: Reading) -> Option<Elapsed> {
        let holders: Vec<_> = self.with(|state, _| {
            let held = state.holders.iter();
            held.map(|(number, held)| (*number, held.upgrade()))
                .collect()
        });
        let mut last = None;
        let mut over = Vec::new();
        for (number, held) in holders {
            match held.map(|held| held.held_until(now)) {
                Some(end) if end > now.elapsed => last = last.max(Some(end)),
                _ => over.push(number),
            }
        }
        if !over.is_empty() {
            let over = |(number, _): &(u64, _)| !over.contains(number);
            self.with(|state, _| state.holders.retain(over));
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use leasehold_protocol::time::ClockBounds;

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn guards_that_are_gone_are_forgotten() {
        let clock = Arc::new(ManualClock::new(0));
        let clocks = Arc::new(Clocks::new(clock, ClockBounds::default()));
        let queue = Queues::new(clocks.clone()).of(&Arc::from("k"));
        queue.with(|state, _| state.holders.push((1, Weak::new())));
        assert_eq!(queue.held_until(clocks.reading()), None);
        assert!(queue.with(|state, _| state.holders.is_empty()));
    }
}
