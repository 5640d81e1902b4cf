//! The truth about runs of work that is done once, and S7. It stands beside the record, and reads no attempt id.
//!
//! A run begins when its process sees its grant. Judged at every write:
//!
//! - A completion ends the grant of its own call, and no other completed run's keep is under way.
//! - What is done changes by a take-over alone, after the end of its keep, of exactly what the sender saw.
//! - A caller is told that its run is remembered only if its completion landed (in the ledger).

use leasehold_protocol::record::Record;
use leasehold_protocol::write::Write;

use super::broken::Broken;
use super::message::Author;
use super::shape::{Breach, Property, Shape};

/// The runs of one key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Runs {
    /// The call whose run the record remembers, and when it began; `None` if it remembers none.
    done: Option<(Author, u8)>,
    /// When the latest completed run began.
    latest: Option<u8>,
}

const fn breach(how: &'static str) -> Option<Breach> {
    Some(Breach {
        property: Property::S7,
        how,
    })
}

impl Runs {
    /// After a write that remembers nothing.
    pub(super) fn without_record(self) -> Runs {
        Runs { done: None, ..self }
    }

    /// After a completion of the run that its sender began then.
    pub(super) fn completed(self, author: Author, began: u8) -> Runs {
        Runs {
            done: Some((author, began)),
            latest: self.latest.max(Some(began)),
        }
    }

    /// Whether the record remembers a run. S4 is then about grants that there are not.
    pub(super) fn is_done(self) -> bool {
        self.done.is_some()
    }

    /// S7, for a write that was carried out. `own`: the record was the grant of its author. `same`: it was what
    /// the author had seen.
    pub(super) fn judge(
        self,
        write: &Write,
        author: Author,
        (own, same): (bool, bool),
        (shape, time): (&Shape, u8),
    ) -> Option<Breach> {
        let keeps = |began: Option<u8>| began.is_some_and(|began| shape.keeps(began, time));
        match (write, self.done) {
            (Write::Complete(_), None) if !own => {
                breach("a run was completed under a grant that is not its own")
            }
            (Write::Complete(_), None) if keeps(self.latest) => {
                breach("a run was completed within the keep of another")
            }
            (Write::TakeOver(..), Some(_)) if !same => {
                breach("a take-over took what was done, and its sender saw something else")
            }
            (Write::TakeOver(..), Some((_, began))) if keeps(Some(began)) => {
                breach("what was done was taken over within its keep")
            }
            (Write::TakeOver(..), Some(_)) | (_, None) => None,
            // The same run is completed again.
            (Write::Complete(_), Some((runner, _))) if runner == author => None,
            (_, Some(_)) => breach("what was done was changed by no take-over"),
        }
    }

    /// S7, for a deletion by TTL.
    pub(super) fn judge_deletion(self, time: u8, shape: &Shape) -> Option<Breach> {
        let kept = self.done.is_some_and(|(_, began)| shape.keeps(began, time));
        breach("what was done was deleted within its keep").filter(|_| kept)
    }
}

/// Changes the record after a completion that lacks a rule.
pub(super) fn carried_out_wrongly(broken: Broken, before: Option<&Record>, after: &mut Record) {
    let Some(before) = before else { return };
    if let Broken::CompletionKeepsOwner | Broken::CompletionKeepsGrant = broken {
        after.owner.clone_from(&before.owner);
    }
    if broken == Broken::CompletionKeepsExpiry {
        after.expires_at = before.expires_at;
    }
    let (Some(native), Some(before)) = (&mut after.native, before.native) else {
        return;
    };
    match broken {
        Broken::CompletionKeepsGrant => native.renew_count = before.renew_count,
        Broken::CompletionKeepsLease => native.lease = before.lease,
        _ => {}
    }
}
