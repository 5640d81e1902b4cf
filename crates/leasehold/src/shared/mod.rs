//! The state that all parts of one client share, and their requests to its store.

mod label;
mod observations;
mod requests;
mod retry;

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use leasehold_protocol::renewal::Kept;
use leasehold_protocol::takeover::Observation;
use leasehold_protocol::time::Elapsed;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::label::default_label;
use self::observations::Observations;
use crate::clock::{Clock, ClockTrouble, Random};
use crate::error::{Error, ErrorKind};
use crate::lease::state::LeaseContext;
use crate::meter::Meter;
use crate::policy::{CheckDelay, Policy};
use crate::queue::Queues;
use crate::runtime::clocks::Clocks;
use crate::runtime::poll_limit::PollLimit;
use crate::runtime::retry::{RETRY_FIRST, RETRY_MAX, RetryBudget};
use crate::store::{Hints, Store};

pub(crate) use self::requests::no_answer_within;
pub(crate) use self::retry::Retry;

/// The most renewals of one client in flight. Old ones do not count: see `renewal/task.rs`.
const RENEWALS: usize = 128;

/// The most ended acquisitions of one client that still wait for answers. With as many, no other begins,
/// so that a store that does not answer gets no more requests.
const CLEANING_UP: usize = 1_024;

/// The state that all parts of one client share.
pub(crate) struct Core {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) hints: Hints,
    pub(crate) clocks: Arc<Clocks>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) policy: Policy,
    /// All background work: `shutdown` waits for it.
    pub(crate) tasks: TaskTracker,
    pub(crate) shut: CancellationToken,
    pub(crate) meter: Arc<Meter>,
    pub(crate) leases: Arc<LeaseContext>,
    pub(crate) queues: Arc<Queues>,
    pub(crate) poll_limit: PollLimit,
    pub(crate) retries: RetryBudget,
    /// Permits for ended acquisitions that still wait for answers.
    pub(crate) cleaning_up: Arc<Semaphore>,
    /// Permits for renewals in flight.
    pub(crate) renewals: Arc<Semaphore>,
    observations: Mutex<Observations>,
    warned_stamp: AtomicBool,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The full state is too large to be useful.
        f.write_str(&self.store.describe())
    }
}

impl Core {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        policy: Policy,
        poll_limit: PollLimit,
    ) -> Self {
        let meter = Arc::new(Meter::new(&store.describe()));
        let clocks = Arc::new(Clocks::new(clock, policy.bounds()));
        let leases = LeaseContext {
            clocks: clocks.clone(),
            meter: meter.clone(),
            label: policy.label().unwrap_or_else(default_label),
            store: store.describe().into(),
        };
        Core {
            hints: store.hints(),
            meter,
            leases: Arc::new(leases),
            observations: Mutex::default(),
            store,
            queues: Queues::new(clocks.clone()),
            clocks,
            random,
            policy,
            tasks: TaskTracker::new(),
            shut: CancellationToken::new(),
            poll_limit,
            retries: RetryBudget::default(),
            cleaning_up: Arc::new(Semaphore::new(CLEANING_UP)),
            renewals: Arc::new(Semaphore::new(RENEWALS)),
            warned_stamp: AtomicBool::new(false),
        }
    }

    /// Refuses a call whose waits would panic: on a runtime without timers, or outside of one.
    pub(crate) fn check_clock(&self, key: Option<&str>) -> Result<(), Error> {
        self.clocks.check().map_err(|trouble| {
            let ClockTrouble { problem, hint } = trouble;
            let store = self.store.describe();
            let error = match key {
                Some(key) => {
                    let message = format!("cannot use `{key}` in {store}: {problem}");
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

    /// Refuses a call if too many earlier ones still wait for the store.
    pub(crate) fn check_cleaning_up(&self, key: &str) -> Result<(), Error> {
        if self.cleaning_up.available_permits() > 0 {
            return Ok(());
        }
        let store = self.store.describe();
        Err(Error::new(
            ErrorKind::Unreachable,
            format!(
                "cannot acquire `{key}`: {store} has not answered {CLEANING_UP} calls of this client"
            ),
        )
        .with_key(key)
        .with_hint(
            "check the endpoint and the network; calls are accepted again when answers come",
        ))
    }

    /// How much time is left of a grant without a guard.
    pub(crate) fn remaining(&self, kept: &Kept) -> Duration {
        let now = self.clocks.reading();
        self.clocks
            .with_service(|service| kept.remaining(now, service))
    }

    /// The observation of a key by earlier calls.
    pub(crate) fn observed(&self, key: &str) -> Observation {
        self.observations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .of(key)
    }

    /// Remembers the observation of a key for later calls.
    pub(crate) fn remember(&self, key: &Arc<str>, observation: &Observation) {
        self.observations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remember(key, observation);
    }

    /// When a request that has failed `tries` times is retried; `None`: not before `limit`, or the retry
    /// budget is used up.
    fn again(&self, tries: u32, limit: Elapsed) -> Option<Elapsed> {
        let delay = self.backoff(tries, RETRY_FIRST, RETRY_MAX);
        self.retries.take(self.clocks.elapsed().plus(delay), limit)
    }

    /// How long until a waiter looks again, after so many rounds.
    pub(crate) fn check_delay(&self, policy: &Policy, round: u32) -> Duration {
        match policy.check_delay(&self.hints) {
            CheckDelay::Fixed(delay) | CheckDelay::ByAcquire(delay) => delay,
            CheckDelay::Backoff { first, max } => {
                // An eighth of the first bound is certain, so a poll is never sent at once.
                first.min(max) / 8 + self.backoff(round, first, max)
            }
        }
    }

    /// A random part of a bound that doubles with each try, up to `max`.
    pub(crate) fn backoff(&self, tries: u32, first: Duration, max: Duration) -> Duration {
        let bound = first.saturating_mul(1 << tries.min(16)).min(max);
        bound.mul_f64(self.random.fraction())
    }
}
