//! Every exit code that is ours. The command's own code passes through unchanged.
//!
//! The numbers below 100 are those of `sysexits.h`, so that scripts and service managers which know them
//! react well: 69, 75 and 76 are worth another try, 64, 77 and 78 are not. 124 to 127 are those of
//! `timeout(1)` and the shells. A command may end with any of them itself; `--report` tells who spoke.
//! Each is a promise of the manual and has a test.

/// The command line makes no sense (`EX_USAGE`).
pub(crate) const USAGE: u8 = 64;

/// The store could not be reached before the command was started (`EX_UNAVAILABLE`).
pub(crate) const UNAVAILABLE: u8 = 69;

/// The lock was not acquired: it is held by another, or the wait ran out (`EX_TEMPFAIL`). `-E` changes it.
pub(crate) const NOT_ACQUIRED: u8 = 75;

/// The lock was lost while the command ran. It was stopped by us, or had ended by itself when we saw that its lease had ended before:
/// `lost` and `command` of the report tell which.
pub(crate) const LOST: u8 = 76;

/// The store refused access (`EX_NOPERM`).
pub(crate) const NO_PERMISSION: u8 = 77;

/// The configuration cannot work: no table, one of the wrong shape, lease sums that do not add up (`EX_CONFIG`).
pub(crate) const CONFIG: u8 = 78;

/// `--max-hold` was reached, and the command was stopped by us; as `timeout(1)` has it.
pub(crate) const MAX_HOLD: u8 = 124;

/// `leasehold` itself failed.
pub(crate) const OWN_FAILURE: u8 = 125;

/// The command was found, but cannot be run.
pub(crate) const CANNOT_RUN: u8 = 126;

/// The command was not found.
pub(crate) const NOT_FOUND: u8 = 127;

/// The code for an end by signal `number`: 128 + number, as the shells have it.
pub(crate) const fn signalled(number: i32) -> u8 {
    // Signal numbers are 1 to 64 everywhere we run. Anything else is not a signal, and must not come out as a success.
    if number > 0 && number < 128 {
        128 + number as u8
    } else {
        OWN_FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_added_to_128() {
        assert_eq!(signalled(2), 130);
        assert_eq!(signalled(15), 143);
        assert_eq!(signalled(64), 192);
    }

    #[test]
    fn what_is_not_a_signal_is_never_a_success() {
        assert_eq!(signalled(0), OWN_FAILURE);
        assert_eq!(signalled(-128), OWN_FAILURE);
        assert_eq!(signalled(128), OWN_FAILURE);
    }
}
