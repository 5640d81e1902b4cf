//! The one error type of the library.
//!
//! [`ErrorKind`] is documented by what the caller must do. [`Effect`] shows whether a write may
//! have landed. "Held by another" is a value ([`TryAcquireOutcome::Held`](crate::TryAcquireOutcome)),
//! and an error only when a wait for the key expired.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::done::Done;
use crate::holder::HolderInfo;
use crate::text::one_line;
use crate::usage::Usage;
use leasehold_protocol::write::Operation;

/// What the caller must do about an [`Error`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Correct the argument: a key, a payload, an identity.
    InvalidInput,
    /// Correct the settings: durations that do not fit together, or a table or file that is missing
    /// or has another schema.
    Configuration,
    /// Get the permission: the store refused the caller.
    AccessDenied,
    /// Provide credentials: none could be loaded, or they are not valid.
    Credentials,
    /// Check the network and the endpoint, or try later: the store did not answer in time.
    Unreachable,
    /// Try later, or raise the limits: the store throttled every try.
    Throttled,
    /// Try later: the key was held by another until the wait expired. [`Error::held`] is the
    /// holder.
    WaitExpired,
    /// Nothing: the work of the key is done, and [`Error::done`] is the run. To let it run again, see
    /// [`LockClient::forget`](crate::LockClient::forget).
    AlreadyDone,
    /// Stop the work, and do not trust its writes since the loss: the lease was lost.
    Lost,
    /// Try again, with a longer lease if this is frequent: too little time of the lease is left. A lock that was
    /// just acquired is released in the background.
    TooLate,
    /// Inspect the record: it is not a lock record, or its meaning is unclear.
    Malformed,
    /// Nothing: the client was shut down.
    ShutDown,
    /// Report a bug: the store gave an unexpected answer.
    Unexpected,
}

/// Whether the write of a failed call may have landed. A `match` on it is exhaustive.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Effect {
    /// Nothing was written, or the write was undone.
    NotApplied,
    /// The write may have landed. A grant that it made ends with its lease at the latest: the
    /// client releases it in the background as soon as an answer shows it.
    Unknown,
}

/// Why a call failed.
///
/// `Display` is one line: the problem with key and store ([`Error::message`]), and what to change
/// ([`Error::hint`]). `Debug`, which a failed `main` prints, adds the facts and each cause on a
/// line. The cause is in `source()`.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    effect: Effect,
    key: Option<String>,
    hint: Option<String>,
    setting: Option<&'static str>,
    needed: Option<Duration>,
    operation: Option<Operation>,
    status: Option<u16>,
    request_id: Option<String>,
    attempts: u32,
    elapsed: Duration,
    cost: Usage,
    held: Option<HolderInfo>,
    done: Option<Done>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            message: one_line(message.into()),
            effect: Effect::NotApplied,
            key: None,
            hint: None,
            setting: None,
            needed: None,
            operation: None,
            status: None,
            request_id: None,
            attempts: 0,
            elapsed: Duration::ZERO,
            cost: Usage::default(),
            held: None,
            done: None,
            source: None,
        }))
    }

    pub(crate) fn with_key(mut self, key: &str) -> Self {
        self.0.key = Some(key.to_owned());
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(one_line(hint.into()));
        self
    }

    pub(crate) fn with_setting(mut self, setting: &'static str, needed: Option<Duration>) -> Self {
        self.0.setting = Some(setting);
        self.0.needed = needed;
        self
    }

    pub(crate) fn with_effect(mut self, effect: Effect) -> Self {
        self.0.effect = effect;
        self
    }

    pub(crate) fn with_answer(
        mut self,
        operation: Operation,
        status: Option<u16>,
        request_id: Option<String>,
    ) -> Self {
        self.0.operation = Some(operation);
        self.0.status = status;
        self.0.request_id = request_id;
        self
    }

    pub(crate) fn with_effort(mut self, attempts: u32, elapsed: Duration) -> Self {
        self.0.attempts = attempts;
        self.0.elapsed = elapsed;
        self
    }

    pub(crate) fn with_cost(mut self, cost: Usage) -> Self {
        self.0.cost = cost;
        self
    }

    pub(crate) fn with_held(mut self, held: Option<HolderInfo>) -> Self {
        self.0.held = held;
        self
    }

    /// The error of a call that needs a key whose work is done.
    pub(crate) fn already_done(done: Done) -> Self {
        let until = match done.until() {
            Some(_) => "until its keep is over",
            None => "for ever",
        };
        let mut error = Error::new(
            ErrorKind::AlreadyDone,
            format!("{done}, and is remembered {until}"),
        )
        .with_key(done.key())
        .with_hint("let it run again with `LockClient::forget`, or use another key");
        error.0.done = Some(done);
        error
    }

    pub(crate) fn with_source(
        mut self,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What the caller must do.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The problem, without the hint.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether the write may have landed.
    pub fn effect(&self) -> Effect {
        self.0.effect
    }

    /// Whether the same call may succeed later without a change.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::Unreachable
                | ErrorKind::Throttled
                | ErrorKind::WaitExpired
                | ErrorKind::TooLate
        )
    }

    /// The key of the call.
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// What to change, as text for a person.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The invalid setting of a [`Policy`](crate::Policy), by the name of its builder's method.
    pub fn setting(&self) -> Option<&'static str> {
        self.0.setting
    }

    /// The smallest value of [`Error::setting`] that fits the other settings, if it was too small.
    pub fn needed(&self) -> Option<Duration> {
        self.0.needed
    }

    /// The request that failed.
    pub fn operation(&self) -> Option<Operation> {
        self.0.operation
    }

    /// The HTTP status of the answer that caused it.
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// The store's id of the request that caused it.
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// How many requests were sent for the call: its own, and during its wait those of earlier waiters
    /// of its client.
    pub fn requests(&self) -> u32 {
        self.0.attempts
    }

    /// How long the call took, on the elapsed clock.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed
    }

    /// The usage of the call's own requests. It does not include polls by earlier waiters of its
    /// client.
    pub fn usage(&self) -> Usage {
        self.0.cost
    }

    /// The run that is remembered, if the work of the key is done.
    pub fn done(&self) -> Option<&Done> {
        self.0.done.as_ref()
    }

    /// The last holder seen, if the key was held by another.
    pub fn held(&self) -> Option<&HolderInfo> {
        self.0.held.as_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match &self.0.hint {
            Some(hint) => write!(f, "; hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        f.write_str(&inner.message)?;
        if let Some(hint) = &inner.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        write!(f, "\n  kind: {:?}, effect: {:?}", inner.kind, inner.effect)?;
        if inner.attempts > 0 {
            write!(f, ", {} requests in {:.1?}", inner.attempts, inner.elapsed)?;
        }
        if let Some(status) = inner.status {
            write!(f, ", status {status}")?;
        }
        if let Some(id) = &inner.request_id {
            write!(f, ", request {id}")?;
        }
        // Several levels of a chain may have the same text.
        let (mut cause, mut said) = (self.source(), inner.message.clone());
        while let Some(error) = cause {
            let text = error.to_string();
            if !said.contains(&text) {
                write!(f, "\n  cause: {text}")?;
            }
            (cause, said) = (error.source(), text);
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|s| s as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{StoreError, StoreErrorKind};

    #[test]
    fn an_error_keeps_what_the_store_said() {
        let store = || StoreError {
            status: Some(503),
            ..StoreError::new(StoreErrorKind::Unavailable, Effect::Unknown, "no answer")
                .with_source(std::io::Error::other("the cause"))
        };
        let error = store().into_error(Operation::Renew, Some("k"));
        assert_eq!(error.operation(), Some(Operation::Renew));
        assert_eq!(error.status(), Some(503));
        let causes =
            [&store() as &dyn StdError, &error].map(|e| e.source().map(ToString::to_string));
        assert_eq!(
            causes,
            [const { "the cause" }; 2].map(|c| Some(c.to_owned()))
        );
        assert!(
            format!("{error:?}").contains("cause: the cause"),
            "{error:?}"
        );
    }
}
