//! How a command ended, and what that means for our own exit code.

use rustix::process::WaitStatus;

use super::remaining::Remaining;
use crate::exit_codes;

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It ended by itself with this code.
    Exited(u8),
    /// A signal ended it: its number.
    Signalled(i32),
    /// The system no longer knows. It happens only if other code in this process takes statuses that are not its own.
    Unknown,
}

impl Status {
    /// The exit code to pass on: the command's, 128 + N when signal N ended it, and never 0 when we do not know.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Exited(code) => code,
            Self::Signalled(number) => exit_codes::signalled(number),
            Self::Unknown => exit_codes::OWN_FAILURE,
        }
    }
}

impl From<WaitStatus> for Status {
    fn from(status: WaitStatus) -> Self {
        // The kernel keeps eight bits of an exit code, so the conversion cannot fail.
        match (
            status.exit_status().map(u8::try_from),
            status.terminating_signal(),
        ) {
            (Some(Ok(code)), _) => Self::Exited(code),
            (_, Some(number)) => Self::Signalled(number),
            _ => Self::Unknown,
        }
    }
}

/// What [`Group::stop`](super::Group::stop) came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stopped {
    /// How the command ended; `None` when even KILL did not end it in time.
    pub(crate) status: Option<Status>,
    /// What outlived KILL: in a system call that cannot be interrupted, or another user's.
    pub(crate) survivors: Remaining,
}
