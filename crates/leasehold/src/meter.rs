//! What a client has cost so far: requests, units, renewals.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::protocol::write::Operation;
use crate::store::Units;

/// Counters of one client. Relaxed: they are read for reports, nothing is decided by them.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    requests: AtomicU64,
    renewals: AtomicU64,
    // Units come in halves.
    write_half_units: AtomicU64,
    read_half_units: AtomicU64,
}

impl Meter {
    pub(crate) fn request(&self, operation: Operation) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if operation == Operation::Renew {
            self.renewals.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "units are small, positive and come in halves"
    )]
    pub(crate) fn units(&self, units: Units) {
        self.write_half_units
            .fetch_add((units.write * 2.0).round() as u64, Ordering::Relaxed);
        self.read_half_units
            .fetch_add((units.read * 2.0).round() as u64, Ordering::Relaxed);
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub(crate) fn usage(&self) -> Usage {
        let half = |n: &AtomicU64| n.load(Ordering::Relaxed) as f64 / 2.0;
        Usage {
            requests: self.requests.load(Ordering::Relaxed),
            renewals: self.renewals.load(Ordering::Relaxed),
            write_units: half(&self.write_half_units),
            read_units: half(&self.read_half_units),
        }
    }
}

/// What a client has cost so far.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
#[non_exhaustive]
pub struct Usage {
    /// Requests sent, of all kinds.
    pub requests: u64,
    /// Renewals among them.
    pub renewals: u64,
    /// Write units: as reported, and one for each refused condition, which is billed but not
    /// reported.
    pub write_units: f64,
    /// Read units, as reported.
    pub read_units: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_add_up() {
        let meter = Meter::default();
        meter.request(Operation::Read);
        meter.request(Operation::Renew);
        for _ in 0..3 {
            meter.units(Units {
                write: 1.0,
                read: 0.5,
            });
        }
        let usage = meter.usage();
        assert_eq!((usage.requests, usage.renewals), (2, 1));
        assert_eq!((usage.write_units, usage.read_units), (3.0, 1.5));
    }
}
