//! The service: one record, carried out by the library's own [`apply`], and the ledger entry beside
//! it that says whose grant the record is in truth. Judges S4 without looking at attempt ids.

use std::time::Duration;

use leasehold_protocol::record::{Record, State};
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::write::{ConditionFailed, Grant, Write, apply};

use super::broken::Broken;
use super::message::{Ask, Author, Outcome, Sight};
use super::order::{Judged, Order, author_of, line};
use super::runs::{Runs, carried_out_wrongly};
use super::shape::{Breach, Property, Shape};

/// The record, and the truth about it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Stored {
    pub(super) record: Option<Record>,
    /// Changes of the grant so far.
    pub(super) version: u8,
    /// The tick of the last one, where there is a queue.
    pub(super) at: u8,
    /// Whose grant it is; `None` when there is none, or it was released.
    pub(super) owner: Option<Author>,
    pub(super) runs: Runs,
}

/// The effect of a request.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) stored: Stored,
    pub(super) outcome: Outcome,
    /// A grant of this call began, with this token.
    pub(super) granted: Option<(Author, u64)>,
    /// Calls whose place was passed over, which must not wait any more.
    pub(super) passed: Vec<Author>,
    /// The grant of this call was completed.
    pub(super) completed: Option<Author>,
    pub(super) breach: Option<Breach>,
}

impl Stored {
    /// Carries out a request, except for writes to the register.
    pub(super) fn serve(&self, ask: &Ask, author: Author, shape: &Shape, time: u8) -> Served {
        let unchanged = |outcome| Served {
            stored: self.clone(),
            outcome,
            granted: None,
            passed: Vec::new(),
            completed: None,
            breach: None,
        };
        match ask {
            Ask::Read { .. } | Ask::Register { .. } => {
                unchanged(Outcome::Read(self.record.clone()))
            }
            Ask::Write { write, seen } => match carry_out(self.record.as_ref(), write, shape) {
                Err(ConditionFailed) => unchanged(Outcome::Refused(self.record.clone())),
                Ok(record) => {
                    let mut served = self.written(record, write, *seen, author);
                    let now_ms = shape.service_ms(time);
                    self.judge_runs(&mut served, write, *seen, author, (shape, time));
                    self.judge_order(&mut served, write, *seen, author, now_ms, shape);
                    if shape.has_queue() && served.stored.version != self.version {
                        served.stored.at = time;
                    }
                    served
                }
            },
            Ask::Put {
                owner,
                now_ms,
                expires_ms,
            } => {
                let held = self.record.as_ref();
                if held.is_some_and(|record| *now_ms <= record.expires_at.0) {
                    return unchanged(Outcome::Refused(None));
                }
                let record = foreign_record(owner, *expires_ms);
                self.changed(Some(record), Some(author), Some((author, 0)))
            }
            Ask::Delete { owner } => match &self.record {
                Some(record) if record.owner.as_ref() == Some(owner) => {
                    let mut served = self.changed(None, None, None);
                    served.breach = self.judge_owner(author);
                    served
                }
                _ => unchanged(Outcome::Refused(None)),
            },
        }
    }

    /// The service deletes the record, its TTL being over.
    pub(super) fn deleted(&self) -> Stored {
        self.changed(None, None, None).stored
    }

    /// What a client sees of it besides the record.
    pub(super) fn sight(&self) -> Sight {
        Sight {
            version: self.version,
            line: line(self.record.as_ref()),
            began: 0,
        }
    }

    fn changed(
        &self,
        record: Option<Record>,
        owner: Option<Author>,
        granted: Option<(Author, u64)>,
    ) -> Served {
        Served {
            outcome: Outcome::Applied(record.clone()),
            stored: Stored {
                record,
                version: self.version + 1,
                at: self.at,
                owner,
                runs: self.runs.without_record(),
            },
            granted,
            passed: Vec::new(),
            completed: None,
            breach: None,
        }
    }

    fn written(
        &self,
        record: Option<Record>,
        write: &Write,
        seen: Sight,
        author: Author,
    ) -> Served {
        let token = record.as_ref().and_then(Record::token);
        let grant = |author| token.map(|token| (author, token));
        let (owner, granted, breach) = match write {
            Write::Acquire(_) => (Some(author), grant(author), self.judge_free()),
            Write::TakeOver(..) => (Some(author), grant(author), self.judge_seen(seen)),
            Write::Renew { .. } => (self.owner, None, self.judge_owner(author)),
            Write::Release { .. } | Write::Complete(_) | Write::Withdraw { .. } => {
                (None, None, self.judge_owner(author))
            }
            Write::HandOver { next, .. } => {
                let next = author_of(next);
                (Some(next), grant(next), self.judge_owner(author))
            }
            Write::Slot(_) => unreachable!("slots have worlds of their own"),
            Write::Join { .. } | Write::Leave { .. } => {
                let breach = self.judge_grant_kept(record.as_ref());
                (self.owner, None, breach)
            }
        };
        let mut served = self.changed(record, owner, granted);
        if let Write::Join { .. } | Write::Leave { .. } = write {
            served.stored.version = self.version;
            served.stored.runs = self.runs;
        }
        served.breach = breach;
        served
    }

    fn judge_free(&self) -> Option<Breach> {
        self.owner.map(|_| Breach {
            property: Property::S4,
            how: "an acquire changed the record of a grant that was not released",
        })
    }

    /// The queue belongs to the record: a change of it leaves the grant alone.
    fn judge_grant_kept(&self, after: Option<&Record>) -> Option<Breach> {
        let without_queue = |record: &Record| Record {
            queue: Vec::new(),
            ..record.clone()
        };
        let before = self.record.as_ref().map(without_queue);
        (self.owner.is_none() || before != after.map(without_queue)).then_some(Breach {
            property: Property::S4,
            how: "a join or a leave changed a grant, or the record of none",
        })
    }

    fn judge_order(
        &self,
        served: &mut Served,
        write: &Write,
        seen: Sight,
        author: Author,
        now_ms: i64,
        shape: &Shape,
    ) {
        let queue = |record: Option<&Record>| record.map_or_else(Vec::new, |r| r.queue.clone());
        let (before, after) = (
            queue(self.record.as_ref()),
            queue(served.stored.record.as_ref()),
        );
        if before.is_empty() && after.is_empty() {
            return;
        }
        let grant_ends_ms = self.record.as_ref().map_or(0, |record| {
            let lease = record.native.map_or(Duration::MAX, |native| native.lease);
            let lease_ms = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
            let watched = shape.service_ms(self.at).saturating_add(lease_ms);
            record.expires_at.0.min(watched)
        });
        let order = Order {
            before: &before,
            after: &after,
            author,
            seen,
            grant_ends_ms,
            now_ms,
        };
        let Judged { breach, passed } = order.judge(write);
        served.breach = served.breach.or(breach);
        served.passed = passed;
    }

    /// S7, in place of S4 where the record remembers a run.
    fn judge_runs(
        &self,
        served: &mut Served,
        write: &Write,
        seen: Sight,
        author: Author,
        now: (&Shape, u8),
    ) {
        let whose = (self.owner == Some(author), self.version == seen.version);
        let breach = self.runs.judge(write, author, whose, now);
        if breach.is_some() || self.runs.is_done() {
            served.breach = breach;
        }
        if let Write::Complete(_) = write {
            served.stored.runs = self.runs.completed(author, seen.began);
            served.completed = Some(author);
        }
    }

    fn judge_seen(&self, seen: Sight) -> Option<Breach> {
        (self.version != seen.version || self.owner.is_none()).then_some(Breach {
            property: Property::S4,
            how: "a take-over took something else than its sender saw",
        })
    }

    fn judge_owner(&self, author: Author) -> Option<Breach> {
        (self.owner != Some(author)).then_some(Breach {
            property: Property::S4,
            how: "a write of one grant changed the record of another, or of one that was released",
        })
    }
}

/// [`apply`], or with one of its rules removed by what it is given and by what becomes of its result.
fn carry_out(
    current: Option<&Record>,
    write: &Write,
    shape: &Shape,
) -> Result<Option<Record>, ConditionFailed> {
    let Some(broken) = shape.broken else {
        return apply(current, write);
    };
    let mut current = current.cloned();
    let mut write = write.clone();
    match (broken, &mut write, &mut current) {
        (Broken::RenewalNotMonotone, Write::Renew { expires_at, .. }, Some(record)) => {
            record.expires_at = record.expires_at.min(ServiceTime(expires_at.0 - 1));
        }
        (Broken::TakeOverBlind, Write::TakeOver(_, seen, _), Some(record)) => {
            if let State::Granted(now) = record.state() {
                *seen = now;
            }
        }
        (Broken::ReleaseWithoutOwner, Write::Release { attempt, token, .. }, Some(record)) => {
            let owner = record.owner.as_ref().and_then(|owner| owner.parse().ok());
            *attempt = owner.unwrap_or(*attempt);
            *token = None;
        }
        (Broken::CompletionWithoutOwner, Write::Complete(completion), Some(record)) => {
            let owner = record.owner.as_ref().and_then(|owner| owner.parse().ok());
            completion.attempt = owner.unwrap_or(completion.attempt);
            completion.token = record.token().unwrap_or(completion.token);
        }
        (Broken::HandOverWithoutOwner, Write::HandOver { attempt, token, .. }, Some(record)) => {
            let owner = record.owner.as_ref().and_then(|owner| owner.parse().ok());
            *attempt = owner.unwrap_or(*attempt);
            *token = None;
        }
        (Broken::HandOverByIndex, Write::HandOver { next, passed, .. }, Some(record)) => {
            let at = passed.len();
            if let Some(place) = record.queue.get_mut(at) {
                *place = *next;
                *passed = record.queue[..at].to_vec();
            }
        }
        (Broken::ReleaseIgnoresQueue, Write::Release { passed, .. }, Some(record)) => {
            passed.clone_from(&record.queue);
        }
        (Broken::LeaveByIndex, Write::Leave { place, index, .. }, Some(record)) => {
            *place = record.queue.get(*index).copied().unwrap_or(*place);
        }
        (Broken::SecondPlace, Write::Join { place, .. }, Some(record))
            if record.owner.is_some() =>
        {
            record.queue.push(*place);
            return Ok(Some(record.clone()));
        }
        (Broken::JoinOfFree, Write::Join { place, .. }, Some(record)) if record.owner.is_none() => {
            record.queue.push(*place);
            return Ok(Some(record.clone()));
        }
        (
            Broken::TtlRoundedDown,
            Write::Acquire(Grant { ttl_seconds, .. })
            | Write::TakeOver(Grant { ttl_seconds, .. }, ..)
            | Write::Renew { ttl_seconds, .. }
            | Write::HandOver { ttl_seconds, .. }
            | Write::Release {
                ttl_seconds: Some(ttl_seconds),
                ..
            },
            _,
        ) => *ttl_seconds -= 1,
        _ => {}
    }
    let mut after = apply(current.as_ref(), &write)?;
    match (broken, &write, &mut after) {
        (Broken::TombstoneKeepsOwner, Write::Release { .. }, Some(record)) => {
            record.owner = current.and_then(|record| record.owner);
        }
        (Broken::HandOverKeepsToken, Write::HandOver { .. }, Some(record)) => {
            if let Some(native) = &mut record.native {
                native.token -= 1;
            }
        }
        (Broken::TakeOverKeepsPlace, Write::TakeOver(grant, _, places), Some(record)) => {
            let own = places
                .last()
                .filter(|place| place.attempt() == grant.attempt);
            record.queue.splice(0..0, own.copied());
        }
        (Broken::TokenStandsStill, Write::Acquire(_) | Write::TakeOver(..), Some(record))
            if current.is_some() =>
        {
            if let Some(native) = &mut record.native {
                native.token -= 1;
            }
        }
        (broken, Write::Complete(_), Some(record)) => {
            carried_out_wrongly(broken, current.as_ref(), record);
        }
        _ => {}
    }
    Ok(after)
}

fn foreign_record(owner: &str, expires_ms: i64) -> Record {
    Record {
        last_hold: None,
        key: "k".into(),
        owner: Some(owner.into()),
        expires_at: ServiceTime(expires_ms),
        native: None,
        ttl_seconds: Some(expires_ms.div_euclid(1_000)),
        holder: None,
        acquired_at: None,
        data: None,
        queue: Vec::new(),
        done: None,
        slots: None,
        last_force: None,
        holder_is_dead: false,
    }
}
