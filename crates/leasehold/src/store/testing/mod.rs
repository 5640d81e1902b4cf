//! For tests: stores that count, stores that fail on purpose, and the suite that every store must pass.

pub mod contract;
pub mod counting;
pub mod faulty;
pub mod wrap;
