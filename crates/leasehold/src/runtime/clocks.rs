//! The clocks of a client: its own, and the service clock that it has learned.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use leasehold_protocol::time::{ClockBounds, Elapsed, Reading, ServiceClock, Stamp};
use tracing::warn;

use super::timer::{Sleep, Timers, sleep};
use crate::clock::{Clock, ClockTrouble};

/// The certain error of a wall clock, in milliseconds, above which the client warns.
const WORTH_A_WARNING_MS: u64 = 1_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Clocks {
    own: Arc<dyn Clock>,
    timers: Arc<Timers>,
    service: Mutex<ServiceClock>,
    warned: AtomicBool,
}

impl Clocks {
    pub(crate) fn new(own: Arc<dyn Clock>, bounds: ClockBounds) -> Self {
        Clocks {
            timers: Timers::new(own.clone()),
            service: Mutex::new(ServiceClock::new(bounds)),
            own,
            warned: AtomicBool::new(false),
        }
    }

    pub(crate) fn elapsed(&self) -> Elapsed {
        self.own.elapsed()
    }

    pub(crate) fn reading(&self) -> Reading {
        self.own.reading()
    }

    /// Whether the clock can sleep here.
    pub(crate) fn check(&self) -> Result<(), ClockTrouble> {
        self.own.check()
    }

    /// Waits until `at`, by its own timer.
    pub(crate) async fn sleep_until(&self, at: Elapsed) {
        self.own.sleep_until(at).await;
    }

    /// Waits until `at` or shorter, by the shared timer of this runtime.
    pub(crate) fn sleep_shared(&self, at: Elapsed) -> Sleep<'_> {
        sleep(&self.timers, at)
    }

    pub(crate) fn with_service<T>(&self, f: impl FnOnce(&ServiceClock) -> T) -> T {
        // A panic inside leaves a valid clock, with or without the new sample.
        f(&self.service.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Learns the store's time from an answer.
    pub(crate) fn learn(&self, stamp: Stamp, sent: Reading, received: Reading, store: &str) {
        let stamp = match self.own.is_of_host() {
            true => stamp,
            false => stamp.of_another_clock(),
        };
        let (contradicted, deviation) = {
            let mut service = self.service.lock().unwrap_or_else(PoisonError::into_inner);
            let contradicted = service.learn(stamp, sent, received);
            (contradicted, service.wall_deviation_ms(received))
        };
        if contradicted {
            // Every lease of this client checks its deadline again.
            self.timers.wake_all();
        }
        let Some(deviation) = deviation else { return };
        if deviation.unsigned_abs() > WORTH_A_WARNING_MS
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            warn!(
                deviation_ms = deviation,
                store,
                "the wall clock of this host contradicts the dates of the store's answers: the clock is wrong, or a proxy \
                replaces the dates; until they agree, a key is taken from a dead holder only after watching it for a lease"
            );
        }
    }
}
