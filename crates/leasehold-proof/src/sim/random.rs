//! The only source of randomness: a generator that is a pure function of the seed.
//!
//! Invariant: all randomness in a world comes from an [`Rng`] that was forked from its seed, in an order that does not
//! depend on threads, addresses or the host. Forks are independent streams, so that another draw of a client does not
//! change the service.

use std::sync::{Mutex, PoisonError};

use leasehold::clock::Random;

/// xoshiro256++, seeded by splitmix64.
#[derive(Clone, Debug)]
pub(crate) struct Rng([u64; 4]);

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Rng {
    /// The stream `stream` of a seed.
    pub(crate) fn new(seed: u64, stream: u64) -> Rng {
        let mut state = seed ^ stream.wrapping_mul(0xd605_bbb5_8c8a_bc1d);
        Rng([(); 4].map(|()| splitmix(&mut state)))
    }

    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number below `bound`; 0 where the bound is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.bits()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// A number in `low..=high`.
    pub(crate) fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// A number in `-bound..=bound`.
    pub(crate) fn around(&mut self, bound: i64) -> i64 {
        let width = bound.unsigned_abs() * 2;
        self.within(0, width).cast_signed() - bound
    }

    /// True in `percent` of a hundred draws.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// True in `n` of ten thousand draws.
    pub(crate) fn rarely(&mut self, n: u64) -> bool {
        self.below(10_000) < n
    }

    /// One of several values.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let last = from.len().saturating_sub(1) as u64;
        from[self.within(0, last) as usize]
    }

    /// A number in `0.0..1.0`.
    pub(crate) fn fraction(&mut self) -> f64 {
        f64::from((self.bits() >> 32) as u32) / (f64::from(u32::MAX) + 1.0)
    }
}

/// A process's randomness. Ids are its own; the jitter may be that of another process, as after a
/// fork or a restored snapshot of a virtual machine.
#[derive(Debug)]
pub(crate) struct ProcessRandom {
    ids: Mutex<Rng>,
    jitter: Mutex<Rng>,
}

impl ProcessRandom {
    pub(crate) fn new(ids: Rng, jitter: Rng) -> Self {
        ProcessRandom {
            ids: Mutex::new(ids),
            jitter: Mutex::new(jitter),
        }
    }
}

impl Random for ProcessRandom {
    fn attempt_bits(&self) -> [u8; 16] {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let (high, low) = (ids.bits(), ids.bits());
        (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
    }

    fn fraction(&self) -> f64 {
        self.jitter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fraction()
    }
}
