//! The identity of an acquisition.

use std::fmt;
use std::str::FromStr;

/// The identity of one acquisition: 128 random bits from the operating system, written as a UUID.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptId(u128);

impl AttemptId {
    /// An id from random bits. Each acquisition needs fresh bits from the operating system: fork and
    /// snapshots of virtual machines duplicate user-space generators.
    pub fn from_random(bits: [u8; 16]) -> Self {
        AttemptId(uuid::Builder::from_random_bytes(bits).into_uuid().as_u128())
    }

    /// Its 16 bytes, as a place in a queue stores them.
    pub(super) fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    pub(super) fn to_bits(self) -> u128 {
        self.0
    }

    pub(super) fn from_bits(bits: u128) -> Self {
        AttemptId(bits)
    }

    /// The id of a stored place.
    pub(super) fn from_bytes(bytes: [u8; 16]) -> Self {
        AttemptId(u128::from_be_bytes(bytes))
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_u128(self.0).hyphenated().fmt(f)
    }
}

impl fmt::Debug for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AttemptId({self})")
    }
}

impl FromStr for AttemptId {
    type Err = NotAnId;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let uuid = s.parse::<uuid::Uuid>().map_err(|_| NotAnId)?;
        Ok(AttemptId(uuid.as_u128()))
    }
}

/// The error of parsing an [`AttemptId`]: the text is not a UUID.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAnId;

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a UUID")
    }
}

impl std::error::Error for NotAnId {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids_and_read_back() {
        let id = AttemptId::from_random([7; 16]);
        assert_eq!(id.to_string().parse::<AttemptId>().expect("uuid"), id);
        assert_eq!(id.to_string().len(), 36);
        assert_eq!(AttemptId::from_bytes(id.to_bytes()), id);
        let error = "somebody".parse::<AttemptId>().expect_err("no uuid");
        assert_eq!(error.to_string(), "not a UUID");
    }
}
