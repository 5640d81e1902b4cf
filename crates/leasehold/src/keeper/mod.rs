//! The keeper of a held lease: renewals, the deadline, loss, release.
//!
//! One task per guard owns the truth about its lease, on the runtime of that guard. Invariants: `lost` fires
//! at the deadline less margin and grace at the latest, from a timer that no request can block
//! (requests run in tasks of their own), and never un-fires (S6, holder rule 4); a failed renewal
//! is retried until then, only a refusal that does not carry our id and token means lost at once
//! (rule 3); a release waits for renewals in flight (rule 5); when this task ends in any way that
//! is not a release, the lease is lost. When a guard lets go, the grant is handed on to the next in
//! line (`PROTOCOL.md` section 9) or released: the old guard is over before the new one exists.
//!
//! `watched` is what the guard sees, `hand_on` the step to the next in line, `letting_go` every other end.

mod hand_on;
mod letting_go;
mod watched;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tracing::debug;

use crate::alarm::nap;
use crate::error::{Effect, Error, ErrorKind};
use crate::exchange::{Answer, Core, no_answer_within};
use crate::flight::Inbox;
use crate::held::Held;
use crate::identity::LeaseId;
use crate::lease::{Lease, Loss, ReleaseOutcome};
use crate::meter::{Bill, Meter};
use crate::policy::{DropPolicy, Policy};
use crate::protocol::deadline::Sent;
use crate::protocol::renewal::{Ended, Kept, RenewalRefused};
use crate::protocol::time::{Elapsed, Reading};
use crate::queue::{Holding, Looks, Queue, Start};
use crate::retry::{RETRY_FIRST, RETRY_MAX};
use crate::store::{Outcome, StoreError};

pub(crate) use self::letting_go::{LettingGo, release};
pub(crate) use self::watched::Watched;

/// Renewals of one lease that may be unanswered at the same time. They are spread over what is left
/// of the lease, so that requests that hang do not use up all of them before its end.
const IN_FLIGHT: usize = 8;
/// How long a renewal without an answer keeps its place among those of the client: keys whose requests
/// hang thus take little from the others.
const COUNTED: Duration = Duration::from_millis(250);
/// When to look for a place again, at the latest.
const NO_PLACE: Duration = Duration::from_millis(50);
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

/// Where a keeper hears that its guard lets go.
type Finished = oneshot::Receiver<Finish>;

/// A guard, and where it is heard.
fn guard(watched: &Arc<Watched>) -> (Lease, Finished) {
    let (finish, finished) = oneshot::channel();
    let drop_policy = watched.policy.drop_policy();
    let lease = Lease::new(watched.clone(), finish, drop_policy);
    (lease, finished)
}

/// Starts the keeper of a grant and gives its guard.
pub(crate) fn keep(
    core: &Arc<Core>,
    queue: &Arc<Queue>,
    terms: Terms,
    id: LeaseId,
    kept: Kept,
) -> Lease {
    let policy = terms.policy.clone();
    let watched = Arc::new(Watched::new(core.clone(), id, &kept, terms));
    let mut keeper = Keeper {
        last_word: LastWord(watched.clone()),
        holding: queue.hold(&watched, core.clock.elapsed()),
        watched: watched.clone(),
        bound_to_process: policy.is_bound_to_process(),
        policy,
        next_renewal: Elapsed::NEVER,
        kept,
        inbox: Inbox::new(IN_FLIGHT),
        unanswered: 0,
        place: None,
        failures: 0,
        waiting: None,
        deliver_by: None,
    };
    keeper.schedule();
    let (lease, finished) = guard(&watched);
    start(keeper, finished, &Handle::current());
    lease
}

/// Starts the task of a guard, on the runtime of whoever has the guard. Where that has ended, the lease is
/// lost at once.
fn start(keeper: Keeper, finished: Finished, runtime: &Handle) {
    let tasks = keeper.watched.core.tasks.clone();
    tasks.spawn_on(keeper.run(finished), runtime);
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
        self.0.forget_keeper();
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
    inbox: Inbox<Sent, Outcome>,
    unanswered: usize,
    /// The place of the last renewal, until it is answered or that time has come.
    place: Option<(Elapsed, OwnedSemaphorePermit)>,
    failures: u32,
    /// Who waits for a renewal, and since when: only one sent after that counts.
    waiting: Option<(Asked, Elapsed)>,
    /// The guard was handed on, and lies where its waiter may take it until then.
    deliver_by: Option<Elapsed>,
}

impl Keeper {
    /// Not an `async fn`, whose future has room for its arguments twice; and the end, which is the
    /// largest part of it, has none before it comes.
    #[expect(clippy::manual_async_fn, reason = "see above")]
    fn run(mut self, mut finished: Finished) -> impl Future<Output = ()> + Send {
        async move {
            let finish = self.serve(&mut finished).await;
            match self.hand_on(finish).await {
                // The next guard may be on another runtime: its own task goes on there.
                Ok((runtime, finished)) => start(self, finished, &runtime),
                Err(finish) => Box::pin(self.finish(finish)).await,
            }
        }
    }

    /// Keeps the lease until its guard lets go.
    async fn serve(&mut self, finished: &mut Finished) -> Finish {
        let core = self.watched.core.clone();
        let finish = loop {
            let now = core.clock.reading();
            self.watch_the_deadline(now);
            let lost = self.watched.loss().is_some();
            let may_send = !lost && self.unanswered < IN_FLIGHT;
            self.place.take_if(|(until, _)| *until <= now.elapsed);
            // By both clocks; the alarm wakes us when they have come to differ.
            let over = now.elapsed.plus(self.watched.remaining_at(now));
            let until = if may_send {
                over.min(self.next_renewal)
            } else {
                over
            };
            let until = match &self.place {
                Some((counted, _)) => until.min(*counted),
                None => until,
            };
            if let Some(by) = self.deliver_by
                && now.elapsed >= by
            {
                self.deliver_by = None;
                if let Some(lease) = self.holding.take_back(self.watched.id.token()) {
                    lease.unmake();
                    return Finish::Dropped(DropPolicy::Release);
                }
            }
            let until = until.min(self.deliver_by.unwrap_or(Elapsed::NEVER));
            tokio::select! {
                biased;
                finish = &mut *finished => break finish,
                answer = self.inbox.next() => self.take_answer(answer),
                () = nap(&core.alarms, until), if !lost => {
                    if may_send && core.clock.elapsed() >= self.next_renewal && self.has_place() {
                        self.send_renewal();
                    }
                }
                ask = self.watched.next_ask(), if self.waiting.is_none() => {
                    let asked = core.clock.elapsed();
                    self.waiting = Some((ask, asked));
                    self.next_renewal = asked;
                }
            }
        };
        // A guard always says how it lets go; without a word its drop was cut short.
        finish.unwrap_or(Finish::Dropped(self.policy.drop_policy()))
    }

    fn lost_at(&self) -> Elapsed {
        self.kept.deadline().at.minus(self.kept.terms().margin)
    }

    fn watch_the_deadline(&mut self, now: Reading) {
        self.watched.remaining_at(now);
        if let Some(loss) = self.watched.loss() {
            self.lose(loss);
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
        core.send(write, now, sent, &mut self.inbox, &bill);
        self.unanswered += 1;
        // Without an answer by then, another one is sent; the last of them just before the end.
        let left = self.lost_at().since(now.elapsed);
        let places = u32::try_from(IN_FLIGHT - self.unanswered).unwrap_or(0) + 1;
        let patience = self.policy.request_timeout().max(left / places);
        self.next_renewal = now.elapsed.plus(patience);
        let silence = no_answer_within(self.policy.request_timeout());
        let failure = format!("{}: {silence}", core.store.describe());
        self.failed(failure);
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
        if self.unanswered == 0 {
            self.inbox.close();
        }
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
                self.failed(error.to_string());
                let max = RETRY_MAX.min(self.kept.terms().lease / 20);
                let delay = core.backoff(self.failures, RETRY_FIRST.min(max), max);
                self.next_renewal = now.elapsed.plus(delay);
            }
        }
    }

    /// Why the lease is lost if nothing better comes.
    fn failed(&self, failure: String) {
        let failure = Some(failure.into());
        self.watched.with_truth(|truth| truth.failure = failure);
    }

    fn renewed(&mut self, sent: Elapsed) {
        self.failures = 0;
        let (deadline, expires_at) = (self.kept.deadline(), self.kept.expires_at());
        // The guard sees the new deadline; a lease that is lost stays lost.
        self.watched.with_truth(|truth| {
            truth.failure = None;
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
        Ended::Superseded => Loss::Superseded,
        Ended::NoRecord => Loss::NoRecord,
    }
}
