//! The proof of leasehold. Each part is a command of its own (`src/bin/`); what they share is here.
//!
//! It drives the library's own protocol code and public API, never a copy. `cargo xtask prove` runs
//! all of it.
//!
//! - `checker` (feature `checker`): exhaustive exploration of the protocol crate alone;
//! - `sim` (feature `sim`): the whole client in simulated worlds;
//! - `schedules` (feature `sim`): one client on several runtimes, polled late, stopped and ended;
//! - `cancel` (feature `cancel`): every public future dropped at every await;
//! - `chaos` (feature `chaos`): real processes on real stores, killed, stopped and lied to.
//!
//! `patches/` undoes one rule or fix after the other, each with the test that must see it
//! (`cargo xtask patches`); `cargo xtask mutants` is cargo-mutants.

#[cfg(feature = "cancel")]
pub mod cancel;
#[cfg(feature = "chaos")]
pub mod chaos;
#[cfg(feature = "checker")]
pub mod checker;
#[cfg(feature = "sim")]
pub mod schedules;
#[cfg(feature = "sim")]
pub mod sim;
