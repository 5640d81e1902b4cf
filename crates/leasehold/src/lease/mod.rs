//! A held lease: its state, its guard, and why it is over. Who renews and releases it is not known here.

pub(crate) mod end;
pub(crate) mod guard;
pub(crate) mod state;
pub(crate) mod watch;
