//! A command under a lock: [`environment`] has its variables, [`holding`] is the time while it runs, and [`announced`] tells the
//! guardian of requests.

pub(crate) mod announced;
pub(crate) mod environment;
pub(crate) mod holding;
