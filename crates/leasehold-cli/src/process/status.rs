//! How a command ended, and the exit code of `leasehold` after it.

use rustix::process::WaitStatus;

use super::remaining::Remaining;
use crate::exit_codes;

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It ended by itself with this code.
    Exited(u8),
    /// This signal ended it.
    Signalled(i32),
    /// Unknown, because other code in this process took the status.
    Unknown,
}

impl Status {
    /// The exit code to return: the command's, 128 + N if signal N ended it, and never 0 if it is unknown.
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

/// The result of [`Group::stop`](super::Group::stop).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stopped {
    /// How the command ended; `None` if KILL did not end it in time.
    pub(crate) status: Option<Status>,
    /// Processes that outlived KILL, in an uninterruptible system call or of another user.
    pub(crate) survivors: Remaining,
}
