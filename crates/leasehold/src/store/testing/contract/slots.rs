//! Random writes on the slots of a key, for the run against the reference.

use std::time::Duration;

use super::Bench;
use super::dice::{Dice, random_grant, random_place};
use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::queue::{PLACES, Place};
use leasehold_protocol::record::{Record, Seen, State};
use leasehold_protocol::slot_write::{Entry, Given, Next, Over, SlotWrite};
use leasehold_protocol::slots::Slot;
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::write::{Left, Write};

/// Small, so that it is reached.
const LIMIT: u32 = 3;

/// Most of them are valid.
pub(super) fn random_slot_write(
    dice: &mut Dice,
    bench: &Bench,
    clients: &[AttemptId],
    current: Option<&Record>,
    expires_at: ServiceTime,
    ttl_seconds: i64,
) -> Write {
    let key = bench.key.clone();
    let slots = current.and_then(|record| record.slots.as_ref());
    let held = slots.map_or(&[][..], |slots| &slots.held);
    let queue = current.map_or(&[][..], |record| &record.queue);
    // Above the tokens of deleted records.
    let seed = u64::try_from(bench.grant(clients[0]).seed.0).unwrap_or(0);
    let token = current.and_then(Record::token).unwrap_or(seed);
    let next_token = token + 1 - u64::from(dice.one_in(8)) + u64::from(dice.one_in(4)) * 5;
    let limit = match slots {
        Some(slots) if !dice.one_in(8) => slots.limit,
        _ => LIMIT - u32::from(dice.one_in(4)),
    };
    let any = clients[dice.below(clients.len())];
    let odd = Slot::new(any, token, expires_at, Duration::from_secs(1), "odd");
    let slot = match held.get(dice.below(held.len().max(1))) {
        Some(slot) if !dice.one_in(6) => slot.clone(),
        _ => odd,
    };
    // The first places, and now and then too few or too many.
    let first = match dice.below(4) {
        0 => dice.below(4).min(queue.len()),
        1 => queue.len(),
        _ => 0,
    };
    let passed = queue[..first].to_vec();
    let given = |places: usize| Given {
        passed: passed.clone(),
        places: {
            // No releaser gives a slot to itself, or two to one attempt.
            let mut given = vec![slot.attempt];
            let mut waits = |place: &&Place| {
                let again = given.contains(&place.attempt());
                given.push(place.attempt());
                place.is_for_slot() && !again
            };
            let waits = queue[first..].iter().take_while(|place| waits(place));
            waits.take(places).copied().collect()
        },
        limit,
        expires_at,
        token: next_token,
        ttl_seconds,
        acquired_at: ServiceTime(ttl_seconds),
    };
    let waits = given(1 + dice.below(3));
    let attempt = slot.attempt;
    let exact = (!dice.one_in(3)).then_some(slot.token);
    let hold = dice.one_in(2).then_some(Duration::from_millis(1_234));
    let write = match dice.below(16) {
        0..=4 => {
            let over = match current.map(Record::state) {
                Some(State::Granted(seen)) if !dice.one_in(4) => Some(Over::Whole(match seen {
                    Seen::Native {
                        owner,
                        token,
                        renew_count,
                    } => Seen::Native {
                        owner,
                        token: token + u64::from(dice.one_in(6)),
                        renew_count: renew_count + u64::from(dice.one_in(6)),
                    },
                    foreign @ Seen::Foreign { .. } => foreign,
                })),
                _ => (slot.attempt != any && dice.one_in(2)).then(|| match dice.one_in(2) {
                    true => Over::Slot(slot),
                    false => Over::Adopted(slot),
                }),
            };
            SlotWrite::Enter(Entry {
                grant: random_grant(dice, bench, any),
                token: next_token,
                limit,
                first: matches!(over, None | Some(Over::Whole(_)))
                    && slots.is_none() != dice.one_in(8),
                over,
                places: passed,
            })
        }
        5..=6 => SlotWrite::Extend {
            slot: Slot {
                expires_at: match dice.below(4) {
                    0 => slot.expires_at,
                    1 => ServiceTime(slot.expires_at.0 - 1),
                    _ => slot
                        .expires_at
                        .plus(Duration::from_millis(1 + dice.next() % 5_000)),
                },
                label: "renewed".to_owned(),
                token: slot.token + u64::from(dice.one_in(6)),
                ..slot
            },
            key,
            ttl_seconds,
            bound_to_process: dice.one_in(2),
        },
        7..=10 => SlotWrite::Exit {
            key,
            attempt,
            token: exact,
            ttl_seconds: dice.one_in(2).then_some(ttl_seconds),
            held: hold,
            next: match dice.below(4) {
                0 => Next::Nobody(passed),
                1 => Next::Others,
                2 if !waits.places.is_empty() => Next::Slots(waits),
                _ => Next::Whole(
                    queue
                        .get(first)
                        .copied()
                        .unwrap_or_else(|| random_place(dice, clients)),
                    given(0),
                ),
            },
        },
        11 if !waits.places.is_empty() => {
            let owner = current.and_then(|record| record.owner.as_ref()?.parse().ok());
            SlotWrite::Open {
                key,
                attempt: owner.unwrap_or(any),
                token: dice.one_in(2).then_some(token),
                held: hold,
                left: match dice.below(3) {
                    0 => Left::Nothing,
                    1 => Left::AsItIs,
                    _ => Left::Payload(b"left".as_slice().into()),
                },
                given: waits,
            }
        }
        12 => SlotWrite::Claim(random_grant(dice, bench, any), passed),
        13 => SlotWrite::Evict { key, slot },
        _ if queue.len() < 3 || dice.one_in(4) => {
            let place = random_place(dice, clients);
            return Write::Join {
                key,
                place: place.for_slot(),
                limit: Some(limit),
                most: if dice.one_in(4) {
                    queue.len().max(1)
                } else {
                    PLACES
                },
                bound_to_process: dice.one_in(2),
            };
        }
        _ => SlotWrite::Claim(random_grant(dice, bench, any), passed),
    };
    Write::Slot(write)
}
