//! One acquisition, from the first request to the guard.
//!
//! A call that waits joins the queue of its key first, and acquires only as its leader. When the
//! caller drops the future, or its wait expires, the call ends at once. Requests in flight go on in
//! the background, and a grant that they acquire is released.
//!
//! Invariants: `acquire` returns a lease only if the record carried our id during the call and time
//! is left (S5). Every loop is bounded in time, and every collection in size.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

use super::order::{
    Order, Patience, TryAcquireOutcome, shut_down_while_waiting, store_failed, wait_expired,
};
use super::step::{Asked, Seat, Waiting};
use crate::error::{Effect, Error, ErrorKind};
use crate::holder::HolderInfo;
use crate::lease::guard::Undelivered;
use crate::meter::Meter;
use crate::queue::{LeaderRole, Stop};
use crate::runtime::detached::Detached;
use crate::runtime::request::Mailbox;
use crate::runtime::retry::{RETRY_FIRST, RETRY_MAX};
use crate::shared::Core;
use crate::store::{Outcome, StoreError, StoreErrorKind};
use leasehold_protocol::attempt::{Attempt, AttemptId, Granted, Wish};
use leasehold_protocol::time::Elapsed;
use leasehold_protocol::write::Operation;

/// The most unanswered requests of one acquisition.
pub(super) const IN_FLIGHT: usize = 4;
/// How often a record with an impossible token is withdrawn before the call fails.
const WITHDRAWALS: u32 = 3;

/// Added to an exclusive limit to make it inclusive.
const A_MOMENT: Duration = Duration::from_nanos(1);

/// A running acquisition. Its drop signals it that the caller has left; it goes on in the background.
pub(crate) struct UnderWay {
    acquisition: Detached<Result<Won, Error>>,
    _caller: DropGuard,
}

/// The result of an acquisition.
#[derive(Debug)]
enum Won {
    Lease(Undelivered),
    Held(HolderInfo),
    /// The call lost the leader's role, or a guard of this client has the key.
    BackToQueue,
}

impl UnderWay {
    pub(crate) fn begin(
        core: &Arc<Core>,
        order: Order,
        started: Elapsed,
        leader: Option<LeaderRole>,
    ) -> UnderWay {
        let gone = CancellationToken::new();
        let acquisition = Acquisition::new(core.clone(), order, started, leader, gone.clone());
        UnderWay {
            acquisition: Detached::new(&core.tasks, acquisition.run()),
            _caller: gone.drop_guard(),
        }
    }

    /// The answer of the acquisition; `None` if its caller must go on waiting in the queue.
    pub(crate) async fn done(&mut self) -> Result<Option<TryAcquireOutcome>, Error> {
        Ok(match (&mut self.acquisition).await? {
            Won::Lease(lease) => Some(TryAcquireOutcome::Acquired(lease.deliver())),
            Won::Held(held) => Some(TryAcquireOutcome::Held(held)),
            Won::BackToQueue => None,
        })
    }
}

/// Why a step of the acquisition ended it.
pub(super) enum End {
    Stop(Stop),
    Failed(Error),
    BackToQueue,
}

impl From<Stop> for End {
    fn from(stop: Stop) -> Self {
        End::Stop(stop)
    }
}

pub(super) struct Acquisition {
    pub(super) core: Arc<Core>,
    pub(super) order: Order,
    pub(super) attempt: Attempt,
    /// The leader's role in the queue of the key, if the call waits in it.
    pub(super) leader: Option<LeaderRole>,
    /// The usage of this call.
    pub(super) call_usage: Arc<Meter>,
    pub(super) waited: bool,
    pub(super) gone: CancellationToken,
    pub(super) started: Elapsed,
    pub(super) limit: Elapsed,
    pub(super) mailbox: Mailbox<Asked, Outcome>,
    pub(super) waiting: Waiting,
    /// Requests without an answer.
    pub(super) unanswered: usize,
    /// Whether a request has landed or may have landed, so that a grant may have to be released.
    pub(super) uncertain: bool,
    /// A grant with an impossible token: it must be withdrawn, not released.
    pub(super) spoiled: Option<Granted>,
    pub(super) sent: u32,
    pub(super) last_sent: Elapsed,
    pub(super) failing_since: Option<Elapsed>,
    pub(super) failures: u32,
    pub(super) last_failure: Option<StoreError>,
    pub(super) last_held: Option<HolderInfo>,
}

impl Acquisition {
    fn new(
        core: Arc<Core>,
        order: Order,
        started: Elapsed,
        leader: Option<LeaderRole>,
        gone: CancellationToken,
    ) -> Self {
        let limit = order.patience.limit(&order.policy, started);
        // The time of a failing store counts once for the queue, not once for each waiter.
        let failing_since = leader.as_ref().and_then(LeaderRole::failing_since);
        let wish = Wish {
            key: order.key.shared(),
            holder: order
                .policy
                .label()
                .unwrap_or_else(|| core.leases.label.clone()),
            data: order.data.clone(),
            adopts: order.adopts.is_some(),
            force: order
                .adopts
                .as_ref()
                .and_then(|adopts| adopts.force.clone()),
            bound_to_process: order.policy.is_bound_to_process(),
            shared_with_fsharp: order.policy.is_shared_with_fsharp(),
            want: order.want,
        };
        // The identity is drawn here, for this call, and never used again.
        let id = AttemptId::from_random(core.random.attempt_bits());
        let attempt = Attempt::new(
            id,
            wish,
            order.policy.terms(&core.hints),
            order.policy.rules(&core.hints),
            core.observed(order.key.as_str()),
        );
        Acquisition {
            core,
            order,
            attempt,
            call_usage: Arc::default(),
            waited: leader.as_ref().is_some_and(LeaderRole::has_waited),
            leader,
            gone,
            started,
            limit,
            mailbox: Mailbox::new(IN_FLIGHT),
            waiting: Waiting::default(),
            unanswered: 0,
            uncertain: false,
            spoiled: None,
            sent: 0,
            last_sent: started,
            failing_since: failing_since.map(|since| since.max(started)),
            failures: 0,
            last_failure: None,
            last_held: None,
        }
    }

    async fn run(mut self) -> Result<Won, Error> {
        let answer = match self.drive().await {
            Ok(won) => Ok(won),
            Err(End::Failed(error)) => Err(error),
            Err(End::Stop(Stop::Deadline)) => Err(self.deadline_error()),
            Err(End::Stop(Stop::CallerGone)) => Err(shut_down_while_waiting()),
            Err(End::BackToQueue) => Ok(Won::BackToQueue),
        };
        self.core
            .remember(&self.order.key.shared(), self.attempt.observation());
        let passed = self.core.clocks.elapsed().since(self.started);
        if self.waited && !matches!(answer, Ok(Won::BackToQueue)) {
            self.core.meter.wait(passed, &self.call_usage());
        }
        let answer = answer.map_err(|error| self.finish_error(error));
        let tasks = self.core.tasks.clone();
        let place = self.core.cleaning_up.clone().try_acquire_owned().ok();
        match &answer {
            Ok(Won::Lease(lease)) => {
                let token = lease.token().stored();
                if self.unanswered > 0 {
                    tasks.spawn(with(place, self.clean_up_beside(token)));
                }
            }
            _ if self.uncertain
                || self.unanswered > 0
                || matches!(self.waiting.seat, Seat::Taken(_)) =>
            {
                tasks.spawn(with(place, self.clean_up()));
            }
            _ => {}
        }
        answer
    }

    async fn drive(&mut self) -> Result<Won, End> {
        for _ in 0..WITHDRAWALS {
            let granted = match self.win().await? {
                Ok(granted) => granted,
                Err(held) => return Ok(Won::Held(held)),
            };
            // From here on the grant must be released, unless the caller gets it as a lease.
            self.uncertain = true;
            if !granted.impossible_seed {
                let lease = self.hand_over(granted).await?;
                return Ok(Won::Lease(Undelivered::new(lease)));
            }
            self.spoiled = Some(granted);
            self.withdraw().await?;
        }
        Err(End::Failed(Error::new(
            ErrorKind::Unexpected,
            format!(
                "{}: the seeds of tokens are more than 15 minutes away from the service's own time",
                self.core.store.describe()
            ),
        )))
    }

    /// Waits a little after a failure, and gives up when the store has failed for too long.
    pub(super) async fn retry_later(
        &mut self,
        operation: Operation,
        error: StoreError,
    ) -> Result<(), End> {
        let until = self.failed(operation, error)?;
        self.or_stop(self.core.clocks.sleep_until(until)).await?;
        self.check_queue()
    }

    /// Records a failure. Returns when to try again.
    pub(super) fn failed(
        &mut self,
        operation: Operation,
        error: StoreError,
    ) -> Result<Elapsed, End> {
        debug!(key = %self.order.key, %error, "request failed, retrying");
        self.uncertain |= error.effect == Effect::Unknown;
        self.failures += 1;
        let now = self.core.clocks.elapsed();
        let since = *self.failing_since.get_or_insert(now);
        if let Some(leader) = &self.leader {
            leader.trouble(Some((since, &error)));
        }
        if now.since(since) >= self.order.policy.call_timeout() {
            if let Some(leader) = &self.leader {
                leader.give_up(now, since, &error);
            }
            let waits = self.order.patience != Patience::None;
            return Err(match self.fatal(operation, error) {
                End::Failed(error) if waits => End::Failed(store_failed(error, &self.order.policy)),
                end => end,
            });
        }
        let mut delay = self.core.backoff(self.failures, RETRY_FIRST, RETRY_MAX);
        let may_wait = self.order.patience != Patience::None;
        if may_wait && operation != Operation::Read && error.kind == StoreErrorKind::Throttled {
            // As with polls: a call that may wait leaves capacity to the holder's release.
            self.core.poll_limit.asked(true);
            delay = self.core.poll_limit.stretch(delay);
        }
        // The last try is made when the store has failed for the call time-out.
        let last = since.plus(self.order.policy.call_timeout());
        let wanted = now.plus(delay).min(last);
        let place = self.core.retries.take(wanted, last.plus(A_MOMENT));
        let Some(until) = place else {
            return Err(self.fatal(operation, error));
        };
        self.last_failure = Some(error);
        self.expect(until);
        Ok(until)
    }

    /// Promises the queue a sign of life by `by`.
    pub(super) fn expect(&self, by: Elapsed) {
        if let Some(leader) = &self.leader {
            leader.expect(by);
        }
    }

    /// Whether to go on. Another waiter may have become the leader, or a guard of this client may hold
    /// the key.
    pub(super) fn check_queue(&self) -> Result<(), End> {
        match &self.leader {
            Some(leader) if !leader.goes_on(self.core.clocks.reading()) => Err(End::BackToQueue),
            _ => Ok(()),
        }
    }

    pub(super) fn calm_down(&mut self) {
        if let Some(leader) = &self.leader
            && self.failing_since.is_some()
        {
            leader.trouble(None);
        }
        self.failing_since = None;
        self.failures = 0;
        self.last_failure = None;
    }

    pub(super) async fn or_stop<T>(&self, work: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            stop = stopped(&self.core, &self.gone, self.limit) => Err(stop),
        }
    }

    pub(super) fn fatal(&self, operation: Operation, error: StoreError) -> End {
        End::Failed(error.into_error(operation, Some(self.order.key.as_str())))
    }

    pub(super) fn odd_answer(&self) -> End {
        End::Failed(Error::new(
            ErrorKind::Unexpected,
            format!(
                "{}: the write was applied but the answer carries no record",
                self.core.store.describe()
            ),
        ))
    }

    /// The error of a call at its bound: the cause is a holder or the store.
    fn deadline_error(&mut self) -> Error {
        let now = self.core.clocks.elapsed();
        let waited = now.since(self.started);
        if let Some(error) = self.last_failure.take() {
            return error.into_error(Operation::Acquire, Some(self.order.key.as_str()));
        }
        // This call may have led too late for a poll, or for the answer to one. The cause is then the
        // holder, and otherwise the store.
        let silent = now.since(self.last_sent);
        if let (None, Some(leader)) = (&self.last_held, &self.leader)
            && (self.sent == 0 || silent < waited / 2)
        {
            self.last_held = leader.held();
        }
        wait_expired(&self.core, &self.order.key, waited, self.last_held.as_ref())
    }

    fn finish_error(&self, error: Error) -> Error {
        let effect = if self.uncertain || self.unanswered > 0 {
            Effect::Unknown
        } else {
            error.effect()
        };
        let passed = self.core.clocks.elapsed().since(self.started);
        let sent = self.leader.as_ref().map_or(self.sent, LeaderRole::requests);
        error
            .with_key(self.order.key.as_str())
            .with_effect(effect)
            .with_held(self.last_held.clone())
            .with_effort(sent, passed)
            .with_cost(self.call_usage.usage())
    }
}

/// Keeps the permit until the work is done.
async fn with(place: Option<OwnedSemaphorePermit>, work: impl Future<Output = ()>) {
    work.await;
    drop(place);
}

/// Returns when an acquisition must stop.
pub(super) async fn stopped(core: &Arc<Core>, gone: &CancellationToken, limit: Elapsed) -> Stop {
    tokio::select! {
        biased;
        () = gone.cancelled() => Stop::CallerGone,
        stop = over(core, limit) => stop,
    }
}

/// Returns when a wait must end.
#[expect(
    clippy::manual_async_fn,
    reason = "an `async fn` stores its arguments twice, and there may be many waiters"
)]
fn over(core: &Arc<Core>, limit: Elapsed) -> impl Future<Output = Stop> {
    async move {
        let expired = async {
            if limit == Elapsed::NEVER {
                std::future::pending::<()>().await;
            }
            while core.clocks.elapsed() < limit {
                core.clocks.sleep_shared(limit).await;
            }
        };
        tokio::select! {
            biased;
            () = core.shut.cancelled() => Stop::CallerGone,
            () = expired => Stop::Deadline,
        }
    }
}
