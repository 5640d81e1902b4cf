//! All of several keys, or none.
//!
//! Invariants: keys are acquired in their order, each once, so that two calls never wait for each other. Whatever ends a
//! call early releases what it has acquired.

use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use leasehold_protocol::token::FencingToken;

use super::limits::check_limit;
use super::{LockClient, LockRequest};
use crate::error::{Error, ErrorKind};
use crate::key::Key;
use crate::lease::end::{EndReason, ReleaseOutcome};
use crate::lease::guard::{Lease, Undelivered};
use crate::policy::Policy;
use crate::shared::Core;

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
        self.request_all(keys)?.acquire().await
    }

    /// A request for several keys, with settings of its own: see [`acquire_all`](LockClient::acquire_all).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) without a key, and for an invalid one.
    pub fn request_all<K: AsRef<str>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<RequestAll, Error> {
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
        Ok(RequestAll {
            core: self.core.clone(),
            keys,
            policy: self.core.policy.clone(),
            data: None,
            slots: None,
        })
    }
}

/// A request for several keys. [`LockClient::request_all`] makes it.
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before `acquire` is called"]
pub struct RequestAll {
    core: Arc<Core>,
    /// Sorted, each once, at least one.
    keys: Vec<Key>,
    policy: Policy,
    data: Option<Arc<[u8]>>,
    slots: Option<u32>,
}

impl RequestAll {
    /// As [`LockRequest::policy`](crate::LockRequest::policy). Its [wait](crate::PolicyBuilder::wait) bounds the whole
    /// call; a wait of zero tries each key once.
    pub fn policy(self, policy: Policy) -> Self {
        RequestAll { policy, ..self }
    }

    /// As [`LockRequest::data`](crate::LockRequest::data), for each of the keys.
    pub fn data(self, data: impl AsRef<[u8]>) -> Self {
        let data = Some(data.as_ref().into());
        RequestAll { data, ..self }
    }

    /// One of so many [slots](LockClient::slots) of each of the keys.
    ///
    /// # Errors
    ///
    /// As [`LockClient::slots`].
    pub fn slots(self, limit: u32) -> Result<Self, Error> {
        for key in &self.keys {
            check_limit(key, limit)?;
        }
        let slots = Some(limit);
        Ok(RequestAll { slots, ..self })
    }

    /// As [`LockClient::acquire_all`], with these settings.
    ///
    /// # Errors
    ///
    /// As [`LockClient::acquire_all`]. Also [`Configuration`](ErrorKind::Configuration) when the settings do not add
    /// up.
    ///
    /// # Cancel safety
    ///
    /// As [`LockClient::acquire_all`].
    pub async fn acquire(self) -> Result<Leases, Error> {
        self.core.check_clock(self.keys.first().map(Key::as_str))?;
        let clocks = self.core.clocks.clone();
        let limit = self.policy.wait().map(|wait| clocks.elapsed().plus(wait));
        // Dropped before it is returned, it is released under any drop policy.
        let mut held: Vec<Undelivered> = Vec::new();
        for key in self.keys {
            let mut request = LockRequest::new(&self.core, key).policy(self.policy.clone());
            if let Some(data) = &self.data {
                request = request.data(data);
            }
            if let Some(slots) = self.slots {
                request = request.for_slot(slots);
            }
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

    /// The leases, in the order of the keys.
    pub fn iter(&self) -> std::slice::Iter<'_, Lease> {
        self.leases.iter()
    }

    /// Each lease by itself, in the order of the keys.
    pub fn into_leases(self) -> Vec<Lease> {
        self.leases
    }
}

/// A single lease, as the lease of one key of one.
impl From<Lease> for Leases {
    fn from(lease: Lease) -> Self {
        Leases {
            leases: vec![lease],
        }
    }
}

impl<'a> IntoIterator for &'a Leases {
    type Item = &'a Lease;
    type IntoIter = std::slice::Iter<'a, Lease>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
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
