//! `once`: a fleet that ticks for a month in virtual time, fifty processes that start at one instant, and a few beside
//! other clients.

pub(crate) mod beside;
mod far;
pub(crate) mod fleet;
pub(crate) mod herd;
