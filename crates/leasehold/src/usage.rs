//! What requests cost: units, and the sum of them.

use std::time::Duration;

/// Request units, as the store reports them.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Units {
    /// Write units. A refused condition costs one although DynamoDB does not report it.
    pub write: f64,
    /// Read units.
    pub read: f64,
}

/// What units cost.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct Price {
    /// Dollars for a million write request units.
    pub write_million: f64,
    /// Dollars for a million read request units.
    pub read_million: f64,
}

impl Price {
    /// On-demand capacity, standard table class, us-east-1: <https://aws.amazon.com/dynamodb/pricing/on-demand/>,
    /// as of the reduction of November 2024. Other regions are up to twice as much; on the embedded
    /// store nothing costs anything.
    pub const ON_DEMAND: Price = Price {
        write_million: 0.625,
        read_million: 0.125,
    };

    /// Another price list.
    pub fn new(write_million: f64, read_million: f64) -> Price {
        Price {
            write_million,
            read_million,
        }
    }
}

/// What a client, a call or a lease has cost so far, and what it got.
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

impl Usage {
    /// The price of the units, at [`Price::ON_DEMAND`].
    pub fn dollars(&self) -> f64 {
        self.dollars_at(Price::ON_DEMAND)
    }

    /// The price of the units.
    pub fn dollars_at(&self, price: Price) -> f64 {
        (self.write_units * price.write_million + self.read_units * price.read_million) / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_cycles_and_a_million_looks() {
        let usage = Usage {
            write_units: 2e6,
            read_units: 0.5e6,
            ..Usage::default()
        };
        assert!((usage.dollars() - (1.25 + 0.0625)).abs() < 1e-9);
        assert!((usage.dollars_at(Price::new(1.0, 2.0)) - 3.0).abs() < 1e-9);
    }
}
