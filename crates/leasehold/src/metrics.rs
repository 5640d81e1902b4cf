//! Metrics for the `metrics` facade, with the feature of that name. Without it, this does nothing.
//!
//! One table has the names and the help texts. Every series has the label `store`. Counters that
//! alerts use start at 0: a rate over a series that begins with its first event misses that event.

use std::sync::Arc;
use std::time::Duration;

use crate::error::ErrorKind;
use leasehold_protocol::write::Operation;

/// The metrics of a client.
#[derive(Debug, Default)]
pub(crate) struct Facade {
    #[cfg(feature = "metrics")]
    store: Arc<str>,
}

#[cfg(not(feature = "metrics"))]
#[expect(
    clippy::unused_self,
    reason = "the same methods with the feature `metrics`"
)]
impl Facade {
    pub(crate) fn new(_store: Arc<str>) -> Self {
        Facade {}
    }
    pub(crate) fn request(&self, _operation: Operation) {}
    pub(crate) fn half_units(&self, _write: u64, _read: u64) {}
    pub(crate) fn grant(&self) {}
    pub(crate) fn hand_off(&self) {}
    pub(crate) fn wait(&self, _waited: Duration) {}
    pub(crate) fn place(&self, _place: usize) {}
    pub(crate) fn held(&self, _more: bool) {}
    pub(crate) fn loss(&self) {}
    pub(crate) fn error(&self, _kind: ErrorKind) {}
}

#[cfg(feature = "metrics")]
mod names {
    pub(super) const REQUESTS: &str = "leasehold_requests_total";
    pub(super) const WRITE_HALF_UNITS: &str = "leasehold_write_half_units_total";
    pub(super) const READ_HALF_UNITS: &str = "leasehold_read_half_units_total";
    pub(super) const GRANTS: &str = "leasehold_grants_total";
    pub(super) const HAND_OFFS: &str = "leasehold_hand_offs_total";
    pub(super) const WAITS: &str = "leasehold_wait_seconds";
    pub(super) const PLACE: &str = "leasehold_queue_place";
    pub(super) const HELD: &str = "leasehold_leases_held";
    pub(super) const LOSSES: &str = "leasehold_leases_lost_total";
    pub(super) const ERRORS: &str = "leasehold_errors_total";
}

#[cfg(feature = "metrics")]
mod with_metrics {
    use metrics::{
        Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
    };

    use super::*;

    /// All kinds of errors: each has a counter from the start.
    const KINDS: [ErrorKind; 12] = [
        ErrorKind::InvalidInput,
        ErrorKind::Configuration,
        ErrorKind::AccessDenied,
        ErrorKind::Credentials,
        ErrorKind::Unreachable,
        ErrorKind::Throttled,
        ErrorKind::WaitExpired,
        ErrorKind::Lost,
        ErrorKind::TooLate,
        ErrorKind::Malformed,
        ErrorKind::ShutDown,
        ErrorKind::Unexpected,
    ];

    impl Facade {
        /// Describes all metrics, and starts the counters and the gauge at 0.
        pub(crate) fn new(store: Arc<str>) -> Self {
            let help = [
                (names::REQUESTS, "Requests sent to the store, by operation"),
                (
                    names::WRITE_HALF_UNITS,
                    "Half write units that the store reported, and one unit for each refused condition",
                ),
                (
                    names::READ_HALF_UNITS,
                    "Half read units that the store reported",
                ),
                (names::GRANTS, "Leases acquired from the store"),
                (
                    names::HAND_OFFS,
                    "Leases handed off inside the process, without a request",
                ),
                (names::LOSSES, "Leases lost before they were released"),
                (names::ERRORS, "Calls that failed, by the kind of the error"),
            ];
            for (name, help) in help {
                describe_counter!(name, Unit::Count, help);
            }
            let help = "Waits of ended calls, whether or not they got the lease";
            describe_histogram!(names::WAITS, Unit::Seconds, help);
            let help = "First place of each wait in the queue of its key, from 1";
            describe_histogram!(names::PLACE, Unit::Count, help);
            describe_gauge!(names::HELD, Unit::Count, "Leases held by this client now");
            let facade = Facade { store };
            facade.count(names::GRANTS, 0);
            facade.count(names::HAND_OFFS, 0);
            facade.count(names::LOSSES, 0);
            gauge!(names::HELD, "store" => facade.store.clone()).increment(0.0);
            for kind in KINDS {
                facade.errors(kind, 0);
            }
            facade
        }

        fn count(&self, name: &'static str, by: u64) {
            counter!(name, "store" => self.store.clone()).increment(by);
        }

        fn errors(&self, kind: ErrorKind, by: u64) {
            let store = self.store.clone();
            counter!(names::ERRORS, "store" => store, "kind" => kind_name(kind)).increment(by);
        }

        pub(crate) fn request(&self, operation: Operation) {
            let store = self.store.clone();
            counter!(names::REQUESTS, "store" => store, "operation" => operation_name(operation))
                .increment(1);
        }

        pub(crate) fn half_units(&self, write: u64, read: u64) {
            self.count(names::WRITE_HALF_UNITS, write);
            self.count(names::READ_HALF_UNITS, read);
        }

        pub(crate) fn grant(&self) {
            self.count(names::GRANTS, 1);
        }

        pub(crate) fn hand_off(&self) {
            self.count(names::HAND_OFFS, 1);
        }

        pub(crate) fn wait(&self, waited: Duration) {
            histogram!(names::WAITS, "store" => self.store.clone()).record(waited.as_secs_f64());
        }

        pub(crate) fn place(&self, place: usize) {
            let place = u32::try_from(place).unwrap_or(u32::MAX);
            histogram!(names::PLACE, "store" => self.store.clone()).record(f64::from(place));
        }

        /// A guard begins to hold a lease, or ends.
        pub(crate) fn held(&self, more: bool) {
            let held = gauge!(names::HELD, "store" => self.store.clone());
            if more {
                held.increment(1.0);
            } else {
                held.decrement(1.0);
            }
        }

        pub(crate) fn loss(&self) {
            self.count(names::LOSSES, 1);
        }

        pub(crate) fn error(&self, kind: ErrorKind) {
            self.errors(kind, 1);
        }
    }

    fn operation_name(operation: Operation) -> &'static str {
        match operation {
            Operation::Acquire => "acquire",
            Operation::TakeOver => "take_over",
            Operation::Renew => "renew",
            Operation::Release => "release",
            Operation::HandOver => "hand_over",
            Operation::Complete => "complete",
            Operation::Join => "join",
            Operation::Leave => "leave",
            Operation::Withdraw => "withdraw",
            Operation::Read => "read",
            Operation::List => "list",
            _ => "other",
        }
    }

    fn kind_name(kind: ErrorKind) -> &'static str {
        match kind {
            ErrorKind::InvalidInput => "invalid_input",
            ErrorKind::Configuration => "configuration",
            ErrorKind::AccessDenied => "access_denied",
            ErrorKind::Credentials => "credentials",
            ErrorKind::Unreachable => "unreachable",
            ErrorKind::Throttled => "throttled",
            ErrorKind::WaitExpired => "wait_expired",
            ErrorKind::AlreadyDone => "already_done",
            ErrorKind::Lost => "lost",
            ErrorKind::TooLate => "too_late",
            ErrorKind::Malformed => "malformed",
            ErrorKind::ShutDown => "shut_down",
            ErrorKind::Unexpected => "unexpected",
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn every_operation_has_a_name_of_its_own() {
            let all = [
                Operation::Acquire,
                Operation::TakeOver,
                Operation::Renew,
                Operation::Release,
                Operation::HandOver,
                Operation::Complete,
                Operation::Join,
                Operation::Leave,
                Operation::Withdraw,
                Operation::Read,
                Operation::List,
            ];
            let mut names = all.map(operation_name).to_vec();
            assert!(!names.contains(&"other"), "{names:?}");
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all.len());
        }
    }
}
