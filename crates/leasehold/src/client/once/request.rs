//! What is to run once, and how.

use std::sync::Arc;
use std::time::Duration;

use crate::client::{LockClient, LockRequest};
use crate::error::{Error, ErrorKind};
use crate::policy::Policy;
use leasehold_protocol::done::LARGEST_INPUT;

/// How long a run is remembered by default.
const KEEP: Duration = Duration::from_secs(24 * 3_600);

impl LockClient {
    /// Work that is to run once for `key`, and is remembered: **one completion, not one effect**.
    ///
    /// A runner that dies between its work and the completion is replaced, and the work runs again. Give the
    /// [token](crate::LockScope::token) to what the work changes, or make the work repeatable.
    ///
    /// Within [`keep`](OnceRequest::keep) of the beginning of a run that completed, no other run completes, whatever
    /// the wall clocks of the hosts show (the assumptions are in `docs/protocol.md`). Calls that come later, or that
    /// waited, get the result of that run.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) when the key is empty or too long.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use leasehold::{LockClient, Once, store::memory::MemoryStore};
    ///
    /// let locks = LockClient::new(MemoryStore::new());
    /// let invoice = || async {
    ///     let once = locks.once("invoice/4711")?.keep(Duration::from_secs(7 * 86_400));
    ///     once.run(|scope| async move {
    ///         // Charge with `scope.token()`; the result is kept for whoever asks again.
    ///         Ok::<_, std::io::Error>(format!("receipt {}", scope.token()))
    ///     })
    ///     .await
    ///     .map_err(Box::<dyn std::error::Error>::from)
    /// };
    /// let first = invoice().await?;
    /// assert!(matches!(first, Once::Ran(_)));
    /// let again = invoice().await?;
    /// assert!(matches!(again, Once::Done(_)));
    /// assert_eq!(first.into_value()?, again.into_value()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn once(&self, key: &str) -> Result<OnceRequest, Error> {
        Ok(OnceRequest {
            request: self.request(key)?,
            keep: KEEP,
            remember_failures: false,
            input: None,
            acquires_first: false,
            patient: false,
        })
    }
}

/// Work that is to run once, with its settings. [`LockClient::once`] makes it.
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before `run` or `start` is called"]
pub struct OnceRequest {
    pub(super) request: LockRequest,
    pub(super) keep: Duration,
    pub(super) remember_failures: bool,
    pub(super) input: Option<Arc<[u8]>>,
    pub(super) acquires_first: bool,
    pub(super) patient: bool,
}

impl OnceRequest {
    /// How long a run is remembered, counted from when its grant was seen, in service time. [`Duration::MAX`]: until somebody
    /// makes the key [forget](LockClient::forget) it; also where the store shows no time. Default: 24 hours.
    ///
    /// On DynamoDB the beginning is known within some 1.5 s, since dates have whole seconds. A run is remembered for
    /// that much longer.
    pub fn keep(mut self, keep: Duration) -> Self {
        self.keep = keep;
        self
    }

    /// Whether a run that fails, panics or is dropped is remembered, too. Later calls fail then, and do not
    /// run the work. Default: no, and the next call runs it again.
    pub fn remember_failures(mut self, remember: bool) -> Self {
        self.remember_failures = remember;
        self
    }

    /// A fingerprint of the input of the work, such as a hash: at most 64 bytes. A call with another
    /// fingerprint than the remembered run gets an error, not its result.
    pub fn input(mut self, fingerprint: impl AsRef<[u8]>) -> Self {
        self.input = Some(fingerprint.as_ref().into());
        self
    }

    /// Sends the acquire request first, and not a poll. It saves a request where most calls run the work, and
    /// costs a write unit in place of half a read unit where most are duplicates.
    pub fn acquires_first(mut self, first: bool) -> Self {
        self.acquires_first = first;
        self
    }

    /// For a fleet that starts the same work at the same time. A call that waits polls only at the expected end of
    /// the run, and at the end of its lease. So it costs less, and learns of a run that takes much longer than the
    /// last one up to a lease late.
    pub fn patient(mut self, patient: bool) -> Self {
        self.patient = patient;
        self
    }

    /// Other settings for this request; see [`Policy::to_builder`]. Its [wait](crate::PolicyBuilder::wait)
    /// bounds how long the call waits for a run of another.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.request = self.request.policy(policy);
        self
    }

    /// As [`LockRequest::lease_duration`](LockRequest::lease_duration).
    pub fn lease_duration(mut self, lease: Duration) -> Self {
        self.request = self.request.lease_duration(lease);
        self
    }

    /// How long to wait for a run of another. Zero: not at all.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.request = self.request.wait(wait);
        self
    }

    /// As [`LockRequest::wait_forever`](LockRequest::wait_forever).
    pub fn wait_forever(mut self) -> Self {
        self.request = self.request.wait_forever();
        self
    }

    /// As [`LockRequest::data`](LockRequest::data), while the work runs. The result replaces it.
    pub fn data(mut self, data: impl AsRef<[u8]>) -> Self {
        self.request = self.request.data(data);
        self
    }

    /// As [`LockRequest::label`](LockRequest::label).
    pub fn label(mut self, label: impl Into<Arc<str>>) -> Self {
        self.request = self.request.label(label);
        self
    }

    /// Refuses settings that make no sense.
    pub(super) fn check(&self) -> Result<(), Error> {
        let key = self.request.key.as_str();
        let (problem, setting, hint) = if self.keep.is_zero() {
            let hint = "set `keep` to a second or more";
            ("a keep of zero remembers nothing", "keep", hint)
        } else if self.input.as_ref().is_some_and(|i| i.len() > LARGEST_INPUT) {
            let problem = "the fingerprint of the input is longer than 64 bytes";
            (problem, "input", "give `input` a hash")
        } else {
            return Ok(());
        };
        let message = format!("`{key}`: {problem}");
        Err(Error::new(ErrorKind::InvalidInput, message)
            .with_key(key)
            .with_setting(setting, None)
            .with_hint(hint))
    }
}
