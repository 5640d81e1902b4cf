//! The input of an acquisition, its result, and the errors of a call that ends without a result.

use std::sync::Arc;
use std::time::Duration;

use leasehold_protocol::attempt::Shown;
use leasehold_protocol::lens::Want;
use leasehold_protocol::record::{Record, Seen};
use leasehold_protocol::time::Elapsed;

use crate::error::{Error, ErrorKind};
use crate::holder::HolderInfo;
use crate::key::Key;
use crate::lease::guard::Lease;
use crate::lease_id::LeaseId;
use crate::policy::Policy;
use crate::queue::of_slots;
use crate::shared::Core;

/// The input of an acquisition.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) key: Key,
    pub(crate) policy: Policy,
    pub(crate) data: Option<Arc<[u8]>>,
    pub(crate) patience: Patience,
    /// The whole key, or one of its slots.
    pub(crate) want: Want,
    /// Take over this grant only. Boxed, because every waiter reserves space for it.
    pub(crate) adopts: Option<Box<Adoption>>,
    /// What a poll has just shown of the key, so that the first request can be the right one.
    pub(crate) polled: Option<Box<(Record, Shown)>>,
}

/// A grant that is taken over by its identity.
#[derive(Clone, Debug)]
pub(crate) struct Adoption {
    pub(crate) id: LeaseId,
    /// The grant in the record that was read.
    pub(crate) seen: Seen,
    /// By whom it is ended by force, and why.
    pub(crate) force: Option<Arc<str>>,
}

/// What to do when the key is held by another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Patience {
    /// Return who holds it.
    None,
    /// Wait, at most this long.
    For(Duration),
    /// Wait without a limit.
    Forever,
}

impl Order {
    /// The name of the queue in this process.
    pub(crate) fn queue(&self) -> Arc<str> {
        match self.want {
            Want::Whole => self.key.shared(),
            Want::Slot(_) => of_slots(self.key.as_str()).into(),
        }
    }
}

impl Patience {
    /// As the policy says.
    pub(crate) fn of(policy: &Policy) -> Patience {
        match policy.wait() {
            None => Patience::Forever,
            // A wait of zero is a try: only the call time-out bounds its requests.
            Some(Duration::ZERO) => Patience::None,
            Some(wait) => Patience::For(wait),
        }
    }

    /// When a call ends at the latest.
    pub(crate) fn limit(self, policy: &Policy, started: Elapsed) -> Elapsed {
        match self {
            Patience::None => started.plus(policy.call_timeout()),
            Patience::For(wait) => started.plus(wait),
            Patience::Forever => Elapsed::NEVER,
        }
    }
}

/// The answer to a try. A `match` on it is exhaustive.
#[derive(Debug)]
#[must_use]
pub enum TryAcquireOutcome {
    /// The caller holds the key.
    Acquired(Lease),
    /// Another holder has the key.
    Held(HolderInfo),
}

impl TryAcquireOutcome {
    /// The lease, if it was acquired.
    pub fn into_lease(self) -> Option<Lease> {
        match self {
            TryAcquireOutcome::Acquired(lease) => Some(lease),
            TryAcquireOutcome::Held(_) => None,
        }
    }
}

pub(crate) fn shut_down(key: &str) -> Error {
    Error::new(ErrorKind::ShutDown, "the client was shut down").with_key(key)
}

pub(crate) fn shut_down_while_waiting() -> Error {
    Error::new(
        ErrorKind::ShutDown,
        "the client was shut down while this call waited",
    )
}

/// The error of a wait that ends because the store has failed for the call time-out.
pub(crate) fn store_failed(error: Error, policy: &Policy) -> Error {
    let most = policy.call_timeout();
    let hint = match error.hint() {
        Some(hint) => hint.to_owned(),
        None => "check the endpoint and the network".to_owned(),
    };
    error.with_hint(format!(
        "{hint}; a wait ends when the store has failed for `call_timeout` ({most:?}): acquire again in a loop, or raise it"
    ))
}

pub(crate) fn wait_expired(
    core: &Core,
    key: &Key,
    waited: Duration,
    held: Option<&HolderInfo>,
) -> Error {
    let store = core.store.describe();
    match held {
        Some(held) => Error::new(
            ErrorKind::WaitExpired,
            format!("gave up after {waited:.1?}: {held} ({store})"),
        )
        .with_hint(if held.is_ours() {
            "release the lease of this client first, or wait longer if another task of it works under the lock"
        } else {
            "wait longer, or check what the holder does"
        }),
        None => Error::new(
            ErrorKind::Unreachable,
            format!("cannot acquire `{key}`: {store} did not answer within {waited:.1?}"),
        )
        .with_hint("check the endpoint and the network, or allow a longer wait"),
    }
}
