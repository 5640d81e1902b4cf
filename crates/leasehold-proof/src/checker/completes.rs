//! How a client completes the grant of work that is done.
//!
//! It follows `leasehold/src/renewal/complete.rs`. A completion may come late, and again, after the lease has run
//! out, but not after an answer has shown its end.

use std::time::Duration;

use leasehold_protocol::attempt::{Attempt, Granted};
use leasehold_protocol::done::Done;
use leasehold_protocol::record::Record;
use leasehold_protocol::renewal::Kept;
use leasehold_protocol::time::{Reading, ServiceTime};
use leasehold_protocol::write::Write;

use super::broken::Broken;
use super::client::Client;
use super::message::{Answer, Ask, Outcome, Sight};
use super::phase::{Lost, Note, Output, Owed, Phase, Purpose};
use super::shape::Shape;

/// The beginning of a run whose tick is not noted yet.
pub(super) const NEW: u8 = u8::MAX;

impl Client {
    pub(super) fn may_complete(&self, shape: &Shape) -> bool {
        let may = match &self.phase {
            Phase::Holding { lost, .. } => *lost != Lost::Ended,
            Phase::Releasing { completes, .. } => completes.is_some(),
            _ => false,
        };
        may && shape.keeping.is_some()
    }

    /// Sends a completion, for the first time or again.
    pub(super) fn complete(&mut self, phase: Phase, now: (Reading, u8), shape: &Shape) -> Output {
        let (Some(keeping), Some((attempt, kept, token, began, late))) =
            (shape.keeping, run_of(&phase))
        else {
            self.phase = phase;
            return Output::NOTHING;
        };
        let done = Done {
            at: ServiceTime(0),
            failed: false,
            input: None,
        };
        let keep = Duration::from_millis(keeping.keep_ms);
        let mut write = kept.complete(keep, done, None, &self.clock, now.0);
        if let Write::Complete(completion) = &mut write {
            // They decide nothing, and would make many states of one.
            completion.done.at = ServiceTime(0);
            completion.held = None;
            if !shape.ttl {
                completion.ttl_seconds = None;
            } else if shape.lacks(Broken::DoneTtlFromNow) {
                completion.ttl_seconds = shape.terms.released_ttl_seconds(&self.clock, now.0);
            }
        }
        self.phase = Phase::Releasing {
            attempt,
            kept,
            token,
            completes: Some(began),
            late,
        };
        self.waiting.retain(|w| w.purpose != Purpose::Complete);
        let seen = Sight {
            began,
            ..Sight::default()
        };
        self.send(Purpose::Complete, now, Ask::Write { write, seen })
    }

    /// Takes the answer to a completion. A refusal that does not show it ends the run unremembered.
    pub(super) fn take_completion(
        &mut self,
        attempt: Attempt,
        kept: &Kept,
        token: u64,
        late: Option<Box<Record>>,
        answer: &Answer,
        shape: &Shape,
    ) -> Output {
        let remembered = match &answer.outcome {
            Outcome::Applied(_) => true,
            Outcome::Refused(record) => {
                kept.shows_completion(record.as_ref()) || shape.lacks(Broken::RefusalCompletes)
            }
            Outcome::Read(_) => false,
        };
        self.observation = attempt.observation().clone();
        self.phase = Phase::Over {
            attempt,
            leased: Some(token),
            owed: late.map_or(Owed::Nothing, Owed::Shown),
        };
        let note = match remembered {
            true => Note::Remembered {
                attempt: self.attempts,
            },
            false => Note::Nothing,
        };
        Output {
            note,
            ..Output::NOTHING
        }
    }

    /// Notes when the run of a new grant began: when it was seen.
    pub(super) fn mark_beginning(&mut self, shape: &Shape, time: u8) {
        if let Phase::Holding { began, .. } | Phase::HandingOver { began, .. } = &mut self.phase
            && *began == NEW
        {
            *began = shape.keeping.map_or(0, |_| time);
        }
    }

    /// The beginning from which a keep counts.
    pub(super) fn run_begins(
        &self,
        granted: &Granted,
        now: Reading,
        shape: &Shape,
    ) -> Option<ServiceTime> {
        shape.keeping?;
        match shape.broken {
            Some(Broken::KeepFromEarliest) => self.clock.earliest(now.elapsed),
            Some(Broken::KeepFromAcquire) => {
                let lease = i64::try_from(shape.terms.lease.as_millis()).unwrap_or(0);
                Some(ServiceTime(granted.expires_at.0 - lease))
            }
            _ => granted.began,
        }
    }
}

type Run = (Attempt, Kept, u64, u8, Option<Box<Record>>);

fn run_of(phase: &Phase) -> Option<Run> {
    match phase.clone() {
        Phase::Holding {
            attempt,
            kept,
            token,
            began,
            late,
            ..
        }
        | Phase::Releasing {
            attempt,
            kept,
            token,
            completes: Some(began),
            late,
        } => Some((attempt, kept, token, began, late)),
        _ => None,
    }
}

/// A record of work that is done, as a contender sees it that judges it wrongly; and as a store shows it that
/// sees that its process is dead.
pub(super) fn without_work(record: Option<&Record>, shape: &Shape) -> Option<Record> {
    let dead = shape.keeping.is_some_and(|keeping| keeping.dead);
    let mut record = record
        .filter(|record| dead && record.done.is_some())?
        .clone();
    record.holder_is_dead = true;
    if shape.lacks(Broken::DoneByDeath) {
        record.done = None;
    }
    Some(record)
}
