//! The guard of a held lease.
//!
//! A guard reads the state that its renewal task writes. It is bound to no thread and no task. Its
//! drop ends the lease by the drop policy, in the background.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use leasehold_protocol::token::FencingToken;
use tokio::sync::oneshot;

use super::end::{EndReason, ReleaseOutcome};
use super::state::{LeaseContext, LeaseState};
use super::watch::LeaseWatch;
use crate::error::Error;
use crate::holder::system_time;
use crate::key::Key;
use crate::lease_id::LeaseId;
use crate::meter::CallUsage;
use crate::policy::DropPolicy;
use crate::usage::Usage;

/// How a guard ends.
#[derive(Debug)]
pub(crate) enum Finish {
    /// Whether the payload stays, for the next holder.
    Release(bool, oneshot::Sender<Result<ReleaseOutcome, Error>>),
    Detach(oneshot::Sender<Result<LeaseId, Error>>),
    /// Remember the work as done. Nobody waits for the answer if the guard was dropped.
    Complete(Box<Completes>, Option<oneshot::Sender<Result<(), Error>>>),
    Dropped(DropPolicy),
}

/// What is to be remembered of the work under a guard.
#[derive(Debug)]
pub(crate) struct Completes {
    pub(crate) keep: Duration,
    pub(crate) failed: bool,
    pub(crate) input: Option<Arc<[u8]>>,
    pub(crate) result: Option<Arc<[u8]>>,
}

/// A held lock. While it lives, its lease is renewed in the background (unless renewal is
/// manual).
///
/// A lease does **not** stop a process that was paused past the lease's end. Pass
/// [`token`](Lease::token) to the protected resource, and stop the work when [`lost`](Lease::lost)
/// fires.
///
/// A task on the guard's runtime releases a dropped guard in the background ([`DropPolicy`]). **If
/// the runtime ends first, the guard is not released**, and the key stays held until its lease has
/// run out. At the end of `main` or of a `#[tokio::test]`, await [`release`](Lease::release), or
/// [`LockClient::shutdown`](crate::LockClient::shutdown) for all guards of a client.
#[derive(Debug)]
#[must_use = "a lease that is dropped is released"]
pub struct Lease {
    pub(super) lease_state: Arc<LeaseState>,
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

    /// The fencing token: larger than that of every earlier grant of this key. The protected resource
    /// must refuse smaller tokens than the largest that it has seen.
    pub fn token(&self) -> FencingToken {
        self.lease_state.id.token()
    }

    /// The identity of this grant.
    pub fn id(&self) -> &LeaseId {
        &self.lease_state.id
    }

    /// How long until [`lost`](Lease::lost) fires, if no renewal succeeds. Zero when the lease is lost.
    /// It reads the clocks, so it counts a suspend or a pause. A lease that this finds lost stays lost.
    pub fn remaining(&self) -> Duration {
        self.lease_state.remaining()
    }

    /// When the grant ends unless it is renewed, in service time, as other clients see it.
    pub fn until(&self) -> SystemTime {
        system_time(self.lease_state.with_truth(|truth| truth.expires_at))
    }

    /// Whether the lease is held, with time left.
    pub fn is_held(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// The usage of this lease so far: its acquisition and its renewals. A lease that was handed off
    /// inside the process starts at zero.
    pub fn usage(&self) -> Usage {
        self.lease_state.call_usage().usage()
    }

    pub(crate) fn context(&self) -> &Arc<LeaseContext> {
        &self.lease_state.context
    }

    pub(crate) fn call_usage(&self) -> CallUsage {
        Some(self.lease_state.call_usage().clone())
    }

    /// Waits until the lease is lost. It fires when a renewal shows that the grant has ended, and at
    /// the latest when only margin and grace are left. Stop the work then. A lost lease stays lost.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only waits.
    pub async fn lost(&self) -> EndReason {
        self.watch().ended().await
    }

    /// A handle by which other tasks learn that this lease ended.
    pub fn watch(&self) -> LeaseWatch {
        LeaseWatch::new(self.lease_state.clone())
    }

    /// Renews now, and returns when a renewal has been acknowledged. It retries failures until the
    /// lease is lost, so it ends within the lease.
    ///
    /// # Errors
    ///
    /// [`Lost`](crate::ErrorKind::Lost) when the lease is lost. If that happens during the call with a
    /// renewal in flight, the [effect](crate::Error::effect) is [unknown](crate::Effect::Unknown).
    ///
    /// # Cancel safety
    ///
    /// The renewal goes on when this future is dropped.
    pub async fn renew(&self) -> Result<(), Error> {
        let renewed = self.lease_state.renewed(None).await;
        self.context().meter.counted(renewed)
    }

    /// Ends the grant. It waits for a renewal in flight first, and retries within the call time-out. It
    /// changes only a record that still carries this grant. A waiter of this client that asks for the
    /// same grant gets it, and nothing is written ([`hand_off`](crate::PolicyBuilder::hand_off)). The payload goes:
    /// see [`release_keeping_data`](Lease::release_keeping_data).
    ///
    /// # Errors
    ///
    /// When the store did not answer or refused: the lease then expires.
    ///
    /// # Cancel safety
    ///
    /// The release goes on when this future is dropped.
    pub async fn release(mut self) -> Result<ReleaseOutcome, Error> {
        self.end_by(|sender| Finish::Release(false, sender)).await
    }

    /// As [`release`](Lease::release), and the payload stays in the record. The next holder finds it by
    /// [`previous_data`](Lease::previous_data), also one that waits in the queue of the key.
    ///
    /// # Errors
    ///
    /// As [`release`](Lease::release).
    ///
    /// # Cancel safety
    ///
    /// The release goes on when this future is dropped.
    pub async fn release_keeping_data(mut self) -> Result<ReleaseOutcome, Error> {
        self.end_by(|sender| Finish::Release(true, sender)).await
    }

    /// Renews a last time, ends the renewals, and returns the identity. The lock stays held for about
    /// one lease. A client in this or another process can [renew](crate::LockClient::renew),
    /// [adopt](crate::LockClient::adopt) or [release](crate::LockClient::release) it.
    ///
    /// Nothing is written for a grant that is [bound to no process](crate::PolicyBuilder::bound_to_process), while
    /// nine tenths of its lease are left. An acquire and a detach are then one write.
    ///
    /// # Errors
    ///
    /// [`Lost`](crate::ErrorKind::Lost) when the lease is lost already, or the error of the last
    /// renewal.
    ///
    /// # Cancel safety
    ///
    /// When this future is dropped, the lease is still detached.
    pub async fn detach(mut self) -> Result<LeaseId, Error> {
        self.end_by(Finish::Detach).await
    }

    /// Ends the grant, and remembers its work as done.
    ///
    /// # Cancel safety
    ///
    /// The write goes on when this future is dropped.
    pub(crate) async fn complete(mut self, work: Completes) -> Result<(), Error> {
        self.end_by(|sender| Finish::Complete(Box::new(work), Some(sender)))
            .await
    }

    /// The same, in the background.
    pub(crate) fn complete_behind(mut self, work: Completes) {
        if let Some(finish) = self.finish.take() {
            drop(finish.send(Finish::Complete(Box::new(work), None)));
        }
    }

    async fn end_by<T>(
        &mut self,
        how: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Finish,
    ) -> Result<T, Error> {
        let (sender, answer) = oneshot::channel();
        // From here on the guard ends, even if this future is dropped.
        let sent = self.finish.take().map(|finish| finish.send(how(sender)));
        // A renewal task that has ended drops the sender, and `answer` ends.
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
            // Only the end of the runtime ends the renewal task earlier; the lease then expires.
            drop(finish.send(Finish::Dropped(self.drop_policy)));
        }
    }
}

/// A guard that its caller has not received yet. Its drop releases it under any drop policy: that
/// policy is for guards that callers drop.
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

    pub(crate) fn lease(&self) -> &Lease {
        &self.0
    }

    /// The guard if time is left; otherwise it is released.
    pub(crate) fn deliver_if_held(self) -> Option<Lease> {
        self.0.is_held().then(|| self.deliver())
    }

    /// Discards a guard that no caller has seen, without a message to its task.
    pub(crate) fn unmake(mut self) {
        self.0.finish = None;
    }

    pub(crate) fn token(&self) -> FencingToken {
        self.0.token()
    }
}

/// The renewal task's receiver for the end of its guard.
pub(crate) type Finished = oneshot::Receiver<Finish>;

/// A guard, and the receiver for its end.
pub(crate) fn guard(lease_state: &Arc<LeaseState>) -> (Lease, Finished) {
    let (finish, finished) = oneshot::channel();
    let drop_policy = lease_state.policy.drop_policy();
    let lease = Lease::new(lease_state.clone(), finish, drop_policy);
    (lease, finished)
}
