//! Which fault has met which phase of the protocol.
//!
//! Invariant: a run of CI size fails when a fault never met a phase in which it can happen: a
//! simulation that injects nothing proves nothing.

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// The request never arrives, and fails at once or after the store's own bound.
    RequestLost,
    /// It is applied, the connection breaks before the answer.
    AnswerLost,
    /// It is applied, and no answer comes until the store's own bound.
    NoAnswer,
    /// It arrives much later, perhaps after it failed for its caller.
    LateRequest,
    /// The answer takes its time.
    LateAnswer,
    /// 5xx before it was applied.
    ErrorBefore,
    /// 5xx after it was applied.
    ErrorAfter,
    Throttle,
    /// TransactionConflict.
    Conflict,
    /// Applied twice; the first answer counts.
    Duplicate,
    /// Applied twice; the second answer counts.
    DuplicateAnswered,
    /// An eventually consistent read shows an older record than the last.
    Stale,
    /// The record is deleted by TTL while a request is on its way.
    Deleted,
    /// The process does not run; its clocks do (SIGSTOP).
    Stop,
    /// The host sleeps: clocks run, timers do not.
    Suspend,
    /// The virtual machine is paused: only the wall clock shows it.
    MachinePause,
    /// The process dies, and another starts in its place.
    Crash,
    /// The wall clock is stepped forward.
    WallForward,
    /// The wall clock is stepped back.
    WallBack,
    /// The future of a call is dropped.
    Cancel,
}

/// Every fault, in the order of the table.
pub(super) const FAULTS: [Fault; 20] = [
    Fault::RequestLost,
    Fault::AnswerLost,
    Fault::NoAnswer,
    Fault::LateRequest,
    Fault::LateAnswer,
    Fault::ErrorBefore,
    Fault::ErrorAfter,
    Fault::Throttle,
    Fault::Conflict,
    Fault::Duplicate,
    Fault::DuplicateAnswered,
    Fault::Stale,
    Fault::Deleted,
    Fault::Stop,
    Fault::Suspend,
    Fault::MachinePause,
    Fault::Crash,
    Fault::WallForward,
    Fault::WallBack,
    Fault::Cancel,
];

/// The phase of the protocol: the request in flight, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Acquire,
    TakeOver,
    Renew,
    Release,
    /// A request for a place in the queue of the record.
    Join,
    /// The release of a key for which another waits.
    HandOver,
    /// The clean-up of an abandoned acquisition: of its grant, or of its place.
    GiveBack,
    Withdraw,
    /// The last renewal of a lease that is handed on.
    Detach,
    /// A poll of a held key.
    Poll,
    /// A strongly consistent read: adopt, inspect.
    Read,
    List,
    /// The end of a grant whose work is remembered.
    Complete,
    /// A slot is taken while there is room.
    Enter,
    /// A slot is taken over, or removed for the whole key.
    Evict,
    /// The renewal of a slot.
    Extend,
    /// The end of a slot.
    Exit,
    /// The end of a grant that gives slots or, after the last slot, the whole key to places.
    GiveSlots,
    /// The whole key is taken from a place, while no slot is held.
    Claim,
    /// A lease is held, nothing is on its way.
    Hold,
    /// Nothing.
    Rest,
    /// A guard of the process holds a key, and other calls of it wait in the queue. Beside any of the above.
    Queue,
    /// A guard that was handed on holds a key. Beside any of the above.
    HandedOff,
    /// A slot is held. Beside any of the above.
    HoldSlot,
}

/// Every phase, in the order of the table.
pub(super) const PHASES: [Phase; 24] = [
    Phase::Acquire,
    Phase::TakeOver,
    Phase::Renew,
    Phase::Release,
    Phase::Join,
    Phase::HandOver,
    Phase::GiveBack,
    Phase::Withdraw,
    Phase::Detach,
    Phase::Poll,
    Phase::Read,
    Phase::List,
    Phase::Complete,
    Phase::Enter,
    Phase::Evict,
    Phase::Extend,
    Phase::Exit,
    Phase::GiveSlots,
    Phase::Claim,
    Phase::Hold,
    Phase::Rest,
    Phase::Queue,
    Phase::HandedOff,
    Phase::HoldSlot,
];

/// Phases in which a request is on its way.
pub(super) const IN_FLIGHT: usize = 19;

impl Fault {
    /// Whether it can happen in a phase.
    pub(super) fn applies(self, phase: Phase) -> bool {
        if matches!(phase, Phase::Queue | Phase::HandedOff | Phase::HoldSlot) {
            // The process may have other requests in flight; its polls are those of the leader.
            return !matches!(self, Fault::Stale | Fault::Deleted);
        }
        let at_rest = matches!(phase, Phase::Hold | Phase::Rest);
        let reads = matches!(phase, Phase::Poll | Phase::Read | Phase::List);
        match self {
            Fault::Conflict | Fault::Duplicate | Fault::DuplicateAnswered | Fault::ErrorAfter => {
                !at_rest && !reads
            }
            Fault::Stale => phase == Phase::Poll,
            // Withdrawals and reads of deleted records are too rare to ask for.
            Fault::Deleted => matches!(phase, Phase::Acquire | Phase::TakeOver | Phase::Poll),
            Fault::Stop
            | Fault::Suspend
            | Fault::MachinePause
            | Fault::Crash
            | Fault::WallForward
            // A withdrawal is a record that a wrong clock began, found again by its own: too rare for each of these.
            // So is a claim, which follows the end of a dead slot.
            | Fault::WallBack => !matches!(phase, Phase::Withdraw | Phase::Claim),
            // A dropped call leaves; releases and hand-overs go on without their caller.
            Fault::Cancel => phase != Phase::Rest && phase != Phase::List,
            _ => !at_rest,
        }
    }
}

/// How often each fault has met each phase.
#[derive(Clone, Debug)]
pub(super) struct Coverage([[u64; PHASES.len()]; FAULTS.len()]);

impl Default for Coverage {
    fn default() -> Self {
        Coverage([[0; PHASES.len()]; FAULTS.len()])
    }
}

impl Coverage {
    pub(super) fn met(&mut self, fault: Fault, phase: Phase) {
        self.0[fault as usize][phase as usize] += 1;
    }

    pub(super) fn add(&mut self, other: &Coverage) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                *mine += theirs;
            }
        }
    }

    pub(super) fn count(&self, fault: Fault, phase: Phase) -> u64 {
        self.0[fault as usize][phase as usize]
    }

    /// All faults injected.
    pub(super) fn total(&self) -> u64 {
        self.0.iter().flatten().sum()
    }

    /// Pairs that can meet and have not.
    pub(super) fn missing(&self) -> Vec<(Fault, Phase)> {
        let pairs = FAULTS
            .iter()
            .flat_map(|fault| PHASES.iter().map(move |phase| (*fault, *phase)));
        pairs
            .filter(|(fault, phase)| fault.applies(*phase) && self.count(*fault, *phase) == 0)
            .collect()
    }
}
