//! The state of a queue: a pure state machine. It reads no clock and wakes nobody: it is told the time, and
//! hands out the wakers to call.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::holder::HolderInfo;
use crate::lease::guard::Undelivered;
use crate::lease::state::LeaseState;
use crate::policy::Policy;
use crate::store::StoreError;
use leasehold_protocol::time::Elapsed;
use leasehold_protocol::token::FencingToken;

/// How long a leader may be silent beyond the time at which it wanted to be heard of again, and how long a
/// guard may lie in the place of a waiter that does not run.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// Waiters watch the leader one after the other, so long apart,
const WATCH_STEP: Duration = Duration::from_millis(50);
/// so many of them; those behind all at once.
const WATCHING: u64 = 16;

/// How the next leader begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    /// The key may be free: ask for it, from then on.
    Request { not_before: Elapsed },
    /// It is held: poll.
    Poll(Polls),
}

impl Default for Start {
    fn default() -> Self {
        Start::Request {
            not_before: Elapsed::default(),
        }
    }
}

/// Where the polls of a leader are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Polls {
    /// How often it has polled in vain.
    pub(crate) round: u32,
    /// When the next poll is due, if that is decided.
    pub(crate) at: Option<Elapsed>,
    /// When the grant that was seen can end at the latest.
    pub(crate) ends: Option<Elapsed>,
    /// The newest token that a poll has shown.
    pub(crate) newest: Option<u64>,
}

impl Polls {
    /// A poll has shown another's grant with this token. Where grants are short, waiting begins anew
    /// with each: the delays grow only while nothing moves.
    pub(crate) fn saw(&mut self, token: u64) {
        if token > *self.newest.get_or_insert(token) {
            self.newest = Some(token);
            self.round = 0;
        }
    }
}

/// Everything about one key that the waiters of a client share.
#[derive(Debug, Default)]
pub(super) struct State {
    last_number: u64,
    pub(super) waiters: BTreeMap<u64, Entry>,
    leader: Option<Leader>,
    pub(super) holders: Vec<(u64, Weak<LeaseState>)>,
    pub(super) start: Start,
    /// Since when no other process has had the key, as far as we know.
    pub(super) hold_limit: Option<Elapsed>,
    /// The newest grant that a guard of this client has had: what shows it is no news of others (or of
    /// whoever has adopted it since, whom this client does not count).
    pub(super) own: Option<u64>,
    /// For how many turns the key is left to other processes after each: one of them has had it lately.
    pub(super) shared_turns: u8,
    /// Who else holds the key.
    pub(super) held: Option<Box<HolderInfo>>,
    /// Since when the store has been failing, and how.
    pub(super) trouble: Option<(Elapsed, Box<StoreError>)>,
    pub(super) requests: u32,
}

/// The one waiter that talks to the store.
#[derive(Clone, Copy, Debug)]
struct Leader {
    number: u64,
    /// By when it wanted to be heard of again.
    due: Elapsed,
}

/// What a waiter asks for, and what it has been given.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) policy: Policy,
    pub(super) data: Option<Arc<[u8]>>,
    pub(super) joined: Elapsed,
    /// The runtime that it was last polled on: a guard that it is given is kept there.
    pub(super) runtime: Handle,
    /// Small, since nearly all who wait have been given nothing.
    gift: Option<Gift>,
    /// It lost the leader's role or a guard by its silence, and has not run since: others come first.
    silent: bool,
    /// Taken when it is woken.
    pub(super) waker: Option<Waker>,
}

#[derive(Debug)]
enum Gift {
    Lease(Box<Undelivered>),
    Failed(Box<StoreError>),
}

/// What a waiter does next.
#[derive(Debug)]
pub(super) enum Step {
    Given(Box<Undelivered>),
    Failed(Box<StoreError>),
    /// It is the leader.
    Lead,
    /// Nothing, until it is woken, or until then.
    Wait(Elapsed),
}

impl Entry {
    pub(super) fn new(
        policy: Policy,
        data: Option<Arc<[u8]>>,
        joined: Elapsed,
        runtime: Handle,
    ) -> Self {
        Entry {
            policy,
            data,
            joined,
            runtime,
            gift: None,
            silent: false,
            waker: None,
        }
    }

    fn waits(&self) -> bool {
        self.gift.is_none()
    }

    fn wants(&self, policy: &Policy, data: Option<&Arc<[u8]>>) -> bool {
        self.policy.grants_like(policy) && self.data.as_ref() == data
    }
}

impl State {
    pub(super) fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    pub(super) fn leads(&self, number: u64) -> bool {
        self.leader.is_some_and(|leader| leader.number == number)
    }

    /// The first who waits, of those that run if there is one.
    fn first(&self) -> Option<u64> {
        let mut waiting = self.waiters.iter().filter(|(_, waiter)| waiter.waits());
        let mut first = None;
        waiting
            .find(|(number, waiter)| {
                first.get_or_insert(**number);
                !waiter.silent
            })
            .map(|(number, _)| *number)
            .or(first)
    }

    /// Invariant 1: the end of every change.
    pub(super) fn restore(&mut self, now: Elapsed, wake: &mut Vec<Waker>) {
        if let Some(leader) = self.leader
            && self.waiters.get(&leader.number).is_some_and(Entry::waits)
        {
            return;
        }
        let soon = now.plus(PATIENCE);
        let due = if self.holders.is_empty() {
            soon
        } else {
            // There is nothing to do before the holder's guard ends, or its lease is over: the leader before
            // has said when that is.
            self.leader.map_or(soon, |before| before.due.max(soon))
        };
        self.leader = self.first().map(|number| Leader { number, due });
        if self.holders.is_empty() {
            self.wake_leader(wake);
        }
    }

    fn wake_leader(&mut self, wake: &mut Vec<Waker>) {
        let leader = self
            .leader
            .and_then(|leader| self.waiters.get_mut(&leader.number));
        wake.extend(leader.and_then(|leader| leader.waker.take()));
    }

    pub(super) fn join(&mut self, waiter: Entry, now: Elapsed, wake: &mut Vec<Waker>) -> u64 {
        let number = self.next_number();
        self.waiters.insert(number, waiter);
        self.restore(now, wake);
        number
    }

    /// Takes a waiter out. What it was given comes with it.
    pub(super) fn leave(
        &mut self,
        number: u64,
        now: Elapsed,
        wake: &mut Vec<Waker>,
    ) -> Option<Entry> {
        let left = self.waiters.remove(&number);
        if self.waiters.is_empty() {
            // An emptied map keeps room for eleven, and there may be many keys.
            self.waiters = BTreeMap::new();
        }
        self.restore(now, wake);
        left
    }

    /// What the waiter does next. `acting`: its acquisition is under way, so being the leader is no news.
    pub(super) fn step(
        &mut self,
        number: u64,
        now: Elapsed,
        acting: bool,
        wake: &mut Vec<Waker>,
    ) -> Step {
        let Some(waiter) = self.waiters.get_mut(&number) else {
            return Step::Wait(Elapsed::NEVER);
        };
        if let Some(gift) = waiter.gift.take() {
            // From here on it waits again, until it leaves: what it was given may be over by now.
            self.restore(now, wake);
            return match gift {
                Gift::Lease(lease) => Step::Given(lease),
                Gift::Failed(error) => Step::Failed(error),
            };
        }
        waiter.silent = false;
        if acting {
            return Step::Wait(Elapsed::NEVER);
        }
        match self.leader {
            Some(leader) if leader.number == number => {}
            Some(leader) => {
                let behind = number.abs_diff(leader.number).min(WATCHING);
                let behind = u32::try_from(behind).unwrap_or(u32::MAX);
                let overdue = leader.due.plus(WATCH_STEP * behind);
                if now < overdue {
                    return Step::Wait(overdue);
                }
                self.mark_silent(leader.number, number);
                self.leader = Some(Leader { number, due: now });
            }
            None => self.leader = Some(Leader { number, due: now }),
        }
        self.expect(number, now);
        Step::Lead
    }

    /// A waiter that does not run, as another has found. Where that is on another runtime, it is the runtime that
    /// stands still, with all who wait there.
    fn mark_silent(&mut self, silent: u64, found_by: u64) {
        let runtime = |number| self.waiters.get(&number).map(|w| w.runtime.id());
        let (there, here) = (runtime(silent), runtime(found_by));
        for (number, waiter) in &mut self.waiters {
            let stands_still = there != here && Some(waiter.runtime.id()) == there;
            waiter.silent |= *number == silent || stands_still;
        }
    }

    /// The leader will be heard of again by then.
    pub(super) fn expect(&mut self, number: u64, by: Elapsed) {
        if let Some(leader) = self.leader.as_mut().filter(|l| l.number == number) {
            leader.due = by.plus(PATIENCE);
        }
    }

    /// Whether the first who waits wants just this grant.
    pub(super) fn is_wanted(&self, policy: &Policy, data: Option<&Arc<[u8]>>) -> bool {
        let first = self.first().and_then(|first| self.waiters.get(&first));
        first.is_some_and(|first| first.wants(policy, data))
    }

    /// Gives the first who waits a guard, if it wants just this one: the runtime that it waits on.
    pub(super) fn give(
        &mut self,
        lease: Undelivered,
        policy: &Policy,
        data: Option<&Arc<[u8]>>,
        now: Elapsed,
        wake: &mut Vec<Waker>,
    ) -> Result<Handle, Undelivered> {
        let first = self.first();
        let first = first.and_then(|first| self.waiters.get_mut(&first));
        let Some(first) = first.filter(|first| first.wants(policy, data)) else {
            return Err(lease);
        };
        first.gift = Some(Gift::Lease(Box::new(lease)));
        wake.extend(first.waker.take());
        let runtime = first.runtime.clone();
        self.restore(now, wake);
        Ok(runtime)
    }

    /// Takes a guard back from a waiter that has not come for it.
    pub(super) fn take_back(
        &mut self,
        token: FencingToken,
        now: Elapsed,
        wake: &mut Vec<Waker>,
    ) -> Option<Undelivered> {
        let lies = |waiter: &&mut Entry| matches!(&waiter.gift, Some(Gift::Lease(lease)) if lease.token() == token);
        let waiter = self.waiters.values_mut().find(lies)?;
        let gift = waiter.gift.take();
        waiter.silent = true;
        self.restore(now, wake);
        match gift {
            Some(Gift::Lease(lease)) => Some(*lease),
            _ => None,
        }
    }

    /// Tells those who have waited for as long as they put up with a store that fails, but for `leader`.
    pub(super) fn give_up(
        &mut self,
        leader: u64,
        now: Elapsed,
        since: Elapsed,
        error: &StoreError,
        wake: &mut Vec<Waker>,
    ) {
        for (number, waiter) in &mut self.waiters {
            let until = since.max(waiter.joined).plus(waiter.policy.call_timeout());
            if *number != leader && waiter.waits() && now >= until {
                waiter.gift = Some(Gift::Failed(Box::new(error.retold())));
                wake.extend(waiter.waker.take());
            }
        }
        self.restore(now, wake);
    }

    /// Nobody here holds the key any more: the leader goes on, and the one behind it watches over that.
    pub(super) fn holder_gone(&mut self, now: Elapsed, wake: &mut Vec<Waker>) {
        self.restore(now, wake);
        let Some(leader) = self.leader else { return };
        self.expect(leader.number, now);
        self.wake_leader(wake);
        let mut behind = self.waiters.range_mut(leader.number + 1..);
        if let Some((_, behind)) = behind.find(|(_, waiter)| waiter.waits()) {
            wake.extend(behind.waker.take());
        }
    }
}
