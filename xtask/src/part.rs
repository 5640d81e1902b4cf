//! The parts of the proof.

use clap::ValueEnum;

/// One part of the proof, in the order of a full run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Every state of small configurations
    Checker,
    /// One client on several runtimes, polled late, stopped and ended
    Schedules,
    /// The library in simulated worlds
    Sim,
    /// Futures dropped at every await
    Cancellation,
    /// Jepsen's lock-set, with and without a fence
    Lockset,
    /// Real processes, a bad network, signals
    Chaos,
    /// A lock file that other programs read while it is in use
    Files,
    /// The operators of the protocol changed, by cargo-mutants
    Mutants,
    /// Rules and fixes undone one by one
    Patches,
}

impl Part {
    /// What people type.
    pub(crate) fn name(self) -> String {
        name(self)
    }
}

/// A value as people type it.
pub(crate) fn name(value: impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}
