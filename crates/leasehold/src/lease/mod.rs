//! A held lease: its state, its guard, and why it ended. Renewal and release are in a higher layer.

mod data;
pub(crate) mod end;
mod ensure;
pub(crate) mod guard;
pub(crate) mod state;
pub(crate) mod watch;
