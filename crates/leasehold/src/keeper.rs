//! The keeper of a held lease: renewals, the deadline, loss, release.
//!
//! One task per lease owns the truth about it; the guard only reads it. Invariants: `lost` fires
//! at the deadline less margin and grace at the latest, from a timer that no request can block
//! (requests run in tasks of their own), and never un-fires (S6, holder rule 4); a failed renewal
//! is retried until then, only a refusal that does not carry our id and token means lost at once
//! (rule 3); a release waits for renewals in flight (rule 5); when this task ends in any way that
//! is not a release, the lease is lost. When a guard lets go, the grant is handed on to the next in
//! line (`PROTOCOL.md` section 9) or released: the old guard is over before the new one exists.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::alarm::nap;
use crate::error::{Effect, Error, ErrorKind};
use crate::exchange::{Answer, Core, RETRY_FIRST, RETRY_MAX, no_answer_within};
use crate::flight::Letter;
use crate::held::Held;
use crate::identity::LeaseId;
use crate::lease::{Lease, Loss, Parcel, ReleaseOutcome};
use crate::line::{Holding, Line, Looks, Start};
use crate::meter::{Bill, Meter};
use crate::policy::{DropPolicy, Policy};
use crate::protocol::deadline::{Deadline, Sent, service_now};
use crate::protocol::renewal::{Ended, Kept, RenewalRefused};
use crate::protocol::time::{Elapsed, Reading, ServiceTime};
use crate::protocol::write::Operation;
use crate::store::{Outcome, StoreError, StoreErrorKind};

/// Renewals of one lease that may be unanswered at the same time. They are spread over what is left
/// of the lease, so that requests that hang do not use up all of them before its end.
const IN_FLIGHT: usize = 8;
/// How often a renewal outside of the loop is tried.
const TRIES: u32 = 3;
/// How long a renewal without an answer keeps its place among those of the client: keys whose requests
/// hang thus take little from the others.
const COUNTED: Duration = Duration::from_millis(250);
/// When to look for a place again, at the latest.
const NO_PLACE: Duration = Duration::from_millis(50);
/// How often a grant is handed on at most. Far below the 1023 for which the token has room.
const PASSES: u16 = 64;
/// A process keeps a key for at most so many of its longest check delays (and half a lease) while
/// others may wait, and then sits out for one of them.
const TENURE: u32 = 10;

/// What the guard and the keeper of a lease share.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) core: Arc<Core>,
    pub(crate) id: LeaseId,
    pub(crate) lost: CancellationToken,
    policy: Policy,
    data: Option<Arc<[u8]>>,
    bill: Arc<Meter>,
    since: ServiceTime,
    truth: Mutex<Truth>,
}

#[derive(Debug)]
struct Truth {
    deadline: Deadline,
    expires_at: ServiceTime,
    loss: Option<Loss>,
}

impl Watched {
    fn new(core: Arc<Core>, id: LeaseId, kept: &Kept, terms: Terms) -> Self {
        let Terms { policy, data, bill } = terms;
        let now = core.clock.reading();
        Watched {
            since: core.with_service(|service| service_now(service, now)),
            core,
            id,
            lost: CancellationToken::new(),
            policy,
            data,
            bill,
            truth: Mutex::new(Truth {
                deadline: kept.deadline(),
                expires_at: kept.expires_at(),
                loss: None,
            }),
        }
    }

    /// What waiters of this client are told of it.
    pub(crate) fn describe(&self) -> Held {
        let label = self.policy.label();
        let label = label.as_ref().unwrap_or(&self.core.label);
        let (until, lease) = (
            self.with_truth(|truth| truth.expires_at),
            self.policy.lease(),
        );
        Held::here(
            &self.id,
            label,
            self.since,
            until,
            lease,
            self.data.as_deref(),
        )
    }

    /// What the acquisition and the keeping of it have cost.
    pub(crate) fn bill(&self) -> &Arc<Meter> {
        &self.bill
    }

    /// How long the work may go on for certain.
    pub(crate) fn remaining(&self) -> Duration {
        let now = self.core.clock.reading();
        self.with_truth(|truth| match truth.loss {
            Some(_) => Duration::ZERO,
            None => truth.deadline.remaining(now, self.policy.lost_lead()),
        })
    }

    pub(crate) fn loss(&self) -> Option<Loss> {
        self.with_truth(|truth| truth.loss.clone())
    }

    fn with_truth<T>(&self, f: impl FnOnce(&mut Truth) -> T) -> T {
        f(&mut self.truth.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The first loss stays.
    fn lose(&self, loss: Loss) {
        let first = self.with_truth(|truth| {
            let first = truth.loss.is_none();
            truth.loss.get_or_insert(loss.clone());
            first
        });
        if first && loss != Loss::Released {
            crate::meter::loss();
            let cost = self.bill.usage();
            warn!(
                key = %self.id.key(),
                token = %self.id.token(),
                %loss,
                requests = cost.requests,
                renewals = cost.renewals,
                "the lease is lost"
            );
        }
        self.lost.cancel();
    }
}

/// How a guard lets go.
#[derive(Debug)]
pub(crate) enum Finish {
    Release(oneshot::Sender<Result<ReleaseOutcome, Error>>),
    Detach(oneshot::Sender<Result<LeaseId, Error>>),
    Dropped(DropPolicy),
}

/// Somebody waits for a renewal.
pub(crate) type Asked = oneshot::Sender<Result<(), Error>>;

/// What a grant is kept with besides what the protocol says.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) policy: Policy,
    pub(crate) data: Option<Arc<[u8]>>,
    /// What its acquisition has cost; its renewals come on top.
    pub(crate) bill: Arc<Meter>,
}

/// Where a keeper hears from its guard.
#[derive(Debug)]
struct Ears {
    finished: oneshot::Receiver<Finish>,
    asked: mpsc::Receiver<Asked>,
}

/// A guard, and where it is heard.
fn guard(watched: &Arc<Watched>) -> (Lease, Ears) {
    let (finish, finished) = oneshot::channel();
    let (ask, asked) = mpsc::channel(1);
    let drop_policy = watched.policy.drop_policy();
    let lease = Lease::new(watched.clone(), finish, ask, drop_policy);
    (lease, Ears { finished, asked })
}

/// Starts the keeper of a grant and gives its guard.
pub(crate) fn keep(
    core: &Arc<Core>,
    line: &Arc<Line>,
    terms: Terms,
    id: LeaseId,
    kept: Kept,
) -> Lease {
    let policy = terms.policy.clone();
    let watched = Arc::new(Watched::new(core.clone(), id, &kept, terms));
    let (post, inbox) = mpsc::channel(IN_FLIGHT);
    let keeper = Keeper {
        last_word: LastWord(watched.clone()),
        holding: line.hold(&watched, core.clock.elapsed()),
        watched: watched.clone(),
        bound_to_process: policy.is_bound_to_process(),
        policy,
        next_renewal: Elapsed::NEVER,
        kept,
        inbox,
        post,
        unanswered: 0,
        place: None,
        failures: 0,
        waiting: None,
        last_failure: None,
    };
    let (lease, ears) = guard(&watched);
    core.tasks.spawn(keeper.run(ears));
    lease
}

/// Why a renewal outside of the keeper's loop was not acknowledged.
#[derive(Debug)]
pub(crate) enum NotRenewed {
    /// The grant is over.
    Ended(Ended),
    /// The store failed.
    Failed(StoreError),
}

/// Renews a grant once, outside of its keeper's loop.
pub(crate) async fn renew_once(
    core: &Arc<Core>,
    kept: &mut Kept,
    bound_to_process: bool,
    timeout: Duration,
    bill: &Bill,
) -> Result<(), NotRenewed> {
    let now = core.clock.reading();
    let (sent, write) = core.with_service(|service| kept.renew(service, now, bound_to_process));
    let answer = core.write_detached(write, now, timeout, bill).await;
    let now = core.clock.reading();
    match answer.result {
        Ok(Outcome::Applied(_)) => {
            core.with_service(|service| kept.renewed(&sent, service, now));
            Ok(())
        }
        Ok(Outcome::Refused(record)) => {
            let refused =
                core.with_service(|service| kept.renewal_refused(record.as_ref(), service, now));
            match refused {
                RenewalRefused::StillOurs => Ok(()),
                RenewalRefused::Lost(ended) => Err(NotRenewed::Ended(ended)),
            }
        }
        Err(error) => Err(NotRenewed::Failed(error)),
    }
}

/// Marks the lease lost when the keeper ends without having been told to: a panic, or the end of
/// its runtime.
#[derive(Debug)]
struct LastWord(Arc<Watched>);

impl Drop for LastWord {
    fn drop(&mut self) {
        if self.0.loss().is_none() {
            self.0.lose(Loss::KeeperGone);
        }
    }
}

struct Keeper {
    watched: Arc<Watched>,
    last_word: LastWord,
    holding: Holding,
    policy: Policy,
    bound_to_process: bool,
    kept: Kept,
    next_renewal: Elapsed,
    inbox: mpsc::Receiver<Letter<Sent, Outcome>>,
    post: mpsc::Sender<Letter<Sent, Outcome>>,
    unanswered: usize,
    /// The place of the last renewal, until it is answered or that time has come.
    place: Option<(Elapsed, OwnedSemaphorePermit)>,
    failures: u32,
    /// Who waits for a renewal, and since when: only one sent after that counts.
    waiting: Option<(Asked, Elapsed)>,
    last_failure: Option<StoreError>,
}

impl Keeper {
    async fn run(mut self, mut ears: Ears) {
        if !self.policy.is_manual() {
            self.schedule();
        }
        loop {
            let finish = self.serve(&mut ears).await;
            match self.hand_on(finish).await {
                Ok(next) => ears = next,
                Err(finish) => return self.finish(finish).await,
            }
        }
    }

    /// Keeps the lease until its guard lets go.
    async fn serve(&mut self, ears: &mut Ears) -> Finish {
        let core = self.watched.core.clone();
        let finish = loop {
            let now = core.clock.reading();
            self.watch_the_deadline(now);
            let lost = self.watched.loss().is_some();
            let may_send = !lost && self.unanswered < IN_FLIGHT;
            self.place.take_if(|(until, _)| *until <= now.elapsed);
            // By both clocks; the alarm wakes us when they have come to differ.
            let over = now.elapsed.plus(self.kept.remaining(now));
            let until = if may_send {
                over.min(self.next_renewal)
            } else {
                over
            };
            let until = match &self.place {
                Some((counted, _)) => until.min(*counted),
                None => until,
            };
            tokio::select! {
                biased;
                finish = &mut ears.finished => break finish,
                Some(letter) = self.inbox.recv() => self.take_answer(*letter),
                () = nap(&core, until), if !lost => {
                    if may_send && core.clock.elapsed() >= self.next_renewal && self.has_place() {
                        self.send_renewal();
                    }
                }
                Some(ask) = ears.asked.recv(), if self.waiting.is_none() => {
                    if lost {
                        // Dropped receivers have stopped waiting for it.
                        drop(ask.send(Err(self.lost_error())));
                    } else {
                        let asked = core.clock.elapsed();
                        self.waiting = Some((ask, asked));
                        self.next_renewal = asked;
                    }
                }
            }
        };
        // A guard always says how it lets go; without a word its drop was cut short.
        finish.unwrap_or(Finish::Dropped(self.policy.drop_policy()))
    }

    /// Hands the grant on to the next in line, if that wants just this grant; otherwise gives back
    /// what is to be done with it.
    async fn hand_on(&mut self, finish: Finish) -> Result<Ears, Finish> {
        let released = matches!(
            finish,
            Finish::Release(_) | Finish::Dropped(DropPolicy::Release)
        );
        // Looked at again after a wait: the next in line may have left.
        let ready = released && self.has_next() && self.has_enough_left().await && self.has_next();
        // From the mark on no condition check can be made for the old guard, and none was made before.
        if !ready || !self.watched.id.mark_handed_on() {
            return Err(finish);
        }
        // Over, before the next one begins.
        self.watched.lose(Loss::Released);
        let next = Watched::new(
            self.watched.core.clone(),
            self.watched.id.next_pass(),
            &self.kept,
            Terms {
                policy: self.policy.clone(),
                data: self.watched.data.clone(),
                bill: Arc::default(),
            },
        );
        self.watched = Arc::new(next);
        self.last_word = LastWord(self.watched.clone());
        self.waiting = None;
        let (lease, ears) = guard(&self.watched);
        let data = self.watched.data.clone();
        let parcel = Parcel::new(lease);
        let given = self
            .holding
            .give(parcel, &self.watched, &self.policy, data.as_ref());
        if let Err(parcel) = given {
            // It has left in this moment: nobody has seen the new guard, and its grant is released.
            parcel.unmake();
            return Err(finish);
        }
        let next = &self.watched;
        next.core.meter.hand_off(&Some(next.bill.clone()));
        debug!(key = %next.id.key(), token = %next.id.token(), "handed on");
        if let Finish::Release(tell) = finish {
            drop(tell.send(Ok(ReleaseOutcome::HandedOn)));
        }
        Ok(ears)
    }

    /// Whether this grant may be handed on, and somebody wants it.
    fn has_next(&mut self) -> bool {
        let core = self.watched.core.clone();
        let now = core.clock.reading();
        self.watch_the_deadline(now);
        self.policy.is_handing_off()
            && !core.shut.is_cancelled()
            && self.watched.id.token().pass() < PASSES
            && self.watched.loss().is_none()
            && self.holding.has_next(
                &self.policy,
                self.watched.data.as_ref(),
                now.elapsed,
                self.tenure(),
            )
    }

    /// How long this process may keep the key while others may wait for it.
    fn tenure(&self) -> Duration {
        let pause = self.pause();
        (self.policy.lease() / 2).min(pause.saturating_mul(TENURE))
    }

    /// How long it sits out then.
    fn pause(&self) -> Duration {
        self.policy.longest_check_delay(&self.watched.core.hints)
    }

    /// Whether enough of the lease is left for another; renews it first if not, within one request
    /// time-out.
    async fn has_enough_left(&mut self) -> bool {
        let core = self.watched.core.clone();
        let started = core.clock.elapsed();
        let limit = started
            .plus(self.policy.request_timeout())
            .min(self.lost_at());
        let mut sent = false;
        loop {
            let terms = self.kept.terms();
            let whole = terms
                .bounds
                .at_least(terms.lease)
                .saturating_sub(terms.margin);
            let now = core.clock.reading();
            self.watch_the_deadline(now);
            if self.watched.loss().is_some() {
                return false;
            }
            if self.kept.remaining(now) >= whole / 2 {
                return true;
            }
            if !sent && self.unanswered < IN_FLIGHT {
                self.send_renewal();
                sent = true;
            }
            tokio::select! {
                biased;
                Some(letter) = self.inbox.recv() => self.take_answer(*letter),
                () = core.clock.sleep_until(limit) => return false,
            }
        }
    }

    fn lost_at(&self) -> Elapsed {
        self.kept.deadline().at.minus(self.kept.terms().margin)
    }

    fn watch_the_deadline(&mut self, now: Reading) {
        if self.kept.remaining(now).is_zero() && self.watched.loss().is_none() {
            let cause = self.last_failure.as_ref().map(|e| e.to_string().into());
            self.lose(Loss::Expired { cause });
        }
    }

    fn lose(&mut self, loss: Loss) {
        self.watched.lose(loss);
        // Who holds it now is for the next in line to find out.
        self.holding.gone(Start::Look(Looks::default()));
        if let Some((ask, _)) = self.waiting.take() {
            drop(ask.send(Err(self.lost_error())));
        }
    }

    fn lost_error(&self) -> Error {
        let why = self.watched.loss().map(|l| l.to_string());
        let error = lost_error(&self.watched.id, &why.unwrap_or_default());
        if self.unanswered > 0 {
            return error.with_effect(Effect::Unknown);
        }
        error
    }

    /// Takes a place for a renewal. Without one it is tried again soon; not so where the lease would
    /// be in danger: then it is sent all the same.
    fn has_place(&mut self) -> bool {
        let core = &self.watched.core;
        let now = core.clock.elapsed();
        self.place = None;
        if let Ok(permit) = core.renewals.clone().try_acquire_owned() {
            self.place = Some((now.plus(COUNTED), permit));
            return true;
        }
        let urgent = self.lost_at().minus(self.policy.request_timeout() * 2);
        if now >= urgent {
            return true;
        }
        let soon = now.plus(NO_PLACE.mul_f64(core.random.fraction()));
        self.next_renewal = soon.plus(Duration::from_millis(1)).min(urgent);
        false
    }

    fn send_renewal(&mut self) {
        let core = &self.watched.core;
        let now = core.clock.reading();
        let (sent, write) =
            core.with_service(|service| self.kept.renew(service, now, self.bound_to_process));
        let bill = Some(self.watched.bill.clone());
        core.send(write, now, sent, &self.post, &bill);
        self.unanswered += 1;
        // Without an answer by then, another one is sent; the last of them just before the end.
        let left = self.lost_at().since(now.elapsed);
        let places = u32::try_from(IN_FLIGHT - self.unanswered).unwrap_or(0) + 1;
        let patience = self.policy.request_timeout().max(left / places);
        self.next_renewal = now.elapsed.plus(patience);
        self.last_failure = Some(StoreError::new(
            StoreErrorKind::Unavailable,
            Effect::Unknown,
            format!(
                "{}: {}",
                core.store.describe(),
                no_answer_within(self.policy.request_timeout())
            ),
        ));
    }

    fn schedule(&mut self) {
        let jitter = self.watched.core.random.fraction();
        self.next_renewal = if self.policy.is_manual() {
            Elapsed::NEVER
        } else {
            self.kept.renewal_due(jitter, self.policy.request_timeout())
        };
    }

    fn take_answer(&mut self, (sent, answer): (Sent, Answer<Outcome>)) {
        self.unanswered -= 1;
        self.place = None;
        let core = self.watched.core.clone();
        let now = core.clock.reading();
        // Before the answer is looked at: what is over stays over.
        self.watch_the_deadline(now);
        match answer.result {
            Ok(Outcome::Applied(_)) => {
                core.with_service(|service| self.kept.renewed(&sent, service, now));
                self.renewed(sent.at.elapsed);
            }
            Ok(Outcome::Refused(record)) => {
                let refused = core.with_service(|service| {
                    self.kept.renewal_refused(record.as_ref(), service, now)
                });
                match refused {
                    RenewalRefused::StillOurs => self.renewed(sent.at.elapsed),
                    RenewalRefused::Lost(ended) => self.lose(loss_of(ended)),
                }
            }
            Err(error) => {
                debug!(key = %self.watched.id.key(), %error, "renewal failed, trying again");
                self.failures += 1;
                self.last_failure = Some(error);
                let max = RETRY_MAX.min(self.kept.terms().lease / 20);
                let delay = core.backoff(self.failures, RETRY_FIRST.min(max), max);
                self.next_renewal = now.elapsed.plus(delay);
            }
        }
    }

    fn renewed(&mut self, sent: Elapsed) {
        self.failures = 0;
        self.last_failure = None;
        let (deadline, expires_at) = (self.kept.deadline(), self.kept.expires_at());
        // The guard sees the new deadline; a lease that is lost stays lost.
        self.watched.with_truth(|truth| {
            truth.deadline = deadline;
            truth.expires_at = expires_at;
        });
        self.schedule();
        match self.waiting.take() {
            // An answer to an older request: the one that was asked for is still to be sent.
            Some((ask, asked)) if sent < asked => {
                self.next_renewal = asked;
                self.waiting = Some((ask, asked));
            }
            Some((ask, _)) => drop(ask.send(Ok(()))),
            None => {}
        }
    }

    async fn finish(&mut self, finish: Finish) {
        let started = self.watched.core.clock.elapsed();
        self.settle_renewals().await;
        let loss = self.watched.loss();
        // Whoever still holds a signal learns that the lease is over.
        self.watched.lose(Loss::Released);
        match finish {
            Finish::Release(tell) => {
                let outcome = match loss {
                    // Nothing of ours is left to release.
                    Some(Loss::TakenOver(held)) => Ok(ReleaseOutcome::TakenOver(*held)),
                    _ => self.release(loss.is_none(), started).await,
                };
                drop(tell.send(outcome));
            }
            Finish::Dropped(DropPolicy::Release) => {
                if !matches!(loss, Some(Loss::TakenOver(_)))
                    && let Err(error) = self.release(loss.is_none(), started).await
                {
                    warn!(key = %self.watched.id.key(), %error, "a dropped lease could not be released, it ends by itself");
                }
            }
            Finish::Dropped(DropPolicy::LeaveToExpire) => {}
            Finish::Detach(tell) => {
                drop(tell.send(self.detach(loss).await));
            }
        }
    }

    /// Waits for renewals in flight, at most for one request time-out. One that lands after the
    /// release finds no owner in the record and changes nothing.
    async fn settle_renewals(&mut self) {
        let core = self.watched.core.clone();
        let limit = core.clock.elapsed().plus(self.policy.request_timeout());
        while self.unanswered > 0 && core.clock.elapsed() < limit {
            // Whoever still watches a signal is told in time, here as well.
            let now = core.clock.reading();
            self.watch_the_deadline(now);
            let until = match self.watched.loss() {
                Some(_) => limit,
                None => limit.min(now.elapsed.plus(self.kept.remaining(now))),
            };
            tokio::select! {
                biased;
                Some(letter) = self.inbox.recv() => self.take_answer(*letter),
                () = nap(&core, until) => {}
            }
        }
    }

    async fn release(&mut self, held: bool, started: Elapsed) -> Result<ReleaseOutcome, Error> {
        let (tenure, pause) = (self.tenure(), self.pause());
        let (watched, holding) = (&self.watched, &mut self.holding);
        let how = LettingGo {
            held,
            started,
            bill: Some(watched.bill.clone()),
        };
        let outcome = release(
            &watched.core,
            &self.policy,
            &watched.id,
            &self.kept,
            how,
            // Whether it landed is not known yet: the next in line looks for itself.
            || holding.gone(Start::Look(Looks::default())),
        )
        .await;
        if let Ok(outcome) = &outcome {
            let cost = watched.bill.usage();
            debug!(
                key = %watched.id.key(),
                token = %watched.id.token(),
                %outcome,
                requests = cost.requests,
                renewals = cost.renewals,
                write_units = cost.write_units,
                read_units = cost.read_units,
                "let go"
            );
        }
        match &outcome {
            Ok(ReleaseOutcome::TakenOver(_)) | Err(_) => {
                holding.gone(Start::Look(Looks::default()));
            }
            Ok(_) => holding.released(watched.core.clock.elapsed(), tenure, pause),
        }
        outcome
    }

    /// Leaves the grant to itself; where the store ties it to this process, that is undone first.
    async fn detach(&mut self, loss: Option<Loss>) -> Result<LeaseId, Error> {
        if let Some(loss) = loss {
            return Err(lost_error(&self.watched.id, &loss.to_string()));
        }
        let core = self.watched.core.clone();
        let timeout = self.policy.request_timeout();
        let bill = Some(self.watched.bill.clone());
        let mut tries = 0;
        loop {
            match renew_once(&core, &mut self.kept, false, timeout, &bill).await {
                Ok(()) => return Ok(self.watched.id.clone()),
                Err(NotRenewed::Ended(ended)) => {
                    let why = loss_of(ended).to_string();
                    return Err(lost_error(&self.watched.id, &why));
                }
                Err(NotRenewed::Failed(error)) => {
                    tries += 1;
                    if !error.kind.is_retryable() || tries == TRIES {
                        // The lease ends by itself.
                        let key = self.watched.id.key().as_str();
                        return Err(error.into_error(Operation::Renew, Some(key)));
                    }
                    let delay = core.backoff(tries, RETRY_FIRST, RETRY_MAX);
                    let next = core.clock.elapsed().plus(delay);
                    core.clock.sleep_until(next).await;
                }
            }
        }
    }
}

pub(crate) fn lost_error(id: &LeaseId, why: &str) -> Error {
    Error::new(
        ErrorKind::Lost,
        format!("the lease of `{}` is lost: {why}", id.key()),
    )
    .with_key(id.key().as_str())
}

pub(crate) fn loss_of(ended: Ended) -> Loss {
    match ended {
        Ended::Released => Loss::ReleasedElsewhere,
        Ended::TakenOver(record) => Loss::TakenOver(Box::new(Held::of(&record))),
        Ended::NoRecord => Loss::NoRecord,
    }
}

/// How a grant is let go.
#[derive(Debug)]
pub(crate) struct LettingGo {
    /// Its guard believed in it until now, so that nobody but this very release can have ended it
    /// before its deadline: the service may apply our request twice and answer the second one.
    pub(crate) held: bool,
    /// The call time-out counts from here.
    pub(crate) started: Elapsed,
    pub(crate) bill: Bill,
}

/// Ends a grant: conditional on our id and token, retried within the call time-out. `in_doubt` is
/// called when a try has failed.
pub(crate) async fn release(
    core: &Arc<Core>,
    policy: &Policy,
    id: &LeaseId,
    kept: &Kept,
    how: LettingGo,
    mut in_doubt: impl FnMut() + Send,
) -> Result<ReleaseOutcome, Error> {
    let LettingGo {
        held,
        started,
        bill,
    } = how;
    let limit = started.plus(policy.call_timeout());
    let mut uncertain = false;
    let mut tries = 0;
    loop {
        let now = core.clock.reading();
        let write = core.with_service(|service| kept.release(service, now));
        let timeout = policy.request_timeout().min(limit.since(now.elapsed));
        let answer = core.write_detached(write, now, timeout, &bill).await;
        tries += 1;
        // Judged anew for every answer: it may have come after the deadline.
        let answered = core.clock.reading();
        let in_time = held && kept.deadline().at > kept.deadline().effective_now(answered);
        let ours = if in_time {
            ReleaseOutcome::Released
        } else {
            ReleaseOutcome::ReleasedLate
        };
        let error = match answer.result {
            Ok(Outcome::Applied(_)) => return Ok(ours),
            Ok(Outcome::Refused(record)) => {
                // An earlier try of ours landed: the record shows it, or someone has taken the
                // free key since, which before our deadline they could not otherwise.
                let shown = kept.shows_release(record.as_ref());
                if (shown && (in_time || uncertain)) || (in_time && uncertain) {
                    return Ok(ours);
                }
                return Ok(match kept.ended(record.as_ref()) {
                    Ended::Released => ReleaseOutcome::AlreadyReleased,
                    Ended::TakenOver(record) => ReleaseOutcome::TakenOver(Held::of(&record)),
                    Ended::NoRecord => ReleaseOutcome::NoRecord,
                });
            }
            Err(error) => error,
        };
        in_doubt();
        uncertain |= error.effect == Effect::Unknown;
        let next = core
            .clock
            .elapsed()
            .plus(core.backoff(tries, RETRY_FIRST, RETRY_MAX));
        if !error.kind.is_retryable() || next >= limit {
            let passed = core.clock.elapsed().since(started);
            let effect = if uncertain {
                Effect::Unknown
            } else {
                error.effect
            };
            return Err(error
                .into_error(Operation::Release, Some(id.key().as_str()))
                .with_effect(effect)
                .with_effort(tries, passed));
        }
        debug!(key = %id.key(), %error, "release failed, trying again");
        core.clock.sleep_until(next).await;
    }
}
