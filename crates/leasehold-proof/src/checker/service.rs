//! The service: one record, carried out by the library's own [`apply`], and the ledger entry beside
//! it that says whose grant the record is in truth. Judges S4 without looking at attempt ids.

use leasehold_protocol::record::{Record, State};
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::write::{ConditionFailed, Grant, Write, apply};

use super::broken::Broken;
use super::message::{Ask, Author, Outcome};
use super::shape::{Breach, Property, Shape};

/// The record, and the truth about it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Stored {
    pub(super) record: Option<Record>,
    /// Changes so far.
    pub(super) version: u8,
    /// Whose grant it is; `None` when there is none, or it was released.
    pub(super) owner: Option<Author>,
}

/// The effect of a request.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) stored: Stored,
    pub(super) outcome: Outcome,
    /// A grant began, with this token.
    pub(super) granted: Option<u64>,
    pub(super) breach: Option<Breach>,
}

impl Stored {
    /// Carries out a request, except for writes to the register.
    pub(super) fn serve(&self, ask: &Ask, author: Author, shape: &Shape) -> Served {
        let unchanged = |outcome| Served {
            stored: self.clone(),
            outcome,
            granted: None,
            breach: None,
        };
        match ask {
            Ask::Read | Ask::Register { .. } => unchanged(Outcome::Read(self.record.clone())),
            Ask::Write { write, seen } => match carry_out(self.record.as_ref(), write, shape) {
                Err(ConditionFailed) => unchanged(Outcome::Refused(self.record.clone())),
                Ok(record) => self.written(record, write, *seen, author),
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
                self.changed(Some(record), Some(author), Some(0))
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

    fn changed(&self, record: Option<Record>, owner: Option<Author>, token: Option<u64>) -> Served {
        Served {
            outcome: Outcome::Applied(record.clone()),
            stored: Stored {
                record,
                version: self.version + 1,
                owner,
            },
            granted: token,
            breach: None,
        }
    }

    fn written(&self, record: Option<Record>, write: &Write, seen: u8, author: Author) -> Served {
        let token = record.as_ref().and_then(Record::token);
        let (owner, granted, breach) = match write {
            Write::Acquire(_) => (Some(author), token, self.judge_free()),
            Write::TakeOver(..) => (Some(author), token, self.judge_seen(seen)),
            Write::Renew { .. } => (self.owner, None, self.judge_owner(author)),
            Write::Release { .. } | Write::Withdraw { .. } => {
                (None, None, self.judge_owner(author))
            }
            // No client of the checker waits in a queue.
            Write::Join { .. } | Write::Leave { .. } | Write::HandOver { .. } => {
                (self.owner, None, self.judge_owner(author))
            }
        };
        let mut served = self.changed(record, owner, granted);
        served.breach = breach;
        served
    }

    fn judge_free(&self) -> Option<Breach> {
        self.owner.map(|_| Breach {
            property: Property::S4,
            how: "an acquire changed the record of a grant that was not released",
        })
    }

    fn judge_seen(&self, seen: u8) -> Option<Breach> {
        (self.version != seen || self.owner.is_none()).then_some(Breach {
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
        (
            Broken::TtlRoundedDown,
            Write::Acquire(Grant { ttl_seconds, .. })
            | Write::TakeOver(Grant { ttl_seconds, .. }, ..)
            | Write::Renew { ttl_seconds, .. }
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
        (Broken::TokenStandsStill, Write::Acquire(_) | Write::TakeOver(..), Some(record))
            if current.is_some() =>
        {
            if let Some(native) = &mut record.native {
                native.token -= 1;
            }
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
        holder_is_dead: false,
    }
}
