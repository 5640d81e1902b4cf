//! What a call gives back once it is over, or beside its lease: grants and places that land late.
//!
//! It follows `leasehold/src/acquire/cleanup.rs`. The release of a grant that may have landed stands for the read
//! there: a refusal shows the record.

use leasehold_protocol::attempt::Attempt;
use leasehold_protocol::record::Record;
use leasehold_protocol::time::Reading;
use leasehold_protocol::write::Write;

use super::client::Client;
use super::message::{Answer, Outcome};
use super::phase::{Owed, Phase, Purpose, Waiting};

impl Client {
    pub(super) fn has_to_give_back(&self) -> bool {
        matches!(&self.phase, Phase::Over { owed, .. } if *owed != Owed::Nothing)
    }

    pub(super) fn give_up(&mut self, phase: Phase) {
        let uncertain = match self.unanswered_claims() > 0 {
            true => Owed::Perhaps,
            false => Owed::Nothing,
        };
        let (attempt, owed) = match phase {
            Phase::Acquiring { attempt, place, .. } => (
                attempt,
                match place {
                    Some(index) if uncertain == Owed::Nothing => Owed::Place(index),
                    _ => uncertain,
                },
            ),
            Phase::Withdrawing { attempt, granted } => (attempt, Owed::Spoiled(granted)),
            Phase::HandingOver { attempt, .. } => (attempt, Owed::Perhaps),
            other => {
                self.phase = other;
                return;
            }
        };
        self.observation = attempt.observation().clone();
        self.phase = Phase::Over {
            attempt,
            leased: None,
            owed,
        };
    }

    /// Requests for the key or for a place without an answer.
    pub(super) fn unanswered_claims(&self) -> u8 {
        self.unanswered(|p| matches!(p, Purpose::Acquire { .. } | Purpose::Join))
    }

    pub(super) fn what_to_give_back(&self, phase: &Phase, now: Reading) -> Option<Write> {
        let shown = |attempt: &Attempt, record: &Record| {
            let ends = attempt.give_back(record, &self.clock, now);
            ends.or_else(|| attempt.leave(record.place_of(attempt.id())?))
        };
        match phase {
            Phase::Over { attempt, owed, .. } => match owed {
                Owed::Nothing => None,
                Owed::Perhaps => Some(attempt.abandon(&self.clock, now)),
                Owed::Place(index) => attempt.leave(usize::from(*index)),
                Owed::Spoiled(granted) => Some(attempt.withdraw(granted)),
                Owed::Shown(record) => shown(attempt, record),
            },
            Phase::Holding {
                attempt,
                late: Some(record),
                ..
            }
            | Phase::Releasing {
                attempt,
                late: Some(record),
                ..
            } => shown(attempt, record),
            _ => None,
        }
    }

    pub(super) fn take_late(
        &self,
        (attempt, leased, owed): (Attempt, Option<u64>, Owed),
        waiting: &Waiting,
        answer: &Answer,
    ) -> Phase {
        let applied = matches!(answer.outcome, Outcome::Applied(_));
        let shown = match &answer.outcome {
            // A lease has been released by its own request.
            Outcome::Refused(_) if leased.is_some() && waiting.purpose != Purpose::GiveBack => None,
            outcome => is_owed(&attempt, outcome, leased),
        };
        let owed = match (&waiting.purpose, shown) {
            (Purpose::GiveBack, _) if applied => self.owed_still(leased),
            (Purpose::GiveBack | Purpose::Acquire { .. } | Purpose::Join, Some(record)) => {
                Owed::Shown(record)
            }
            (Purpose::GiveBack, None) => self.owed_still(leased),
            _ => owed,
        };
        Phase::Over {
            attempt,
            leased,
            owed,
        }
    }

    fn owed_still(&self, leased: Option<u64>) -> Owed {
        match leased {
            None if self.unanswered_claims() > 0 => Owed::Perhaps,
            _ => Owed::Nothing,
        }
    }
}

/// The record of an answer, if it shows a grant or a place of a call beside its lease.
fn is_owed(attempt: &Attempt, outcome: &Outcome, leased: Option<u64>) -> Option<Box<Record>> {
    let (Outcome::Applied(Some(record)) | Outcome::Refused(Some(record))) = outcome else {
        return None;
    };
    let leased = leased.is_some() && record.token() == leased;
    let ours = attempt.id().owns(record) || record.place_of(attempt.id()).is_some();
    (ours && !leased).then(|| Box::new(record.clone()))
}

/// What else a call with a lease has to give back.
pub(super) fn beside_a_lease(
    attempt: &Attempt,
    late: Option<Box<Record>>,
    waiting: &Waiting,
    answer: &Answer,
    leased: u64,
) -> Option<Box<Record>> {
    let shown = || is_owed(attempt, &answer.outcome, Some(leased));
    match (&waiting.purpose, &answer.outcome) {
        (Purpose::Acquire { .. } | Purpose::Join, Outcome::Applied(_)) => late.or_else(shown),
        (Purpose::GiveBack, Outcome::Refused(_)) => shown(),
        (Purpose::GiveBack, _) => None,
        _ => late,
    }
}
