//! A candidate, who stands again after each term.
//!
//! Invariants: at most one candidacy of an election is under way, and it is kept between polls. It ends with a
//! term, with an error that a retry does not mend, or with the shutdown of the client.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use leasehold_protocol::time::Elapsed;
use tracing::warn;

use super::term::Term;
use crate::client::{LockClient, LockRequest};
use crate::error::{Error, ErrorKind};
use crate::lease::guard::Lease;
use crate::policy::Policy;
use crate::runtime::retry::{RETRY_FIRST, RETRY_MAX};

impl LockClient {
    /// Stands for election as leader of `key`, again and again: see [`Election`]. Nothing is sent before
    /// [`next_term`](Election::next_term) or the stream is polled.
    ///
    /// **A leader that is paused does not know that its term is over**, and no service can stop it: the
    /// [token](Term::token) protects what it changes.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) when the key is empty or too long.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), leasehold::Error> {
    /// use leasehold::{LockClient, store::memory::MemoryStore};
    ///
    /// let locks = LockClient::new(MemoryStore::new());
    /// let mut election = locks.elect("scheduler")?.data("10.0.0.7:8080");
    /// while let Some(term) = election.next_term().await? {
    ///     let end = term.lead(|scope| async move {
    ///         // Until it returns, or until the term is lost. Its writes carry the token.
    ///         println!("leads with token {}", scope.token());
    ///     });
    ///     println!("{:?}", end.await);
    /// #   locks.shutdown(std::time::Duration::from_secs(1)).await;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn elect(&self, key: &str) -> Result<Election, Error> {
        Ok(Election {
            request: self.request(key)?,
            candidacy: None,
            failures: 0,
        })
    }
}

/// A candidate for a key, and the stream of the terms that it wins. [`LockClient::elect`] makes it.
///
/// **A leader that is paused does not know that its term is over.** The [token](Term::token) protects what it
/// changes.
///
/// The election stands again by itself: after a term, and after a failure of the store. So a caller only takes
/// terms: with [`next_term`](Election::next_term), or from the [`Stream`]. The stream ends when
/// [`LockClient::shutdown`] begins. Dropping the election ends the candidacy, and keeps a term that was taken. Work
/// that ends at once makes it stand again at once: two write units a term.
///
/// A leader that releases its term is followed at once, and a dead one after its lease and the
/// [padding](crate::PolicyBuilder::expiry_padding): on DynamoDB within 1 s more. A candidate that waits polls as
/// [`acquire`](LockClient::acquire) does, and has its place in the queue of the key.
#[must_use = "nothing is sent before a term is asked for"]
pub struct Election {
    request: LockRequest,
    /// Kept between polls.
    candidacy: Option<Candidacy>,
    /// Failures since the last term.
    failures: u32,
}

/// Ends with `None` when the client is shut down.
type Candidacy = Pin<Box<dyn Future<Output = Result<Option<Lease>, Error>> + Send>>;

impl fmt::Debug for Election {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Election")
            .field("request", &self.request)
            .field("stands", &self.candidacy.is_some())
            .field("failures", &self.failures)
            .finish()
    }
}

impl Election {
    /// A payload in the record during a term, for observers, such as the leader's address. On DynamoDB a record of
    /// more than 1 KB doubles the price of every request. Without it, observers see the payload of a leader that died.
    pub fn data(self, data: impl AsRef<[u8]>) -> Self {
        self.set(|request| request.data(data))
    }

    /// As [`PolicyBuilder::lease_duration`](crate::PolicyBuilder::lease_duration): a dead leader is followed after
    /// about so long. Checked when the election stands.
    pub fn lease_duration(self, lease: Duration) -> Self {
        self.set(|request| request.lease_duration(lease))
    }

    /// As [`PolicyBuilder::label`](crate::PolicyBuilder::label).
    pub fn label(self, label: impl Into<Arc<str>>) -> Self {
        self.set(|request| request.label(label))
    }

    /// Other settings for the terms; see [`Policy::to_builder`]. Whatever they say, the wait for a term has no
    /// limit, and a term is renewed in the background. [`max_hold`](crate::PolicyBuilder::max_hold) bounds
    /// each term.
    pub fn policy(self, policy: Policy) -> Self {
        self.set(|request| request.policy(policy))
    }

    /// A candidacy that is under way ends: it has other settings.
    fn set(mut self, change: impl FnOnce(LockRequest) -> LockRequest) -> Self {
        self.request = change(self.request);
        self.candidacy = None;
        self
    }

    /// Waits for the next term, without a limit. `None` after [`LockClient::shutdown`] has begun.
    ///
    /// A failure that may pass is retried for ever, with pauses of up to 1 s and a warning of `tracing` for each.
    /// Such are a store that was unreachable or throttled for the call time-out, and a lease that was over before
    /// it was delivered. While an earlier term of this client lasts, the call waits for its end.
    ///
    /// # Errors
    ///
    /// By [`ErrorKind`], when a retry does not help: [`AccessDenied`](ErrorKind::AccessDenied),
    /// [`Credentials`](ErrorKind::Credentials), [`Configuration`](ErrorKind::Configuration),
    /// [`InvalidInput`](ErrorKind::InvalidInput), [`Malformed`](ErrorKind::Malformed),
    /// [`AlreadyDone`](ErrorKind::AlreadyDone), [`Unexpected`](ErrorKind::Unexpected). The next call stands again,
    /// after a pause of up to 1 s.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the candidacy stays with the election, and the next call goes on with it. Call again within a
    /// second or two, or drop the election. A candidate that is not polled loses its turn. A term that it has just
    /// won keeps the key from others for a lease.
    pub async fn next_term(&mut self) -> Result<Option<Term>, Error> {
        poll_fn(|context| self.poll_term(context)).await
    }

    fn poll_term(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Term>, Error>> {
        if self.request.core.shut.is_cancelled() {
            self.candidacy = None;
            return Poll::Ready(Ok(None));
        }
        let candidacy = self
            .candidacy
            .get_or_insert_with(|| Box::pin(stand(self.request.clone(), self.failures)));
        let ended = ready!(candidacy.as_mut().poll(context));
        self.candidacy = None;
        self.failures = match &ended {
            Ok(_) => 0,
            Err(_) => self.failures.saturating_add(1),
        };
        Poll::Ready(ended.map(|lease| lease.map(Term::new)))
    }
}

impl Stream for Election {
    type Item = Result<Term, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_term(context).map(Result::transpose)
    }
}

/// Waits for the key until it is won, through failures that may pass.
async fn stand(request: LockRequest, mut failures: u32) -> Result<Option<Lease>, Error> {
    let request = request.set(|policy| policy.wait_forever().manual_renewal(false));
    let core = request.core.clone();
    let key = request.key.shared();
    loop {
        // A pause needs timers.
        core.meter.counted(core.check_clock(Some(&key)))?;
        if failures > 0 {
            let pause = RETRY_FIRST + core.backoff(failures, RETRY_FIRST, RETRY_MAX - RETRY_FIRST);
            // Many elections of one client share its retry budget with all other requests that are sent again.
            let wanted = core.clocks.elapsed().plus(pause);
            let until = core.retries.take(wanted, Elapsed::NEVER).unwrap_or(wanted);
            tokio::select! {
                biased;
                () = core.shut.cancelled() => return Ok(None),
                () = core.clocks.sleep_until(until) => {}
            }
        }
        match request.clone().acquire().await {
            Ok(lease) => return Ok(Some(lease)),
            Err(error) if error.kind() == ErrorKind::ShutDown => return Ok(None),
            Err(error) if error.is_retryable() => {
                failures = failures.saturating_add(1);
                // Without its hint, which is for a caller.
                let problem = error.message();
                warn!(%key, problem, failures, "a candidate stands again after a failure");
            }
            Err(error) => return Err(error),
        }
    }
}
