//! The guard of a held lease, and what is known when it is lost.
//!
//! A guard only reads the truth that its keeper owns. It is tied to no thread and to no task;
//! dropping it ends the lease as the drop policy says, in the background.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::alarm::nap;
use crate::error::{Effect, Error};
use crate::exchange::Core;
use crate::held::Held;
use crate::identity::LeaseId;
use crate::keeper::{Finish, Watched, lost_error};
use crate::key::Key;
use crate::meter::{Bill, Usage};
use crate::policy::DropPolicy;
use crate::protocol::token::FencingToken;

/// A held lock. While it lives, its lease is renewed in the background (unless renewal is
/// manual).
///
/// A lease does **not** stop this process from running when it is paused past the lease's end:
/// give [`token`](Lease::token) to whatever the lock protects, and stop when
/// [`lost`](Lease::lost) fires.
///
/// Dropping a guard releases it in the background ([`DropPolicy`]), by a task of its runtime. **Where the runtime ends
/// first, the release is lost** and the key stays held until its lease has run out: at the end of `main` or of a `#[tokio::test]`, await
/// [`release`](Lease::release), or [`LockClient::shutdown`](crate::LockClient::shutdown) for all guards of a client.
#[derive(Debug)]
#[must_use = "a lease that is dropped is released"]
pub struct Lease {
    watched: Arc<Watched>,
    finish: Option<oneshot::Sender<Finish>>,
    drop_policy: DropPolicy,
}

impl Lease {
    pub(crate) fn new(
        watched: Arc<Watched>,
        finish: oneshot::Sender<Finish>,
        drop_policy: DropPolicy,
    ) -> Self {
        Lease {
            watched,
            finish: Some(finish),
            drop_policy,
        }
    }

    /// The key.
    pub fn key(&self) -> &Key {
        self.watched.id.key()
    }

    /// The fencing token: larger than that of every earlier grant of this key. Have the protected
    /// resource refuse smaller tokens than the largest it has seen.
    pub fn token(&self) -> FencingToken {
        self.watched.id.token()
    }

    /// The identity of this grant.
    pub fn id(&self) -> &LeaseId {
        &self.watched.id
    }

    /// How long the work can go on before [`lost`](Lease::lost) fires, if no renewal succeeds.
    /// Zero once the lease is lost. Reads the clocks, also after a suspend or a pause.
    pub fn remaining(&self) -> Duration {
        self.watched.remaining()
    }

    /// Whether the lease is held, with time left.
    pub fn is_held(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// What this lease has cost so far: its acquisition and its renewals. One that was handed on
    /// inside the process begins at nothing.
    pub fn cost(&self) -> Usage {
        self.watched.bill().usage()
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.watched.core
    }

    pub(crate) fn bill(&self) -> Bill {
        Some(self.watched.bill().clone())
    }

    /// Waits until the lease is lost: at once when another took it over, otherwise when margin and
    /// grace are all that is left of it. Stop the work then. It never un-fires.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only waits.
    pub async fn lost(&self) -> Loss {
        self.signal().lost().await
    }

    /// A handle that tells others when this lease ends.
    pub fn signal(&self) -> LostSignal {
        LostSignal {
            watched: self.watched.clone(),
        }
    }

    /// Renews now, and returns when a renewal has been acknowledged. Failures are retried until
    /// the lease is lost, so this ends within the lease.
    ///
    /// # Errors
    ///
    /// [`Lost`](crate::ErrorKind::Lost) when the lease is or gets lost. Its [effect](crate::Error::effect) may be
    /// [unknown](crate::Effect::Unknown) where it got lost meanwhile, with a renewal under way.
    ///
    /// # Cancel safety
    ///
    /// The renewal goes on when this future is dropped.
    pub async fn renew(&self) -> Result<(), Error> {
        let (tell, told) = oneshot::channel();
        let asked = self.watched.ask(tell).is_ok();
        let renewed = told.await.unwrap_or_else(|_| {
            let why = self.watched.loss().unwrap_or(Loss::KeeperGone);
            let lost = lost_error(&self.watched.id, &why.to_string());
            // A renewal may have been under way when the lease was lost.
            Err(match asked {
                true => lost.with_effect(Effect::Unknown),
                false => lost,
            })
        });
        self.core().meter.counted(renewed)
    }

    /// Ends the grant. Waits for a renewal in flight first, retries within the call time-out, and
    /// changes nothing but a record that is still ours. Where a waiter of this client stands in line
    /// for the same grant, it gets it, and nothing is written
    /// ([`hand_off`](crate::PolicyBuilder::hand_off)).
    ///
    /// # Errors
    ///
    /// When the store did not answer or refused: the lease then ends by itself.
    ///
    /// # Cancel safety
    ///
    /// The release goes on when this future is dropped.
    pub async fn release(mut self) -> Result<ReleaseOutcome, Error> {
        self.let_go(Finish::Release).await
    }

    /// Stops keeping the lease and gives its identity: the lock stays held for about a lease, for
    /// whoever [adopts](crate::LockClient::adopt) or [releases](crate::LockClient::release) it,
    /// in this process or another.
    ///
    /// # Errors
    ///
    /// [`Lost`](crate::ErrorKind::Lost) when it is lost already; or that of the renewal that starts
    /// its last lease.
    ///
    /// # Cancel safety
    ///
    /// When this future is dropped, the lease is left to itself all the same.
    pub async fn detach(mut self) -> Result<LeaseId, Error> {
        self.let_go(Finish::Detach).await
    }

    async fn let_go<T>(
        &mut self,
        how: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Finish,
    ) -> Result<T, Error> {
        let (tell, told) = oneshot::channel();
        // From here on it will happen, whether or not anyone waits for it.
        let sent = self.finish.take().map(|finish| finish.send(how(tell)));
        // A keeper that is gone drops what it was sent, and `told` ends.
        drop(sent);
        let ended = told.await.unwrap_or_else(|_| {
            let why = self.watched.loss().unwrap_or(Loss::KeeperGone);
            Err(lost_error(&self.watched.id, &why.to_string()))
        });
        self.core().meter.counted(ended)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(finish) = self.finish.take() {
            // The keeper has gone only with its runtime; then the lease ends by itself.
            drop(finish.send(Finish::Dropped(self.drop_policy)));
        }
    }
}

/// A guard on its way to a caller. One that nobody receives is released, whatever its policy says of
/// guards that are dropped: that is for work that was under way.
#[derive(Debug)]
pub(crate) struct Undelivered(Lease, DropPolicy);

impl Undelivered {
    pub(crate) fn new(mut lease: Lease) -> Self {
        let wanted = std::mem::replace(&mut lease.drop_policy, DropPolicy::Release);
        Undelivered(lease, wanted)
    }

    /// The guard.
    pub(crate) fn deliver(self) -> Lease {
        let Undelivered(mut lease, wanted) = self;
        lease.drop_policy = wanted;
        lease
    }

    /// The guard, if there is time left of it; otherwise it goes back.
    pub(crate) fn deliver_if_held(self) -> Option<Lease> {
        self.0.is_held().then(|| self.deliver())
    }

    /// Unmakes a guard that was never shown to anyone.
    pub(crate) fn unmake(mut self) {
        self.0.finish = None;
    }

    pub(crate) fn token(&self) -> FencingToken {
        self.0.token()
    }
}

/// Tells when a lease ends. Clones watch the same lease.
#[derive(Clone, Debug)]
pub struct LostSignal {
    watched: Arc<Watched>,
}

impl LostSignal {
    /// Waits until the lease is lost or released.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only waits.
    pub async fn lost(&self) -> Loss {
        loop {
            // By the clocks, too: the task that keeps the lease may be on a runtime that stands still.
            let left = self.watched.remaining();
            if let Some(loss) = self.watched.loss() {
                return loss;
            }
            let core = &self.watched.core;
            let until = core.clock.elapsed().plus(left);
            tokio::select! {
                biased;
                () = self.watched.lost.cancelled() => {}
                () = nap(&core.alarms, until) => {}
            }
        }
    }

    /// As [`Lease::remaining`].
    pub fn remaining(&self) -> Duration {
        self.watched.remaining()
    }

    /// The identity of the grant.
    pub fn id(&self) -> &LeaseId {
        &self.watched.id
    }
}

const SUPERSEDED: &str = "another took it over, and has released it since";

/// Why a lease is over.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Loss {
    /// No renewal was acknowledged in time; the cause is that of the last failure, if there was
    /// one. Without a cause this process was paused, or nobody renewed.
    Expired {
        /// The last failure.
        cause: Option<Arc<str>>,
    },
    /// Another took it over.
    TakenOver(Box<Held>),
    /// Another took it over, and has released the key since.
    Superseded,
    /// Somebody released it by its identity.
    ReleasedElsewhere,
    /// It was held for as long as the policy allows at all
    /// ([`max_hold`](crate::PolicyBuilder::max_hold)).
    HeldTooLong,
    /// The record is gone.
    NoRecord,
    /// The background task of this lease ended: its runtime shut down, or it panicked.
    KeeperGone,
    /// Its guard was released or dropped; only clones of its signal see this.
    Released,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Loss::Expired { cause: Some(cause) } => {
                write!(f, "it could not be renewed in time ({cause})")
            }
            Loss::Expired { cause: None } => {
                f.write_str("its time ran out without a renewal (was this process paused or busy?)")
            }
            Loss::TakenOver(held) => write!(f, "{held}"),
            Loss::Superseded => f.write_str(SUPERSEDED),
            Loss::ReleasedElsewhere => f.write_str("it was released by its identity"),
            Loss::HeldTooLong => f.write_str("it was held for longer than `max_hold` allows"),
            Loss::NoRecord => f.write_str("its record was deleted"),
            Loss::KeeperGone => f.write_str("its background task ended"),
            Loss::Released => f.write_str("it was released"),
        }
    }
}

/// What a release found.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ReleaseOutcome {
    /// The grant was ours until now; the key is free.
    Released,
    /// The key is free now, but the lease had run out before. Nobody had taken it over.
    ReleasedLate,
    /// The grant had been released before.
    AlreadyReleased,
    /// The lease had run out and another holds the key. Nothing was changed.
    TakenOver(Held),
    /// The lease had run out, another took the key over, and has released it since. Nothing was changed.
    Superseded,
    /// There is no record: the grant ended and its record was deleted, or it never was.
    NoRecord,
    /// The grant was ours until now, and goes on under the next waiter of this client, with a larger
    /// token ([`hand_off`](crate::PolicyBuilder::hand_off)). Nothing was written.
    HandedOn,
}

impl ReleaseOutcome {
    /// Whether this release is what freed the key, for others or for the next in line.
    pub fn is_released(&self) -> bool {
        matches!(
            self,
            ReleaseOutcome::Released | ReleaseOutcome::ReleasedLate | ReleaseOutcome::HandedOn
        )
    }
}

impl fmt::Display for ReleaseOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReleaseOutcome::Released => f.write_str("released"),
            ReleaseOutcome::ReleasedLate => f.write_str("released after its lease had run out"),
            ReleaseOutcome::AlreadyReleased => f.write_str("released already"),
            ReleaseOutcome::TakenOver(held) => write!(f, "taken over: {held}"),
            ReleaseOutcome::Superseded => f.write_str(SUPERSEDED),
            ReleaseOutcome::NoRecord => f.write_str("no record to release"),
            ReleaseOutcome::HandedOn => f.write_str("handed on to the next waiter of this client"),
        }
    }
}
