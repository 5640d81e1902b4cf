//! Scale: the real library on a simulated service with DynamoDB's limits, 1,000 to 100,000 processes.
//!
//! Time is virtual and a seed decides everything, so two runs give the same figures. `service` is the table,
//! `crowd` has the processes, `hot` and `customers` are the loads on one key and on a million keys, `cases`
//! are small fleets, and `paper` computes the expected limits.

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
