//! The runtime layer of a client: timers, futures and requests that outlive their caller, and limits on
//! requests. It knows nothing of locks.

pub(crate) mod clocks;
pub(crate) mod detached;
pub(crate) mod poll_limit;
pub(crate) mod reads;
pub(crate) mod request;
pub(crate) mod retry;
pub(crate) mod timer;
