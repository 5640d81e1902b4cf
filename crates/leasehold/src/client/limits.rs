//! What is refused of a request for a slot.

use crate::error::{Error, ErrorKind};
use crate::key::Key;
use crate::policy::Policy;
use leasehold_protocol::slots::{LONGEST_LEASE, MOST};

/// Refuses a limit that no key can have.
pub(super) fn check_limit(key: &Key, limit: u32) -> Result<(), Error> {
    if (1..=MOST).contains(&limit) {
        return Ok(());
    }
    let message = format!("`{key}` cannot have {limit} slots");
    Err(Error::new(ErrorKind::InvalidInput, message)
        .with_key(key.as_str())
        .with_hint(format!("give it 1 to {MOST} slots")))
}

/// Refuses settings that a slot cannot have.
pub(super) fn check(key: &Key, policy: &Policy, has_data: bool) -> Result<(), Error> {
    let (problem, hint) = if policy.is_shared_with_fsharp() {
        (
            "F# clients share the table, and they know nothing of slots",
            "use a table of its own for slots",
        )
    } else if has_data {
        (
            "a slot has no payload",
            "keep the payload elsewhere, or acquire the whole key",
        )
    } else if policy.lease_duration() > LONGEST_LEASE {
        (
            "the lease of a slot is at most 12 hours",
            "set a shorter `lease_duration`",
        )
    } else {
        return Ok(());
    };
    let message = format!("cannot acquire a slot of `{key}`: {problem}");
    Err(Error::new(ErrorKind::InvalidInput, message)
        .with_key(key.as_str())
        .with_hint(hint))
}
