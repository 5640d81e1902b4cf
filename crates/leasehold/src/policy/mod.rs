//! Validated durations and their relations.
//!
//! In a valid [`Policy`], renewal, retry, grace and margin fit into the lease, and a record outlives
//! every request that could still land on it. An invalid one is refused when it is built.

mod builder;
mod settings;
mod validate;

pub use self::builder::{CheckDelay, DropPolicy, PolicyBuilder};
pub use self::settings::Policy;
