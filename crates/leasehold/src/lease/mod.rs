//! A held lease: its state, its guard, and why it ended. Renewal and release are in a higher layer.

pub(crate) mod end;
pub(crate) mod guard;
pub(crate) mod state;
pub(crate) mod watch;
