//! leasehold
pub mod protocol;
