//! Latencies of `doctor`'s requests.

use std::fmt;
use std::time::Duration;

/// How many requests are measured.
pub(super) const SAMPLES: usize = 20;

/// The middle, the upper tenth and the largest of some latencies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Latency {
    count: usize,
    pub(super) p50: Duration,
    pub(super) p90: Duration,
    pub(super) max: Duration,
}

impl Latency {
    /// `None` without a sample.
    pub(super) fn of(mut samples: Vec<Duration>) -> Option<Latency> {
        samples.sort_unstable();
        let count = samples.len();
        let at = |percent: usize| {
            let rank = (count * percent).div_ceil(100).max(1);
            samples.get(rank - 1).copied()
        };
        Some(Latency {
            count,
            p50: at(50)?,
            p90: at(90)?,
            max: at(100)?,
        })
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Latency {
            count,
            p50,
            p90,
            max,
        } = self;
        write!(f, "p50 {p50:.1?}, p90 {p90:.1?}, max {max:.1?} of {count}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let ms = |list: &[u64]| {
            let list = list.iter().map(|ms| Duration::from_millis(*ms)).collect();
            Latency::of(list).map(|l| [l.p50, l.p90, l.max].map(|d| d.as_millis()))
        };
        assert_eq!(ms(&[]), None);
        assert_eq!(ms(&[7]), Some([7, 7, 7]));
        let twenty: Vec<u64> = (1..=20).rev().collect();
        assert_eq!(ms(&twenty), Some([10, 18, 20]));
    }
}
