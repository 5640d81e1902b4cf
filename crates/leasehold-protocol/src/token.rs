//! Fencing tokens: numbers that grow with every grant of a key (S2).
//!
//! A resource remembers the largest token that it has seen and refuses smaller ones. That protects
//! it from a holder that was paused past its lease, whatever any clock shows (S3). The stored token
//! starts at service time in milliseconds, and every grant adds at least one. So a record that was
//! deleted after its retention starts again above every earlier token.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// Bits of the visible token that count hand-offs inside one process (`docs/protocol.md` section 9).
pub const PASS_BITS: u32 = 10;

/// A fencing token: `stored << 10 | pass`. It fits into 53 bits until the year 2248, so JSON and
/// JavaScript keep it exact.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct FencingToken {
    stored: u64,
    pass: u16,
    best_effort: bool,
}

impl FencingToken {
    /// The token of a grant whose record carries `stored`.
    pub fn new(stored: u64, pass: u16, best_effort: bool) -> Self {
        FencingToken {
            stored,
            pass: pass & ((1 << PASS_BITS) - 1),
            best_effort,
        }
    }

    /// The number to give to the protected resource.
    pub fn get(self) -> u64 {
        (self.stored << PASS_BITS) + u64::from(self.pass)
    }

    /// The counter in the record, for a `ConditionCheck` on the lock item.
    pub fn stored(self) -> u64 {
        self.stored
    }

    /// How often the grant was handed off inside its process.
    pub fn pass(self) -> u16 {
        self.pass
    }

    /// Whether clients that do not know tokens (F#) share the key. Their PutItem erases the token
    /// and their DeleteItem erases the record, so S2 does not hold across them.
    pub fn is_best_effort(self) -> bool {
        self.best_effort
    }
}

/// The visible number. The order of tokens is the order of these numbers.
impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// From the visible number, as [`get`](FencingToken::get) returns it. The number does not carry
/// [`is_best_effort`](FencingToken::is_best_effort): the result is `false`.
impl From<u64> for FencingToken {
    fn from(visible: u64) -> Self {
        let pass = visible & ((1 << PASS_BITS) - 1);
        FencingToken::new(
            visible >> PASS_BITS,
            u16::try_from(pass).unwrap_or(0),
            false,
        )
    }
}

impl From<FencingToken> for u64 {
    fn from(token: FencingToken) -> u64 {
        token.get()
    }
}

/// From the visible number in decimal, as `Display` writes it.
impl FromStr for FencingToken {
    type Err = ParseIntError;

    fn from_str(visible: &str) -> Result<Self, ParseIntError> {
        visible.parse::<u64>().map(FencingToken::from)
    }
}

/// As the visible number.
#[cfg(feature = "serde")]
impl serde::Serialize for FencingToken {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.get())
    }
}

/// From the visible number.
#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for FencingToken {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(FencingToken::from)
    }
}

impl PartialOrd for FencingToken {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for FencingToken {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // `best_effort` only breaks ties, so that `Ord` agrees with `Eq`.
        (self.get(), self.best_effort).cmp(&(other.get(), other.best_effort))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f8_the_visible_number_and_back() {
        for token in [
            FencingToken::new(1_800_000_000_000, 0, false),
            FencingToken::new(8_790_000_000_000, 1023, false),
        ] {
            assert_eq!(FencingToken::from(token.get()), token);
            assert_eq!(token.to_string().parse(), Ok(token));
            assert_eq!(u64::from(token), token.get());
        }
        assert!("-1".parse::<FencingToken>().is_err());
    }

    #[test]
    fn shape_and_order() {
        let first = FencingToken::new(1_800_000_000_000, 0, false);
        assert_eq!(first.get(), 1_800_000_000_000 << 10);
        let handed_on = FencingToken::new(1_800_000_000_000, 1, false);
        let next = FencingToken::new(1_800_000_000_001, 0, false);
        assert!(first < handed_on && handed_on < next);
        // Year 2248 in milliseconds still fits into 53 bits.
        assert!(FencingToken::new(8_790_000_000_000, 1023, false).get() < 1 << 53);
    }
}
