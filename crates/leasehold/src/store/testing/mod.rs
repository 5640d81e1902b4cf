//! For tests: a store that counts, a store that fails as planned, and the suite for all stores.

pub mod contract;
pub mod counting;
pub mod faulty;
pub mod wrap;
