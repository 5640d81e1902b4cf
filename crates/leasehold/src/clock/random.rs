//! Randomness, injected.
#![cfg_attr(
    not(any(test, feature = "test-util")),
    expect(unreachable_pub, reason = "public with the feature `test-util`")
)]

use std::fmt::Debug;
use std::sync::Arc;

/// Random bits.
///
/// # Contract
///
/// `attempt_bits` must never repeat, also not in a forked process or a restored snapshot of a
/// virtual machine: two acquisitions with one id break exclusion.
pub trait Random: Send + Sync + Debug + 'static {
    /// 128 bits for the identity of one acquisition.
    fn attempt_bits(&self) -> [u8; 16];

    /// A number in `0.0..1.0`, for jitter.
    fn fraction(&self) -> f64;
}

impl<T: Random + ?Sized> Random for Arc<T> {
    fn attempt_bits(&self) -> [u8; 16] {
        (**self).attempt_bits()
    }

    fn fraction(&self) -> f64 {
        (**self).fraction()
    }
}

/// The operating system's randomness, read anew for every draw.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    #[expect(clippy::disallowed_methods, reason = "this is where ids are drawn")]
    fn attempt_bits(&self) -> [u8; 16] {
        uuid::Uuid::new_v4().into_bytes()
    }

    fn fraction(&self) -> f64 {
        let bits = u128::from_le_bytes(self.attempt_bits());
        // The lowest 32 bits of a version 4 UUID are all random.
        f64::from((bits & 0xffff_ffff) as u32) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_in_range_and_differ() {
        let draws: Vec<f64> = (0..100).map(|_| OsRandom.fraction()).collect();
        assert!(draws.iter().all(|f| (0.0..1.0).contains(f)));
        assert!(draws.iter().any(|f| *f < 0.5) && draws.iter().any(|f| *f >= 0.5));
    }

    #[test]
    fn a_shared_source_draws_for_itself() {
        #[derive(Debug)]
        struct Fixed;
        impl Random for Fixed {
            fn attempt_bits(&self) -> [u8; 16] {
                [7; 16]
            }
            fn fraction(&self) -> f64 {
                0.25
            }
        }
        fn drawn(random: impl Random) -> ([u8; 16], f64) {
            (random.attempt_bits(), random.fraction())
        }
        assert_eq!(drawn(Arc::new(Fixed)), ([7; 16], 0.25));
    }
}
