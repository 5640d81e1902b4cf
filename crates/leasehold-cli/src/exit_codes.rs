//! The exit codes of `leasehold`. The command's own code is returned unchanged.
//!
//! The codes below 100 are those of `sysexits.h`, which scripts and service managers know. A retry may help after
//! 69, 75 and 76, but not after 64, 77 and 78. The codes 124 to 127 are those of `timeout(1)` and the shells. A
//! command may end with any of them itself; `--report` shows the difference.

/// The command line is invalid (`EX_USAGE`).
pub(crate) const USAGE: u8 = 64;

/// The store could not be reached before the command was started (`EX_UNAVAILABLE`).
pub(crate) const UNAVAILABLE: u8 = 69;

/// The lock was not acquired: another holds it, or the wait expired (`EX_TEMPFAIL`). `-E` changes it.
pub(crate) const NOT_ACQUIRED: u8 = 75;

/// The lock was lost while the command ran. `leasehold` stopped the command, or it ended by itself after its lease:
/// `lost` and `command` of the report show which. Also: the id or token of `renew`, `release` or `force-release` is not
/// that of the present grant, and nothing was changed.
pub(crate) const LOST: u8 = 76;

/// The store refused access (`EX_NOPERM`).
pub(crate) const NO_PERMISSION: u8 = 77;

/// The configuration is invalid: no table, a table with another schema, a lease that is too short (`EX_CONFIG`).
pub(crate) const CONFIG: u8 = 78;

/// `--max-hold` was reached and the command was stopped, as by `timeout(1)`.
pub(crate) const MAX_HOLD: u8 = 124;

/// `leasehold` itself failed.
pub(crate) const OWN_FAILURE: u8 = 125;

/// The command was found, but cannot be run.
pub(crate) const CANNOT_RUN: u8 = 126;

/// The command was not found.
pub(crate) const NOT_FOUND: u8 = 127;

/// The code for an end by signal `number`: 128 + number, as in shells.
pub(crate) const fn signalled(number: i32) -> u8 {
    // Signal numbers are 1 to 64 on all supported systems. Another number must not become a success.
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
