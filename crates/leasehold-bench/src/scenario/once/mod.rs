//! `once`: a fleet that ticks for a month in virtual time, and real processes that start at one instant.

mod far;
mod fleet;
mod herd;

use anyhow::Result;

use crate::choice::Choice;

pub(crate) fn run(choice: &Choice) -> Result<()> {
    fleet::run(choice.quick)?;
    herd::run(choice.quick)
}
