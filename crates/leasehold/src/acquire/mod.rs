//! One acquisition, from the first request to the guard.
//!
//! Whoever waits joins the queue of its key first, and acquires only as its leader. An acquisition
//! endures: a caller who drops the future or whose wait is over leaves at once, while requests in
//! flight go on in the background; whatever they turn out to have acquired is released as soon as
//! it is known. Invariants: `acquire` gives a lease only if the record carried
//! our id during the call and time is left (S5); every loop here has a bound in time, every
//! collection a bound in size.
//!
//! `ask` sends requests until one is granted, `grant` makes a lease of it, `settle` gives back what
//! nobody receives.

mod ask;
mod grant;
mod settle;

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio_util::either::Either;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

use crate::alarm::nap;
use crate::error::{Effect, Error, ErrorKind};
use crate::exchange::Core;
use crate::flight::{Enduring, Inbox};
use crate::held::Held;
use crate::identity::LeaseId;
use crate::key::Key;
use crate::lease::{Lease, Undelivered};
use crate::meter::Meter;
use crate::policy::Policy;
use crate::protocol::attempt::{Attempt, AttemptId, Granted, Request, Wish};
use crate::protocol::record::Seen;
use crate::protocol::time::Elapsed;
use crate::protocol::write::Operation;
use crate::queue::Leading;
use crate::retry::{RETRY_FIRST, RETRY_MAX};
use crate::run::{asked_within, is_within};
use crate::store::{Outcome, StoreError, StoreErrorKind};
use crate::waiting::{shut_down_while_waiting, store_failed, wait_expired, wait_in_queue};

/// How often a record with an impossible token is withdrawn before we give up.
const WITHDRAWALS: u32 = 3;

/// So that a limit is part of what it limits.
const A_MOMENT: Duration = Duration::from_nanos(1);

/// What an acquisition is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) key: Key,
    pub(crate) policy: Policy,
    pub(crate) data: Option<Arc<[u8]>>,
    pub(crate) patience: Patience,
    /// Only from this grant, whose identity the caller has. Boxed: every waiter has room for it.
    pub(crate) adopts: Option<Box<Adoption>>,
}

/// A grant that is taken over from whoever has written its identity down.
#[derive(Clone, Debug)]
pub(crate) struct Adoption {
    pub(crate) id: LeaseId,
    /// As its record was seen.
    pub(crate) seen: Seen,
}

/// What to do when the key is held by another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Patience {
    /// Say so.
    None,
    /// Wait, at most this long.
    For(Duration),
    /// Wait.
    Forever,
}

impl Patience {
    /// When a call ends at the latest.
    pub(crate) fn limit(self, policy: &Policy, started: Elapsed) -> Elapsed {
        match self {
            Patience::None => started.plus(policy.call_timeout()),
            Patience::For(wait) => started.plus(wait),
            Patience::Forever => Elapsed::NEVER,
        }
    }
}

/// The answer to an order that did not fail.
#[derive(Debug)]
pub(crate) enum Acquired {
    Lease(Lease),
    Held(Held),
}

/// Carries out an order. Dropping this future ends the acquisition: see the module's docs. It is called
/// as it is awaited; a future around the two would keep the order twice, and there may be many waiters.
pub(crate) fn acquire(
    core: &Arc<Core>,
    order: Order,
) -> Result<impl Future<Output = Result<Acquired, Error>>, Error> {
    if core.shut.is_cancelled() {
        return Err(shut_down(order.key.as_str()));
    }
    core.check_clock(Some(order.key.as_str()))?;
    core.check_unsettled(order.key.as_str())?;
    if is_within(core, order.key.as_str()) {
        return Err(asked_within(order.key.as_str()));
    }
    let tries = order.patience == Patience::None;
    if tries
        && order.adopts.is_none()
        && let Some(held) = core.queues.holder(order.key.as_str())
    {
        // A guard of this client has it, as far as that knows: the store need not be asked.
        let held = Acquired::Held(held.describe());
        return Ok(Either::Left(ready(Ok(held))));
    }
    let started = core.clock.elapsed();
    Ok(Either::Right(if tries {
        let mut under_way = UnderWay::begin(core, order, started, None);
        Either::Left(async move {
            let acquired = under_way.done().await?;
            acquired.ok_or_else(shut_down_while_waiting)
        })
    } else {
        Either::Right(wait_in_queue(core, order, started))
    }))
}

/// An acquisition under way. When this is dropped, the acquisition goes on in the background, and is told
/// that its caller has left.
pub(crate) struct UnderWay {
    acquisition: Enduring<Result<Won, Error>>,
    _caller: DropGuard,
}

/// What an acquisition gives its caller.
#[derive(Debug)]
enum Won {
    Lease(Undelivered),
    Held(Held),
    /// Nothing: it does not lead the queue any more, or a guard of this client has the key.
    BackToQueue,
}

impl UnderWay {
    pub(crate) fn begin(
        core: &Arc<Core>,
        order: Order,
        started: Elapsed,
        leading: Option<Leading>,
    ) -> UnderWay {
        let gone = CancellationToken::new();
        let acquisition = Acquisition::new(core.clone(), order, started, leading, gone.clone());
        UnderWay {
            acquisition: Enduring::new(core, acquisition.run()),
            _caller: gone.drop_guard(),
        }
    }

    /// Its answer; `None` where its caller is to go on waiting in the queue.
    pub(crate) async fn done(&mut self) -> Result<Option<Acquired>, Error> {
        Ok(match (&mut self.acquisition).await? {
            Won::Lease(lease) => Some(Acquired::Lease(lease.deliver())),
            Won::Held(held) => Some(Acquired::Held(held)),
            Won::BackToQueue => None,
        })
    }
}

pub(crate) fn shut_down(key: &str) -> Error {
    Error::new(ErrorKind::ShutDown, "the client was shut down").with_key(key)
}

/// Why an acquisition stops before it has an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    /// The bound of the call is reached.
    Deadline,
    /// Nobody waits for the answer any more, or the client is shutting down.
    CallerGone,
}

/// Why a step of the acquisition ended it.
enum End {
    Stop(Stop),
    Failed(Error),
    BackToQueue,
}

impl From<Stop> for End {
    fn from(stop: Stop) -> Self {
        End::Stop(stop)
    }
}

struct Acquisition {
    core: Arc<Core>,
    order: Order,
    attempt: Attempt,
    /// Its view of the queue of the key, if the call waits in it.
    leading: Option<Leading>,
    /// What is done for this call, and whether it had to wait for a holder.
    bill: Arc<Meter>,
    waited: bool,
    gone: CancellationToken,
    started: Elapsed,
    limit: Elapsed,
    inbox: Inbox<Request, Outcome>,
    /// Requests without an answer.
    unanswered: usize,
    /// Whether some request may have landed without our knowing, or has, and is to be given back.
    uncertain: bool,
    /// A grant of ours whose token cannot be right: to be withdrawn, not released.
    spoiled: Option<Granted>,
    sent: u32,
    last_sent: Elapsed,
    failing_since: Option<Elapsed>,
    failures: u32,
    last_failure: Option<StoreError>,
    last_held: Option<Held>,
}

impl Acquisition {
    fn new(
        core: Arc<Core>,
        order: Order,
        started: Elapsed,
        leading: Option<Leading>,
        gone: CancellationToken,
    ) -> Self {
        let limit = order.patience.limit(&order.policy, started);
        // A store that fails is put up with once, not once for everyone who waits.
        let failing_since = leading.as_ref().and_then(Leading::failing_since);
        let wish = Wish {
            key: order.key.shared(),
            holder: order.policy.label().unwrap_or_else(|| core.label.clone()),
            data: order.data.clone(),
            bound_to_process: order.policy.is_bound_to_process(),
            shared_with_fsharp: order.policy.is_shared_with_fsharp(),
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
            bill: Arc::default(),
            waited: leading.as_ref().is_some_and(Leading::has_waited),
            leading,
            gone,
            started,
            limit,
            inbox: Inbox::new(ask::IN_FLIGHT),
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
        let passed = self.core.clock.elapsed().since(self.started);
        if self.waited && !matches!(answer, Ok(Won::BackToQueue)) {
            self.core.meter.wait(passed, &self.bill());
        }
        let answer = answer.map_err(|error| self.finish_error(error));
        let tasks = self.core.tasks.clone();
        let place = self.core.unsettled.clone().try_acquire_owned().ok();
        match &answer {
            Ok(Won::Lease(lease)) => {
                let token = lease.token().stored();
                if self.unanswered > 0 {
                    tasks.spawn(with(place, self.settle_beside(token)));
                }
            }
            _ if self.uncertain || self.unanswered > 0 => {
                tasks.spawn(with(place, self.settle()));
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
            // From here on there is something to give back, unless a lease is handed over.
            self.uncertain = true;
            if !granted.impossible_seed {
                let lease = self.hand_over(granted).await?;
                return Ok(Won::Lease(Undelivered::new(lease)));
            }
            self.spoiled = Some(granted);
            self.withdraw().await?;
        }
        Err(End::Failed(Error::new(
            ErrorKind::Service,
            format!(
                "{}: tokens start more than 15 minutes away from the service's own time",
                self.core.store.describe()
            ),
        )))
    }

    /// Waits a little after a failure, and gives up when the store has failed for too long.
    async fn retry_later(&mut self, operation: Operation, error: StoreError) -> Result<(), End> {
        debug!(key = %self.order.key, %error, "request failed, trying again");
        self.uncertain |= error.effect == Effect::Unknown;
        self.failures += 1;
        let now = self.core.clock.elapsed();
        let since = *self.failing_since.get_or_insert(now);
        if let Some(leading) = &self.leading {
            leading.trouble(Some((since, &error)));
        }
        if now.since(since) >= self.order.policy.call_timeout() {
            if let Some(leading) = &self.leading {
                leading.give_up(now, since, &error);
            }
            let waits = self.order.patience != Patience::None;
            return Err(match self.fatal(operation, error) {
                End::Failed(error) if waits => End::Failed(store_failed(error, &self.order.policy)),
                end => end,
            });
        }
        let mut delay = self.core.backoff(self.failures, RETRY_FIRST, RETRY_MAX);
        let may_wait = self.order.patience != Patience::None;
        if may_wait && operation == Operation::Acquire && error.kind == StoreErrorKind::Throttled {
            // As with looks: whoever may wait makes room for the holder's release.
            self.core.budget.asked(true);
            delay = self.core.budget.stretch(delay);
        }
        // The last try is made when the store has been failing for as long as we put up with it.
        let last = since.plus(self.order.policy.call_timeout());
        let wanted = now.plus(delay).min(last);
        let place = self.core.retries.take(wanted, last.plus(A_MOMENT));
        let Some(until) = place else {
            return Err(self.fatal(operation, error));
        };
        self.last_failure = Some(error);
        self.expect(until);
        self.or_stop(self.core.clock.sleep_until(until)).await?;
        self.check_queue()
    }

    /// The others who wait hear of this one again by then.
    fn expect(&self, by: Elapsed) {
        if let Some(leading) = &self.leading {
            leading.expect(by);
        }
    }

    /// Whether to go on: another waiter may have become the leader, or a guard of this client have the key.
    fn check_queue(&self) -> Result<(), End> {
        match &self.leading {
            Some(leading) if !leading.goes_on(self.core.clock.reading()) => Err(End::BackToQueue),
            _ => Ok(()),
        }
    }

    fn calm_down(&mut self) {
        if let Some(leading) = &self.leading
            && self.failing_since.is_some()
        {
            leading.trouble(None);
        }
        self.failing_since = None;
        self.failures = 0;
        self.last_failure = None;
    }

    async fn or_stop<T>(&self, work: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            stop = stopped(&self.core, &self.gone, self.limit) => Err(stop),
        }
    }

    fn fatal(&self, operation: Operation, error: StoreError) -> End {
        End::Failed(error.into_error(operation, Some(self.order.key.as_str())))
    }

    fn odd_answer(&self) -> End {
        End::Failed(Error::new(
            ErrorKind::Service,
            format!(
                "{}: the write was applied but the answer carries no record",
                self.core.store.describe()
            ),
        ))
    }

    /// The bound of the call is reached: because of a holder, or because of the store?
    fn deadline_error(&mut self) -> Error {
        let now = self.core.clock.elapsed();
        let waited = now.since(self.started);
        if let Some(error) = self.last_failure.take() {
            return error.into_error(Operation::Acquire, Some(self.order.key.as_str()));
        }
        // Its turn to look may have come too late for a look of its own, or for an answer to it: then it
        // was the holder that the time went by with, otherwise the store.
        let silent = now.since(self.last_sent);
        if let (None, Some(leading)) = (&self.last_held, &self.leading)
            && (self.sent == 0 || silent < waited / 2)
        {
            self.last_held = leading.held();
        }
        wait_expired(&self.core, &self.order.key, waited, self.last_held.as_ref())
    }

    fn finish_error(&self, error: Error) -> Error {
        let effect = if self.uncertain || self.unanswered > 0 {
            Effect::Unknown
        } else {
            error.effect()
        };
        let passed = self.core.clock.elapsed().since(self.started);
        let sent = self.leading.as_ref().map_or(self.sent, Leading::requests);
        error
            .with_key(self.order.key.as_str())
            .with_effect(effect)
            .with_held(self.last_held.clone())
            .with_effort(sent, passed)
            .with_cost(self.bill.usage())
    }
}

/// Keeps the place until the work is done.
async fn with(place: Option<OwnedSemaphorePermit>, work: impl Future<Output = ()>) {
    work.await;
    drop(place);
}

/// Returns when an acquisition must stop.
async fn stopped(core: &Arc<Core>, gone: &CancellationToken, limit: Elapsed) -> Stop {
    tokio::select! {
        biased;
        () = gone.cancelled() => Stop::CallerGone,
        stop = over(core, limit) => stop,
    }
}

/// Returns when a wait is over.
#[expect(
    clippy::manual_async_fn,
    reason = "an `async fn` keeps its arguments twice, and there may be many waiters"
)]
fn over(core: &Arc<Core>, limit: Elapsed) -> impl Future<Output = Stop> {
    async move {
        let expired = async {
            if limit == Elapsed::NEVER {
                std::future::pending::<()>().await;
            }
            while core.clock.elapsed() < limit {
                nap(&core.alarms, limit).await;
            }
        };
        tokio::select! {
            biased;
            () = core.shut.cancelled() => Stop::CallerGone,
            () = expired => Stop::Deadline,
        }
    }
}
