//! Counters of a client: requests, units, grants, waits.
//!
//! One [`Meter`] counts for the client. Each call, with its lease, has a second one, its
//! [`CallUsage`]. The counters are relaxed, since they are only reported. With the feature `metrics`
//! the client's counts also go to the [`Facade`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::Error;
use crate::metrics::Facade;
use crate::usage::{Units, Usage};
use leasehold_protocol::write::Operation;

/// Counters of one client, or of one call and its lease.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    requests: AtomicU64,
    renewals: AtomicU64,
    // Units come in halves.
    write_half_units: AtomicU64,
    read_half_units: AtomicU64,
    grants: AtomicU64,
    hand_offs: AtomicU64,
    waits: AtomicU64,
    waited_ms: AtomicU64,
    /// The client's metrics. A meter of a call has none: the client's meter counts the same.
    facade: Facade,
}

/// The meter of a call, beside the client's; `None` if nobody reads it.
pub(crate) type CallUsage = Option<Arc<Meter>>;

impl Meter {
    /// The meter of a client.
    pub(crate) fn new(store: &str) -> Self {
        Meter {
            facade: Facade::new(store.into()),
            ..Meter::default()
        }
    }

    pub(crate) fn request(&self, operation: Operation, call_usage: &CallUsage) {
        self.on(call_usage, |meter| {
            add(&meter.requests, 1);
            if operation == Operation::Renew {
                add(&meter.renewals, 1);
            }
        });
        self.facade.request(operation);
    }

    pub(crate) fn units(&self, units: Units, call_usage: &CallUsage) {
        let (write, read) = (halves(units.write), halves(units.read));
        self.on(call_usage, |meter| {
            add(&meter.write_half_units, write);
            add(&meter.read_half_units, read);
        });
        self.facade.half_units(write, read);
    }

    /// A key was acquired from the store.
    pub(crate) fn grant(&self, call_usage: &CallUsage) {
        self.on(call_usage, |meter| add(&meter.grants, 1));
        self.facade.grant();
    }

    /// A grant was handed off.
    pub(crate) fn hand_off(&self, call_usage: &CallUsage) {
        self.on(call_usage, |meter| add(&meter.hand_offs, 1));
        self.facade.hand_off();
    }

    /// A call that had to wait has ended, with or without a lease.
    pub(crate) fn wait(&self, waited: Duration, call_usage: &CallUsage) {
        let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        self.on(call_usage, |meter| {
            add(&meter.waits, 1);
            add(&meter.waited_ms, waited_ms);
        });
        self.facade.wait(waited);
    }

    /// A call has got a place in the queue of its key, counted from 1.
    pub(crate) fn place(&self, place: usize) {
        self.facade.place(place);
    }

    /// A guard begins to hold a lease, or ends.
    pub(crate) fn held(&self, more: bool) {
        self.facade.held(more);
    }

    /// A lease was lost.
    pub(crate) fn loss(&self) {
        self.facade.loss();
    }

    /// Counts the error of a call, and returns its result.
    pub(crate) fn counted<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result.inspect_err(|error| self.facade.error(error.kind()))
    }

    pub(crate) fn usage(&self) -> Usage {
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Usage {
            requests: read(&self.requests),
            renewals: read(&self.renewals),
            write_units: in_units(read(&self.write_half_units)),
            read_units: in_units(read(&self.read_half_units)),
            grants: read(&self.grants),
            hand_offs: read(&self.hand_offs),
            waits: read(&self.waits),
            waited: Duration::from_millis(read(&self.waited_ms)),
        }
    }

    fn on(&self, call_usage: &CallUsage, count: impl Fn(&Meter)) {
        count(self);
        if let Some(call_usage) = call_usage {
            count(call_usage);
        }
    }
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "units are small, positive and come in halves"
)]
fn halves(units: f64) -> u64 {
    (units * 2.0).round() as u64
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn in_units(halves: u64) -> f64 {
    halves as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_add_up_on_both_meters() {
        let (meter, call_usage) = (Meter::default(), Some(Arc::<Meter>::default()));
        meter.request(Operation::Read, &None);
        meter.request(Operation::Renew, &call_usage);
        for _ in 0..3 {
            let units = Units {
                write: 1.0,
                read: 0.5,
            };
            meter.units(units, &call_usage);
        }
        let usage = meter.usage();
        assert_eq!((usage.requests, usage.renewals), (2, 1));
        assert_eq!((usage.write_units, usage.read_units), (3.0, 1.5));
        let usage = call_usage.expect("given").usage();
        assert_eq!((usage.requests, usage.renewals), (1, 1));
        assert_eq!((usage.write_units, usage.read_units), (3.0, 1.5));
    }
}
