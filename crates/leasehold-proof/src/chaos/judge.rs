//! The judge of a history. It sorts and sweeps, with n log n steps for n grants and writes.
//!
//! - **S1**: on one key, the validity of a grant, as its holder believed, does not overlap another's, and no
//!   write in that time is refused because of a newer token.
//! - **S8**: on the key with slots, no more of them are valid at once than the limit, and none beside the whole key.
//! - **S2**: a grant that was requested after the return of another has a larger token, and no token comes
//!   twice.
//! - **S3**: no write is accepted after one with a newer token, and none has a token that was not granted.

use std::collections::{BTreeMap, BTreeSet};

use super::event::At;
use super::history::SLOTS;
use super::history::{Grant, History, Kind, Written};
use super::worker::LIMIT;

/// All violations, as text. Writes after `settled` may belong to grants whose events have not arrived yet.
pub(super) fn judge(history: &History, settled: At) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut keys: BTreeMap<&str, (Vec<&Grant>, Vec<&Written>)> = BTreeMap::new();
    for grant in &history.grants {
        keys.entry(&grant.key).or_default().0.push(grant);
    }
    for write in &history.writes {
        keys.entry(&write.key).or_default().1.push(write);
    }
    for (grants, writes) in keys.values_mut() {
        disjoint(grants, &mut found);
        increasing(grants, &mut found);
        ordered(writes, &mut found);
        grants.sort_by_key(|grant| grant.token);
        rightly_decided(grants, writes, settled, &mut found);
    }
    found
}

/// How many grants may be valid beside this one.
fn beside(grant: &Grant) -> usize {
    let is_slot = grant.key == SLOTS && grant.kind == Kind::Library;
    usize::from(is_slot) * (LIMIT as usize - 1)
}

/// S1 and S8.
fn disjoint(grants: &mut [&Grant], found: &mut BTreeSet<String>) {
    grants.sort_by_key(|grant| grant.from);
    let mut valid: Vec<&Grant> = Vec::new();
    for grant in grants.iter().copied() {
        valid.retain(|before| grant.from < before.end());
        let least = valid.iter().copied().map(beside).min();
        if valid.len() > least.unwrap_or(usize::MAX).min(beside(grant)) {
            let names: Vec<String> = valid
                .iter()
                .map(|before| {
                    format!(
                        "{} before the end of {}",
                        seconds(before.end() - grant.from),
                        name(before)
                    )
                })
                .collect();
            found.insert(format!(
                "{}: {} began {}",
                if grant.key == SLOTS { "S8" } else { "S1" },
                name(grant),
                names.join(", ")
            ));
        }
        valid.push(grant);
    }
}

/// S2.
fn increasing(grants: &mut [&Grant], found: &mut BTreeSet<String>) {
    let mut by_token = grants.to_vec();
    by_token.sort_by_key(|grant| (grant.token, grant.from));
    for pair in by_token.windows(2) {
        if pair[0].token == pair[1].token {
            found.insert(format!(
                "S2: {} has the token of {}",
                name(pair[1]),
                name(pair[0])
            ));
        }
    }
    let mut returned = grants.to_vec();
    returned.sort_by_key(|grant| grant.from);
    grants.sort_by_key(|grant| grant.asked);
    let mut returned = returned.into_iter().peekable();
    let mut newest: Option<&Grant> = None;
    for grant in grants.iter().copied() {
        while let Some(before) = returned.next_if(|before| before.from < grant.asked) {
            if newest.is_none_or(|newest| newest.token < before.token) {
                newest = Some(before);
            }
        }
        if let Some(before) = newest
            && before.token > grant.token
        {
            found.insert(format!(
                "S2: {} was asked for after {} had returned",
                name(grant),
                name(before)
            ));
        }
    }
}

/// S3: in the order in which the register decided.
fn ordered(writes: &[&Written], found: &mut BTreeSet<String>) {
    let mut newest = 0;
    for write in writes.iter().filter(|write| write.accepted) {
        if write.token < newest {
            found.insert(format!(
                "S3: a write to `{}` with token {} was accepted after one with {newest}",
                write.key, write.token
            ));
        }
        newest = newest.max(write.token);
    }
}

/// S1 and S3, as the register saw them. `grants` are in the order of their tokens.
fn rightly_decided(
    grants: &[&Grant],
    writes: &[&Written],
    settled: At,
    found: &mut BTreeSet<String>,
) {
    for write in writes {
        let place = grants.binary_search_by_key(&write.token, |grant| grant.token);
        match place.map(|place| grants[place]) {
            Ok(grant) if !write.accepted && grant.from <= write.at && write.at < grant.end() => {
                // One line for all writes of a grant.
                found.insert(format!(
                    "S1: a write within {} was refused for a newer token",
                    name(grant)
                ));
            }
            Err(_) if write.accepted && write.at < settled => {
                found.insert(format!(
                    "S3: a write to `{}` with token {} was accepted, but nobody was granted that",
                    write.key, write.token
                ));
            }
            _ => {}
        }
    }
}

fn name(grant: &Grant) -> String {
    format!(
        "the {:?} grant {} of `{}` (process {}, from {} to {})",
        grant.kind,
        grant.token,
        grant.key,
        grant.who,
        seconds(grant.from),
        seconds(grant.end())
    )
}

fn seconds(nanos: At) -> String {
    format!("{:.6} s", nanos as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(token: u64, asked: At, from: At, until: At) -> Grant {
        Grant {
            key: "k".to_owned(),
            token,
            who: token as usize,
            kind: Kind::Library,
            asked,
            from,
            until,
            over: None,
        }
    }

    fn write(token: u64, at: At, accepted: bool) -> Written {
        Written {
            key: "k".to_owned(),
            token,
            at,
            accepted,
        }
    }

    /// Two grants one after the other; the old holder writes once more after its end, in vain.
    fn good() -> History {
        let mut history = History::default();
        history.grants = vec![grant(1, 0, 10, 100), grant(2, 50, 101, 200)];
        history.writes = vec![
            write(1, 20, true),
            write(2, 110, true),
            write(1, 120, false),
            write(2, 130, true),
        ];
        history
    }

    fn verdict(history: &History) -> Vec<String> {
        judge(history, At::MAX).into_iter().collect()
    }

    /// Exactly this, and nothing else.
    fn caught(history: &History, what: &str) {
        let verdict = verdict(history);
        assert_eq!(verdict.len(), 1, "{verdict:?}");
        assert!(verdict[0].contains(what), "{verdict:?}");
    }

    #[test]
    fn nothing_is_wrong_with_a_good_history() {
        assert_eq!(verdict(&good()), Vec::<String>::new());
    }

    #[test]
    fn overlapping_validity_is_caught() {
        let mut bad = good();
        bad.grants[1].from = 99;
        caught(&bad, "S1: the Library grant 2");
        // Unless the first had let go before.
        bad.grants[0].over = Some(98);
        assert_eq!(verdict(&bad), Vec::<String>::new());
    }

    #[test]
    fn an_overlap_with_a_grant_that_is_not_the_last_one_is_caught() {
        let mut bad = good();
        bad.writes.clear();
        bad.grants[0].until = 1000;
        bad.grants[1].from = 1001;
        bad.grants[1].until = 1500;
        // Begins and ends within the first one, and would hide it from its neighbour.
        bad.grants.insert(0, grant(3, 500, 600, 700));
        bad.grants.insert(0, grant(4, 700, 800, 900));
        assert_eq!(verdict(&bad).len(), 2, "{:?}", verdict(&bad));
    }

    #[test]
    fn a_slot_too_many_is_caught_and_one_beside_the_whole_key() {
        let mut history = History::default();
        history.grants = vec![
            grant(1, 0, 10, 100),
            grant(2, 0, 20, 60),
            grant(3, 0, 60, 90),
        ];
        let to = |key: &str, history: &mut History| {
            for grant in &mut history.grants {
                grant.key = key.to_owned();
            }
        };
        to(SLOTS, &mut history);
        assert_eq!(verdict(&history), Vec::<String>::new());
        history.grants[2].from = 59;
        caught(&history, "S8: the Library grant 3");
        history.grants.remove(1);
        assert_eq!(verdict(&history), Vec::<String>::new());
        history.grants[1].kind = Kind::Command;
        caught(&history, "S8: the Command grant 3");
        to("k", &mut history);
        caught(&history, "S1: the Command grant 3");
    }

    #[test]
    fn a_token_that_goes_back_in_real_time_is_caught() {
        let mut bad = good();
        bad.writes.clear();
        bad.grants.push(grant(9, 210, 220, 230));
        bad.grants.push(grant(3, 221, 240, 250));
        caught(&bad, "S2: the Library grant 3");
        // Calls that overlap in time have no order.
        bad.grants[3].asked = 219;
        assert_eq!(verdict(&bad), Vec::<String>::new());
    }

    #[test]
    fn a_token_that_comes_twice_is_caught() {
        let mut bad = good();
        bad.writes.clear();
        bad.grants.push(grant(2, 50, 300, 400));
        caught(&bad, "has the token of");
    }

    #[test]
    fn an_old_write_that_is_accepted_is_caught() {
        let mut bad = good();
        bad.writes[2].accepted = true;
        caught(
            &bad,
            "S3: a write to `k` with token 1 was accepted after one with 2",
        );
    }

    #[test]
    fn a_write_of_nobody_is_caught_once_it_is_settled() {
        let mut bad = good();
        bad.writes.push(write(7, 150, true));
        caught(&bad, "nobody was granted that");
        assert!(judge(&bad, 150).is_empty());
    }

    #[test]
    fn a_write_that_is_refused_while_its_lease_is_valid_is_caught() {
        let mut bad = good();
        bad.writes.insert(1, write(1, 30, false));
        bad.writes.insert(2, write(1, 31, false));
        caught(&bad, "S1: a write within the Library grant 1");
    }

    #[test]
    fn keys_have_nothing_to_do_with_each_other() {
        let mut history = good();
        history.grants[1].key = "other".to_owned();
        history.grants[1].from = 20;
        history.writes.clear();
        assert_eq!(verdict(&history), Vec::<String>::new());
    }
}
