//! Slots: several holders of one key at once, up to a limit.
//!
//! They are part of the record. A holder of a slot has an entry of its own, [`Slot`], with its own expiry and
//! token. A holder of the whole key excludes all of them, and they exclude it. A shared lock is a slot of
//! [`MOST`].
//!
//! Invariants (S8):
//!
//! - No more slots are held than the limit says, and none while the whole key is held.
//! - The limit changes only while nobody holds a slot and nobody waits.
//! - An entry is changed by its own holder, or removed by a compare-and-set on exactly what was seen.
//! - A waiter is not passed: a slot is taken with an empty queue, or by a place that names those before it.

use std::time::Duration;

use super::id::AttemptId;
use super::queue::PLACES;
use super::time::ServiceTime;

/// The largest limit, and that of a shared lock.
pub const MOST: u32 = 1_000;

/// The longest lease of a slot: shorter than the shortest retention, since all slots share one TTL.
pub const LONGEST_LEASE: Duration = Duration::from_secs(12 * 3_600);

/// How many bytes of a label an entry keeps.
pub const LABEL_BYTES: usize = 20;

/// The slots of a key.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Slots {
    /// How many may be held at once.
    pub limit: u32,
    /// Those that are held, by rising token.
    pub held: Vec<Slot>,
}

/// A slot that is held.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Slot {
    /// Whose it is.
    pub attempt: AttemptId,
    /// The fencing token of its grant.
    pub token: u64,
    /// P, its published expiry. It grows with each renewal.
    pub expires_at: ServiceTime,
    /// L, its lease duration.
    pub lease: Duration,
    /// The first bytes of its holder's label; empty after a hand-over, until it is renewed.
    pub label: String,
}

impl Slot {
    /// A slot of this attempt. The lease is rounded up to what can be stored: an observer must not wait too short.
    pub fn new(
        attempt: AttemptId,
        token: u64,
        expires_at: ServiceTime,
        lease: Duration,
        label: &str,
    ) -> Self {
        let lease = u32::try_from(lease.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX);
        Slot {
            attempt,
            token,
            expires_at: expires_at.max(ServiceTime(0)),
            lease: Duration::from_millis(lease.into()),
            label: short_label(label).to_owned(),
        }
    }

    /// As it is stored: 8 bytes of the token, 6 of the expiry, 4 of the lease, and the label. So entries of one token
    /// compare as their expiries do.
    pub fn to_bytes(&self) -> Vec<u8> {
        let expires_at = u64::try_from(self.expires_at.0).unwrap_or(0);
        let lease = u32::try_from(self.lease.as_millis()).unwrap_or(u32::MAX);
        let mut bytes = self.token.to_be_bytes().to_vec();
        bytes.extend_from_slice(&expires_at.to_be_bytes()[2..]);
        bytes.extend_from_slice(&lease.to_be_bytes());
        bytes.extend_from_slice(self.label.as_bytes());
        bytes
    }

    /// Reads a stored entry; `None` if it is not one.
    pub fn from_bytes(attempt: AttemptId, bytes: &[u8]) -> Option<Slot> {
        let (token, rest) = bytes.split_first_chunk()?;
        let (expires_at, rest) = rest.split_first_chunk::<6>()?;
        let (lease, label) = rest.split_first_chunk()?;
        let mut whole = [0; 8];
        whole[2..].copy_from_slice(expires_at);
        Some(Slot {
            attempt,
            token: u64::from_be_bytes(*token),
            expires_at: ServiceTime(i64::try_from(u64::from_be_bytes(whole)).ok()?),
            lease: Duration::from_millis(u32::from_be_bytes(*lease).into()),
            label: String::from_utf8(label.to_vec()).ok()?,
        })
    }

    /// The stored entries of this token: the first, and one behind the last whose expiry is before `before`.
    pub fn stored_before(token: u64, before: Option<ServiceTime>) -> (Vec<u8>, Vec<u8>) {
        let first = |token, expires_at| {
            let expires_at = ServiceTime(expires_at);
            Slot::new(
                AttemptId::from_bits(0),
                token,
                expires_at,
                Duration::ZERO,
                "",
            )
            .to_bytes()
        };
        match before {
            Some(before) => (first(token, 0), first(token, before.0)),
            None => (first(token, 0), first(token.saturating_add(1), 0)),
        }
    }
}

impl AttemptId {
    /// Its 22 digits to the base of 64, as the entry of a slot is named.
    pub fn digits(self) -> String {
        let digit =
            |index: u32| DIGITS[usize::try_from(self.to_bits() >> (6 * index) & 63).unwrap_or(0)];
        (0..22)
            .rev()
            .map(|index| char::from(digit(index)))
            .collect()
    }

    /// The attempt of the entry with this name.
    pub fn from_digits(name: &str) -> Option<AttemptId> {
        let digit = |byte: u8| DIGITS.iter().position(|digit| *digit == byte);
        let value = |bits: u128, byte| {
            let digit = u128::try_from(digit(byte)?).ok()?;
            Some(bits.checked_mul(64)? + digit)
        };
        let attempt = AttemptId::from_bits(name.bytes().try_fold(0, value)?);
        (attempt.digits() == name).then_some(attempt)
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl Slots {
    /// The slot of this attempt.
    pub fn of(&self, attempt: AttemptId) -> Option<&Slot> {
        self.held.iter().find(|slot| slot.attempt == attempt)
    }

    /// Whether so many are held as there may be.
    pub fn is_full(&self) -> bool {
        self.held.len() >= usize::try_from(self.limit).unwrap_or(usize::MAX)
    }

    /// How many places the queue of a key with this limit has. With few slots, they and the places stay below
    /// the 1 KB that one write unit pays for.
    pub fn places(limit: u32) -> usize {
        PLACES - 2 * usize::try_from(limit.min(4)).unwrap_or(4)
    }
}

/// The first bytes of a label, as an entry keeps them.
pub fn short_label(label: &str) -> &str {
    let end = (0..=LABEL_BYTES.min(label.len())).rev();
    let end = end.into_iter().find(|end| label.is_char_boundary(*end));
    &label[..end.unwrap_or(0)]
}
