//! The ledger of grants: it judges S2, S3 and S5 by the true events, not by a record.
//!
//! Every grant that lands gets a place in the order of grants. Invariant of the canonical form: an entry stays
//! only while it can matter for a later event, so that indistinguishable histories are one state. Two kinds of
//! entries stay: grants that landed and that their callers do not know yet, and of the tokens of callers the
//! newest one and the neighbours of each grant that may still be shown.

use super::message::Author;
use super::shape::{Breach, CLIENTS, Property};

/// A grant that landed and was not shown to its caller.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Landed {
    author: Author,
    token: u64,
    place: u8,
}

/// A token that a caller was given.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Shown {
    place: u8,
    token: u64,
}

/// The ledger.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Ledger {
    /// Grants so far.
    grants: u8,
    landed: Vec<Landed>,
    /// In the order of places.
    shown: Vec<Shown>,
    /// The place of the lease that each client has.
    leases: [u8; CLIENTS],
    /// Completions that landed and that their callers do not know yet.
    completed: Vec<Author>,
    /// The newest write that the fenced register has taken.
    register: Option<Shown>,
}

impl Ledger {
    /// A grant landed.
    pub(super) fn land(&mut self, author: Author, token: u64) {
        self.grants += 1;
        self.landed.push(Landed {
            author,
            token,
            place: self.grants,
        });
    }

    /// A caller was given a lease: S5, and with `ordered` S2.
    pub(super) fn show(&mut self, author: Author, token: u64, ordered: bool) -> Option<Breach> {
        let process = usize::from(author.process);
        let ours = |grant: &Landed| grant.author == author && grant.token == token;
        let Some(index) = self.landed.iter().rposition(ours) else {
            return Some(Breach {
                property: Property::S5,
                how: "a lease was given for which no grant of this call ever landed",
            });
        };
        let place = self.landed.remove(index).place;
        self.leases[process] = place;
        let at = self.shown.partition_point(|shown| shown.place < place);
        let sound = self.shown[..at].iter().all(|shown| shown.token < token)
            && self.shown[at..].iter().all(|shown| shown.token > token);
        if ordered {
            self.shown.insert(at, Shown { place, token });
            self.prune();
        }
        (ordered && !sound).then_some(Breach {
            property: Property::S2,
            how: "a later grant was given a token that is not larger than an earlier one's",
        })
    }

    /// The grant of a call was completed.
    pub(super) fn complete(&mut self, author: Author) {
        self.completed.push(author);
        self.completed
            .sort_unstable_by_key(|a| (a.process, a.attempt));
    }

    /// A call returned that its run is remembered: S7.
    pub(super) fn remembered(&mut self, author: Author) -> Option<Breach> {
        let before = self.completed.len();
        self.completed.retain(|completed| *completed != author);
        (self.completed.len() == before).then_some(Breach {
            property: Property::S7,
            how: "a run was said to be remembered, and no completion of it ever landed",
        })
    }

    /// A client's attempts before `attempt` have ended, and will not be shown again.
    pub(super) fn forget(&mut self, process: u8, attempt: u8) {
        self.landed
            .retain(|grant| grant.author.process != process || grant.author.attempt >= attempt);
        self.completed
            .retain(|run| run.process != process || run.attempt >= attempt);
        self.leases[usize::from(process)] = 0;
        self.prune();
    }

    /// The place of the lease that a client has.
    pub(super) fn place(&self, process: u8) -> u8 {
        self.leases[usize::from(process)]
    }

    /// A holder's write reaches the fenced register: S3.
    pub(super) fn register(&mut self, token: u64, place: u8) -> Option<Breach> {
        let newest = self.register;
        if newest.is_some_and(|newest| token < newest.token) {
            return None;
        }
        self.register = Some(Shown { place, token });
        newest
            .is_some_and(|newest| place < newest.place)
            .then_some(Breach {
                property: Property::S3,
                how: "the register took a write of an older grant after one of a newer grant",
            })
    }

    fn prune(&mut self) {
        let Some(last) = self.shown.last().copied() else {
            return;
        };
        let kept = |at: usize| {
            let (from, to) = (
                self.shown[at].place,
                self.shown.get(at + 1).map_or(u8::MAX, |next| next.place),
            );
            let before = at.checked_sub(1).map_or(0, |at| self.shown[at].place);
            self.landed.iter().any(|grant| {
                (from < grant.place && grant.place < to)
                    || (before < grant.place && grant.place < from)
            })
        };
        let kept: Vec<Shown> = (0..self.shown.len())
            .filter(|at| self.shown[*at].place == last.place || kept(*at))
            .map(|at| self.shown[at])
            .collect();
        self.shown = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(process: u8, attempt: u8) -> Author {
        Author { process, attempt }
    }

    fn property(breach: Option<Breach>) -> Option<Property> {
        breach.map(|breach| breach.property)
    }

    #[test]
    fn tokens_are_judged_in_the_order_of_grants_not_of_their_showing() {
        let mut ledger = Ledger::default();
        ledger.land(by(0, 1), 10);
        ledger.land(by(1, 1), 11);
        assert_eq!(ledger.show(by(1, 1), 11, true), None);
        assert_eq!(ledger.show(by(0, 1), 10, true), None);

        let mut ledger = Ledger::default();
        ledger.land(by(0, 1), 11);
        ledger.land(by(1, 1), 11);
        assert_eq!(ledger.show(by(1, 1), 11, true), None);
        assert_eq!(
            property(ledger.show(by(0, 1), 11, true)),
            Some(Property::S2)
        );
    }

    #[test]
    fn what_can_no_longer_matter_is_forgotten_and_what_can_is_kept() {
        let mut ledger = Ledger::default();
        for (place, token) in [(1, 10), (2, 11), (3, 12)] {
            ledger.land(by(0, place), token);
            if place != 2 {
                assert_eq!(ledger.show(by(0, place), token, true), None);
            }
        }
        // The second may still be shown: both of its neighbours count.
        assert_eq!(ledger.shown.len(), 2);
        ledger.forget(0, 3);
        assert_eq!(
            ledger.shown,
            [Shown {
                place: 3,
                token: 12
            }]
        );
        assert!(ledger.landed.is_empty());
    }

    #[test]
    fn a_lease_without_a_grant_is_found() {
        let mut ledger = Ledger::default();
        ledger.land(by(0, 1), 10);
        assert_eq!(
            property(ledger.show(by(0, 2), 10, true)),
            Some(Property::S5)
        );
        assert_eq!(
            property(ledger.show(by(0, 1), 11, true)),
            Some(Property::S5)
        );
    }

    #[test]
    fn the_register_refuses_smaller_tokens_and_an_older_grant_with_a_larger_one_is_found() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.register(11, 2), None);
        assert_eq!(ledger.register(10, 1), None);
        assert_eq!(ledger.register(11, 2), None);
        assert_eq!(property(ledger.register(12, 1)), Some(Property::S3));
    }
}
