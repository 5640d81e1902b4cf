//! Seeds that have failed, and what they found. They run first, in every run.

/// The seed, and what it found.
pub(super) const SEEDS: &[(u64, &str)] = &[];
