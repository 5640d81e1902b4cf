//! Places and slots with the processes they are bound to: the columns `queue` and `slots`.
//!
//! What belongs to a dead process is left out when a record is read, and is gone with the next write.

use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::queue::Place;
use leasehold_protocol::slots::Slot;

use super::process::Identity;

/// A place or a slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Bound<T> {
    pub(super) of: T,
    /// The boot in which it was joined, granted or last renewed.
    pub(super) boot: Option<String>,
    /// The process it is bound to.
    pub(super) process: Option<Identity>,
}

/// What a column has of each.
pub(super) trait Packed: Sized {
    fn pack(&self) -> Vec<u8>;
    fn unpack(bytes: &[u8]) -> Option<Self>;
}

impl Packed for Place {
    fn pack(&self) -> Vec<u8> {
        self.to_bytes().to_vec()
    }

    fn unpack(bytes: &[u8]) -> Option<Self> {
        Place::from_bytes(bytes)
    }
}

/// The digits of the attempt's id, and the entry of the slot.
impl Packed for Slot {
    fn pack(&self) -> Vec<u8> {
        [self.attempt.digits().into_bytes(), self.to_bytes()].concat()
    }

    fn unpack(bytes: &[u8]) -> Option<Self> {
        let (digits, entry) = bytes.split_at_checked(DIGITS)?;
        let attempt = AttemptId::from_digits(std::str::from_utf8(digits).ok()?)?;
        Slot::from_bytes(attempt, entry)
    }
}

/// Of the id of an attempt.
const DIGITS: usize = 22;

/// As it is stored; nothing for an empty list.
pub(super) fn write<T: Packed>(list: &[Bound<T>]) -> Option<Vec<u8>> {
    if list.is_empty() {
        return None;
    }
    let mut bytes = Vec::new();
    let mut part = |part: &[u8]| {
        let part = &part[..part.len().min(u8::MAX.into())];
        bytes.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
        bytes.extend(part);
    };
    for bound in list {
        part(&bound.of.pack());
        part(bound.boot.as_deref().unwrap_or_default().as_bytes());
        let numbers = bound.process.map(|process| {
            [
                process.pid,
                process.started,
                process.pid_namespace,
                process.time_namespace,
            ]
        });
        let numbers = numbers
            .iter()
            .flatten()
            .flat_map(|number| number.to_be_bytes());
        part(&numbers.collect::<Vec<u8>>());
    }
    Some(bytes)
}

/// Reads a stored list; `None` where it is something else.
pub(super) fn read<T: Packed>(mut bytes: &[u8]) -> Option<Vec<Bound<T>>> {
    let mut list = Vec::new();
    while !bytes.is_empty() {
        let of = T::unpack(part(&mut bytes)?)?;
        let boot = std::str::from_utf8(part(&mut bytes)?).ok()?;
        let mut numbers = part(&mut bytes)?;
        let process = match numbers.is_empty() {
            true => None,
            false => Some(Identity {
                pid: number(&mut numbers)?,
                started: number(&mut numbers)?,
                pid_namespace: number(&mut numbers)?,
                time_namespace: number(&mut numbers)?,
            }),
        };
        if !numbers.is_empty() {
            return None;
        }
        list.push(Bound {
            of,
            boot: (!boot.is_empty()).then(|| boot.to_owned()),
            process,
        });
    }
    Some(list)
}

fn part<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::from(*bytes.first()?);
    let part = take(&mut &bytes[1..], length)?;
    *bytes = &bytes[1 + length..];
    Some(part)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn number(bytes: &mut &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(take(bytes, 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use leasehold_protocol::queue::PLACE_BYTES;
    use leasehold_protocol::time::ServiceTime;

    use super::*;

    const PROCESS: Identity = Identity {
        pid: 1,
        started: 2,
        pid_namespace: 3,
        time_namespace: -4,
    };

    fn reads_back<T: Packed + Clone + PartialEq + std::fmt::Debug>(of: T, length: usize) {
        let bound = Bound {
            of: of.clone(),
            boot: Some("a boot".into()),
            process: Some(PROCESS),
        };
        let unbound = Bound {
            of,
            boot: None,
            process: None,
        };
        let list = vec![bound, unbound];
        let bytes = write(&list).expect("not empty");
        assert_eq!(read(&bytes), Some(list));
        assert_eq!(write::<T>(&[]), None);
        assert_eq!(read::<T>(&[]), Some(Vec::new()));
        let whole = 1 + length + 1 + 6 + 1 + 32;
        for length in (1..bytes.len()).filter(|length| *length != whole) {
            assert_eq!(read::<T>(&bytes[..length]), None, "{length} bytes");
        }
        let mut longer = bytes[..whole].to_vec();
        longer[whole - 33] = 33;
        longer.push(0);
        assert_eq!(read::<T>(&longer), None);
    }

    #[test]
    fn a_list_reads_back_and_a_part_of_one_does_not() {
        let id = AttemptId::from_random([3; 16]);
        let (lease, end) = (Duration::from_secs(20), ServiceTime(9));
        reads_back(Place::new(id, lease, Duration::ZERO, end), PLACE_BYTES);
        reads_back(Slot::new(id, 7, end, lease, "me"), DIGITS + 18 + 2);
    }
}
