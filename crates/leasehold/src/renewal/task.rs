//! The renewal task of a held lease: renewals, the deadline, loss, release.
//!
//! One task per guard writes the state of its lease, on the runtime of that guard. `hand_off` is the
//! step to the next waiter, `release` every other end. Invariants:
//!
//! - `lost` fires at the deadline less margin and grace at the latest, from a timer that no request
//!   can block. A lost lease stays lost (S6, holder rule 4).
//! - A failed renewal is retried until then. Only a refusal that does not carry our id and token means
//!   that the lease is lost at once (rule 3).
//! - A release waits for renewals in flight (rule 5).
//! - If this task ends without a release, the lease is lost.
//! - When a guard ends, the grant is handed off to the next waiter (`docs/protocol.md` section 9) or
//!   released. The old guard ends before the new one exists.

use std::sync::Arc;
use std::time::Duration;

use leasehold_protocol::deadline::Sent;
use leasehold_protocol::renewal::{Kept, RenewalRefused};
use leasehold_protocol::time::{Elapsed, Reading};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tracing::debug;

use crate::error::{Effect, Error};
use crate::lease::end::EndReason;
use crate::lease::guard::{Finish, Finished, Lease, guard};
use crate::lease::state::{Asked, LeaseState, Terms};
use crate::lease_id::LeaseId;
use crate::policy::{DropPolicy, Policy};
use crate::queue::{Holding, Polls, Queue, Start};
use crate::runtime::reads::Reads;
use crate::runtime::request::{Answer, Mailbox};
use crate::runtime::retry::{RETRY_FIRST, RETRY_MAX};
use crate::shared::{Core, no_answer_within};
use crate::store::{Consistency, Outcome, StoreErrorKind};

/// The most unanswered renewals of one lease. They are spread over the rest of the lease, so that
/// requests that hang do not use up all of them before its end.
pub(super) const IN_FLIGHT: usize = 8;
/// How long an unanswered renewal keeps its permit of the client, so that keys whose requests hang
/// take little from the others.
const COUNTED: Duration = Duration::from_millis(250);
/// The longest delay before the next try for a permit.
const NO_PLACE: Duration = Duration::from_millis(50);
/// Starts the renewal task of a grant, and returns its guard.
pub(crate) fn keep(
    core: &Arc<Core>,
    queue: &Arc<Queue>,
    terms: Terms,
    id: LeaseId,
    kept: Kept,
) -> Lease {
    let policy = terms.policy.clone();
    let lease_state = Arc::new(LeaseState::new(core.leases.clone(), id, &kept, terms));
    let began = core.clocks.elapsed();
    let mut task = RenewalTask {
        core: core.clone(),
        end_on_drop: EndOnDrop(lease_state.clone()),
        holding: Holding::begin(queue, &lease_state, began),
        lease_state: lease_state.clone(),
        policy,
        next_renewal: Elapsed::NEVER,
        kept,
        mailbox: Mailbox::new(IN_FLIGHT),
        unanswered: 0,
        place: None,
        failures: 0,
        waiting: None,
        deliver_by: None,
        looks: Reads::default(),
        looked: began,
        next_look: None,
        others_since: None,
    };
    task.schedule();
    task.expect_others(began);
    let (lease, finished) = guard(&lease_state);
    start(task, finished, &Handle::current());
    lease
}

/// Starts the task of a guard on the guard's runtime. If that has ended, the lease is lost at once.
fn start(task: RenewalTask, finished: Finished, runtime: &Handle) {
    let tasks = task.core.tasks.clone();
    tasks.spawn_on(task.run(finished), runtime);
}

/// Marks the lease lost when the renewal task ends by a panic or with its runtime.
#[derive(Debug)]
pub(super) struct EndOnDrop(pub(super) Arc<LeaseState>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if self.0.loss().is_none() {
            self.0.lose(EndReason::TaskEnded);
        }
        self.0.forget_task();
    }
}

/// A caller that waits for a renewal.
pub(super) struct Waiting {
    pub(super) ask: Asked,
    /// Since when.
    pub(super) asked: Elapsed,
    /// The payload before the one that it asks to write.
    pub(super) before: Option<Arc<[u8]>>,
}

pub(super) struct RenewalTask {
    pub(super) core: Arc<Core>,
    pub(super) lease_state: Arc<LeaseState>,
    pub(super) end_on_drop: EndOnDrop,
    pub(super) holding: Holding,
    pub(super) policy: Policy,
    pub(super) kept: Kept,
    pub(super) next_renewal: Elapsed,
    pub(super) mailbox: Mailbox<Sent, Outcome>,
    pub(super) unanswered: usize,
    /// The permit of the last renewal, until its answer or the given time.
    pub(super) place: Option<(Elapsed, OwnedSemaphorePermit)>,
    pub(super) failures: u32,
    /// A caller that waits for a renewal, and since when: only a renewal sent after that counts.
    pub(super) waiting: Option<Waiting>,
    /// The guard was handed off, and its waiter may take it until then.
    pub(super) deliver_by: Option<Elapsed>,
    /// Reads that show who waits for the key.
    pub(super) looks: Reads<()>,
    /// When the queue of the record was last looked at.
    pub(super) looked: Elapsed,
    pub(super) next_look: Option<Elapsed>,
    /// Since when others are known to wait, and the hand-offs until then.
    pub(super) others_since: Option<(Elapsed, u16)>,
}

impl RenewalTask {
    /// Not an `async fn`, which stores its arguments twice. The end, its largest future, is boxed.
    #[expect(clippy::manual_async_fn, reason = "see above")]
    fn run(mut self, mut finished: Finished) -> impl Future<Output = ()> + Send {
        async move {
            let finish = self.serve(&mut finished).await;
            let started = self.core.clocks.elapsed();
            match self.hand_off(finish, started).await {
                // The next guard may be on another runtime, where its task runs.
                Ok((runtime, finished)) => start(self, finished, &runtime),
                Err(finish) => Box::pin(self.finish(finish, started)).await,
            }
        }
    }

    /// Renews the lease until its guard ends.
    async fn serve(&mut self, finished: &mut Finished) -> Finish {
        let core = self.core.clone();
        let finish = loop {
            let now = core.clocks.reading();
            self.watch_the_deadline(now);
            let lost = self.lease_state.loss().is_some();
            let may_send = !lost && self.unanswered < IN_FLIGHT;
            self.place.take_if(|(until, _)| *until <= now.elapsed);
            // By both clocks; the timer also wakes this task when they differ.
            let over = now.elapsed.plus(self.lease_state.observe(now));
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
                if let Some(lease) = self.holding.take_back(self.lease_state.id.token()) {
                    lease.unmake();
                    return Finish::Dropped(DropPolicy::Release);
                }
            }
            let until = until.min(self.deliver_by.unwrap_or(Elapsed::NEVER));
            let until = until.min(self.next_look.unwrap_or(Elapsed::NEVER));
            tokio::select! {
                biased;
                finish = &mut *finished => break finish,
                answer = self.mailbox.next() => self.take_answer(answer),
                ((), answer) = self.looks.next() => {
                    if let Ok(Some(record)) = answer.result {
                        self.kept.saw(&record);
                    }
                }
                () = core.clocks.sleep_shared(until), if !lost => {
                    let now = core.clocks.elapsed();
                    if self.next_look.take_if(|at| *at <= now).is_some() {
                        self.look(now);
                    }
                    if may_send && core.clocks.elapsed() >= self.next_renewal && self.has_place() {
                        self.send_renewal();
                    }
                }
                ask = self.lease_state.next_ask(), if self.waiting.is_none() => {
                    let asked = core.clocks.elapsed();
                    let before = ask.data.clone().and_then(|data| self.set_data(data));
                    self.waiting = Some(Waiting { ask, asked, before });
                    self.next_renewal = asked;
                }
            }
        };
        // A guard always sends how it ends. Without a message, the drop policy counts.
        finish.unwrap_or(Finish::Dropped(self.policy.drop_policy()))
    }

    /// Where others wanted the key the last time and nobody is known to wait now, a read of the queue comes
    /// before the expected end of the hold. It costs a tenth of a release that is refused.
    fn expect_others(&mut self, now: Elapsed) {
        if self.kept.queue().is_empty()
            && let Some(hold) = self.holding.shared_hold(self.kept.is_undescribed())
        {
            self.next_look = Some(now.plus(hold / 2));
        }
    }

    /// Reads who waits for the key, without waiting for the answer.
    pub(super) fn look(&mut self, now: Elapsed) {
        self.looked = now;
        if self.looks.len() > 0 || !self.policy.is_queueing() {
            return;
        }
        let (core, key) = (self.core.clone(), self.lease_state.id.key().shared());
        let timeout = self.policy.request_timeout();
        let call_usage = Some(self.lease_state.call_usage.clone());
        self.looks.push(
            (),
            Box::pin(async move {
                core.read(key, Consistency::Eventual, timeout, &call_usage)
                    .await
            }),
        );
    }

    pub(super) fn lost_at(&self) -> Elapsed {
        self.kept
            .deadline()
            .at
            .minus(self.kept.terms().safety_margin)
    }

    pub(super) fn watch_the_deadline(&mut self, now: Reading) {
        self.lease_state.observe(now);
        if let Some(loss) = self.lease_state.loss() {
            self.lose(loss);
        }
    }

    fn lose(&mut self, loss: EndReason) {
        self.lease_state.lose(loss);
        // The next waiter polls for the present holder.
        self.holding.gone(Start::Poll(Polls::default()));
        if let Some(Waiting { ask, .. }) = self.waiting.take() {
            drop(ask.answer.send(Err(self.lost_error())));
        }
    }

    fn lost_error(&self) -> Error {
        let why = self.lease_state.loss().map(|l| l.to_string());
        let error = self.lease_state.id.lost_error(&why.unwrap_or_default());
        if self.unanswered > 0 {
            return error.with_effect(Effect::Unknown);
        }
        error
    }

    /// Takes a permit for a renewal. Without a permit, the renewal is tried again soon, or sent anyway if
    /// the lease is near its end.
    fn has_place(&mut self) -> bool {
        let core = &self.core;
        let now = core.clocks.elapsed();
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

    pub(super) fn send_renewal(&mut self) {
        let core = &self.core;
        let now = core.clocks.reading();
        let bound = self.policy.is_bound_to_process();
        let (sent, write) = core
            .clocks
            .with_service(|service| self.kept.renew(service, now, bound));
        let call_usage = Some(self.lease_state.call_usage.clone());
        core.launch(write, now, &call_usage)
            .post(sent, &mut self.mailbox);
        self.unanswered += 1;
        // Without an answer by then, another one is sent, and the last one just before the end.
        let left = self.lost_at().since(now.elapsed);
        let places = u32::try_from(IN_FLIGHT - self.unanswered).unwrap_or(0) + 1;
        let patience = self.policy.request_timeout().max(left / places);
        self.next_renewal = now.elapsed.plus(patience);
        let silence = no_answer_within(self.policy.request_timeout());
        let failure = format!("{}: {silence}", core.store.describe());
        self.failed(failure);
    }

    pub(super) fn schedule(&mut self) {
        let jitter = self.core.random.fraction();
        self.next_renewal = if self.policy.is_manual() {
            Elapsed::NEVER
        } else if self.kept.hides_data() {
            // Its observers look for it in the record.
            Elapsed::default()
        } else {
            self.kept.renewal_due(jitter, self.policy.request_timeout())
        };
    }

    pub(super) fn take_answer(&mut self, (sent, answer): (Sent, Answer<Outcome>)) {
        self.unanswered -= 1;
        if self.unanswered == 0 {
            self.mailbox.close();
        }
        self.place = None;
        let core = self.core.clone();
        let now = core.clocks.reading();
        // Before the answer counts: a lost lease stays lost.
        self.watch_the_deadline(now);
        match answer.result {
            Ok(Outcome::Applied(record)) => {
                record.iter().for_each(|record| self.kept.saw(record));
                core.clocks
                    .with_service(|service| self.kept.renewed(&sent, service, now));
                self.renewed(sent.at.elapsed);
            }
            Ok(Outcome::Refused(record)) => {
                record.iter().for_each(|record| self.kept.saw(record));
                let refused = core.clocks.with_service(|service| {
                    self.kept.renewal_refused(record.as_ref(), service, now)
                });
                match refused {
                    RenewalRefused::StillOurs => self.renewed(sent.at.elapsed),
                    RenewalRefused::Lost(ended) => self.lose(ended.into()),
                }
            }
            Err(error) => {
                debug!(key = %self.lease_state.id.key(), %error, "renewal failed, retrying");
                self.failures += 1;
                self.failed(error.to_string());
                if error.kind == StoreErrorKind::InvalidInput {
                    self.refuse_data(&error);
                }
                let max = RETRY_MAX.min(self.kept.terms().lease / 20);
                let delay = core.backoff(self.failures, RETRY_FIRST.min(max), max);
                self.next_renewal = now.elapsed.plus(delay);
            }
        }
    }

    /// Records the cause of a later loss.
    fn failed(&self, failure: String) {
        let failure = Some(failure.into());
        self.lease_state.with_truth(|truth| truth.failure = failure);
    }

    fn renewed(&mut self, sent: Elapsed) {
        self.failures = 0;
        let (deadline, expires_at) = (self.kept.deadline(), self.kept.expires_at());
        // The guard sees the new deadline. A lost lease stays lost.
        self.lease_state.with_truth(|truth| {
            truth.failure = None;
            truth.deadline = deadline;
            truth.expires_at = expires_at;
        });
        self.schedule();
        match self.waiting.take() {
            // An answer to an older request: the requested renewal must still be sent.
            Some(waiting) if sent < waiting.asked || self.lacks_data(&waiting.ask) => {
                self.next_renewal = waiting.asked;
                self.waiting = Some(waiting);
            }
            Some(Waiting { ask, .. }) => drop(ask.answer.send(Ok(()))),
            None => {}
        }
    }
}

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use leasehold_protocol::write::Operation;

    use super::*;
    use crate::clock::{Clock, TokioClock};
    use crate::store::memory::MemoryStore;
    use crate::store::testing::counting::CountingStore;
    use crate::{LockClient, Policy};

    #[tokio::test(start_paused = true)]
    async fn a_lease_near_its_end_is_renewed_without_a_permit() {
        let clock = Arc::new(TokioClock::new(1_800_000_000_000));
        let memory = Arc::new(MemoryStore::with_clock(clock.clone()));
        let counted = CountingStore::new(memory);
        let locks = LockClient::builder(counted.clone()).clock(clock.clone());
        let locks = locks.build();
        let permits = locks.core().renewals.clone();
        let most = u32::try_from(permits.available_permits()).expect("few");
        let _all = permits.try_acquire_many_owned(most).expect("unused");
        let lease = locks.acquire("k").await.expect("free");
        let urgent = lease.remaining() - Policy::default().request_timeout() * 2;
        let urgent = clock.elapsed().plus(urgent);
        let sent = || counted.counts().of(Operation::Renew);
        clock
            .sleep_until(urgent.minus(Duration::from_millis(50)))
            .await;
        assert_eq!(sent(), 0, "others come first");
        clock
            .sleep_until(urgent.plus(Duration::from_millis(50)))
            .await;
        assert_eq!(sent(), 1);
        assert!(lease.remaining() > Duration::from_secs(18));
    }
}
