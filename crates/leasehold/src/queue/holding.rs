//! The queue's record of a guard that holds the key, used by the guard's renewal task.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::registry::Queue;
use super::state::{Polls, Start};
use crate::lease::guard::Undelivered;
use crate::lease::state::LeaseState;
use crate::policy::Policy;
use leasehold_protocol::time::Elapsed;
use leasehold_protocol::token::FencingToken;

/// How a process shares a key with other processes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turns {
    /// How long it may keep the key while other processes may wait for it.
    pub(crate) hold_limit: Duration,
    /// How long its queue pauses after that.
    pub(crate) pause: Duration,
    /// How long it pauses after every turn if another process is known to want the key.
    pub(crate) short_pause: Duration,
}

/// A guard of this client holds the key. Dropped without [`released`](Holding::released), the state of
/// the key is unknown.
#[derive(Debug)]
pub(crate) struct Holding {
    queue: Arc<Queue>,
    number: u64,
    gone: bool,
}

impl Holding {
    /// Records that a guard of this client holds the key from `now` on.
    pub(crate) fn begin(
        queue: &Arc<Queue>,
        lease_state: &Arc<LeaseState>,
        now: Elapsed,
    ) -> Holding {
        let held = Arc::downgrade(lease_state);
        let token = lease_state.id.token().stored();
        let number = queue.with(|state, _| {
            state.own = state.own.max(Some(token));
            let number = state.next_number();
            state.holders.push((number, held));
            state.kept_since.get_or_insert(now);
            number
        });
        Holding {
            queue: queue.clone(),
            number,
            gone: false,
        }
    }

    /// Whether the first waiter asks for this grant, and the process has kept the key for less than
    /// `hold_limit`.
    pub(crate) fn has_next(
        &self,
        policy: &Policy,
        data: Option<&Arc<[u8]>>,
        now: Elapsed,
        hold_limit: Duration,
    ) -> bool {
        self.queue.with(|state, _| {
            let since = state.kept_since.unwrap_or(now);
            now.since(since) < hold_limit && state.is_wanted(policy, data)
        })
    }

    /// Whether another process is known to want the key, too.
    pub(crate) fn is_shared(&self) -> bool {
        self.queue.with(|state, _| state.shared_turns > 0)
    }

    /// Gives the first waiter a guard, and shows it to the other waiters. Returns the runtime of that
    /// waiter, or the guard if no waiter asks for it.
    pub(crate) fn give(
        &self,
        lease: Undelivered,
        lease_state: &Arc<LeaseState>,
        policy: &Policy,
        data: Option<&Arc<[u8]>>,
    ) -> Result<Handle, Undelivered> {
        let now = self.queue.clock.elapsed();
        let lease_state = Arc::downgrade(lease_state);
        let (result, _old) = self.queue.with(|state, wake| {
            let old = state
                .holders
                .iter_mut()
                .find(|(number, _)| *number == self.number)
                .map(|(_, held)| std::mem::replace(held, lease_state));
            (state.give(lease, policy, data, now, wake), old)
        });
        result
    }

    /// Takes a guard with this token back from a waiter that has not taken it. `None`: it has.
    pub(crate) fn take_back(&self, token: FencingToken) -> Option<Undelivered> {
        let now = self.queue.clock.elapsed();
        self.queue
            .with(|state, wake| state.take_back(token, now, wake))
    }

    /// Records that the key is free. The next request of this process pauses, so that other processes get
    /// a turn: after `hold_limit`, and if they are known to want the key, after every turn without a next
    /// waiter.
    pub(crate) fn released(&mut self, now: Elapsed, turns: &Turns) {
        let (pause, last) = self.queue.with(|state, _| {
            let long = state
                .kept_since
                .is_some_and(|since| now.since(since) >= turns.hold_limit);
            if long {
                state.kept_since = None;
            }
            let last = state.waiters.is_empty();
            let shared = last && state.shared_turns > 0;
            // In a queue that is never empty, each long hold counts as a turn.
            state.shared_turns = state.shared_turns.saturating_sub(u8::from(last || long));
            let pause = match (long, last) {
                (true, false) => turns.pause,
                (true, true) => turns.short_pause,
                (false, _) if shared => turns.short_pause,
                (false, _) => Duration::ZERO,
            };
            (pause, last)
        });
        if last && let Some(queues) = self.queue.queues() {
            // A call that comes back at once must find this queue and its pause.
            queues.remember(&self.queue, now.plus(turns.short_pause));
        }
        let not_before = now.plus(pause);
        self.gone(Start::Request { not_before });
    }

    /// Records that the guard does not hold the key, or that this is unknown.
    pub(crate) fn gone(&mut self, start: Start) {
        if std::mem::replace(&mut self.gone, true) {
            return;
        }
        let number = self.number;
        let now = self.queue.clock.elapsed();
        // The error of a waiter that gives up before the next poll names this holder.
        let waited_for = self.queue.with(|state, _| !state.waiters.is_empty());
        let last = self.queue.holders().pop().filter(|_| waited_for);
        let seen = last.map(|last| Box::new(last.describe()));
        let _old = self.queue.with(|state, wake| {
            let place = state.holders.iter().position(|(n, _)| *n == number);
            let old = place.map(|place| state.holders.swap_remove(place));
            state.start = start;
            // If another guard holds the key, the leader finds that out itself.
            state.holder_gone(now, wake);
            (old, seen.and_then(|seen| state.held.replace(seen)))
        });
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.gone(Start::Poll(Polls::default()));
    }
}
