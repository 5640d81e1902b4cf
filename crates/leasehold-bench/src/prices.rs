//! Prices of DynamoDB.

/// US dollars for a million write and read request units: on-demand capacity, standard table class, us-east-1,
/// <https://aws.amazon.com/dynamodb/pricing/on-demand/>, as of November 2024. Other Regions are up to twice as much.
const MILLION: (f64, f64) = (0.625, 0.125);

/// What units cost, in US dollars.
pub(crate) fn dollars(write_units: f64, read_units: f64) -> f64 {
    (write_units * MILLION.0 + read_units * MILLION.1) / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_cycles_and_a_million_polls() {
        assert!((dollars(2e6, 0.5e6) - (1.25 + 0.0625)).abs() < 1e-9);
    }
}
