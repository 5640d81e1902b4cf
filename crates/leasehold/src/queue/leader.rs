//! What the leader of a queue says and hears. Not the role itself, which belongs to its place: whatever
//! a waiter that is not the leader any more says here is passed over.

use std::sync::Arc;

use super::registry::Queue;
use super::state::Start;
use crate::holder::HolderInfo;
use crate::store::StoreError;
use leasehold_protocol::time::{Elapsed, Reading};

/// Turns after which a process still remembers that others want the key, too.
const SHARED_TURNS: u8 = 8;

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

    /// Whether it has waited for others.
    pub(crate) fn has_waited(&self) -> bool {
        self.waited
    }

    /// Whether it still is the leader, and no guard of this client holds the key: whether it is to go on.
    pub(crate) fn goes_on(&self, now: Reading) -> bool {
        self.queue.with(|state, _| state.leads(self.number)) && self.queue.held_until(now).is_none()
    }

    /// It will be heard of again by then.
    pub(crate) fn expect(&self, by: Elapsed) {
        self.queue.with(|state, _| state.expect(self.number, by));
    }

    pub(crate) fn start(&self) -> Start {
        self.queue.with(|state, _| state.start)
    }

    /// What the next leader is to go on with.
    pub(crate) fn plan(&self, start: Start) {
        self.queue.with(|state, _| {
            if state.leads(self.number) {
                state.start = start;
            }
        });
    }

    /// A request is sent, whose answer is waited for until then.
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

    /// The record shows another's grant.
    pub(crate) fn saw(&self, held: &HolderInfo) {
        let token = held.token().map(|token| token.stored());
        let held = Box::new(held.clone());
        let _old = self.queue.with(|state, _| {
            let own = token.is_some() && token <= state.own;
            if state.holders.is_empty() && !own {
                // Another process has its turn.
                state.hold_limit = None;
                state.shared_turns = SHARED_TURNS;
            }
            state.held.replace(held)
        });
    }

    /// Who holds the key, as far as the queue knows.
    pub(crate) fn held(&self) -> Option<HolderInfo> {
        self.queue.held()
    }

    /// Since when the store has been failing.
    pub(crate) fn failing_since(&self) -> Option<Elapsed> {
        self.queue
            .with(|state, _| state.trouble.as_ref().map(|(since, _)| *since))
    }

    /// The store answers, or has been failing since then.
    pub(crate) fn trouble(&self, trouble: Option<(Elapsed, &StoreError)>) {
        let trouble = trouble.map(|(since, error)| (since, Box::new(error.retold())));
        let _old = self
            .queue
            .with(|state, _| std::mem::replace(&mut state.trouble, trouble));
    }

    /// The store has failed for too long: tells all who have waited for as long, so that none of them
    /// waits for its own turn to find out.
    pub(crate) fn give_up(&self, now: Elapsed, since: Elapsed, error: &StoreError) {
        self.queue
            .with(|state, wake| state.give_up(self.number, now, since, error, wake));
    }
}
