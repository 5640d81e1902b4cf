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

/// For how long a queue is remembered after its last use.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);

/// A process that comes back does not join while no more than so many places are free.
const LEFT_TO_OTHERS: usize = 2;

/// How a grant was released.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Released {
    /// Nobody waited.
    Free,
    /// It was handed over.
    HandedOver {
        /// How many wait behind its new holder.
        behind: usize,
        /// How many places there are.
        places: usize,
    },
}

/// A guard of this client holds the key. Dropped without [`released`](Holding::released), the state of
/// the key is unknown.
#[derive(Debug)]
pub(crate) struct Holding {
    queue: Arc<Queue>,
    number: u64,
    since: Elapsed,
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
        let number = queue.with(|state, _| {
            let number = state.next_number();
            state.holders.push((number, held));
            number
        });
        Holding {
            queue: queue.clone(),
            number,
            since: now,
            gone: false,
        }
    }

    /// Whether the first waiter asks for this grant.
    pub(crate) fn has_next(&self, policy: &Policy, data: Option<&Arc<[u8]>>) -> bool {
        self.queue.with(|state, _| state.is_wanted(policy, data))
    }

    /// How long this client had the key the last time, if others wanted it then. Who hands it over may come back: where
    /// this grant was `handed_over`, how long the one before was held.
    pub(crate) fn shared_hold(&self, handed_over: bool) -> Option<Duration> {
        self.queue.with(|state, _| {
            let before = state.pace.held().filter(|_| handed_over);
            state.shared_hold.or(before)
        })
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

    /// Records that the grant was released. A call that comes back soon finds this queue.
    pub(crate) fn released(&mut self, now: Elapsed, released: Released) {
        let held = now.since(self.since);
        let (start, shared) = self.queue.with(|state, _| {
            let start = match released {
                Released::Free => {
                    state.shared_hold = None;
                    Start::Request
                }
                Released::HandedOver { behind, places } => {
                    (state.shared, state.shared_hold) = (true, Some(held));
                    // It leaves the places that come free to those who have none.
                    match behind + LEFT_TO_OTHERS < places {
                        true => Start::Join(state.pace.after(behind + 1, held, now)),
                        false => Start::Poll(Polls {
                            full: 1,
                            ..Polls::default()
                        }),
                    }
                }
            };
            (start, state.shared)
        });
        if shared && let Some(queues) = self.queue.queues() {
            queues.remember(&self.queue, now.plus(REMEMBERED_FOR));
        }
        self.gone(start);
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
