//! What happened, as a hash and, when asked for, in words.
//!
//! Invariant: the hash takes in every event of the world with its time, so that two runs of one
//! seed that differ in anything differ in it.

use super::shape::{MILLI, Nanos};

/// The story of one world.
#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    pub(super) fn new(verbose: bool) -> Trace {
        Trace {
            hash: 0xcbf2_9ce4_8422_2325,
            lines: verbose.then(Vec::new),
        }
    }

    /// Records one event with its numbers, and with text only if it is printed.
    pub(super) fn note(
        &mut self,
        now: Nanos,
        kind: &'static str,
        numbers: [u64; 3],
        words: impl FnOnce() -> String,
    ) {
        self.mix(now);
        self.mix(kind.len() as u64 | u64::from(kind.as_bytes()[0]) << 8);
        for number in numbers {
            self.mix(number);
        }
        if let Some(lines) = &mut self.lines {
            lines.push(format!(
                "{:>6}.{:03} s  {kind:<10} {}",
                now / (1_000 * MILLI),
                now / MILLI % 1_000,
                words()
            ));
        }
    }

    fn mix(&mut self, number: u64) {
        let mixed = (self.hash ^ number).wrapping_mul(0x9fb2_1c65_1e98_df25);
        self.hash = mixed ^ (mixed >> 32);
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}
