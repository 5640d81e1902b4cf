//! Stores of lock records.
//!
//! [`Store`] is the trait for implementors: one conditional write, one read, one listing. Users call
//! [`LockClient`](crate::LockClient). Stores make no protocol decision. They carry out [`Write`]s
//! exactly as [`apply`](leasehold_protocol::write::apply) defines them, and report how certain an
//! outcome is. The suite in `testing::contract` (feature `test-util`) tests that.

use std::error::Error as StdError;
use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::{Effect, Error, ErrorKind};
pub use crate::usage::Units;
use leasehold_protocol::record::{Malformed, Record};
use leasehold_protocol::time::Stamp;
use leasehold_protocol::write::{Operation, Write};

#[cfg(feature = "dynamodb")]
pub mod dynamodb;
pub mod memory;
#[cfg(all(feature = "sqlite", unix))]
pub mod sqlite;
#[cfg(feature = "test-util")]
pub mod testing;

/// The part of the lock protocol that the author of a store needs: requests and records.
pub mod protocol {
    pub use leasehold_protocol::done::{Completion, Done};
    pub use leasehold_protocol::id::{AttemptId, NotAnId};
    pub use leasehold_protocol::queue::{PLACE_BYTES, PLACES, Place};
    pub use leasehold_protocol::record::{Malformed, Native, Record, Seen, State, attribute};
    pub use leasehold_protocol::slot_write::{Entry, Given, Next, Over, SlotWrite};
    pub use leasehold_protocol::slots::{MOST, Slot, Slots};
    pub use leasehold_protocol::time::{ServiceTime, Stamp};
    pub use leasehold_protocol::write::{Description, Grant, Left, Operation, Write, apply};
}

/// A store of lock records.
///
/// Its methods are async by `async_trait`; implementations use it, too.
///
/// # Contract
///
/// - Writes on one key are linearizable: each is applied atomically at one moment between its
///   call and its answer, or not at all.
/// - A write whose future is dropped, or that fails with [`Effect::Unknown`], may still be applied
///   later, any number of times. The protocol handles that, so a store need not prevent it.
/// - No call retries on its own: times in a retried write would be stale.
/// - Every call ends: a store has its own upper bound on a request (30 s or less).
#[async_trait]
pub trait Store: Send + Sync + Debug + 'static {
    /// The name of this store for messages, such as "dynamodb table `locks`".
    fn describe(&self) -> String;

    /// Default settings for this store. Default: [`Hints::default`].
    fn hints(&self) -> Hints {
        Hints::default()
    }

    /// Carries out one conditional write.
    ///
    /// A condition that does not hold is no error. It gives [`Outcome::Refused`] with the record as it
    /// was at that moment or later.
    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError>;

    /// Reads the record of a key. With [`Consistency::Eventual`] the answer may be old. With
    /// [`Consistency::Strong`] it contains every write that was answered before the call.
    async fn read(
        &self,
        key: &str,
        consistency: Consistency,
    ) -> Result<Reply<Option<Record>>, StoreError>;

    /// Reads one page of the records whose keys begin with `prefix`, starting after `after` ([`Page::next`] of
    /// the page before, with the same prefix). A page may be empty. It is not a snapshot: a record that
    /// changes meanwhile may appear in either state. Default: an error, for a store that cannot list.
    async fn list(&self, prefix: &str, after: Option<String>) -> Result<Reply<Page>, StoreError> {
        let _ = (prefix, after);
        let message = format!("{} cannot list its locks", self.describe());
        Err(StoreError::new(
            StoreErrorKind::Configuration,
            Effect::NotApplied,
            message,
        ))
    }
}

/// A store behind a pointer is that store.
macro_rules! behind {
    ($pointer:ident) => {
        #[async_trait]
        impl<S: Store + ?Sized> Store for $pointer<S> {
            fn describe(&self) -> String {
                (**self).describe()
            }

            fn hints(&self) -> Hints {
                (**self).hints()
            }

            async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
                (**self).write(write).await
            }

            async fn read(
                &self,
                key: &str,
                consistency: Consistency,
            ) -> Result<Reply<Option<Record>>, StoreError> {
                (**self).read(key, consistency).await
            }

            async fn list(
                &self,
                prefix: &str,
                after: Option<String>,
            ) -> Result<Reply<Page>, StoreError> {
                (**self).list(prefix, after).await
            }
        }
    };
}

behind!(Arc);
behind!(Box);

/// Default settings of a store. The caller's policy overrides them. [`Hints::default`] suits a
/// network service that charges for every request, such as DynamoDB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Hints {
    /// S: added to a published expiry for clients that compare it with their wall clock. Default 1 s.
    pub expiry_padding: Duration,
    /// The first delay between two polls of a held key. Default 50 ms.
    pub check_delay: Duration,
    /// The longest delay between two polls of a held key. Default 1 s.
    pub check_delay_max: Duration,
    /// The most polls a second of all waits of one client together. Default 100.
    pub max_polls_per_second: u32,
}

impl Default for Hints {
    fn default() -> Self {
        Hints {
            expiry_padding: Duration::from_secs(1),
            check_delay: Duration::from_millis(50),
            check_delay_max: Duration::from_secs(1),
            max_polls_per_second: 100,
        }
    }
}

/// How recent a read must be. A `match` on it is exhaustive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Consistency {
    /// The answer may be old. On DynamoDB it costs half as much.
    Eventual,
    /// The answer contains every write that was answered before.
    Strong,
}

/// An answer of the store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reply<T> {
    /// The value.
    pub value: T,
    /// The service's clock, if the answer shows it.
    pub stamp: Option<Stamp>,
    /// The usage, as the store reports it.
    pub units: Units,
}

impl<T> Reply<T> {
    /// An answer with a stamp, and without usage.
    pub fn new(value: T, stamp: Option<Stamp>) -> Self {
        Reply {
            value,
            stamp,
            units: Units::default(),
        }
    }

    /// The same answer with its usage.
    #[must_use]
    pub fn with_units(mut self, units: Units) -> Self {
        self.units = units;
        self
    }
}

/// The outcome of a conditional write. A `match` on it is exhaustive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The condition held, and this is the new record (`None`: deleted).
    Applied(Option<Record>),
    /// The condition did not hold, and this is the current record (`None`: there is none).
    Refused(Option<Record>),
}

/// One page of a listing.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Page {
    /// Records, or the errors of malformed ones.
    pub records: Vec<Result<Record, Malformed>>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<String>,
}

impl Page {
    /// A page with these records, and where the next one starts.
    pub fn new(records: Vec<Result<Record, Malformed>>, next: Option<String>) -> Self {
        Page { records, next }
    }
}

/// A failed call to a store. [`StoreError::new`] makes it.
///
/// It has the facts that the protocol needs. The store's own error is the `source`.
#[derive(Debug)]
#[non_exhaustive]
pub struct StoreError {
    /// The kind of the failure.
    pub kind: StoreErrorKind,
    /// Whether a write may still have been applied.
    pub effect: Effect,
    /// One line that names the store and the problem.
    pub message: String,
    /// What to change.
    pub hint: Option<String>,
    /// HTTP status of the answer.
    pub status: Option<u16>,
    /// The store's id of the request.
    pub request_id: Option<String>,
    /// The stamp of the answer, if there was one.
    pub stamp: Option<Stamp>,
    /// The cause.
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The kind of a failed call to a store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// Slow down and try again.
    Throttled,
    /// Another transaction uses the record: try again.
    Conflict,
    /// No answer, a broken one, or a failure inside the store: try again.
    Unavailable,
    /// The table or file is missing, or has another schema.
    Configuration,
    /// The caller may not do this.
    AccessDenied,
    /// No usable credentials.
    Credentials,
    /// The record is malformed.
    Malformed,
    /// The request is not valid for the store.
    InvalidInput,
    /// Anything else.
    Other,
}

impl StoreErrorKind {
    /// Whether the same call may succeed later.
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            StoreErrorKind::Throttled | StoreErrorKind::Conflict | StoreErrorKind::Unavailable
        )
    }
}

impl StoreError {
    /// An error without further data.
    pub fn new(kind: StoreErrorKind, effect: Effect, message: impl Into<String>) -> Self {
        StoreError {
            kind,
            effect,
            message: message.into(),
            hint: None,
            status: None,
            request_id: None,
            stamp: None,
            source: None,
        }
    }

    /// The same error with what to change.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error without cause and stamp, for other callers.
    pub(crate) fn without_source(&self) -> StoreError {
        StoreError {
            kind: self.kind,
            effect: self.effect,
            message: self.message.clone(),
            hint: self.hint.clone(),
            status: self.status,
            request_id: self.request_id.clone(),
            stamp: None,
            source: None,
        }
    }

    /// The public error of a call that is not retried.
    pub(crate) fn into_error(self, operation: Operation, key: Option<&str>) -> Error {
        let message = match key {
            Some(key) => format!("cannot {operation} `{key}`: {}", self.message),
            None => format!("cannot {operation}: {}", self.message),
        };
        let mut error = Error::new(self.kind.into(), message)
            .with_effect(self.effect)
            .with_answer(operation, self.status, self.request_id);
        if let Some(key) = key {
            error = error.with_key(key);
        }
        if let Some(hint) = self.hint {
            error = error.with_hint(hint);
        }
        if let Some(source) = self.source {
            error = error.with_source(source);
        }
        error
    }
}

/// For stores that fail to open.
impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let mut public = Error::new(error.kind.into(), error.message).with_effect(error.effect);
        if let Some(hint) = error.hint {
            public = public.with_hint(hint);
        }
        match error.source {
            Some(source) => public.with_source(source),
            None => public,
        }
    }
}

impl From<StoreErrorKind> for ErrorKind {
    fn from(kind: StoreErrorKind) -> Self {
        match kind {
            StoreErrorKind::Throttled => ErrorKind::Throttled,
            StoreErrorKind::Conflict | StoreErrorKind::Unavailable => ErrorKind::Unreachable,
            StoreErrorKind::Configuration => ErrorKind::Configuration,
            StoreErrorKind::AccessDenied => ErrorKind::AccessDenied,
            StoreErrorKind::Credentials => ErrorKind::Credentials,
            StoreErrorKind::Malformed => ErrorKind::Malformed,
            StoreErrorKind::InvalidInput => ErrorKind::InvalidInput,
            StoreErrorKind::Other => ErrorKind::Unexpected,
        }
    }
}

impl From<Malformed> for StoreError {
    fn from(malformed: Malformed) -> Self {
        let hint = format!(
            "inspect the record, and repair or delete it by hand when nobody holds `{}`",
            malformed.key
        );
        StoreError::new(
            StoreErrorKind::Malformed,
            Effect::NotApplied,
            malformed.to_string(),
        )
        .with_hint(hint)
        .with_source(malformed)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|s| s as _)
    }
}
