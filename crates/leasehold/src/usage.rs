//! The usage of requests: units, and their sums.

use std::time::Duration;

/// Request units, as the store reports them. The fields are complete, so a store can construct it.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Units {
    /// Write units. A refused condition costs one, although DynamoDB does not report it.
    pub write: f64,
    /// Read units.
    pub read: f64,
}

/// The requests, units and results of a client, a call or a lease so far. The library has no price
/// list: multiply the units by the prices of your Region.
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
    /// Leases that were acquired from the store.
    pub grants: u64,
    /// Leases that were handed off inside the process, without a request.
    pub hand_offs: u64,
    /// Ended calls that had to wait for a holder, whether or not they got the lease.
    pub waits: u64,
    /// The sum of the times that [`Usage::waits`] took.
    pub waited: Duration,
}
