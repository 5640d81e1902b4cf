//! Scale: the real library on a simulated service with DynamoDB's limits, 1,000 to 100,000 processes.
//!
//! Everything is in virtual time and decided by a seed: it costs processor time only, and two runs give
//! the same figures. `service` is the table, `crowd` the processes, `hot` and `customers` what many of
//! them do to one key and to a million, `cases` the small fleets, `paper` the sums that say where it
//! bends before one tries.

mod cases;
mod crowd;
mod customers;
mod figures;
mod hot;
mod paper;
mod service;

use anyhow::Result;

pub(crate) fn run(quick: bool) -> Result<()> {
    paper::run()?;
    cases::run(quick)?;
    customers::run(quick)?;
    hot::run(quick)
}
