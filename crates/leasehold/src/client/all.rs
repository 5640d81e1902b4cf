//! All of several keys, or none.
//!
//! Invariants: keys are acquired in their order, each once, so that two calls never wait for each other. Whatever ends a
//! call early releases what it has acquired.

use std::fmt;
use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Duration;

use leasehold_protocol::token::FencingToken;

use super::LockClient;
use crate::error::{Error, ErrorKind};
use crate::key::Key;
use crate::lease::end::{EndReason, ReleaseOutcome};
use crate::lease::guard::{Lease, Undelivered};

impl LockClient {
    /// Acquires all of these keys, or none: for work on several things, such as a transfer between two accounts. The
    /// keys are sorted, and each counts once. The client's [wait](crate::PolicyBuilder::wait) bounds the whole call.
    ///
    /// The keys are acquired one after the other, so two calls never wait for each other, if all clients acquire
    /// several keys by this call. A key that is held keeps the call waiting with the keys before it, which others
    /// may want. So keep the number small, and the holds short.
    ///
    /// Each key costs what an [`acquire`](LockClient::acquire) costs.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) without a key; [`Lost`](ErrorKind::Lost) when a key was lost while the
    /// call waited for another; others as [`acquire`](LockClient::acquire), of the key that could not be acquired. The
    /// keys that were acquired are released first.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future releases what it has acquired, in the background.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), leasehold::Error> {
    /// use leasehold::{LockClient, store::memory::MemoryStore};
    ///
    /// let locks = LockClient::new(MemoryStore::new());
    /// let both = locks.acquire_all(["account/7", "account/3"]).await?;
    /// for (key, token) in both.tokens() {
    ///     println!("write to {key} with token {token}");
    /// }
    /// both.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn acquire_all<K: AsRef<str>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Leases, Error> {
        let keys = keys.into_iter().map(|key| self.key(key.as_ref()));
        let mut keys = keys.collect::<Result<Vec<Key>, Error>>()?;
        keys.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        keys.dedup_by(|a, b| a.as_str() == b.as_str());
        if keys.is_empty() {
            return Err(
                Error::new(ErrorKind::InvalidInput, "`acquire_all` was given no key")
                    .with_hint("give it one key or more"),
            );
        }
        self.core.check_clock(Some(keys[0].as_str()))?;
        let clocks = self.core.clocks.clone();
        let limit = self
            .core
            .policy
            .wait()
            .map(|wait| clocks.elapsed().plus(wait));
        // Dropped before it is returned, it is released under any drop policy.
        let mut held: Vec<Undelivered> = Vec::new();
        for key in keys {
            let mut request = super::LockRequest::new(&self.core, key);
            if let Some(limit) = limit {
                request = request.wait(limit.since(clocks.elapsed()));
            }
            let acquired = tokio::select! {
                biased;
                acquired = request.acquire() => acquired,
                (lease, why) = first_lost(held.iter().map(Undelivered::lease)),
                    if !held.is_empty() => Err(lease.id().lost_error(&why.to_string())),
            };
            match acquired {
                Ok(lease) => held.push(Undelivered::new(lease)),
                Err(error) => {
                    // A release that fails is logged, and its lease expires.
                    drop(Leases::of(held).release().await);
                    return Err(error);
                }
            }
        }
        Ok(Leases::of(held))
    }
}

/// The leases of several keys. [`LockClient::acquire_all`] makes it.
///
/// The loss of one is the loss of all: stop the work when [`lost`](Leases::lost) fires. Each key has a
/// [token](Leases::tokens) of its own. Leases that are dropped are released in the background, by their
/// [`DropPolicy`](crate::DropPolicy).
#[must_use = "leases that are dropped are released"]
pub struct Leases {
    /// In the order of their keys.
    leases: Vec<Lease>,
}

impl fmt::Debug for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.leases).finish()
    }
}

impl Leases {
    fn of(held: Vec<Undelivered>) -> Self {
        let leases = held.into_iter().map(Undelivered::deliver);
        Leases {
            leases: leases.collect(),
        }
    }

    /// The keys and their fencing tokens, in the order of the keys. Pass each token to what its key protects.
    pub fn tokens(&self) -> impl Iterator<Item = (&Key, FencingToken)> {
        self.leases.iter().map(|lease| (lease.key(), lease.token()))
    }

    /// The fencing token of a key, as it is in the store; `None` for a key that is not among them.
    pub fn token(&self, key: &str) -> Option<FencingToken> {
        let mut leases = self.leases.iter();
        let lease = leases.find(|lease| lease.key().as_str() == key)?;
        Some(lease.token())
    }

    /// How long until [`lost`](Leases::lost) fires, if no renewal succeeds: the least of the leases.
    pub fn remaining(&self) -> Duration {
        let remaining = self.leases.iter().map(Lease::remaining);
        remaining.min().unwrap_or_default()
    }

    /// Whether all of them are held, with time left.
    pub fn is_held(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// Waits until one of them is lost, as [`Lease::lost`]. Which, and why.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only waits.
    pub async fn lost(&self) -> (&Key, EndReason) {
        let (lease, why) = first_lost(self.leases.iter()).await;
        (lease.key(), why)
    }

    /// Releases all of them at once, and returns the outcome of each key, in the order of the keys.
    ///
    /// # Errors
    ///
    /// The first failure, when all releases have ended: that lease expires.
    ///
    /// # Cancel safety
    ///
    /// The releases go on when this future is dropped.
    pub async fn release(self) -> Result<Vec<ReleaseOutcome>, Error> {
        let mut releases: Vec<_> = self
            .leases
            .into_iter()
            .map(|lease| (Box::pin(lease.release()), None))
            .collect();
        poll_fn(|context| {
            for (release, outcome) in &mut releases {
                if outcome.is_none()
                    && let Poll::Ready(released) = release.as_mut().poll(context)
                {
                    *outcome = Some(released);
                }
            }
            match releases.iter().all(|(_, outcome)| outcome.is_some()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
        releases
            .into_iter()
            .filter_map(|(_, outcome)| outcome)
            .collect()
    }

    /// Each lease by itself, in the order of the keys.
    pub fn into_leases(self) -> Vec<Lease> {
        self.leases
    }
}

/// The first of these leases that is lost, and why. Without a lease it waits for ever.
async fn first_lost<'a>(leases: impl Iterator<Item = &'a Lease>) -> (&'a Lease, EndReason) {
    let mut all: Vec<_> = leases
        .map(|lease| Box::pin(async move { (lease, lease.lost().await) }))
        .collect();
    poll_fn(|context| {
        for lost in &mut all {
            if let Poll::Ready(lost) = lost.as_mut().poll(context) {
                return Poll::Ready(lost);
            }
        }
        Poll::Pending
    })
    .await
}
