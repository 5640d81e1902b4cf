//! The task of a held lease: it renews, watches the deadline, hands the grant off, and releases it.

mod complete;
mod data;
mod hand_off;
pub(crate) mod once;
pub(crate) mod release;
pub(crate) mod task;
