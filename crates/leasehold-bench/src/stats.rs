//! Times, and their quantiles.

use std::time::Duration;

/// Measured times of one thing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(crate) fn append(&mut self, other: Times) {
        self.0.extend(other.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The time that this share of all times does not exceed (nearest rank); zero of no times.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let sorted = self.sorted();
        let rank = (sorted.len() as f64 * share).ceil() as usize;
        sorted
            .get(rank.saturating_sub(1))
            .copied()
            .unwrap_or_default()
    }

    /// Zero of no times.
    pub(crate) fn mean(&self) -> Duration {
        let count = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        let sum: Duration = self.0.iter().sum();
        sum.checked_div(count).unwrap_or_default()
    }

    /// In ascending order.
    pub(crate) fn sorted(&self) -> Vec<Duration> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted
    }

    pub(crate) fn p50(&self) -> Duration {
        self.quantile(0.50)
    }

    pub(crate) fn p99(&self) -> Duration {
        self.quantile(0.99)
    }
}

impl Extend<Duration> for Times {
    fn extend<I: IntoIterator<Item = Duration>>(&mut self, times: I) {
        self.0.extend(times);
    }
}

/// How many times the one p50 is the other.
pub(crate) fn ratio(of: &Times, to: &Times) -> String {
    let floor = to.p50().as_secs_f64();
    if floor == 0.0 {
        return "–".to_owned();
    }
    format!("{:.2} x", of.p50().as_secs_f64() / floor)
}

/// Milliseconds for a table.
pub(crate) fn ms(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_measured_times() {
        let mut times = Times::default();
        assert_eq!(times.p50(), Duration::ZERO);
        assert_eq!(times.mean(), Duration::ZERO);
        for n in (1..=100).rev() {
            times.add(Duration::from_millis(n));
        }
        assert_eq!(times.p50(), Duration::from_millis(50));
        assert_eq!(times.p99(), Duration::from_millis(99));
        assert_eq!(times.quantile(1.0), Duration::from_millis(100));
        assert_eq!(times.quantile(0.0), Duration::from_millis(1));
        assert_eq!(times.mean(), Duration::from_micros(50_500));
    }

    #[test]
    fn ratios_are_of_medians() {
        let (mut one, mut two) = (Times::default(), Times::default());
        one.add(Duration::from_millis(3));
        assert_eq!(ratio(&one, &two), "–");
        two.add(Duration::from_millis(2));
        assert_eq!(ratio(&one, &two), "1.50 x");
    }
}
