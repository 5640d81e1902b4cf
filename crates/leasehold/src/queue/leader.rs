//! The leader's handle to its queue. The role itself belongs to the waiter's place: calls by a former
//! leader are ignored.

use std::sync::Arc;

use super::pace::Pace;
use super::registry::Queue;
use super::state::Start;
use crate::holder::HolderInfo;
use crate::store::StoreError;
use leasehold_protocol::time::{Elapsed, Reading};

#[derive(Clone, Debug)]
pub(crate) struct LeaderRole {
    queue: Arc<Queue>,
    number: u64,
    before: u32,
    waited: bool,
}

impl LeaderRole {
    pub(super) fn new(queue: Arc<Queue>, number: u64, before: u32, waited: bool) -> Self {
        LeaderRole {
            queue,
            number,
            before,
            waited,
        }
    }

    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Whether it has waited for another holder.
    pub(crate) fn has_waited(&self) -> bool {
        self.waited
    }

    /// Whether it must go on: it is still the leader, and no guard of this client holds the key.
    pub(crate) fn goes_on(&self, now: Reading) -> bool {
        self.queue.with(|state, _| state.leads(self.number)) && self.queue.held_until(now).is_none()
    }

    /// Promises a sign of life by `by`.
    pub(crate) fn expect(&self, by: Elapsed) {
        self.queue.with(|state, _| state.expect(self.number, by));
    }

    pub(crate) fn start(&self) -> Start {
        self.queue.with(|state, _| state.start)
    }

    /// Sets how the next leader begins.
    pub(crate) fn plan(&self, start: Start) {
        self.queue.with(|state, _| {
            if state.leads(self.number) {
                state.start = start;
            }
        });
    }

    /// Records a request, whose answer is due by `until`.
    pub(crate) fn sends(&self, until: Elapsed) {
        self.queue.with(|state, _| {
            state.requests += 1;
            state.expect(self.number, until);
        });
    }

    /// How many requests were sent for this waiter.
    pub(crate) fn requests(&self) -> u32 {
        let sent = self.queue.with(|state, _| state.requests);
        sent.wrapping_sub(self.before)
    }

    /// Records that another client holds the key.
    pub(crate) fn saw(&self, held: &HolderInfo) {
        let held = Box::new(held.clone());
        let _old = self.queue.with(|state, _| {
            state.shared = true;
            state.held.replace(held)
        });
    }

    /// What is known of the turns of the key.
    pub(crate) fn pace<T>(&self, f: impl FnOnce(&mut Pace) -> T) -> T {
        self.queue.with(|state, _| f(&mut state.pace))
    }

    /// Who holds the key, as far as the queue knows.
    pub(crate) fn held(&self) -> Option<HolderInfo> {
        self.queue.held()
    }

    /// Since when the store has failed.
    pub(crate) fn failing_since(&self) -> Option<Elapsed> {
        self.queue
            .with(|state, _| state.trouble.as_ref().map(|(since, _)| *since))
    }

    /// Records that the store answers, or since when it has failed.
    pub(crate) fn trouble(&self, trouble: Option<(Elapsed, &StoreError)>) {
        let trouble = trouble.map(|(since, error)| (since, Box::new(error.without_source())));
        let _old = self
            .queue
            .with(|state, _| std::mem::replace(&mut state.trouble, trouble));
    }

    /// Ends the waits of all waiters that have waited for their call time-out while the store failed. So
    /// none of them must lead first to find that out.
    pub(crate) fn give_up(&self, now: Elapsed, since: Elapsed, error: &StoreError) {
        self.queue
            .with(|state, wake| state.give_up(self.number, now, since, error, wake));
    }
}
