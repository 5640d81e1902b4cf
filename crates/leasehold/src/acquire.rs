//! One acquisition, from the first request to the guard.
//!
//! Whoever waits stands in the line of its key first, and acquires only as its head. An acquisition
//! endures: a caller who drops the future or whose wait is over leaves at once, while requests in
//! flight go on in the background; whatever they turn out to have acquired is released as soon as
//! it is known. Invariants: `acquire` gives a lease only if the record carried
//! our id during the call and time is left (S5); every loop here has a bound in time, every
//! collection a bound in size.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, warn};

use crate::alarm::nap;
use crate::error::{Effect, Error, ErrorKind};
use crate::exchange::{Answer, Core, RETRY_FIRST, RETRY_MAX, no_answer_within};
use crate::flight::{Enduring, Letter};
use crate::held::Held;
use crate::identity::LeaseId;
use crate::keeper;
use crate::key::Key;
use crate::lease::{Lease, Parcel};
use crate::line::{Head, Looks, Start};
use crate::meter::{Bill, Meter};
use crate::policy::{CheckDelay, Policy};
use crate::protocol::attempt::{Attempt, AttemptId, Granted, Refusal, Request, Wish};
use crate::protocol::record::{Record, Seen};
use crate::protocol::renewal::Kept;
use crate::protocol::takeover::Verdict;
use crate::protocol::time::Elapsed;
use crate::protocol::write::{Operation, Write};
use crate::store::{Consistency, Outcome, StoreError, StoreErrorKind};
use crate::waiting::{shut_down_while_waiting, stand_in_line, wait_expired};

/// Requests of one acquisition that may be unanswered at the same time.
const IN_FLIGHT: usize = 4;
/// How long unanswered requests are waited for in the background; a store ends its requests
/// sooner, see the contract of [`Store`](crate::store::Store).
const SETTLE: Duration = Duration::from_secs(40);
/// No right wall clock shows less: this was written later (2026-11-01).
const EARLIEST_WALL_MS: i64 = 1_793_491_200_000;
/// How often a record with an impossible token is withdrawn before we give up.
const WITHDRAWALS: u32 = 3;

/// What an acquisition is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) key: Key,
    pub(crate) policy: Policy,
    pub(crate) data: Option<Arc<[u8]>>,
    pub(crate) patience: Patience,
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

/// Carries out an order. Dropping this future ends the acquisition: see the module's docs.
pub(crate) async fn acquire(core: &Arc<Core>, order: Order) -> Result<Acquired, Error> {
    if core.shut.is_cancelled() {
        return Err(shut_down(order.key.as_str()));
    }
    let started = core.clock.elapsed();
    match order.patience {
        Patience::None => UnderWay::begin(core, order, started, None).done().await,
        _ => stand_in_line(core, order, started).await,
    }
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
    Lease(Parcel),
    Held(Held),
}

impl UnderWay {
    pub(crate) fn begin(
        core: &Arc<Core>,
        order: Order,
        started: Elapsed,
        head: Option<Head>,
    ) -> UnderWay {
        let gone = CancellationToken::new();
        let acquisition = Acquisition::new(core.clone(), order, started, head, gone.clone());
        UnderWay {
            acquisition: Enduring::new(core, acquisition.run()),
            _caller: gone.drop_guard(),
        }
    }

    pub(crate) async fn done(&mut self) -> Result<Acquired, Error> {
        match (&mut self.acquisition).await? {
            Won::Lease(parcel) => Ok(Acquired::Lease(parcel.open())),
            Won::Held(held) => Ok(Acquired::Held(held)),
        }
    }
}

pub(crate) fn shut_down(key: &str) -> Error {
    Error::new(ErrorKind::ShutDown, "the client was shut down").with_key(key)
}

/// Why an acquisition stops before it has an answer.
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
    /// The role in the line of the key, if the call waits in it.
    head: Option<Head>,
    /// What is done for this call, and whether it had to wait for a holder.
    bill: Arc<Meter>,
    waited: bool,
    gone: CancellationToken,
    started: Elapsed,
    limit: Elapsed,
    inbox: mpsc::Receiver<Letter<Request, Outcome>>,
    post: mpsc::Sender<Letter<Request, Outcome>>,
    /// Requests without an answer.
    unanswered: usize,
    /// Whether some request may have landed without our knowing, or has, and is to be given back.
    uncertain: bool,
    /// A grant of ours whose token cannot be right: to be withdrawn, not released.
    spoiled: Option<Granted>,
    sent: u32,
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
        head: Option<Head>,
        gone: CancellationToken,
    ) -> Self {
        let limit = order.patience.limit(&order.policy, started);
        // A store that fails is put up with once, not once for everyone in line.
        let failing_since = head.as_ref().and_then(Head::failing_since);
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
        let (post, inbox) = mpsc::channel(IN_FLIGHT);
        Acquisition {
            core,
            order,
            attempt,
            bill: Arc::default(),
            waited: head.as_ref().is_some_and(Head::has_waited),
            head,
            gone,
            started,
            limit,
            inbox,
            post,
            unanswered: 0,
            uncertain: false,
            spoiled: None,
            sent: 0,
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
        };
        self.core
            .remember(&self.order.key.shared(), self.attempt.observation());
        let passed = self.core.clock.elapsed().since(self.started);
        if self.waited {
            self.core.meter.wait(passed, &self.bill());
        }
        let answer = answer.map_err(|error| self.finish_error(error));
        // The next in line goes on at once, with what is known now; what is left to settle here is
        // this attempt's alone.
        match self.head.take() {
            // It was given a guard meanwhile, which may turn out to be worthless, or it has left.
            Some(head) if self.gone.is_cancelled() => drop(head),
            Some(head) => head.leave(),
            None => {}
        }
        let tasks = self.core.tasks.clone();
        match &answer {
            Ok(Won::Lease(parcel)) => {
                let token = parcel.token().stored();
                if self.unanswered > 0 {
                    tasks.spawn(self.settle_beside(token));
                }
            }
            _ if self.uncertain || self.unanswered > 0 => {
                tasks.spawn(self.settle());
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
                return Ok(Won::Lease(Parcel::new(lease)));
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

    /// Sends requests until one is granted, or, without patience, until the key is seen held.
    async fn win(&mut self) -> Result<Result<Granted, Held>, End> {
        self.look_at_the_time().await?;
        let mut take_over = match self.begin().await? {
            Turn::Ours(granted) => return Ok(Ok(granted)),
            Turn::Free => None,
            Turn::TakeOver(seen) => Some(seen),
        };
        let mut blind = 0;
        loop {
            let Some((request, answer)) = self.ask(take_over.clone()).await? else {
                // No answer in time; the request may still land.
                let limit = self.order.policy.request_timeout();
                self.retry_later(StoreError::new(
                    StoreErrorKind::Unavailable,
                    Effect::Unknown,
                    format!(
                        "{}: {}",
                        self.core.store.describe(),
                        no_answer_within(limit)
                    ),
                ))
                .await?;
                continue;
            };
            let record = match answer.result {
                Ok(Outcome::Applied(record)) => {
                    let now = self.core.clock.reading();
                    // It landed; whatever comes now, it is to be given back.
                    self.uncertain = true;
                    let record = record.ok_or_else(|| self.odd_answer())?;
                    return Ok(Ok(self.core.with_service(|service| {
                        self.attempt.applied(&request, &record, service, now)
                    })));
                }
                Ok(Outcome::Refused(record)) => record,
                Err(error) if error.kind.is_retryable() => {
                    self.retry_later(error).await?;
                    continue;
                }
                Err(error) => {
                    self.uncertain |= error.effect == Effect::Unknown;
                    return Err(self.fatal(Operation::Acquire, error));
                }
            };
            self.calm_down();
            take_over = match self.judge(record.as_ref(), answer.received) {
                Refusal::Ours(granted) => return Ok(Ok(granted)),
                Refusal::Others(Verdict::Free) => {
                    // Refused although it is free: a race, and with a sound store a short one.
                    blind += 1;
                    if blind > 1 {
                        let now = self.core.clock.elapsed();
                        let delay = self.core.backoff(blind, RETRY_FIRST, RETRY_MAX);
                        self.or_stop(self.core.clock.sleep_until(now.plus(delay)))
                            .await?;
                    }
                    None
                }
                Refusal::Others(Verdict::TakeOver(seen)) => Some(seen),
                Refusal::Others(Verdict::Wait { ends }) => {
                    blind = 0;
                    if let (Patience::None, Some(held)) = (self.order.patience, &self.last_held) {
                        return Ok(Err(held.clone()));
                    }
                    let looks = Looks {
                        ends,
                        ..Looks::default()
                    };
                    match self.wait_for_turn(looks).await? {
                        Turn::Ours(granted) => return Ok(Ok(granted)),
                        Turn::Free => None,
                        Turn::TakeOver(seen) => Some(seen),
                    }
                }
            };
        }
    }

    /// Goes on where the line is: asks at once, later, or looks first.
    async fn begin(&mut self) -> Result<Turn, End> {
        match self.head.as_ref().map(Head::start) {
            Some(Start::Look(looks)) => self.wait_for_turn(looks).await,
            Some(Start::Ask { not_before }) => {
                self.or_stop(self.core.clock.sleep_until(not_before))
                    .await?;
                Ok(Turn::Free)
            }
            None => Ok(Turn::Free),
        }
    }

    /// A host whose wall clock is certainly wrong asks for the time before it publishes anything by
    /// it: any answer carries it.
    async fn look_at_the_time(&self) -> Result<(), Stop> {
        let now = self.core.clock.reading();
        let sampled = self
            .core
            .with_service(|service| service.latest(now).is_some());
        if !sampled && now.wall_ms < EARLIEST_WALL_MS {
            let bill = self.bill();
            let look = self.core.read(
                self.order.key.shared(),
                Consistency::Eventual,
                self.order.policy.request_timeout(),
                &bill,
            );
            // Without an answer the seed is still checked, and withdrawn if it is impossible.
            self.or_stop(look).await?;
        }
        Ok(())
    }

    /// Sends one request and waits for an answer, to it or to an earlier one; `None` when none
    /// came within the request time-out.
    async fn ask(
        &mut self,
        take_over: Option<Seen>,
    ) -> Result<Option<(Request, Answer<Outcome>)>, Stop> {
        let mut limit = self
            .core
            .clock
            .elapsed()
            .plus(self.order.policy.request_timeout());
        if self.unanswered < IN_FLIGHT {
            // The clocks first, then everything else, then the request.
            let now = self.core.clock.reading();
            let (request, write) = self
                .core
                .with_service(|service| self.attempt.request(take_over, service, now));
            let mut flight = self.core.launch(write, now, &self.bill());
            self.unanswered += 1;
            self.sends();
            limit = now.elapsed.plus(self.order.policy.request_timeout());
            let answered = tokio::select! {
                biased;
                answer = &mut flight => {
                    self.unanswered -= 1;
                    return Ok(Some((request, answer)));
                }
                answered = self.answer_by(limit) => answered,
            };
            // It goes on beside us; its answer will be in the inbox.
            flight.post(request, &self.post);
            return answered;
        }
        self.answer_by(limit).await
    }

    /// The answer to an earlier request; `None` when none comes until `limit`.
    async fn answer_by(
        &mut self,
        limit: Elapsed,
    ) -> Result<Option<(Request, Answer<Outcome>)>, Stop> {
        let clock = self.core.clock.clone();
        let answer = tokio::select! {
            biased;
            letter = self.inbox.recv() => letter.map(|letter| *letter),
            () = clock.sleep_until(limit) => None,
            stop = stopped(&self.core, Some(&self.gone), self.limit) => return Err(stop),
        };
        if answer.is_some() {
            self.unanswered -= 1;
        }
        Ok(answer)
    }

    fn judge(&mut self, record: Option<&Record>, received: Elapsed) -> Refusal {
        let now = self.core.clock.reading();
        if let Some(record) = record
            && record.owner.is_some()
            && !self.attempt.id().owns(record)
        {
            let held = Held::of(record);
            if let Some(head) = &self.head {
                head.saw(&held);
            }
            self.last_held = Some(held);
        }
        let attempt = &mut self.attempt;
        self.core
            .with_service(|service| attempt.refused(record, received, now, service))
    }

    /// Polls with reads until the key may be taken.
    async fn wait_for_turn(&mut self, mut looks: Looks) -> Result<Turn, End> {
        self.waited = true;
        loop {
            let until = looks.at.unwrap_or_else(|| self.next_look(&looks));
            looks.at = Some(until);
            if let Some(head) = &self.head {
                head.plan(Start::Look(looks));
            }
            self.or_stop(self.core.clock.sleep_until(until)).await?;
            if let Some(head) = self.head.as_ref().filter(|head| head.is_held_here()) {
                // Its keeper tells what comes of it: a look would say nothing new.
                self.or_stop(head.holder_gone()).await?;
                match head.start() {
                    Start::Look(later) => looks = later,
                    Start::Ask { not_before } => {
                        self.or_stop(self.core.clock.sleep_until(not_before))
                            .await?;
                        return Ok(Turn::Free);
                    }
                }
                continue;
            }
            looks.round += 1;
            looks.at = None;
            let place = self.core.budget.take(self.core.clock.elapsed());
            self.or_stop(self.core.clock.sleep_until(place)).await?;
            self.sends();
            let bill = self.bill();
            let look = self.core.read(
                self.order.key.shared(),
                Consistency::Eventual,
                self.order.policy.request_timeout(),
                &bill,
            );
            let answer = self.or_stop(look).await?;
            let throttled =
                matches!(&answer.result, Err(error) if error.kind == StoreErrorKind::Throttled);
            self.core.budget.looked(throttled);
            let record = match answer.result {
                Ok(record) => record,
                Err(error) if error.kind.is_retryable() => {
                    self.retry_later(error).await?;
                    continue;
                }
                Err(error) => return Err(self.fatal(Operation::Read, error)),
            };
            self.calm_down();
            match self.judge(record.as_ref(), answer.received) {
                Refusal::Ours(granted) => return Ok(Turn::Ours(granted)),
                Refusal::Others(Verdict::Free) => return Ok(Turn::Free),
                Refusal::Others(Verdict::TakeOver(seen)) => return Ok(Turn::TakeOver(seen)),
                Refusal::Others(Verdict::Wait { ends }) => looks.ends = ends,
            }
            if let Some(token) = record.as_ref().and_then(Record::token) {
                looks.saw(token);
            }
        }
    }

    /// When to look again: after a random delay, or when the grant that was seen can end.
    fn next_look(&self, looks: &Looks) -> Elapsed {
        let delay = match self.order.policy.check_delay(&self.core.hints) {
            CheckDelay::Fixed(delay) => delay,
            CheckDelay::Backoff { first, max } => {
                // Never at once: a small part of the bound is certain.
                first.min(max) / 8 + self.core.backoff(looks.round, first, max)
            }
        };
        let delay = self.core.budget.stretch(delay);
        let now = self.core.clock.elapsed();
        let until = now.plus(delay);
        match looks.ends {
            Some(ends) if ends > now => until.min(ends),
            _ => until,
        }
    }

    fn bill(&self) -> Bill {
        Some(self.bill.clone())
    }

    fn sends(&mut self) {
        self.sent += 1;
        if let Some(head) = &self.head {
            head.sends();
        }
    }

    /// Turns a grant into a lease if it is still worth having (holder rule 6): renews once if it
    /// is not, and if that does not help gives it back and says why.
    async fn hand_over(&mut self, granted: Granted) -> Result<Lease, End> {
        let terms = self.order.policy.terms(&self.core.hints);
        let key = self.order.key.clone();
        let id = LeaseId::new(key.clone(), self.attempt.id(), granted.token);
        let mut kept = Kept::new(key.shared(), self.attempt.id(), &granted, terms);
        if kept.remaining(self.core.clock.reading()).is_zero() {
            debug!(%key, "the grant is worthless already, renewing it");
            let (bound, timeout) = (
                self.order.policy.is_bound_to_process(),
                self.order.policy.request_timeout(),
            );
            let bill = self.bill();
            let renewal = keeper::renew_once(&self.core, &mut kept, bound, timeout, &bill);
            if let Err(ended) = self.or_stop(renewal).await? {
                debug!(%key, ?ended, "the grant is over already");
            }
        }
        let left = kept.remaining(self.core.clock.reading());
        if left.is_zero() {
            // Whoever is told of this error has no lock: settling releases it.
            let lead = self.order.policy.lost_lead();
            return Err(End::Failed(
                Error::new(
                    ErrorKind::TooLate,
                    format!(
                        "acquired `{key}`, but the answer came too late: of the lease of {:?} less than the margin of {lead:?} was left",
                        self.order.policy.lease()
                    ),
                )
                .with_hint("set a longer `lease`, or look at the latency to the store"),
            ));
        }
        let line = match &self.head {
            Some(head) => head.line().clone(),
            None => self.core.lines.of(&key.shared()),
        };
        let terms = keeper::Terms {
            policy: self.order.policy.clone(),
            data: self.order.data.clone(),
            bill: self.bill.clone(),
        };
        self.core.meter.grant(&self.bill());
        let cost = self.bill.usage();
        debug!(
            %key,
            token = %id.token(),
            waited = ?self.core.clock.elapsed().since(self.started),
            requests = cost.requests,
            write_units = cost.write_units,
            read_units = cost.read_units,
            "acquired"
        );
        Ok(keeper::keep(&self.core, &line, terms, id, kept))
    }

    /// Deletes the record that we created with an impossible token, before anyone sees it.
    async fn withdraw(&mut self) -> Result<(), End> {
        let answer = self.or_stop(self.send_withdrawal()).await?;
        match answer.result {
            Ok(_) => {
                self.spoiled = None;
                Ok(())
            }
            Err(error) if error.kind.is_retryable() => self.retry_later(error).await,
            Err(error) => Err(self.fatal(Operation::Withdraw, error)),
        }
    }

    fn send_withdrawal(&self) -> impl Future<Output = Answer<Outcome>> + Send + 'static {
        let core = self.core.clone();
        let write = self.spoiled.as_ref().map_or_else(
            || core.with_service(|service| self.attempt.abandon(service, core.clock.reading())),
            |granted| self.attempt.withdraw(granted),
        );
        let timeout = self.order.policy.request_timeout();
        let bill = self.bill();
        async move {
            let now = core.clock.reading();
            core.write_detached(write, now, timeout, &bill).await
        }
    }

    /// Waits a little after a failure, and gives up when the store has failed for too long.
    async fn retry_later(&mut self, error: StoreError) -> Result<(), End> {
        debug!(key = %self.order.key, %error, "request failed, trying again");
        self.uncertain |= error.effect == Effect::Unknown;
        self.failures += 1;
        let now = self.core.clock.elapsed();
        let since = *self.failing_since.get_or_insert(now);
        if let Some(head) = &self.head {
            head.trouble(Some((since, &error)));
        }
        if now.since(since) >= self.order.policy.call_timeout() {
            if let Some(head) = &self.head {
                head.give_up(now, since, &error);
            }
            return Err(self.fatal(Operation::Acquire, error));
        }
        self.last_failure = Some(error);
        let delay = self.core.backoff(self.failures, RETRY_FIRST, RETRY_MAX);
        self.or_stop(self.core.clock.sleep_until(now.plus(delay)))
            .await?;
        Ok(())
    }

    fn calm_down(&mut self) {
        if let Some(head) = self.head.as_ref().filter(|_| self.failing_since.is_some()) {
            head.trouble(None);
        }
        self.failing_since = None;
        self.failures = 0;
        self.last_failure = None;
    }

    async fn or_stop<T>(&self, work: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            stop = stopped(&self.core, Some(&self.gone), self.limit) => Err(stop),
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
        let waited = self.core.clock.elapsed().since(self.started);
        if let Some(error) = self.last_failure.take() {
            return error.into_error(Operation::Acquire, Some(self.order.key.as_str()));
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
        let sent = self.head.as_ref().map_or(self.sent, Head::requests);
        error
            .with_key(self.order.key.as_str())
            .with_effect(effect)
            .with_held(self.last_held.clone())
            .with_effort(sent, passed)
            .with_cost(self.bill.usage())
    }

    /// Takes back what may have been acquired after all, in the background: at once what is known,
    /// and whatever lands later when its answer comes. An orphan that still escapes ends with its own
    /// lease.
    async fn settle(mut self) {
        if self.uncertain {
            self.give_back().await;
        }
        while let Some((request, answer)) = self.late_answer().await {
            let record = match answer.result {
                Ok(Outcome::Applied(Some(record))) => record,
                Ok(Outcome::Refused(Some(record))) if self.attempt.id().owns(&record) => record,
                Ok(Outcome::Refused(_)) => continue,
                Ok(Outcome::Applied(None)) => {
                    self.give_back().await;
                    continue;
                }
                Err(error) => {
                    if error.effect == Effect::Unknown {
                        self.give_back().await;
                    }
                    continue;
                }
            };
            let now = self.core.clock.reading();
            let granted = self
                .core
                .with_service(|service| self.attempt.applied(&request, &record, service, now));
            self.spoiled = granted.impossible_seed.then_some(granted);
            self.give_back().await;
        }
        if self.unanswered > 0 {
            self.give_back().await;
        }
    }

    /// The same beside a lease of this very attempt: only a grant with another token is released.
    async fn settle_beside(mut self, leased: u64) {
        while let Some((_, answer)) = self.late_answer().await {
            let Ok(Outcome::Applied(Some(record))) = answer.result else {
                continue;
            };
            let Some(token) = record.token().filter(|token| *token != leased) else {
                continue;
            };
            debug!(key = %self.order.key, token, "a late request landed after its lease was over");
            let core = self.core.clone();
            let attempt = &self.attempt;
            self.insist(|| {
                let now = core.clock.reading();
                core.with_service(|service| attempt.release_late(token, service, now))
            })
            .await;
        }
    }

    /// The answer to a request that is still out, within the bound of settling.
    async fn late_answer(&mut self) -> Option<(Request, Answer<Outcome>)> {
        if self.unanswered == 0 {
            return None;
        }
        let limit = self.core.clock.elapsed().plus(SETTLE);
        let clock = self.core.clock.clone();
        let answer = tokio::select! {
            biased;
            letter = self.inbox.recv() => letter.map(|letter| *letter),
            () = clock.sleep_until(limit) => None,
        }?;
        self.unanswered -= 1;
        Some(answer)
    }

    /// Withdraws a spoiled grant; releases any other by attempt id, whatever its token.
    async fn give_back(&mut self) {
        if let Some(granted) = self.spoiled.take() {
            match self.insist(|| self.attempt.withdraw(&granted)).await {
                Some(Outcome::Applied(_)) => return,
                // Gone already; what is there may be a later grant of ours.
                Some(Outcome::Refused(_)) => {}
                // Not allowed to delete: a token that is off is better than a key that is stuck.
                None => {
                    warn!(key = %self.order.key, "a record with a wrong token could not be withdrawn, it is released");
                }
            }
        }
        let core = self.core.clone();
        let attempt = &self.attempt;
        self.insist(|| {
            let now = core.clock.reading();
            core.with_service(|service| attempt.abandon(service, now))
        })
        .await;
    }

    /// Sends a write until it is answered. Bounded by the call time-out.
    async fn insist(&self, write: impl Fn() -> Write) -> Option<Outcome> {
        let started = self.core.clock.elapsed();
        let limit = started.plus(self.order.policy.call_timeout());
        let mut tries = 0;
        loop {
            let now = self.core.clock.reading();
            let timeout = self.order.policy.request_timeout();
            let bill = self.bill();
            let answer = self.core.write_detached(write(), now, timeout, &bill).await;
            match answer.result {
                Ok(outcome) => return Some(outcome),
                Err(error) if !error.kind.is_retryable() => {
                    debug!(key = %self.order.key, %error, "cannot give back what was acquired");
                    return None;
                }
                Err(_) => {}
            }
            tries += 1;
            let next =
                self.core
                    .clock
                    .elapsed()
                    .plus(self.core.backoff(tries, RETRY_FIRST, RETRY_MAX));
            if next >= limit {
                return None;
            }
            self.core.clock.sleep_until(next).await;
        }
    }
}

/// What a waiter may do next.
enum Turn {
    Ours(Granted),
    Free,
    TakeOver(Seen),
}

/// Returns when an acquisition must stop.
pub(crate) async fn stopped(
    core: &Arc<Core>,
    gone: Option<&CancellationToken>,
    limit: Elapsed,
) -> Stop {
    let deadline = async {
        if limit == Elapsed::NEVER {
            std::future::pending::<()>().await;
        }
        while core.clock.elapsed() < limit {
            nap(core, limit).await;
        }
    };
    let left = async {
        match gone {
            Some(gone) => gone.cancelled().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = left => Stop::CallerGone,
        () = core.shut.cancelled() => Stop::CallerGone,
        () = deadline => Stop::Deadline,
    }
}
