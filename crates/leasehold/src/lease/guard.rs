//! The guard of a held lease, and what is known when it is lost.
//!
//! A guard only reads the truth that its renewal task owns. It is tied to no thread and to no task;
//! dropping it ends the lease as the drop policy says, in the background.

use std::sync::Arc;
use std::time::Duration;

use leasehold_protocol::token::FencingToken;
use tokio::sync::oneshot;

use super::end::{EndReason, ReleaseOutcome};
use super::state::{LeaseContext, LeaseState};
use super::watch::LeaseWatch;
use crate::error::{Effect, Error};
use crate::key::Key;
use crate::lease_id::LeaseId;
use crate::meter::CallUsage;
use crate::policy::DropPolicy;
use crate::usage::Usage;

/// How a guard ends.
#[derive(Debug)]
pub(crate) enum Finish {
    Release(oneshot::Sender<Result<ReleaseOutcome, Error>>),
    Detach(oneshot::Sender<Result<LeaseId, Error>>),
    Dropped(DropPolicy),
}

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
    lease_state: Arc<LeaseState>,
    finish: Option<oneshot::Sender<Finish>>,
    drop_policy: DropPolicy,
}

impl Lease {
    pub(crate) fn new(
        lease_state: Arc<LeaseState>,
        finish: oneshot::Sender<Finish>,
        drop_policy: DropPolicy,
    ) -> Self {
        Lease {
            lease_state,
            finish: Some(finish),
            drop_policy,
        }
    }

    /// The key.
    pub fn key(&self) -> &Key {
        self.lease_state.id.key()
    }

    /// The fencing token: larger than that of every earlier grant of this key. Have the protected
    /// resource refuse smaller tokens than the largest it has seen.
    pub fn token(&self) -> FencingToken {
        self.lease_state.id.token()
    }

    /// The identity of this grant.
    pub fn id(&self) -> &LeaseId {
        &self.lease_state.id
    }

    /// How long the work can go on before [`lost`](Lease::lost) fires, if no renewal succeeds.
    /// Zero once the lease is lost. Reads the clocks, also after a suspend or a pause. A lease that is seen to be over here stays
    /// over.
    pub fn remaining(&self) -> Duration {
        self.lease_state.remaining()
    }

    /// Whether the lease is held, with time left.
    pub fn is_held(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// What this lease has cost so far: its acquisition and its renewals. One that was handed off
    /// inside the process begins at nothing.
    pub fn usage(&self) -> Usage {
        self.lease_state.call_usage().usage()
    }

    pub(crate) fn context(&self) -> &Arc<LeaseContext> {
        &self.lease_state.context
    }

    pub(crate) fn call_usage(&self) -> CallUsage {
        Some(self.lease_state.call_usage().clone())
    }

    /// Waits until the lease is lost: at once when another took it over, otherwise when margin and
    /// grace are all that is left of it. Stop the work then. It never un-fires.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only waits.
    pub async fn lost(&self) -> EndReason {
        self.watch().ended().await
    }

    /// A handle that tells others when this lease ends.
    pub fn watch(&self) -> LeaseWatch {
        LeaseWatch::new(self.lease_state.clone())
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
        let (sender, answer) = oneshot::channel();
        let asked = self.lease_state.ask(sender).is_ok();
        let renewed = answer.await.unwrap_or_else(|_| {
            let why = self.lease_state.loss().unwrap_or(EndReason::TaskEnded);
            let lost = self.lease_state.id.lost_error(&why.to_string());
            // A renewal may have been under way when the lease was lost.
            Err(match asked {
                true => lost.with_effect(Effect::Unknown),
                false => lost,
            })
        });
        self.context().meter.counted(renewed)
    }

    /// Ends the grant. Waits for a renewal in flight first, retries within the call time-out, and
    /// changes nothing but a record that is still ours. If a waiter of this client asks for
    /// the same grant, it gets the grant, and nothing is written
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
        let (sender, answer) = oneshot::channel();
        // From here on it will happen, whether or not anyone waits for it.
        let sent = self.finish.take().map(|finish| finish.send(how(sender)));
        // A renewal task that is gone drops what it was sent, and `answer` ends.
        drop(sent);
        let ended = answer.await.unwrap_or_else(|_| {
            let why = self.lease_state.loss().unwrap_or(EndReason::TaskEnded);
            Err(self.lease_state.id.lost_error(&why.to_string()))
        });
        self.context().meter.counted(ended)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(finish) = self.finish.take() {
            // The renewal task has gone only with its runtime; then the lease ends by itself.
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

/// Where a renewal task hears that its guard ends.
pub(crate) type Finished = oneshot::Receiver<Finish>;

/// A guard, and where it is heard.
pub(crate) fn guard(lease_state: &Arc<LeaseState>) -> (Lease, Finished) {
    let (finish, finished) = oneshot::channel();
    let drop_policy = lease_state.policy.drop_policy();
    let lease = Lease::new(lease_state.clone(), finish, drop_policy);
    (lease, finished)
}
