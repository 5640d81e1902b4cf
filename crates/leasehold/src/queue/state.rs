//! The state of a queue: a pure state machine. The caller passes the time, and calls the wakers that
//! it returns.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use tokio::runtime::Handle;

use super::pace::Pace;
use crate::holder::HolderInfo;
use crate::lease::guard::Undelivered;
use crate::lease::state::LeaseState;
use crate::policy::Policy;
use crate::store::StoreError;
use leasehold_protocol::time::Elapsed;
use leasehold_protocol::token::FencingToken;

/// How long a leader may be overdue, and how long a guard may lie in the place of a waiter that does not
/// run.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// Each waiter watches an overdue leader for this long more than the waiter before it.
const WATCH_STEP: Duration = Duration::from_millis(50);
/// For how many waiters that time grows. The waiters behind them act at the same time.
const WATCHING: u64 = 16;

/// How the next leader begins.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Start {
    /// The key may be free: send an acquire request.
    #[default]
    Request,
    /// The key is held by another client until then, as far as is known: join its queue.
    Join(Elapsed),
    /// The key is held, or its state is unknown: poll.
    Poll(Polls),
}

/// The next poll of a leader.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Polls {
    /// When it is due, if known.
    pub(crate) at: Option<Elapsed>,
    /// When the grant that was seen can end at the latest.
    pub(crate) ends: Option<Elapsed>,
    /// How many answers in a row have shown a full queue.
    pub(crate) full: u32,
}

/// The state of one key that the waiters of a client share.
#[derive(Debug, Default)]
pub(super) struct State {
    last_number: u64,
    pub(super) waiters: BTreeMap<u64, Entry>,
    /// How many calls wait outside of the queue.
    pub(super) lookers: u32,
    leader: Option<Leader>,
    pub(super) holders: Vec<(u64, Weak<LeaseState>)>,
    pub(super) start: Start,
    /// What is known of the turns of the key.
    pub(super) pace: Pace,
    /// Whether another client has had the key.
    pub(super) shared: bool,
    /// How long this client had the key the last time, if others wanted it then.
    pub(super) shared_hold: Option<Duration>,
    /// The last holder seen.
    pub(super) held: Option<Box<HolderInfo>>,
    /// Since when the store has failed, and its last error.
    pub(super) trouble: Option<(Elapsed, Box<StoreError>)>,
    pub(super) requests: u32,
}

/// The one waiter that talks to the store.
#[derive(Clone, Copy, Debug)]
struct Leader {
    number: u64,
    /// When its sign of life is due.
    due: Elapsed,
}

/// One waiter: its request, and the guard or error that it was given.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) policy: Policy,
    pub(super) data: Option<Arc<[u8]>>,
    pub(super) joined: Elapsed,
    /// The runtime that it was last polled on, where a guard for it is renewed.
    pub(super) runtime: Handle,
    /// A guard or error that it has not taken yet. Small, since most waiters have none.
    gift: Option<Gift>,
    /// It was overdue and has not run since, so that other waiters come first.
    silent: bool,
    /// Taken when it is woken.
    pub(super) waker: Option<Waker>,
}

#[derive(Debug)]
enum Gift {
    Lease(Box<Undelivered>),
    Failed(Box<StoreError>),
}

/// The next step of a waiter.
#[derive(Debug)]
pub(super) enum Step {
    Given(Box<Undelivered>),
    Failed(Box<StoreError>),
    /// It is the leader.
    Lead,
    /// Sleep until it is woken, or until then.
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

    /// The first waiter that runs, or else the first waiter.
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

    /// Chooses a leader if there is none (invariant 1). Every change ends with this.
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
            // The new leader has nothing to do before the holder's guard ends: the time of the former
            // leader stays.
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

    /// Removes a waiter, and returns it with the guard or error in its place.
    pub(super) fn leave(
        &mut self,
        number: u64,
        now: Elapsed,
        wake: &mut Vec<Waker>,
    ) -> Option<Entry> {
        let left = self.waiters.remove(&number);
        if self.waiters.is_empty() {
            // An emptied map keeps memory for eleven entries, and there may be many keys.
            self.waiters = BTreeMap::new();
        }
        self.restore(now, wake);
        left
    }

    /// The next step of a waiter. `acting`: its acquisition already runs.
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
            // From here on it waits again until it leaves, since the guard may have ended by now.
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

    /// Marks a waiter as not running. If it is on another runtime than the waiter that found it, all
    /// waiters of that runtime are marked.
    fn mark_silent(&mut self, silent: u64, found_by: u64) {
        let runtime = |number| self.waiters.get(&number).map(|w| w.runtime.id());
        let (there, here) = (runtime(silent), runtime(found_by));
        for (number, waiter) in &mut self.waiters {
            let stands_still = there != here && Some(waiter.runtime.id()) == there;
            waiter.silent |= *number == silent || stands_still;
        }
    }

    /// The leader promises a sign of life by `by`.
    pub(super) fn expect(&mut self, number: u64, by: Elapsed) {
        if let Some(leader) = self.leader.as_mut().filter(|l| l.number == number) {
            leader.due = by.plus(PATIENCE);
        }
    }

    /// Whether the first waiter asks for this grant.
    pub(super) fn is_wanted(&self, policy: &Policy, data: Option<&Arc<[u8]>>) -> bool {
        let first = self.first().and_then(|first| self.waiters.get(&first));
        first.is_some_and(|first| first.wants(policy, data))
    }

    /// Gives the first waiter a guard if it asks for this grant, and returns its runtime.
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

    /// Takes a guard back from a waiter that has not taken it.
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

    /// Gives `error` to all waiters but `leader` whose call time-out has passed while the store failed.
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
                waiter.gift = Some(Gift::Failed(Box::new(error.without_source())));
                wake.extend(waiter.waker.take());
            }
        }
        self.restore(now, wake);
    }

    /// A guard of this client has ended: wakes the leader, and the waiter behind it to watch the leader.
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

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, Runtime};

    use super::*;
    use crate::error::Effect;
    use crate::store::StoreErrorKind;

    fn runtime() -> Runtime {
        Builder::new_current_thread().build().expect("a runtime")
    }

    const fn at(seconds: u64) -> Elapsed {
        Elapsed(Duration::from_secs(seconds))
    }

    fn join(state: &mut State, joined: Elapsed, runtime: &Runtime) -> u64 {
        let runtime = runtime.handle().clone();
        let waiter = Entry::new(Policy::default(), None, joined, runtime);
        state.join(waiter, joined, &mut Vec::new())
    }

    #[test]
    fn a_leader_that_does_not_run_is_passed_over_with_its_runtime() {
        let (here, there) = (runtime(), runtime());
        let silent = |runtimes: &[&Runtime]| {
            let mut state = State::default();
            for runtime in runtimes {
                join(&mut state, at(0), runtime);
            }
            // The first one leads, and is long overdue.
            let step = state.step(2, at(60), false, &mut Vec::new());
            assert!(matches!(step, Step::Lead) && state.leads(2));
            let waiters = state.waiters.values();
            waiters.map(|waiter| waiter.silent).collect::<Vec<_>>()
        };
        let seen = silent(&[&there, &here, &there, &here]);
        assert_eq!(seen, [true, false, true, false]);
        // The runtime of both goes on.
        assert_eq!(
            silent(&[&here, &here, &here, &there]),
            [true, false, false, false]
        );
    }

    #[test]
    fn a_store_that_fails_ends_the_waits_whose_time_has_passed() {
        let runtime = runtime();
        let mut state = State::default();
        let leader = join(&mut state, at(0), &runtime);
        join(&mut state, at(0), &runtime);
        join(&mut state, at(5), &runtime);
        let error = StoreError::new(StoreErrorKind::Unavailable, Effect::Unknown, "sick");
        state.give_up(leader, at(12), at(0), &error, &mut Vec::new());
        let waiters = state.waiters.values();
        let failed: Vec<_> = waiters
            .map(|waiter| matches!(waiter.gift, Some(Gift::Failed(_))))
            .collect();
        // The leader ends by itself, and the last one has waited for seven of ten seconds.
        assert_eq!(failed, [false, true, false]);
    }
}
