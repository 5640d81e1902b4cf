//! What requests cost: units, and the sum of them.

use std::time::Duration;

/// Request units, as the store reports them. A store bills by these two, so the struct can be written out.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Units {
    /// Write units. A refused condition costs one although DynamoDB does not report it.
    pub write: f64,
    /// Read units.
    pub read: f64,
}

/// What a client, a call or a lease has used so far, and what it got. A price list is not part of the library: multiply the
/// units by the prices of your Region.
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
    /// Calls that had to wait for a holder, whether or not they got the lease, and that have ended.
    pub waits: u64,
    /// How long those took, together.
    pub waited: Duration,
}
