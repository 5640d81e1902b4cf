//! The time of a leader.

use std::future::Future;
use std::time::Duration;

use leasehold_protocol::token::FencingToken;

use crate::error::Error;
use crate::lease::end::{EndReason, ReleaseOutcome};
use crate::lease::guard::Lease;
use crate::lease::watch::LeaseWatch;
use crate::lease_id::LeaseId;
use crate::run::{self, LockScope};

/// The time of a leader: a lease that [`Election`](super::Election) has won. It is renewed in the background.
///
/// **A leader that is paused does not know that its term is over.** Give the [token](Term::token) to whatever the
/// leader changes. Refuse tokens there that are smaller than the largest one seen.
///
/// [`lead`](Term::lead) does the work of the leader, and ends it with the term. A term that is dropped is
/// released in the background, or left to expire ([`DropPolicy`](crate::DropPolicy)).
#[derive(Debug)]
#[must_use = "a term that is dropped is resigned"]
pub struct Term {
    lease: Lease,
}

/// How a term ended. A `match` on it is exhaustive.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub enum TermEnd<T> {
    /// The work ended by itself, with this value. A poll that began under the term may have ended it just after
    /// the loss.
    Done(T),
    /// The term was lost, and the work was dropped.
    Lost(EndReason),
}

impl<T> TermEnd<T> {
    /// The value of the work, if it ended by itself.
    pub fn value(self) -> Option<T> {
        match self {
            TermEnd::Done(value) => Some(value),
            TermEnd::Lost(_) => None,
        }
    }
}

impl Term {
    pub(super) fn new(lease: Lease) -> Term {
        Term { lease }
    }

    /// Does the work of the leader, and releases the term when the work returns or panics (the panic goes on). When
    /// the term is lost, the work is dropped before anything else happens. The guard of the term cannot be released
    /// while its work lives. Only its [identity](Term::id), or force, ends the grant earlier. The work learns of it
    /// at the next renewal.
    ///
    /// Both clocks are checked before each poll of the work, so a process that was stopped polls it no further.
    /// A poll that began under the term may finish the work. A call for the same key by the work itself, in this
    /// task, fails at once: it would wait for itself.
    ///
    /// The release may take up to the call time-out when the store does not answer. A failed release does not change
    /// the result: it is logged, and the lease expires.
    ///
    /// # Panics
    ///
    /// When the work does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the work. The term is then released in the background, by its
    /// [`DropPolicy`](crate::DropPolicy).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), leasehold::Error> {
    /// use leasehold::{LockClient, TermEnd, store::memory::MemoryStore};
    ///
    /// let locks = LockClient::new(MemoryStore::new());
    /// let mut election = locks.elect("scheduler")?;
    /// if let Some(term) = election.next_term().await? {
    ///     let end = term.lead(|scope| async move { format!("led with {}", scope.token()) }).await;
    ///     match end {
    ///         TermEnd::Done(what) => println!("{what}"),
    ///         TermEnd::Lost(why) => println!("another may lead: {why}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn lead<T, F, Fut>(self, work: F) -> TermEnd<T>
    where
        F: FnOnce(LockScope) -> Fut,
        Fut: Future<Output = T>,
    {
        match run::to_its_end(self.lease, work).await {
            Ok(value) => TermEnd::Done(value),
            Err(why) => TermEnd::Lost(why),
        }
    }

    /// The fencing token: larger than that of every earlier term.
    pub fn token(&self) -> FencingToken {
        self.lease.token()
    }

    /// The identity of the term's grant.
    pub fn id(&self) -> &LeaseId {
        self.lease.id()
    }

    /// How long until [`lost`](Term::lost) fires, if no renewal succeeds. Zero when the term is lost.
    pub fn remaining(&self) -> Duration {
        self.lease.remaining()
    }

    /// Waits until the term is lost, as [`Lease::lost`]. For a leader that does not use [`lead`](Term::lead): stop
    /// the work then.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only waits.
    pub async fn lost(&self) -> EndReason {
        self.lease.lost().await
    }

    /// A handle by which other tasks learn that the term ended.
    pub fn watch(&self) -> LeaseWatch {
        self.lease.watch()
    }

    /// The lease of the term, for a leader that ends it in another way than [`resign`](Term::resign).
    pub fn into_lease(self) -> Lease {
        self.lease
    }

    /// Ends the term. Stop the work first: the next leader may begin at once.
    ///
    /// # Errors
    ///
    /// As [`Lease::release`]: the store did not answer or refused, and the lease expires.
    ///
    /// # Cancel safety
    ///
    /// The release goes on when this future is dropped.
    pub async fn resign(self) -> Result<ReleaseOutcome, Error> {
        self.lease.release().await
    }
}
