//! Stores: where lock records live.
//!
//! [`Store`] is the small face for implementors: one conditional write, one read, one listing.
//! Users talk to [`LockClient`](crate::LockClient). Stores make no protocol decision; they carry
//! out [`Write`]s exactly as [`apply`](leasehold_protocol::write::apply) defines them and say how
//! certain an outcome is. The suite in `testing::contract` (feature `test-util`) holds every store to
//! that.

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

/// What a store is asked, and what it keeps: the part of the lock protocol that the author of a store needs.
pub mod protocol {
    pub use leasehold_protocol::id::{AttemptId, NotAnId};
    pub use leasehold_protocol::queue::{PLACE_BYTES, PLACES, Place};
    pub use leasehold_protocol::record::{Malformed, Native, Record, Seen, State, attribute};
    pub use leasehold_protocol::time::{ServiceTime, Stamp};
    pub use leasehold_protocol::write::{Grant, Operation, Write, apply};
}

/// A place for lock records.
///
/// Its methods are async by `async_trait`, which an implementation uses, too.
///
/// # Contract
///
/// - Writes on one key are linearizable: each is applied atomically at one moment between its
///   call and its answer, or not at all.
/// - A write whose future is dropped, or that fails with [`Effect::Unknown`], may still be applied
///   later, any number of times. The protocol copes; a store need not prevent it.
/// - No call retries on its own: times in a retried write would be stale.
/// - Every call ends: a store has its own upper bound on a request (30 s or less).
#[async_trait]
pub trait Store: Send + Sync + Debug + 'static {
    /// What this store is, for messages: "dynamodb table `locks`".
    fn describe(&self) -> String;

    /// What settings suit it. Default: [`Hints::default`].
    fn hints(&self) -> Hints {
        Hints::default()
    }

    /// Carries out one conditional write.
    ///
    /// A condition that does not hold is an answer ([`Outcome::Refused`], with the record that
    /// stood in the way, as it was at that moment or later), never an error.
    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError>;

    /// Reads the record of a key. With [`Consistency::Eventual`] the answer may be old, with
    /// [`Consistency::Strong`] it contains every write that was answered before the call.
    async fn read(
        &self,
        key: &str,
        consistency: Consistency,
    ) -> Result<Reply<Option<Record>>, StoreError>;

    /// Reads one page of all records, starting after `after` ([`Page::next`] of the page before).
    /// Not a snapshot: records that change meanwhile may be seen in either state. Default: an error, for a store that
    /// cannot list.
    async fn list(&self, after: Option<String>) -> Result<Reply<Page>, StoreError> {
        let _ = after;
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

            async fn list(&self, after: Option<String>) -> Result<Reply<Page>, StoreError> {
                (**self).list(after).await
            }
        }
    };
}

behind!(Arc);
behind!(Box);

/// Settings that suit a store. The caller's policy comes first. [`Hints::default`] suits a service on the network that
/// bills every request, as DynamoDB; change what differs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Hints {
    /// S: what is added to a published expiry for clients that compare it with their wall clock.
    pub expiry_padding: Duration,
    /// The first delay between two polls at a held key.
    pub check_delay: Duration,
    /// The longest delay between two polls at a held key.
    pub check_delay_max: Duration,
    /// How many polls a second all waits of one client may send together.
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

/// How recent a read must be. A store has these two at the most, so a `match` needs no third.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Consistency {
    /// May be old; half the price.
    Eventual,
    /// Contains every write that was answered before.
    Strong,
}

/// An answer of the store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reply<T> {
    /// What it says.
    pub value: T,
    /// What it says about the service's clock.
    pub stamp: Option<Stamp>,
    /// What it cost, as the store reports it.
    pub units: Units,
}

impl<T> Reply<T> {
    /// An answer at this time of the service, without a price.
    pub fn new(value: T, stamp: Option<Stamp>) -> Self {
        Reply {
            value,
            stamp,
            units: Units::default(),
        }
    }

    /// The same with what it cost.
    #[must_use]
    pub fn with_units(mut self, units: Units) -> Self {
        self.units = units;
        self
    }
}

/// The outcome of a conditional write. There is no third one, so a `match` needs none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The condition held; the record is now this (`None`: deleted).
    Applied(Option<Record>),
    /// The condition did not hold; this record (or none) stood in the way.
    Refused(Option<Record>),
}

/// One page of a listing.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Page {
    /// Records, and those that cannot be read.
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

/// A failed call to a store. Made by [`StoreError::new`].
///
/// Backends keep their own errors; this is what the protocol needs to know of them.
#[derive(Debug)]
#[non_exhaustive]
pub struct StoreError {
    /// What went wrong.
    pub kind: StoreErrorKind,
    /// Whether a write may have been applied all the same.
    pub effect: Effect,
    /// One line that names the store and what is wrong.
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

/// What went wrong in a call to a store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// Slow down and try again.
    Throttled,
    /// Another transaction is on the record: try again.
    Conflict,
    /// No answer, a broken one, or a failure inside the store: try again.
    Unavailable,
    /// The table or file is missing or of another shape.
    Configuration,
    /// The caller may not do this.
    AccessDenied,
    /// No usable credentials.
    Credentials,
    /// The record is malformed.
    Malformed,
    /// The request is one that the store cannot take.
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

    /// The same with what to change.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same without its cause, for others whom it concerns.
    pub(crate) fn retold(&self) -> StoreError {
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

    /// The public error of a call that failed for good.
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
            "look at the record, and repair or delete it by hand once nobody holds `{}`",
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
