//! A waiter's place in the queue.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::leader::LeaderRole;
use super::registry::Queue;
use super::state::{Entry, Step};
use crate::holder::HolderInfo;
use crate::lease::guard::Undelivered;
use crate::policy::Policy;
use crate::runtime::clocks::Clocks;
use crate::store::StoreError;
use leasehold_protocol::time::Elapsed;

/// Why a call stops before it has an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    /// The bound of the call is reached.
    Deadline,
    /// The caller has left, or the client is shutting down.
    CallerGone,
}

/// A place in the queue. Its drop leaves the queue, and releases a guard that lies in it.
#[derive(Debug)]
pub(crate) struct Waiter {
    queue: Arc<Queue>,
    number: u64,
    /// Requests of the queue before this waiter joined.
    before: u32,
    /// Whether the key was held when it joined.
    waits: bool,
}

/// The next step of a waiter.
#[derive(Debug)]
pub(crate) enum Next {
    /// Lead the queue: talk to the store.
    Lead(LeaderRole),
    /// Take the guard.
    Given(Undelivered),
    /// Fail: the store has failed for the call time-out.
    Failed(StoreError),
    /// End the wait.
    Over(Stop),
}

impl Waiter {
    /// Joins the queue at its end. It must be called within a runtime.
    pub(crate) fn join(
        queue: &Arc<Queue>,
        policy: &Policy,
        data: Option<&Arc<[u8]>>,
        joined: Elapsed,
    ) -> Waiter {
        let waiter = Entry::new(policy.clone(), data.cloned(), joined, Handle::current());
        let (number, before, waits) = queue.with(|state, wake| {
            let number = state.join(waiter, joined, wake);
            (
                number,
                state.requests,
                !state.leads(number) || !state.holders.is_empty(),
            )
        });
        Waiter {
            queue: queue.clone(),
            number,
            before,
            waits,
        }
    }

    /// Waits for the next step. `limit`: the end of the wait; `None` while an acquisition of this waiter
    /// runs, which watches the limit itself.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a guard or error stays in the place until this returns it.
    #[expect(
        clippy::manual_async_fn,
        reason = "an `async fn` stores its arguments twice"
    )]
    pub(crate) fn next<'a>(
        &'a self,
        clocks: &'a Clocks,
        shut: &'a CancellationToken,
        limit: Option<Elapsed>,
    ) -> impl Future<Output = Next> + Send {
        async move {
            loop {
                let now = clocks.elapsed();
                let step =
                    poll_fn(|context| Poll::Ready(self.step(now, limit.is_none(), context))).await;
                let until = match step {
                    Step::Given(lease) => return Next::Given(*lease),
                    Step::Failed(error) => return Next::Failed(*error),
                    Step::Lead => match self.queue.held_until(clocks.reading()) {
                        Some(end) if self.waits_for_holder(end) => end,
                        _ => return Next::Lead(self.leader()),
                    },
                    Step::Wait(until) => until,
                };
                let Some(limit) = limit else {
                    self.woken().await;
                    continue;
                };
                if now >= limit {
                    return Next::Over(Stop::Deadline);
                }
                tokio::select! {
                    biased;
                    () = shut.cancelled() => return Next::Over(Stop::CallerGone),
                    () = self.woken() => {}
                    () = clocks.sleep_shared(until.min(limit)) => {}
                }
            }
        }
    }

    fn step(&self, now: Elapsed, acting: bool, context: &Context<'_>) -> Step {
        let (step, _old) = self.queue.with(|state, wake| {
            let step = state.step(self.number, now, acting, wake);
            let old = state.waiters.get_mut(&self.number).and_then(|waiter| {
                if let Ok(here) = Handle::try_current()
                    && here.id() != waiter.runtime.id()
                {
                    waiter.runtime = here;
                }
                waiter.waker.replace(context.waker().clone())
            });
            (step, old)
        });
        step
    }

    /// As the leader: sleeps until `end` unless the guard of this client ends before. False if it has
    /// ended.
    fn waits_for_holder(&self, end: Elapsed) -> bool {
        self.queue.with(|state, _| {
            state.expect(self.number, end);
            !state.holders.is_empty()
        })
    }

    /// Waits until this waiter is woken: its waker is then taken.
    async fn woken(&self) {
        poll_fn(|context| {
            let (poll, _old) = self.queue.with(|state, _| {
                let waiter = state.waiters.get_mut(&self.number);
                match waiter.and_then(|waiter| waiter.waker.as_mut()) {
                    None => (Poll::Ready(()), None),
                    Some(waker) if waker.will_wake(context.waker()) => (Poll::Pending, None),
                    Some(waker) => {
                        let old = std::mem::replace(waker, context.waker().clone());
                        (Poll::Pending, Some(old))
                    }
                }
            });
            poll
        })
        .await;
    }

    fn leader(&self) -> LeaderRole {
        LeaderRole::new(self.queue.clone(), self.number, self.before, self.waits)
    }

    /// How many requests were sent for this waiter, by itself or by earlier waiters.
    pub(crate) fn requests(&self) -> u32 {
        let sent = self.queue.with(|state, _| state.requests);
        sent.wrapping_sub(self.before)
    }

    /// Who holds the key, as far as the queue knows.
    pub(crate) fn held(&self) -> Option<HolderInfo> {
        self.queue.held()
    }

    /// The last error of a failing store.
    pub(crate) fn trouble(&self) -> Option<StoreError> {
        self.queue.with(|state, _| {
            state
                .trouble
                .as_ref()
                .map(|(_, error)| error.without_source())
        })
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let now = self.queue.clock.elapsed();
        // A guard in the place is dropped after the mutex is unlocked: its drop calls its task.
        let _left = self
            .queue
            .with(|state, wake| state.leave(self.number, now, wake));
    }
}
