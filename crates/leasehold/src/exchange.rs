//! One request and its answer: the only place where the client talks to its store.
//!
//! Invariants: the clocks are read *before* a request is made (the caller passes the reading in);
//! every answer's stamp feeds the service clock; a request in flight is never cancelled, because it
//! is a [`Flight`], which goes on in a task of its own when nobody waits for it any more; and every
//! request is metered.

use std::collections::{HashMap, VecDeque};
use std::fmt::{self, Debug};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::alarm::Alarms;
use crate::budget::Budget;
use crate::clock::{Clock, ClockTrouble, Random};
use crate::error::{Effect, Error, ErrorKind};
use crate::flight::{Flight, Inbox};
use crate::meter::{Bill, Meter};
use crate::policy::Policy;
use crate::protocol::record::Record;
use crate::protocol::renewal::Kept;
use crate::protocol::takeover::Observation;
use crate::protocol::time::{Elapsed, Reading, ServiceClock, Stamp};
use crate::protocol::write::{Operation, Write};
use crate::queue::Queues;
use crate::retry::{RETRY_FIRST, RETRY_MAX, RetryBudget};
use crate::store::{
    Consistency, Hints, Outcome, Page, Reply, Store, StoreError, StoreErrorKind, Units,
};

/// A wall clock that is certainly off by more than this is worth a warning.
const WORTH_A_WARNING_MS: u64 = 1_000;

/// Renewals of one client in flight at the same time, as far as they are young.
const RENEWALS: usize = 128;

/// Acquisitions of one client that have ended, and still wait for answers. Where there are as many, no other
/// begins: a store that answers nobody is not asked by more and more.
const UNSETTLED: usize = 1_024;

/// How many held keys are remembered between calls.
const REMEMBERED_KEYS: usize = 1_024;

/// What was seen of held keys, so that calls that are shorter than a lease can take over a dead
/// holder by observation all the same. Bounded; the key seen longest ago is forgotten first.
#[derive(Debug, Default)]
struct Observations {
    seen: HashMap<Arc<str>, Observation>,
    order: VecDeque<Arc<str>>,
}

impl Observations {
    fn of(&self, key: &str) -> Observation {
        self.seen.get(key).cloned().unwrap_or_default()
    }

    fn remember(&mut self, key: &Arc<str>, observation: &Observation) {
        if observation.is_empty() {
            if self.seen.remove(key).is_some() {
                self.order.retain(|k| k != key);
            }
            return;
        }
        if self.seen.insert(key.clone(), observation.clone()).is_none() {
            self.order.push_back(key.clone());
            if self.order.len() > REMEMBERED_KEYS
                && let Some(oldest) = self.order.pop_front()
            {
                self.seen.remove(&oldest);
            }
        }
    }
}

/// What all parts of one client share.
pub(crate) struct Core {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) hints: Hints,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) policy: Policy,
    pub(crate) label: Arc<str>,
    /// Everything that runs in the background, so that `shutdown` can wait for it.
    pub(crate) tasks: TaskTracker,
    pub(crate) shut: CancellationToken,
    pub(crate) meter: Meter,
    pub(crate) queues: Arc<Queues>,
    pub(crate) budget: Budget,
    pub(crate) retries: RetryBudget,
    /// Places for acquisitions that have ended, and still wait for answers.
    pub(crate) unsettled: Arc<Semaphore>,
    pub(crate) alarms: Arc<Alarms>,
    /// Places for renewals in flight; see the keeper.
    pub(crate) renewals: Arc<Semaphore>,
    service: Mutex<ServiceClock>,
    observations: Mutex<Observations>,
    warned_clock: AtomicBool,
    warned_stamp: AtomicBool,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is under it is large, and not what anybody looks for.
        f.write_str(&self.store.describe())
    }
}

/// An answer to a request, or its failure.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    pub(crate) result: Result<T, StoreError>,
    /// The elapsed clock when it arrived.
    pub(crate) received: Elapsed,
}

impl Core {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        policy: Policy,
        budget: Budget,
    ) -> Self {
        Core {
            hints: store.hints(),
            meter: Meter::new(&store.describe()),
            service: Mutex::new(ServiceClock::new(policy.bounds())),
            observations: Mutex::default(),
            label: policy.label().unwrap_or_else(default_label),
            store,
            queues: Queues::new(clock.clone()),
            alarms: Alarms::new(clock.clone()),
            clock,
            random,
            policy,
            tasks: TaskTracker::new(),
            shut: CancellationToken::new(),
            budget,
            retries: RetryBudget::default(),
            unsettled: Arc::new(Semaphore::new(UNSETTLED)),
            renewals: Arc::new(Semaphore::new(RENEWALS)),
            warned_clock: AtomicBool::new(false),
            warned_stamp: AtomicBool::new(false),
        }
    }

    /// Refuses a call where its waits would panic: on a runtime without timers, or outside of one.
    pub(crate) fn check_clock(&self, key: Option<&str>) -> Result<(), Error> {
        self.clock.check().map_err(|trouble| {
            let ClockTrouble { problem, hint } = trouble;
            let store = self.store.describe();
            let error = match key {
                Some(key) => {
                    let message = format!("cannot ask {store} for `{key}`: {problem}");
                    Error::new(ErrorKind::Configuration, message).with_key(key)
                }
                None => {
                    let message = format!("cannot list {store}: {problem}");
                    Error::new(ErrorKind::Configuration, message)
                }
            };
            error.with_hint(hint)
        })
    }

    /// Refuses a call where too many before it still wait for the store.
    pub(crate) fn check_unsettled(&self, key: &str) -> Result<(), Error> {
        if self.unsettled.available_permits() > 0 {
            return Ok(());
        }
        let store = self.store.describe();
        Err(Error::new(
            ErrorKind::Unreachable,
            format!(
                "cannot acquire `{key}`: {store} has not answered {UNSETTLED} calls of this client"
            ),
        )
        .with_key(key)
        .with_hint(
            "check the endpoint and the network; calls are let through again as answers come",
        ))
    }

    pub(crate) fn with_service<T>(&self, f: impl FnOnce(&ServiceClock) -> T) -> T {
        // A panic inside leaves the clock as it was or with one more sample; both are sound.
        f(&self.service.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How much is left of a grant that no guard has yet.
    pub(crate) fn remaining(&self, kept: &Kept) -> Duration {
        let now = self.clock.reading();
        self.with_service(|service| kept.remaining(now, service))
    }

    /// What calls before this one have seen of a key.
    pub(crate) fn observed(&self, key: &str) -> Observation {
        self.observations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .of(key)
    }

    /// Remembers what was seen of a key for later calls.
    pub(crate) fn remember(&self, key: &Arc<str>, observation: &Observation) {
        self.observations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remember(key, observation);
    }

    /// Sends a write. `sent` was read before it was made.
    pub(crate) fn launch(
        self: &Arc<Self>,
        write: Write,
        sent: Reading,
        bill: &Bill,
    ) -> Flight<Outcome> {
        let (core, bill) = (self.clone(), bill.clone());
        Flight::new(self, Effect::Unknown, async move {
            core.write(write, sent, &bill).await
        })
    }

    /// Sends a write in a task of its own; its answer arrives in `inbox` with `tag`.
    pub(crate) fn send<Tag: Debug + Send + 'static>(
        self: &Arc<Self>,
        write: Write,
        sent: Reading,
        tag: Tag,
        inbox: &mut Inbox<Tag, Outcome>,
        bill: &Bill,
    ) {
        self.launch(write, sent, bill).post(tag, inbox);
    }

    pub(crate) fn no_answer<T>(&self, effect: Effect, why: &str) -> Answer<T> {
        Answer {
            result: Err(StoreError::new(
                StoreErrorKind::Unavailable,
                effect,
                format!("{}: {why}", self.store.describe()),
            )),
            received: self.clock.elapsed(),
        }
    }

    /// Sends a write and waits for its answer, at most for `timeout`. The request goes on when the
    /// time is over or this future is dropped.
    pub(crate) async fn write_detached(
        self: &Arc<Self>,
        write: Write,
        sent: Reading,
        timeout: Duration,
        bill: &Bill,
    ) -> Answer<Outcome> {
        let flight = self.launch(write, sent, bill);
        self.within(flight, sent, timeout, Effect::Unknown).await
    }

    /// Reads a record, trying again within the call time-out.
    pub(crate) async fn read_retrying(
        self: &Arc<Self>,
        key: Arc<str>,
        consistency: Consistency,
    ) -> Result<Option<Record>, StoreError> {
        let longest = self.policy.request_timeout();
        let bill = Bill::default();
        self.retrying(|left| self.read(key.clone(), consistency, longest.min(left), &bill))
            .await
    }

    /// Reads a page of the listing, trying again within the call time-out.
    pub(crate) async fn list_retrying(
        self: &Arc<Self>,
        after: Option<String>,
    ) -> Result<Page, StoreError> {
        // A page is much larger than a record, and may take all the time there is.
        self.retrying(|left| {
            let (core, after) = (self.clone(), after.clone());
            let sent = self.clock.reading();
            let bill = Bill::default();
            self.meter.request(Operation::List, &bill);
            let flight = Flight::new(self, Effect::NotApplied, async move {
                let result = core.store.list(after).await;
                core.answer(result, sent, &bill)
            });
            self.within(flight, sent, left, Effect::NotApplied)
        })
        .await
    }

    /// Asks until there is an answer; `ask` is told how much of the call time-out is left.
    async fn retrying<T, F>(&self, mut ask: impl FnMut(Duration) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Answer<T>>,
    {
        let limit = self.clock.elapsed().plus(self.policy.call_timeout());
        let mut tries = 0;
        loop {
            let left = limit.since(self.clock.elapsed());
            let error = match ask(left).await.result {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            tries += 1;
            if !error.kind.is_retryable() {
                return Err(error);
            }
            match self.again(tries, limit) {
                Some(next) => self.clock.sleep_until(next).await,
                None => return Err(error),
            }
        }
    }

    /// Waits for a request, at most for `timeout` from its send.
    async fn within<T: Send + 'static>(
        &self,
        flight: Flight<T>,
        sent: Reading,
        timeout: Duration,
        effect: Effect,
    ) -> Answer<T> {
        tokio::select! {
            biased;
            answer = flight => answer,
            () = self.clock.sleep_until(sent.elapsed.plus(timeout)) => {
                self.no_answer(effect, &no_answer_within(timeout))
            }
        }
    }

    /// Sends a write and waits for its answer.
    async fn write(self: &Arc<Self>, write: Write, sent: Reading, bill: &Bill) -> Answer<Outcome> {
        let operation = write.operation();
        self.meter.request(operation, bill);
        let result = self.store.write(write).await;
        if matches!(&result, Ok(reply) if matches!(reply.value, Outcome::Refused(_)) && reply.units.write == 0.0)
        {
            // Refused conditions cost a unit that DynamoDB does not report.
            let refused = Units {
                write: 1.0,
                read: 0.0,
            };
            self.meter.units(refused, bill);
        }
        self.answer(result, sent, bill)
    }

    /// Reads a record and waits for it, at most for `timeout`.
    pub(crate) async fn read(
        self: &Arc<Self>,
        key: Arc<str>,
        consistency: Consistency,
        timeout: Duration,
        bill: &Bill,
    ) -> Answer<Option<Record>> {
        let (core, bill) = (self.clone(), bill.clone());
        let sent = self.clock.reading();
        self.meter.request(Operation::Read, &bill);
        let flight = Flight::new(self, Effect::NotApplied, async move {
            let result = core.store.read(&key, consistency).await;
            core.answer(result, sent, &bill)
        });
        self.within(flight, sent, timeout, Effect::NotApplied).await
    }

    /// Takes in what an answer says about the service's clock.
    pub(crate) fn answer<T>(
        &self,
        result: Result<Reply<T>, StoreError>,
        sent: Reading,
        bill: &Bill,
    ) -> Answer<T> {
        let received = self.clock.reading();
        let stamp = match &result {
            Ok(reply) => {
                self.meter.units(reply.units, bill);
                reply.stamp
            }
            Err(error) => error.stamp,
        };
        if let Some(stamp) = stamp {
            self.learn(stamp, sent, received);
        } else if result.is_ok() && !self.warned_stamp.swap(true, Ordering::Relaxed) {
            warn!(
                store = self.store.describe(),
                "answers carry no service time: dead holders are only noticed by watching them for a \
                 lease, and every client of this store must see the same"
            );
        }
        Answer {
            result: result.map(|reply| reply.value),
            received: received.elapsed,
        }
    }

    fn learn(&self, stamp: Stamp, sent: Reading, received: Reading) {
        let stamp = match self.clock.is_of_host() {
            true => stamp,
            false => stamp.of_another_clock(),
        };
        let (contradicted, deviation) = {
            let mut service = self.service.lock().unwrap_or_else(PoisonError::into_inner);
            let contradicted = service.learn(stamp, sent, received);
            (contradicted, service.wall_deviation_ms(received))
        };
        if contradicted {
            // Every lease of this client is judged again, not only the one that was answered.
            self.alarms.wake_all();
        }
        let Some(deviation) = deviation else { return };
        if deviation.unsigned_abs() > WORTH_A_WARNING_MS
            && !self.warned_clock.swap(true, Ordering::Relaxed)
        {
            warn!(
                deviation_ms = deviation,
                store = self.store.describe(),
                "the wall clock of this host and the dates of the store's answers contradict each other: one of them is wrong, \
                 the clock, or a proxy that writes dates of its own; until they agree a dead holder is only taken over \
                 after watching it for a lease"
            );
        }
    }

    /// When a request that has failed so often is sent again; `None`: not any more before `limit`, or the client
    /// sends too much again as it is.
    pub(crate) fn again(&self, tries: u32, limit: Elapsed) -> Option<Elapsed> {
        let delay = self.backoff(tries, RETRY_FIRST, RETRY_MAX);
        self.retries.take(self.clock.elapsed().plus(delay), limit)
    }

    /// A random part of the bound that doubles with each try, at most `max`.
    pub(crate) fn backoff(&self, tries: u32, first: Duration, max: Duration) -> Duration {
        let bound = first.saturating_mul(1 << tries.min(16)).min(max);
        bound.mul_f64(self.random.fraction())
    }
}

pub(crate) fn no_answer_within(limit: Duration) -> String {
    format!("no answer within {limit:.1?}")
}

/// Host, program and pid.
fn default_label() -> Arc<str> {
    let program = std::env::current_exe()
        .ok()
        .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "unknown".into());
    format!("{} {program}[{}]", host_name(), std::process::id()).into()
}

#[cfg(unix)]
fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

#[cfg(not(unix))]
fn host_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_else(|_| "unknown".into())
}
