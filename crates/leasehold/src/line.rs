//! The line of one key: who of this client waits for it, who asks the store, who holds it here.
//!
//! It decides nothing about leases. A [`Ticket`] is a waiter's place; a [`Head`] is the role of the
//! one waiter that talks to the store; a [`Holding`] says that a guard of this client holds the key.
//! Invariants (`DESIGN.md`, "How do the waiters of one process stand in line?"): at most one head;
//! none is made while a guard holds the key here; what a waiter is given lies in its place until
//! it takes it, and moves on when the waiter leaves. The lock is never held across an await, and no
//! waker, guard or error is woken or dropped under it: each of them may come back here. A process
//! that keeps a key, or knows that others want it, sits out for a moment now and then.

use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::held::Held;
use crate::identity::LeaseId;
use crate::keeper::Watched;
use crate::lease::Parcel;
use crate::policy::Policy;
use crate::protocol::time::Elapsed;
use crate::store::StoreError;

/// Turns after which a process still remembers that others want the key, too.
const COURTEOUS_TURNS: u8 = 8;
/// Lines that nobody stands in, but whose key was let go of a moment ago; where there are more, the next to be over is forgotten.
const REMEMBERED: usize = 256;

/// The lines of a client. One exists while somebody stands in it or holds its key; a few whose key was let go of
/// also for a moment, and until the first call of [`Lines::of`] after it.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    by_key: Mutex<HashMap<Arc<str>, Weak<Line>>>,
    recent: Mutex<Recent>,
}

/// Lines that are kept for a moment, by its end and their key.
type Recent = BTreeMap<(Elapsed, Arc<str>), Arc<Line>>;

/// The line of one key.
#[derive(Debug)]
pub(crate) struct Line {
    key: Arc<str>,
    lines: Weak<Lines>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    last_number: u64,
    waiting: BTreeMap<u64, Waiter>,
    /// Whose the head's role is, taken up or not.
    head: Option<u64>,
    /// The head, waiting for the holder here.
    bell: Option<Waker>,
    holders: Vec<(u64, Weak<Watched>)>,
    start: Start,
    /// Since when no other process has had the key, as far as we know.
    tenure: Option<Elapsed>,
    /// The newest grant that a guard of this client has had: what shows it is no news of others (or of
    /// whoever has adopted it since, to whom this client is less courteous).
    own: Option<u64>,
    /// For how many turns the key is left to other processes after each: one of them has had it lately.
    courtesy: u8,
    /// Who else holds the key.
    held: Option<Box<Held>>,
    /// Since when the store has been failing, and how.
    trouble: Option<(Elapsed, Box<StoreError>)>,
    requests: u32,
}

/// What a waiter asks for, and what it has been given.
#[derive(Debug)]
struct Waiter {
    policy: Policy,
    data: Option<Arc<[u8]>>,
    joined: Elapsed,
    turn: Option<Turn>,
    waker: Option<Waker>,
}

/// Small, since nearly all who wait have been given nothing yet.
#[derive(Debug)]
enum Turn {
    Head,
    Lease(Box<Parcel>),
    Failed(Box<StoreError>),
}

/// What a waiter is told.
#[derive(Debug)]
pub(crate) enum Call {
    /// Ask the store.
    Head(Head),
    /// The key is yours.
    Lease(Parcel),
    /// The store has failed for as long as you put up with it.
    Failed(StoreError),
}

/// How the next head begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    /// The key may be free: ask for it, from then on.
    Ask { not_before: Elapsed },
    /// It is held: look.
    Look(Looks),
}

/// Where the looks of a head are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Looks {
    /// How often it has looked in vain.
    pub(crate) round: u32,
    /// When the next look is due, if that is decided.
    pub(crate) at: Option<Elapsed>,
    /// When the grant that was seen can end at the latest.
    pub(crate) ends: Option<Elapsed>,
    /// The newest token that a look has shown.
    pub(crate) newest: Option<u64>,
}

impl Looks {
    /// A look has shown another's grant with this token. Where grants are short, waiting begins anew
    /// with each: the delays grow only while nothing moves.
    pub(crate) fn saw(&mut self, token: u64) {
        if token > *self.newest.get_or_insert(token) {
            self.newest = Some(token);
            self.round = 0;
        }
    }
}

impl Default for Start {
    fn default() -> Self {
        Start::Ask {
            not_before: Elapsed::default(),
        }
    }
}

impl Lines {
    pub(crate) fn of(self: &Arc<Self>, key: &Arc<str>, now: Elapsed) -> Arc<Line> {
        self.forget(now);
        let mut lines = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(key).and_then(Weak::upgrade) {
            return line;
        }
        let line = Arc::new(Line {
            key: key.clone(),
            lines: Arc::downgrade(self),
            inner: Mutex::default(),
        });
        lines.insert(key.clone(), Arc::downgrade(&line));
        line
    }

    /// Keeps a line for a moment.
    fn remember(&self, line: &Arc<Line>, until: Elapsed) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let next = (recent.len() == REMEMBERED).then(|| recent.pop_first());
        let same = recent.insert((until, line.key.clone()), line.clone());
        // The end of a line comes back here.
        drop(recent);
        drop((next, same));
    }

    /// Lets go of the lines whose moment is over.
    fn forget(&self, now: Elapsed) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut over = Vec::new();
        while let Some(first) = recent.first_entry().filter(|first| first.key().0 <= now) {
            over.push(first.remove());
        }
        // The end of a line comes back here.
        drop(recent);
        drop(over);
    }

    /// Pins the grant of an identity (see [`LeaseId::pin`]), also where a guard here has it under
    /// another copy. False where that identity's guard has handed it on.
    pub(crate) fn pin(self: &Arc<Self>, id: &LeaseId) -> bool {
        let line = self.of(&id.key().shared(), Elapsed::default());
        let holders = line.holders();
        let mut here = holders.iter().filter(|held| held.id.same_grant(id));
        id.pin() && here.all(|held| held.id == *id && held.id.pin())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let Some(lines) = self.lines.upgrade() else {
            return;
        };
        let mut lines = lines.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        // Another line of the same key may have begun since.
        if lines.get(&self.key).is_some_and(|l| l.strong_count() == 0) {
            lines.remove(&self.key);
        }
    }
}

impl Line {
    /// Joins the line at its end.
    pub(crate) fn join(
        self: &Arc<Self>,
        policy: &Policy,
        data: Option<&Arc<[u8]>>,
        joined: Elapsed,
    ) -> Ticket {
        let waiter = Waiter {
            policy: policy.clone(),
            data: data.cloned(),
            joined,
            turn: None,
            waker: None,
        };
        let (number, before, waits) = self.with(|inner, wake| {
            let number = inner.next_number();
            inner.waiting.insert(number, waiter);
            inner.choose_head(wake);
            (number, inner.requests, inner.head != Some(number))
        });
        Ticket {
            line: self.clone(),
            number,
            before,
            waits,
        }
    }

    /// A guard of this client holds the key from `now` on.
    pub(crate) fn hold(self: &Arc<Self>, watched: &Arc<Watched>, now: Elapsed) -> Holding {
        let held = Arc::downgrade(watched);
        let token = watched.id.token().stored();
        let number = self.with(|inner, _| {
            inner.own = inner.own.max(Some(token));
            let number = inner.next_number();
            inner.holders.push((number, held));
            inner.tenure.get_or_insert(now);
            number
        });
        Holding {
            line: self.clone(),
            number,
            gone: false,
        }
    }

    /// Runs `f` under the lock, and wakes afterwards.
    fn with<T>(&self, f: impl FnOnce(&mut Inner, &mut Vec<Waker>) -> T) -> T {
        let mut wake = Vec::new();
        let value = f(
            &mut self.inner.lock().unwrap_or_else(PoisonError::into_inner),
            &mut wake,
        );
        for waker in wake {
            waker.wake();
        }
        value
    }

    fn held(&self) -> Option<Held> {
        match self.holders().last() {
            Some(here) => Some(here.describe()),
            None => self.with(|inner, _| inner.held.as_deref().cloned()),
        }
    }

    fn holders(&self) -> Vec<Arc<Watched>> {
        self.with(|inner, _| {
            let held = inner.holders.iter();
            held.filter_map(|(_, held)| held.upgrade()).collect()
        })
    }
}

impl Inner {
    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Makes the first who waits the head, where there is none and nobody holds the key here.
    fn choose_head(&mut self, wake: &mut Vec<Waker>) {
        if self.head.is_some() || !self.holders.is_empty() {
            return;
        }
        let mut waiting = self.waiting.iter_mut();
        if let Some((number, waiter)) = waiting.find(|(_, waiter)| waiter.turn.is_none()) {
            self.head = Some(*number);
            waiter.turn = Some(Turn::Head);
            wake.extend(waiter.waker.take());
        }
    }

    fn lay_down_head(&mut self, number: u64, wake: &mut Vec<Waker>) {
        if self.head == Some(number) {
            self.head = None;
            wake.extend(self.bell.take());
            self.choose_head(wake);
        }
    }

    /// The first who has not been given anything but the head's role.
    fn first(&mut self) -> Option<(&u64, &mut Waiter)> {
        self.waiting
            .iter_mut()
            .find(|(_, waiter)| matches!(waiter.turn, None | Some(Turn::Head)))
    }
}

impl Waiter {
    fn wants(&self, policy: &Policy, data: Option<&Arc<[u8]>>) -> bool {
        self.policy.grants_like(policy) && self.data.as_ref() == data
    }
}

/// A place in the line.
#[derive(Debug)]
pub(crate) struct Ticket {
    line: Arc<Line>,
    number: u64,
    /// Requests of the line before this waiter came.
    before: u32,
    /// Whether it did not become the head at once.
    waits: bool,
}

impl Ticket {
    /// Waits until there is something to do or to have.
    pub(crate) async fn call(&self) -> Call {
        poll_fn(|context| self.poll_call(context)).await
    }

    fn poll_call(&self, context: &Context<'_>) -> Poll<Call> {
        let (turn, _old) = self.line.with(|inner, _| {
            let Some(waiter) = inner.waiting.get_mut(&self.number) else {
                return (None, None);
            };
            match waiter.turn.take() {
                None => (None, waiter.waker.replace(context.waker().clone())),
                turn => (turn, None),
            }
        });
        match turn {
            None => Poll::Pending,
            Some(Turn::Lease(parcel)) => Poll::Ready(Call::Lease(*parcel)),
            Some(Turn::Failed(error)) => Poll::Ready(Call::Failed(*error)),
            Some(Turn::Head) => Poll::Ready(Call::Head(Head {
                line: self.line.clone(),
                number: self.number,
                before: self.before,
                waited: self.waits,
            })),
        }
    }

    /// How many requests were sent for this waiter, by itself or by those before it.
    pub(crate) fn requests(&self) -> u32 {
        let sent = self.line.with(|inner, _| inner.requests);
        sent.wrapping_sub(self.before)
    }

    /// Who holds the key, as far as the line knows.
    pub(crate) fn held(&self) -> Option<Held> {
        self.line.held()
    }

    /// How the store is failing.
    pub(crate) fn trouble(&self) -> Option<StoreError> {
        self.line
            .with(|inner, _| inner.trouble.as_ref().map(|(_, error)| error.retold()))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // What lies there is dropped after the lock: a guard goes back to its keeper.
        let _left = self.line.with(|inner, wake| {
            let left = inner.waiting.remove(&self.number);
            if matches!(
                &left,
                Some(Waiter {
                    turn: Some(Turn::Head),
                    ..
                })
            ) {
                inner.lay_down_head(self.number, wake);
            }
            left
        });
    }
}

/// The role of the one who talks to the store. Dropped, it goes to the next in line.
#[derive(Debug)]
pub(crate) struct Head {
    line: Arc<Line>,
    number: u64,
    before: u32,
    waited: bool,
}

impl Head {
    pub(crate) fn line(&self) -> &Arc<Line> {
        &self.line
    }

    /// Whether it has stood behind others.
    pub(crate) fn has_waited(&self) -> bool {
        self.waited
    }

    pub(crate) fn start(&self) -> Start {
        self.line.with(|inner, _| inner.start)
    }

    /// What the next head is to go on with.
    pub(crate) fn plan(&self, start: Start) {
        self.line.with(|inner, _| inner.start = start);
    }

    /// A request is sent.
    pub(crate) fn sends(&self) {
        self.line.with(|inner, _| inner.requests += 1);
    }

    /// How many requests were sent for this waiter.
    pub(crate) fn requests(&self) -> u32 {
        let sent = self.line.with(|inner, _| inner.requests);
        sent.wrapping_sub(self.before)
    }

    /// The record shows another's grant.
    pub(crate) fn saw(&self, held: &Held) {
        let token = held.token().map(|token| token.stored());
        let held = Box::new(held.clone());
        let _old = self.line.with(|inner, _| {
            let own = token.is_some() && token <= inner.own;
            if inner.holders.is_empty() && !own {
                // Another process has its turn.
                inner.tenure = None;
                inner.courtesy = COURTEOUS_TURNS;
            }
            inner.held.replace(held)
        });
    }

    /// Who holds the key, as far as the line knows.
    pub(crate) fn held(&self) -> Option<Held> {
        self.line.held()
    }

    /// Since when the store has been failing.
    pub(crate) fn failing_since(&self) -> Option<Elapsed> {
        self.line
            .with(|inner, _| inner.trouble.as_ref().map(|(since, _)| *since))
    }

    /// The store answers, or has been failing since then.
    pub(crate) fn trouble(&self, trouble: Option<(Elapsed, &StoreError)>) {
        let trouble = trouble.map(|(since, error)| (since, Box::new(error.retold())));
        let _old = self
            .line
            .with(|inner, _| std::mem::replace(&mut inner.trouble, trouble));
    }

    /// The store has failed for too long: tells all who have waited for as long, so that none of them
    /// waits for its own turn to find out.
    pub(crate) fn give_up(&self, now: Elapsed, since: Elapsed, error: &StoreError) {
        self.line.with(|inner, wake| {
            for (number, waiter) in &mut inner.waiting {
                let until = since.max(waiter.joined).plus(waiter.policy.call_timeout());
                if *number != self.number && waiter.turn.is_none() && now >= until {
                    waiter.turn = Some(Turn::Failed(Box::new(error.retold())));
                    wake.extend(waiter.waker.take());
                }
            }
        });
    }

    /// The wait of the head itself is over: it leaves the line, and the next one has the role.
    pub(crate) fn leave(self) {
        let _left = self
            .line
            .with(|inner, _| inner.waiting.remove(&self.number));
    }

    /// Whether a guard of this client holds the key.
    pub(crate) fn is_held_here(&self) -> bool {
        self.line.with(|inner, _| !inner.holders.is_empty())
    }

    /// Waits until no guard of this client holds the key.
    pub(crate) async fn holder_gone(&self) {
        poll_fn(|context| {
            let (gone, _old) = self.line.with(|inner, _| {
                if inner.holders.is_empty() {
                    return (true, None);
                }
                (false, inner.bell.replace(context.waker().clone()))
            });
            if gone { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        self.line
            .with(|inner, wake| inner.lay_down_head(self.number, wake));
    }
}

/// How a process shares a key with others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turns {
    /// How long it may keep the key while others may wait for it.
    pub(crate) tenure: Duration,
    /// How long its line sits out then.
    pub(crate) pause: Duration,
    /// How long it sits out after every turn, where others are known to want the key.
    pub(crate) short_pause: Duration,
}

/// A guard of this client holds the key. Dropped without a word, nothing is known of the key.
#[derive(Debug)]
pub(crate) struct Holding {
    line: Arc<Line>,
    number: u64,
    gone: bool,
}

impl Holding {
    /// Whether the first in line wants just this grant, and the process may still keep the key, which
    /// it may for `tenure`.
    pub(crate) fn has_next(
        &self,
        policy: &Policy,
        data: Option<&Arc<[u8]>>,
        now: Elapsed,
        tenure: Duration,
    ) -> bool {
        self.line.with(|inner, _| {
            let since = inner.tenure.unwrap_or(now);
            now.since(since) < tenure
                && inner
                    .first()
                    .is_some_and(|(_, first)| first.wants(policy, data))
        })
    }

    /// Whether another process is known to want the key, too.
    pub(crate) fn is_shared(&self) -> bool {
        self.line.with(|inner, _| inner.courtesy > 0)
    }

    /// Gives the first in line a guard, and shows that guard to the others; or gives it back where
    /// it has left.
    pub(crate) fn give(
        &self,
        parcel: Parcel,
        watched: &Arc<Watched>,
        policy: &Policy,
        data: Option<&Arc<[u8]>>,
    ) -> Result<(), Parcel> {
        let watched = Arc::downgrade(watched);
        let (result, _old) = self.line.with(|inner, wake| {
            let old = inner
                .holders
                .iter_mut()
                .find(|(number, _)| *number == self.number)
                .map(|(_, held)| std::mem::replace(held, watched));
            let Some((number, first)) = inner.first().filter(|(_, f)| f.wants(policy, data)) else {
                return (Err(parcel), old);
            };
            let (number, before) = (*number, first.turn.replace(Turn::Lease(Box::new(parcel))));
            wake.extend(first.waker.take());
            if before.is_some() {
                // It had not taken up the head's role yet.
                inner.lay_down_head(number, wake);
            }
            (Ok(()), old)
        });
        result
    }

    /// The key is free. Where the process has kept it for `tenure`, whoever of it asks next sits out, so
    /// that other processes get their turn; where others are known to want it, after every turn that
    /// leaves nobody in line.
    pub(crate) fn released(&mut self, now: Elapsed, turns: &Turns) {
        let (pause, last) = self.line.with(|inner, _| {
            let long = inner
                .tenure
                .is_some_and(|since| now.since(since) >= turns.tenure);
            if long {
                inner.tenure = None;
            }
            let last = inner.waiting.is_empty();
            let courteous = last && inner.courtesy > 0;
            // A line that is never empty forgets the others by the long times that it keeps the key.
            inner.courtesy = inner.courtesy.saturating_sub(u8::from(last || long));
            let pause = match (long, last) {
                (true, false) => turns.pause,
                (true, true) => turns.short_pause,
                (false, _) if courteous => turns.short_pause,
                (false, _) => Duration::ZERO,
            };
            (pause, last)
        });
        if last && let Some(lines) = self.line.lines.upgrade() {
            // Who comes back at once has not left the key to anybody.
            lines.remember(&self.line, now.plus(turns.short_pause));
        }
        let not_before = now.plus(pause);
        self.gone(Start::Ask { not_before });
    }

    /// The guard does not hold the key any more, or nobody knows.
    pub(crate) fn gone(&mut self, start: Start) {
        if std::mem::replace(&mut self.gone, true) {
            return;
        }
        let number = self.number;
        // Whoever gives up before the next look is told of this one.
        let waited_for = self.line.with(|inner, _| !inner.waiting.is_empty());
        let last = self.line.holders().pop().filter(|_| waited_for);
        let seen = last.map(|last| Box::new(last.describe()));
        let _old = self.line.with(|inner, wake| {
            let place = inner.holders.iter().position(|(n, _)| *n == number);
            let old = place.map(|place| inner.holders.swap_remove(place));
            inner.start = start;
            let old = (old, seen.and_then(|seen| inner.held.replace(seen)));
            if inner.holders.is_empty() {
                wake.extend(inner.bell.take());
                inner.choose_head(wake);
            }
            old
        });
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.gone(Start::Look(Looks::default()));
    }
}
