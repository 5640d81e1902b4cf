//! The history of one store: grants, as their holders believed in them, and writes, as the register accepted
//! them.
//!
//! Old events are forgotten after they were judged, so that a run of days needs no more memory than one of a
//! minute.
//!
//! The end of a grant must not be estimated too early or too late:
//!
//! - For the library, it is the earlier of two moments: the latest deadline that the holder reported, and the
//!   moment just before its release. (A report is a clock reading **before** the question plus the answer, so
//!   the true belief is never earlier.) On SQLite, where a dead process is replaced at once, it is not later
//!   than the moment just before our SIGKILL.
//! - For `leasehold run`, it is the last sign of life of its command, except for signs after our own SIGSTOP: a
//!   stopped wrapper cannot end its command. When it runs again, it has its grace and a second.

use std::collections::HashMap;

use super::event::{At, Event};

/// How long after its lease a process may still write: a stop takes 10 s at most, a command ends by itself
/// within 18 s.
const LINGERS: At = 60_000_000_000;

/// After a frozen wrapper runs again: its grace (200 ms) and a second for the scheduler.
const THAW: At = 1_200_000_000;

/// A key whose slots the library takes, and `leasehold run` the whole of it.
pub(super) const SLOTS: &str = "s";

/// Who holds a grant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// A process of the library.
    Library,
    /// `leasehold run`; its command tells.
    Command,
}

/// One grant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Grant {
    pub(super) key: String,
    pub(super) token: u64,
    /// Which process of the fleet.
    pub(super) who: usize,
    pub(super) kind: Kind,
    /// Just before the call.
    pub(super) asked: At,
    /// Just after it returned.
    pub(super) from: At,
    /// Believed in until then.
    pub(super) until: At,
    /// Let go, or died with nothing left of it, just after this.
    pub(super) over: Option<At>,
}

impl Grant {
    /// The end of its validity, as its holder believed.
    pub(super) fn end(&self) -> At {
        self.over.map_or(self.until, |over| over.min(self.until))
    }
}

/// One write that reached the register, in the order in which it decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Written {
    pub(super) key: String,
    pub(super) token: u64,
    pub(super) at: At,
    pub(super) accepted: bool,
}

/// When we had a process of the fleet stopped.
#[derive(Clone, Copy, Debug)]
struct Frozen {
    from: At,
    until: At,
}

/// A process of the fleet, as far as the history is concerned.
#[derive(Clone, Debug, Default)]
struct Member {
    frozen: Vec<Frozen>,
    /// Began to ask for its grant, if it is a command.
    spawned: At,
}

/// What is counted for the report.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Totals {
    pub(super) library_grants: u64,
    pub(super) command_grants: u64,
    /// Slots of the library, and those of them that began beside another.
    pub(super) slots: u64,
    pub(super) beside: u64,
    pub(super) accepted: u64,
    pub(super) refused: u64,
    /// How grants ended, and which errors calls had.
    pub(super) ends: HashMap<String, u64>,
    pub(super) errors: HashMap<String, u64>,
}

/// See above.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) grants: Vec<Grant>,
    pub(super) writes: Vec<Written>,
    /// The largest token that the register has accepted of each key.
    pub(super) newest: HashMap<String, u64>,
    pub(super) totals: Totals,
    members: HashMap<usize, Member>,
    death_ends: bool,
}

impl History {
    /// An empty one. `death_ends`: a dead process of the library may be replaced at once.
    pub(super) fn new(death_ends: bool) -> History {
        History {
            death_ends,
            ..History::default()
        }
    }

    /// A process of the fleet is about to be started.
    pub(super) fn starts(&mut self, who: usize, at: At) {
        self.members.entry(who).or_default().spawned = at;
    }

    /// It is about to be stopped, perhaps once more.
    pub(super) fn freezes(&mut self, who: usize, at: At) {
        self.members.entry(who).or_default().frozen.push(Frozen {
            from: at,
            until: At::MAX,
        });
    }

    /// It has been continued.
    pub(super) fn thaws(&mut self, who: usize, at: At) {
        for frozen in &mut self.members.entry(who).or_default().frozen {
            frozen.until = frozen.until.min(at);
        }
    }

    /// It is about to be killed.
    pub(super) fn dies(&mut self, who: usize, at: At) {
        if !self.death_ends {
            return;
        }
        for grant in &mut self.grants {
            if grant.who == who && grant.kind == Kind::Library {
                grant.over.get_or_insert(at);
            }
        }
    }

    /// A process of the fleet tells something.
    pub(super) fn told(&mut self, who: usize, event: Event) {
        match event {
            Event::Grant {
                key,
                token,
                asked,
                from,
                until,
            } => {
                self.totals.library_grants += 1;
                if key == SLOTS {
                    let holds = |grant: &Grant| grant.key == key && grant.end() > from;
                    self.totals.slots += 1;
                    self.totals.beside += u64::from(self.grants.iter().any(holds));
                }
                self.grants.push(Grant {
                    key,
                    token,
                    who,
                    kind: Kind::Library,
                    asked,
                    from,
                    until,
                    over: None,
                });
            }
            Event::Held { key, token, until } => {
                if let Some(grant) = self.grant(who, &key, token) {
                    grant.until = grant.until.max(until);
                }
            }
            Event::Ending { key, token, at } => {
                if let Some(grant) = self.grant(who, &key, token) {
                    grant.over.get_or_insert(at);
                }
            }
            Event::Ended { how, .. } => *self.totals.ends.entry(how).or_default() += 1,
            Event::Failed { kind } => *self.totals.errors.entry(kind).or_default() += 1,
            Event::Beat { key, token, at } => self.beat(who, key, token, at),
            // Others have nothing to do with grants.
            _ => {}
        }
    }

    fn beat(&mut self, who: usize, key: String, token: u64, at: At) {
        let member = self.members.entry(who).or_default();
        let explained = member
            .frozen
            .iter()
            .any(|frozen| frozen.from <= at && at <= frozen.until.saturating_add(THAW));
        let asked = member.spawned;
        match self.grant(who, &key, token) {
            Some(grant) if !explained => grant.until = grant.until.max(at),
            Some(_) => {}
            None => {
                self.totals.command_grants += 1;
                self.grants.push(Grant {
                    key,
                    token,
                    who,
                    kind: Kind::Command,
                    asked,
                    from: at,
                    until: at,
                    over: None,
                });
            }
        }
    }

    /// The register decides; whether it accepts.
    pub(super) fn write(&mut self, key: &str, token: u64, at: At) -> bool {
        let newest = self.newest.entry(key.to_owned()).or_default();
        let accepted = token >= *newest;
        *newest = token.max(*newest);
        let count = match accepted {
            true => &mut self.totals.accepted,
            false => &mut self.totals.refused,
        };
        *count += 1;
        self.writes.push(Written {
            key: key.to_owned(),
            token,
            at,
            accepted,
        });
        accepted
    }

    /// The process of the library that holds a lease and wrote last, with the key and the token of its grant; `None`
    /// if none wrote since `since`.
    pub(super) fn writing(&self, since: At) -> Option<(usize, String, u64)> {
        let latest = self.writes.iter().rev().take_while(|w| w.at >= since);
        latest.filter(|write| write.accepted).find_map(|write| {
            let grant = self.grants.iter().rev().find(|grant| {
                grant.kind == Kind::Library
                    && grant.over.is_none()
                    && (grant.token, &grant.key) == (write.token, &write.key)
            })?;
            Some((grant.who, grant.key.clone(), grant.token))
        })
    }

    /// Whether the register would refuse this token.
    pub(super) fn outdated(&self, key: &str, token: u64) -> bool {
        self.newest.get(key).is_some_and(|newest| *newest > token)
    }

    /// Forgets what ended before `limit`, grants some time later.
    pub(super) fn forget(&mut self, limit: At) {
        // Late writes are judged by the grant that they come from.
        self.grants
            .retain(|grant| grant.until.max(grant.from).saturating_add(LINGERS) >= limit);
        self.writes.retain(|write| write.at >= limit);
        for member in self.members.values_mut() {
            member.frozen.retain(|frozen| frozen.until >= limit);
        }
    }

    /// The latest are the likeliest.
    fn grant(&mut self, who: usize, key: &str, token: u64) -> Option<&mut Grant> {
        self.grants
            .iter_mut()
            .rev()
            .find(|grant| grant.who == who && grant.token == token && grant.key == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: At = 1_000_000_000;

    fn beat(history: &mut History, at: At) {
        let key = "k".to_owned();
        history.told(0, Event::Beat { key, token: 5, at });
    }

    #[test]
    fn a_command_lives_as_long_as_it_beats() {
        let mut history = History::default();
        history.starts(0, S);
        for at in [2 * S, 3 * S] {
            beat(&mut history, at);
        }
        let grant = &history.grants[0];
        assert_eq!((grant.asked, grant.from, grant.end()), (S, 2 * S, 3 * S));
        assert_eq!(history.totals.command_grants, 1);
    }

    #[test]
    fn only_our_own_stop_explains_a_life_after_the_end() {
        let mut history = History::default();
        beat(&mut history, 2 * S);
        history.freezes(0, 3 * S);
        beat(&mut history, 4 * S);
        assert_eq!(history.grants[0].end(), 2 * S, "frozen");
        history.thaws(0, 8 * S);
        beat(&mut history, 9 * S);
        assert_eq!(history.grants[0].end(), 2 * S, "within its grace");
        beat(&mut history, 10 * S);
        assert_eq!(history.grants[0].end(), 10 * S, "alive for too long");
    }

    #[test]
    fn a_death_ends_only_what_the_store_binds_to_the_process() {
        for (death_ends, end) in [(true, 3 * S), (false, 9 * S)] {
            let mut history = History::new(death_ends);
            let key = "k".to_owned();
            history.told(
                0,
                Event::Grant {
                    key,
                    token: 1,
                    asked: S,
                    from: 2 * S,
                    until: 9 * S,
                },
            );
            history.dies(0, 3 * S);
            assert_eq!(history.grants[0].end(), end);
        }
    }

    #[test]
    fn the_register_refuses_older_tokens() {
        let mut history = History::default();
        assert!(history.write("k", 2, 1));
        assert!(history.write("k", 2, 2));
        assert!(!history.write("k", 1, 3));
        assert!(history.write("other", 1, 4));
        assert!(history.write("k", 3, 5));
        assert_eq!((history.totals.accepted, history.totals.refused), (4, 1));
    }

    #[test]
    fn who_writes_is_known_until_it_lets_go() {
        let mut history = History::default();
        let key = || "k".to_owned();
        assert_eq!(history.writing(0), None);
        history.told(
            3,
            Event::Grant {
                key: key(),
                token: 7,
                asked: S,
                from: S,
                until: 9 * S,
            },
        );
        history.write("k", 7, 2 * S);
        assert_eq!(history.writing(2 * S), Some((3, key(), 7)));
        assert_eq!(history.writing(2 * S + 1), None, "long ago");
        assert!(!history.outdated("k", 7));
        history.write("k", 8, 3 * S);
        assert!(history.outdated("k", 7));
        history.told(
            3,
            Event::Ending {
                key: key(),
                token: 7,
                at: 4 * S,
            },
        );
        assert_eq!(history.writing(S), None, "it has let go");
    }

    #[test]
    fn what_is_over_is_forgotten_but_not_the_newest_token() {
        let mut history = History::default();
        beat(&mut history, 2 * S);
        history.write("k", 5, 2 * S);
        history.forget(3 * S);
        assert_eq!((history.grants.len(), history.writes.len()), (1, 0));
        // The late write of a process that was stopped is still its own.
        history.write("k", 5, 40 * S);
        history.forget(30 * S);
        assert!(super::super::judge::judge(&history, At::MAX).is_empty());
        history.forget(63 * S);
        assert!(history.grants.is_empty() && history.writes.is_empty());
        assert!(!history.write("k", 4, 64 * S));
    }
}
