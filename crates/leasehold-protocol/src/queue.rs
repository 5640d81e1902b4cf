//! The queue of a key: who waits for it, in the order of joining.
//!
//! It is part of the record. A contender appends its [`Place`]. The holder hands the key to the first
//! place in the write that ends its own grant.
//!
//! Invariants: a place never changes, and conditions compare it in full. So a request that is applied
//! twice changes nothing. Places leave from the front, unless a contender gives up its own.

use std::time::Duration;

use super::id::AttemptId;
use super::time::ServiceTime;

/// How many places a queue has. With all of them taken and a key of 40 bytes, a record stays below
/// the 1 KB that one write unit pays for.
pub const PLACES: usize = 24;

/// The bytes of a stored place: 16 of the attempt, 4 each of lease and claim, 6 of the end.
pub const PLACE_BYTES: usize = 30;

/// The latest end of a place that can be stored.
const LATEST: u64 = (1 << 48) - 1;

/// The bit of the stored claim that marks a place for a slot.
const FOR_SLOT: u32 = 1 << 31;

/// One contender's place in the queue of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Place {
    attempt: AttemptId,
    lease_ms: u32,
    claim_ms: u32,
    until_ms: u64,
}

impl Place {
    /// A place of this attempt. Lengths are rounded up to whole milliseconds, and to what can be stored.
    pub fn new(attempt: AttemptId, lease: Duration, claim: Duration, until: ServiceTime) -> Self {
        Place {
            attempt,
            lease_ms: whole_ms(lease),
            claim_ms: whole_ms(claim).min(FOR_SLOT - 1),
            until_ms: u64::try_from(until.0).unwrap_or(0).min(LATEST),
        }
    }

    /// The same for a slot, instead of the whole key.
    #[must_use]
    pub fn for_slot(self) -> Self {
        Place {
            claim_ms: self.claim_ms | FOR_SLOT,
            ..self
        }
    }

    /// Whether its contender wants a slot.
    pub fn is_for_slot(&self) -> bool {
        self.claim_ms & FOR_SLOT != 0
    }

    /// Whose place it is.
    pub fn attempt(&self) -> AttemptId {
        self.attempt
    }

    /// L of the grant that it waits for.
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms.into())
    }

    /// How soon its contender promises to notice a grant. A grant that is handed over ends after this
    /// time, unless it is renewed.
    pub fn claim(&self) -> Duration {
        Duration::from_millis((self.claim_ms & !FOR_SLOT).into())
    }

    /// Until when its contender waits, in service time.
    pub fn until(&self) -> ServiceTime {
        ServiceTime(i64::try_from(self.until_ms).unwrap_or(i64::MAX))
    }

    /// Whether its contender has certainly ceased to wait.
    pub fn has_ended(&self, earliest: Option<ServiceTime>) -> bool {
        earliest.is_some_and(|earliest| earliest > self.until())
    }

    /// As it is stored.
    pub fn to_bytes(self) -> [u8; PLACE_BYTES] {
        let mut bytes = [0; PLACE_BYTES];
        bytes[..16].copy_from_slice(&self.attempt.to_bytes());
        bytes[16..20].copy_from_slice(&self.lease_ms.to_be_bytes());
        bytes[20..24].copy_from_slice(&self.claim_ms.to_be_bytes());
        bytes[24..].copy_from_slice(&self.until_ms.to_be_bytes()[2..]);
        bytes
    }

    /// Reads a stored place; `None` for any other number of bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Place> {
        let bytes: &[u8; PLACE_BYTES] = bytes.try_into().ok()?;
        let (attempt, rest) = bytes.split_first_chunk()?;
        let (lease, rest) = rest.split_first_chunk()?;
        let (claim, until) = rest.split_first_chunk()?;
        let mut until_ms = [0; 8];
        until_ms[2..].copy_from_slice(until);
        Some(Place {
            attempt: AttemptId::from_bytes(*attempt),
            lease_ms: u32::from_be_bytes(*lease),
            claim_ms: u32::from_be_bytes(*claim),
            until_ms: u64::from_be_bytes(until_ms),
        })
    }
}

fn whole_ms(length: Duration) -> u32 {
    u32::try_from(length.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(id: u8, until: i64) -> Place {
        let attempt = AttemptId::from_random([id; 16]);
        let (lease, claim) = (Duration::from_secs(20), Duration::from_secs(3));
        Place::new(attempt, lease, claim, ServiceTime(until))
    }

    #[test]
    fn a_place_reads_back() {
        let place = Place::new(
            AttemptId::from_random([9; 16]),
            Duration::from_millis(0x0102_0304),
            Duration::from_millis(0x0506_0708),
            ServiceTime(0x090a_0b0c_0d0e),
        );
        let bytes = place.to_bytes();
        assert_eq!(bytes[16..], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
        assert_eq!(Place::from_bytes(&bytes), Some(place));
        assert_eq!(Place::from_bytes(&bytes[1..]), None);
        assert_eq!(Place::from_bytes(&[]), None);
    }

    #[test]
    fn lengths_are_rounded_up_and_kept_to_what_can_be_stored() {
        let id = AttemptId::from_random([9; 16]);
        let (nanos, long) = (Duration::from_nanos(1), Duration::from_secs(1 << 40));
        let small = Place::new(id, nanos, Duration::ZERO, ServiceTime(-1));
        assert_eq!(small.lease(), Duration::from_millis(1));
        assert_eq!(small.claim(), Duration::ZERO);
        assert_eq!(small.until(), ServiceTime(0));
        let large = Place::new(id, long, long, ServiceTime(i64::MAX));
        assert_eq!(large.lease(), Duration::from_millis(u32::MAX.into()));
        assert_eq!(large.claim(), Duration::from_millis((1 << 31) - 1));
        assert!(!large.is_for_slot());
        let slot = large.for_slot();
        assert!(slot.is_for_slot());
        assert_eq!((slot.claim(), slot.for_slot()), (large.claim(), slot));
        assert_eq!(large.until(), ServiceTime(0xffff_ffff_ffff));
        assert_eq!(Place::from_bytes(&large.to_bytes()), Some(large));
    }

    #[test]
    fn a_place_ends_when_the_service_is_certainly_past_its_end() {
        let place = place(1, 1_000);
        assert!(!place.has_ended(None));
        assert!(!place.has_ended(Some(ServiceTime(1_000))));
        assert!(place.has_ended(Some(ServiceTime(1_001))));
    }
}
