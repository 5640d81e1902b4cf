//! A long random run against the reference: after every write, outcome and record must equal those of
//! [`apply`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::dice::{Dice, random_grant, random_left, random_place};
use super::slots::random_slot_write;
use super::{Bench, FAR, attempt, later, plain};
use crate::store::{Outcome, Store};
use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::done::{Completion, Done};
use leasehold_protocol::queue::PLACES;
use leasehold_protocol::record::{Record, Seen, State};
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::write::{Description, Write, apply};

const KEYS: usize = 4;
/// The key on whose slots most writes are.
const WITH_SLOTS: usize = 3;
const CLIENTS: usize = 4;

/// Sends `steps` random writes, most of them valid, to four keys in `scope`, and compares each with
/// [`apply`]. The same seed gives the same sequence, except for the attempt ids.
///
/// # Panics
///
/// At the first difference, with the step and the seed.
pub async fn against_the_model(store: &Arc<dyn Store>, scope: &str, seed: u64, steps: usize) {
    let mut dice = Dice::new(seed);
    let benches: Vec<Bench> = (0..KEYS)
        .map(|i| Bench::new(store, scope, &format!("{i}")))
        .collect();
    let clients: Vec<AttemptId> = (0..CLIENTS).map(|_| attempt()).collect();
    let mut model: HashMap<Arc<str>, Record> = HashMap::new();
    let mut applied = 0;
    for step in 0..steps {
        let key = dice.below(KEYS);
        let bench = &benches[key];
        let current = model.get(&bench.key).cloned();
        let on_slots = key == WITH_SLOTS && !dice.one_in(4);
        let write = random_write(&mut dice, bench, &clients, current.as_ref(), on_slots);
        let expected = match apply(current.as_ref(), &write) {
            Ok(record) => Outcome::Applied(record),
            Err(_) => Outcome::Refused(current),
        };
        if let Outcome::Applied(record) = &expected {
            applied += 1;
            match record {
                Some(record) => model.insert(bench.key.clone(), record.clone()),
                None => model.remove(&bench.key),
            };
        }
        let place = || format!("step {step} of seed {seed}: {write:?}");
        assert_eq!(bench.write(write.clone()).await, expected, "{}", place());
        let read = bench.read().await.map(plain);
        assert_eq!(read.as_ref(), model.get(&bench.key), "{}", place());
    }
    // A run with too many refusals would test little.
    assert!(
        applied * 4 > steps,
        "only {applied} of {steps} were applied"
    );
}

fn random_write(
    dice: &mut Dice,
    bench: &Bench,
    clients: &[AttemptId],
    current: Option<&Record>,
    on_slots: bool,
) -> Write {
    let key = bench.key.clone();
    // The owner of what is done is no attempt.
    let done = current.is_some_and(|record| record.done.is_some());
    let held = current.filter(|_| !done);
    let owner = held.and_then(|r| r.owner.as_ref()?.parse().ok());
    // Mostly the holder, so that many writes are applied.
    let attempt = match owner {
        Some(owner) if dice.one_in(2) => owner,
        _ => clients[dice.below(clients.len())],
    };
    let token = current.and_then(Record::token).unwrap_or(1);
    let token = if dice.one_in(6) { token + 1 } else { token };
    let lease = current.and_then(|r| r.native).map(|native| native.lease);
    let lease = lease.unwrap_or(Duration::from_secs(1));
    let expires_at = current.map_or_else(later, |r| r.expires_at);
    let expires_at = match dice.below(4) {
        0 => expires_at,
        1 => ServiceTime(expires_at.0.saturating_sub(1_000)),
        _ => expires_at.plus(Duration::from_millis(dice.next() % 5_000)),
    };
    let ttl_seconds = FAR + i64::try_from(dice.below(1_000)).unwrap_or(0);
    if on_slots {
        return random_slot_write(dice, bench, clients, current, expires_at, ttl_seconds);
    }
    let queue = current.map_or(&[][..], |record| &record.queue);
    // The first places, and now and then too few or too many.
    let first = match dice.below(4) {
        0 => dice.below(4).min(queue.len()),
        1 => queue.len(),
        _ => 0,
    };
    let passed = queue[..first].to_vec();
    let kind = match done && dice.one_in(2) {
        // Nothing else changes what is done.
        true => 4,
        false => dice.below(20),
    };
    match kind {
        0..=3 => Write::Acquire(random_grant(dice, bench, attempt)),
        4..=5 => {
            let seen = match current.map(Record::state) {
                Some(State::Granted(seen)) => seen,
                _ => Seen::Native {
                    owner: attempt.to_string(),
                    token,
                    renew_count: 1,
                },
            };
            let seen = match seen {
                Seen::Native {
                    owner,
                    token,
                    renew_count,
                } => Seen::Native {
                    owner: if dice.one_in(6) {
                        attempt.to_string()
                    } else {
                        owner
                    },
                    token: token + u64::from(dice.one_in(6)),
                    renew_count: renew_count + u64::from(dice.one_in(6)),
                },
                foreign @ Seen::Foreign { .. } => foreign,
            };
            Write::TakeOver(random_grant(dice, bench, attempt), seen, passed)
        }
        6..=8 => Write::Renew {
            key,
            attempt,
            token,
            expires_at,
            ttl_seconds,
            bound_to_process: dice.one_in(2),
            lease: dice.one_in(4).then(|| match dice.one_in(4) {
                true => lease.saturating_sub(Duration::from_millis(1)),
                false => lease + Duration::from_millis(dice.next() % 1_000),
            }),
            description: dice.one_in(3).then(|| Description {
                holder: "renewed".into(),
                data: dice.one_in(2).then(|| b"payload".as_slice().into()),
            }),
        },
        9..=10 => Write::Release {
            held: dice.one_in(2).then_some(Duration::from_millis(1_234)),
            key,
            attempt,
            token: (!dice.one_in(3)).then_some(token),
            ttl_seconds: dice.one_in(2).then_some(ttl_seconds),
            passed,
            left: random_left(dice),
        },
        11..=14 => Write::Join {
            key,
            place: random_place(dice, clients),
            limit: None,
            most: PLACES,
            bound_to_process: dice.one_in(2),
        },
        15..=16 => {
            let index = dice.below(queue.len() + 1);
            let place = queue.get(index).copied();
            Write::Leave {
                key,
                place: place.unwrap_or_else(|| random_place(dice, clients)),
                index: index + usize::from(dice.one_in(6)),
            }
        }
        17..=18 => {
            let next = queue.get(first).copied();
            Write::HandOver {
                held: dice.one_in(2).then_some(Duration::from_millis(1_234)),
                key,
                attempt,
                token: (!dice.one_in(3)).then_some(token),
                next: next.unwrap_or_else(|| random_place(dice, clients)),
                passed,
                expires_at,
                ttl_seconds,
                acquired_at: later(),
                left: random_left(dice),
            }
        }
        _ if !dice.one_in(3) => Write::Withdraw {
            key,
            attempt,
            token,
        },
        _ => Write::Complete(Completion {
            key,
            attempt,
            token,
            until: expires_at,
            keep: Duration::from_millis(1 + dice.next() % 100_000),
            ttl_seconds: dice.one_in(2).then_some(ttl_seconds),
            done: Done {
                at: later(),
                failed: dice.one_in(2),
                input: dice.one_in(2).then(|| b"input".as_slice().into()),
            },
            result: dice.one_in(2).then(|| b"result".as_slice().into()),
            held: dice.one_in(2).then_some(Duration::from_millis(1_234)),
        }),
    }
}
