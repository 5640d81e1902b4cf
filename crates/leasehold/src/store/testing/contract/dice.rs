//! Random parts of writes.

use std::time::Duration;

use super::{Bench, FAR};
use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::queue::Place;
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::write::{Grant, Left};

/// One of few, so that some are asked for twice.
pub(super) fn random_place(dice: &mut Dice, clients: &[AttemptId]) -> Place {
    let attempt = clients[dice.below(clients.len())];
    let lease = Duration::from_secs(1 + dice.next() % 2);
    Place::new(attempt, lease, lease / 2, ServiceTime(FAR * 1_000))
}

pub(super) fn random_grant(dice: &mut Dice, bench: &Bench, attempt: AttemptId) -> Grant {
    let data: Vec<u8> = (0..=dice.below(40)).map(|i| i as u8).collect();
    let grant = bench.grant(attempt);
    Grant {
        // Below and above the existing tokens.
        seed: ServiceTime(grant.seed.0 + 20 - dice.below(40) as i64),
        lease: Duration::from_millis(1 + dice.next() % 100_000),
        holder: format!("host {}", dice.below(9)).into(),
        data: dice.one_in(2).then(|| data.into()),
        // Above, below and equal to the TTLs of grants, renewals and releases.
        ttl_seconds: grant.ttl_seconds + dice.below(4) as i64,
        ttl_is_guess: dice.one_in(2),
        force: dice
            .one_in(4)
            .then(|| format!("force {}", dice.below(9)).into()),
        bound_to_process: dice.one_in(2),
        ..grant
    }
}

/// splitmix64: small, and the same everywhere.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Dice(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap_or(0)
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

pub(super) fn random_left(dice: &mut Dice) -> Left {
    match dice.below(3) {
        0 => Left::Nothing,
        1 => Left::AsItIs,
        _ => Left::Payload(b"left".as_slice().into()),
    }
}
