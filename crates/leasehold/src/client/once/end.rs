//! How a call of `once` ends.

use std::error::Error as StdError;
use std::fmt;

use super::value::OnceValue;
use crate::done::Done;
use crate::error::Error;

/// The answer of [`OnceRequest::run`](super::OnceRequest::run). A `match` on it is exhaustive.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub enum Once<T> {
    /// This call ran the work.
    Ran(T),
    /// Another call ran it, before or while this one waited.
    Done(Done),
}

impl<T: OnceValue> Once<T> {
    /// The result of the work, whoever ran it.
    ///
    /// # Errors
    ///
    /// As [`Done::value`].
    pub fn into_value(self) -> Result<T, Error> {
        match self {
            Once::Ran(value) => Ok(value),
            Once::Done(done) => done.value(),
        }
    }
}

/// Why [`OnceRequest::run`](super::OnceRequest::run) has no result. A `match` on it is exhaustive.
#[derive(Debug)]
pub enum OnceError<T, E> {
    /// The work did not run.
    NotRun(Error),
    /// The work ran and failed. It is free to run again, or remembered as failed.
    Work(E),
    /// An earlier run failed and is remembered; the work did not run.
    FailedBefore(Done),
    /// The work ran, and its result is not recorded. By [`Error::kind`]:
    ///
    /// - [`Lost`](crate::ErrorKind::Lost): another process may run the work, or has run it.
    /// - [`InvalidInput`](crate::ErrorKind::InvalidInput): the result is too large. The work is remembered as
    ///   done, without its result.
    /// - others: the store failed. Another process runs the work when the lease is over, unless the
    ///   completion has landed after all ([`Error::effect`]).
    NotRecorded {
        /// The result; `None` if the work was dropped when the lease was lost.
        value: Option<T>,
        /// Why it is not recorded.
        error: Error,
    },
}

impl<T, E> OnceError<T, E> {
    /// The error of the lock, if that is the cause.
    pub fn lock_error(&self) -> Option<&Error> {
        match self {
            OnceError::NotRun(error) | OnceError::NotRecorded { error, .. } => Some(error),
            OnceError::Work(_) | OnceError::FailedBefore(_) => None,
        }
    }
}

impl<T, E: fmt::Display> fmt::Display for OnceError<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OnceError::NotRun(error) => error.fmt(f),
            OnceError::Work(error) => error.fmt(f),
            OnceError::FailedBefore(done) => {
                let why = String::from_utf8_lossy(done.result().unwrap_or_default());
                write!(f, "{done}, and is not run again: {why}")
            }
            OnceError::NotRecorded { error, .. } => {
                write!(f, "the work ran, and its result is not recorded: {error}")
            }
        }
    }
}

impl<T: fmt::Debug, E: StdError + 'static> StdError for OnceError<T, E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            OnceError::NotRun(error) | OnceError::NotRecorded { error, .. } => error.source(),
            OnceError::Work(error) => error.source(),
            OnceError::FailedBefore(_) => None,
        }
    }
}
