//! Who waits for a key, and in which process: the column `queue`.
//!
//! A place whose process is dead is no place: it is left out when a record is read, and is gone with the
//! next write.

use leasehold_protocol::queue::{PLACE_BYTES, Place};

use super::process::Identity;

/// One place in a queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Waiting {
    pub(super) place: Place,
    /// The boot in which it joined.
    pub(super) boot: Option<String>,
    /// The process it is bound to.
    pub(super) process: Option<Identity>,
}

/// The stored queue; nothing for an empty one.
pub(super) fn write(queue: &[Waiting]) -> Option<Vec<u8>> {
    if queue.is_empty() {
        return None;
    }
    let mut bytes = Vec::new();
    for waiting in queue {
        bytes.extend(waiting.place.to_bytes());
        let boot = waiting.boot.as_deref().unwrap_or_default().as_bytes();
        let boot = &boot[..boot.len().min(u8::MAX.into())];
        bytes.push(u8::try_from(boot.len()).unwrap_or(u8::MAX));
        bytes.extend(boot);
        bytes.push(u8::from(waiting.process.is_some()));
        if let Some(process) = waiting.process {
            for number in [
                process.pid,
                process.started,
                process.pid_namespace,
                process.time_namespace,
            ] {
                bytes.extend(number.to_be_bytes());
            }
        }
    }
    Some(bytes)
}

/// Reads a stored queue; `None` where it is something else.
pub(super) fn read(mut bytes: &[u8]) -> Option<Vec<Waiting>> {
    let mut queue = Vec::new();
    while !bytes.is_empty() {
        let place = Place::from_bytes(take(&mut bytes, PLACE_BYTES)?)?;
        let boot = usize::from(*take(&mut bytes, 1)?.first()?);
        let boot = std::str::from_utf8(take(&mut bytes, boot)?).ok()?;
        let process = match take(&mut bytes, 1)? {
            [0] => None,
            [1] => Some(Identity {
                pid: number(&mut bytes)?,
                started: number(&mut bytes)?,
                pid_namespace: number(&mut bytes)?,
                time_namespace: number(&mut bytes)?,
            }),
            _ => return None,
        };
        queue.push(Waiting {
            place,
            boot: (!boot.is_empty()).then(|| boot.to_owned()),
            process,
        });
    }
    Some(queue)
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

    use leasehold_protocol::attempt::AttemptId;
    use leasehold_protocol::time::ServiceTime;

    use super::*;

    #[test]
    fn a_queue_reads_back_and_a_part_of_one_does_not() {
        let id = AttemptId::from_random([3; 16]);
        let place = Place::new(id, Duration::from_secs(20), Duration::ZERO, ServiceTime(9));
        let process = Identity {
            pid: 1,
            started: 2,
            pid_namespace: 3,
            time_namespace: -4,
        };
        let bound = Waiting {
            place,
            boot: Some("a boot".into()),
            process: Some(process),
        };
        let unbound = Waiting {
            place,
            boot: None,
            process: None,
        };
        let queue = vec![bound, unbound];
        let bytes = write(&queue).expect("not empty");
        assert_eq!(read(&bytes), Some(queue));
        assert_eq!((write(&[]), read(&[])), (None, Some(Vec::new())));
        let whole = PLACE_BYTES + 1 + 6 + 1 + 32;
        for length in (1..bytes.len()).filter(|length| *length != whole) {
            assert_eq!(read(&bytes[..length]), None, "{length} bytes");
        }
        let mut odd = bytes;
        odd[PLACE_BYTES + 1 + 6] = 2;
        assert_eq!(read(&odd), None);
    }
}
