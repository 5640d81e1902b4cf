//! Validated durations and their relations.
//!
//! A [`Policy`] that exists adds up: renewal, retry, grace and margin fit into the lease, and a record outlives every request
//! that could still land on it. A policy that does not is refused when it is built, with the sum in the message.

mod builder;
mod settings;
mod validate;

pub use self::builder::{CheckDelay, DropPolicy, PolicyBuilder};
pub use self::settings::Policy;
