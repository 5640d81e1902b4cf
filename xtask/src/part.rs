//! The parts of the proof.

/// One part of the proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Every state of small configurations.
    Checker,
    /// The library in simulated worlds.
    Sim,
    /// Futures dropped at every await.
    Cancellation,
    /// Real processes, a bad network, signals.
    Chaos,
    /// Jepsen's lock-set, with and without a fence.
    Lockset,
    /// A lock file that is read by everybody while it is in use.
    Files,
    /// Every operator of the protocol changed, by cargo-mutants.
    Mutants,
    /// Rules and fixes undone one by one.
    Patches,
    /// One client on several runtimes, polled late, stopped and ended.
    Schedules,
}

impl Part {
    /// All of them, in the order of a full run.
    pub(crate) const ALL: [Part; 9] = [
        Part::Checker,
        Part::Schedules,
        Part::Sim,
        Part::Cancellation,
        Part::Lockset,
        Part::Chaos,
        Part::Files,
        Part::Mutants,
        Part::Patches,
    ];

    /// What people type.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Part::Checker => "checker",
            Part::Sim => "sim",
            Part::Cancellation => "cancellation",
            Part::Chaos => "chaos",
            Part::Lockset => "lockset",
            Part::Files => "files",
            Part::Mutants => "mutants",
            Part::Patches => "patches",
            Part::Schedules => "schedules",
        }
    }
}
