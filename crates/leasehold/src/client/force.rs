//! The end of another client's grant, by an operator.

use tracing::warn;

use super::LockClient;
use crate::acquire::{Adoption, Order, Patience, TryAcquireOutcome, acquire};
use crate::done::Done;
use crate::error::{Error, ErrorKind};
use crate::holder::HolderInfo;
use crate::key::Key;
use crate::lease::end::{ReleaseOutcome, seen_in};
use crate::lease_id::LeaseId;
use crate::policy::DropPolicy;
use crate::store::Consistency;
use leasehold_protocol::lens::Want;
use leasehold_protocol::record::{Record, State};
use leasehold_protocol::slots::Slot;
use leasehold_protocol::token::FencingToken;

/// In bytes. People see the reason on one line.
const LONGEST_REASON: usize = 256;

impl LockClient {
    /// Ends the grant of `key` that has `token`, without the consent of its holder. It is for an
    /// operator who knows that the holder is stuck. [`inspect`](LockClient::inspect) shows `token` as
    /// [`HolderInfo::token`](crate::HolderInfo::token); every token that was handed off under the same
    /// grant works too. It costs one read and two writes: a take-over of exactly that grant, and its release.
    /// After that the key is free, or the next waiter has it, and its next token is larger. The token of a
    /// [slot](LockClient::slots) ends that slot, and no other.
    ///
    /// The record keeps the label of this client, the token and `reason` until the next call of this kind:
    /// [`LockStatus::last_force`](crate::LockStatus::last_force).
    ///
    /// **The holder is not notified.** It learns of its loss at its next renewal, up to a third of its
    /// lease later (6.7 s of 20 s). Until then it works beside the next holder. A stopped holder learns
    /// of it when it runs again. Stop the holder first if you can, and have the protected resource
    /// check the token.
    ///
    /// If another grant of the key, or none, is current, nothing is changed. The outcome is then
    /// [`TakenOver`](ReleaseOutcome::TakenOver) with the present holder,
    /// [`AlreadyReleased`](ReleaseOutcome::AlreadyReleased), [`Superseded`](ReleaseOutcome::Superseded)
    /// or [`NoRecord`](ReleaseOutcome::NoRecord).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) when the reason is empty, longer than 256 bytes or not
    /// one line, and for a grant of an F# client, which has no token. [`AlreadyDone`](ErrorKind::AlreadyDone) when the
    /// work of the key is done. Others by [`ErrorKind`]. When the
    /// second write fails, the key stays held for one lease.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the call: a request in flight goes on, and a grant that it takes
    /// over is released.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), leasehold::Error> {
    /// use leasehold::{LockClient, store::memory::MemoryStore};
    ///
    /// let locks = LockClient::new(MemoryStore::new());
    /// let stuck = locks.acquire("nightly-report").await?;
    /// let status = locks.inspect("nightly-report").await?;
    /// if let Some(token) = status.holder().and_then(|held| held.token()) {
    ///     let outcome = locks.force_release("nightly-report", token, "host is gone, ticket 4711").await?;
    ///     assert!(outcome.is_released());
    /// }
    /// # drop(stuck);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn force_release(
        &self,
        key: &str,
        token: FencingToken,
        reason: &str,
    ) -> Result<ReleaseOutcome, Error> {
        let key = self.key(key)?;
        let forced = self.end_by_force(&key, token, reason).await;
        self.core.meter.counted(forced)
    }

    async fn end_by_force(
        &self,
        key: &Key,
        token: FencingToken,
        reason: &str,
    ) -> Result<ReleaseOutcome, Error> {
        self.check_open(key)?;
        check_reason(key, reason)?;
        let label = self.core.leases.label.clone();
        let force = format!("{label} ended token {token}: {reason}");
        // Without hand-off: no waiter of this client gets this grant.
        let policy = self.core.policy.to_builder().hand_off(false);
        let policy = policy.drop_policy(DropPolicy::Release);
        let mut lost = None;
        // A second time if the grant ends between the read and the write.
        for _ in 0..2 {
            let record = self.read(key, Consistency::Strong).await?;
            let record = match record {
                None => return Ok(ReleaseOutcome::NoRecord),
                Some(record)
                    if record.state() == State::Released && slot_of(&record, token).is_none() =>
                {
                    if let Some(other) = record.held_slots().next() {
                        return Ok(ReleaseOutcome::TakenOver(HolderInfo::of(&other)));
                    }
                    return Ok(match record.token() == Some(token.stored()) {
                        true => ReleaseOutcome::AlreadyReleased,
                        false => ReleaseOutcome::Superseded,
                    });
                }
                Some(record) => record,
            };
            if let Some(done) = Done::of(&record) {
                return Err(Error::already_done(done));
            }
            let (id, want) = identity(key, token, &record)?;
            let Ok(seen) = seen_in(Some(&record), &id) else {
                return Ok(ReleaseOutcome::TakenOver(HolderInfo::of(&record)));
            };
            // The last holder stays the stuck one, if another program did not write its label.
            let stuck = policy.clone().label(stuck_label(&record, token)).build();
            let order = Order {
                key: key.clone(),
                policy: stuck.or_else(|_| policy.clone().build())?,
                data: None,
                patience: Patience::None,
                want,
                polled: None,
                adopts: Some(Box::new(Adoption {
                    id,
                    seen,
                    force: Some(force.as_str().into()),
                })),
            };
            match acquire(&self.core, &order).await {
                Ok(TryAcquireOutcome::Acquired(lease)) => {
                    warn!(%key, ended = %token, token = %lease.token(), reason, "a lock is released by force");
                    // Its payload may say how far it came.
                    return Ok(match lease.release_keeping_data().await? {
                        ReleaseOutcome::ReleasedLate => ReleaseOutcome::Released,
                        other => other,
                    });
                }
                Ok(TryAcquireOutcome::Held(held)) => return Ok(ReleaseOutcome::TakenOver(held)),
                Err(error) if error.kind() == ErrorKind::Lost => lost = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(lost.unwrap_or_else(|| Error::new(ErrorKind::Lost, "the grant changes too fast")))
    }
}

/// The identity of the held grant in `record`, with this token.
fn identity(key: &Key, token: FencingToken, record: &Record) -> Result<(LeaseId, Want), Error> {
    // A hand-off changes the pass, but not the grant.
    let stored = FencingToken::new(token.stored(), 0, false);
    if let Some((slot, limit)) = slot_of(record, token) {
        let id = LeaseId::new(key.clone(), slot.attempt, stored);
        return Ok((id.of_slot(true), Want::Slot(limit)));
    }
    let owner = record.owner.as_deref().unwrap_or_default();
    match owner.parse() {
        Ok(attempt) if record.native.is_some() => {
            Ok((LeaseId::new(key.clone(), attempt, stored), Want::Whole))
        }
        _ => Err(Error::new(
            ErrorKind::InvalidInput,
            format!("cannot release `{key}` by force: its holder `{owner}` is an F# client, which writes no token"),
        )
        .with_key(key.as_str())
        .with_hint("stop that client, or wait until its lease has run out")),
    }
}

/// The label of the grant in `record`.
fn stuck_label(record: &Record, token: FencingToken) -> &str {
    match slot_of(record, token) {
        Some((slot, _)) => &slot.label,
        None => record.holder.as_deref().unwrap_or_default(),
    }
}

/// The held slot with this token, and the limit of slots.
fn slot_of(record: &Record, token: FencingToken) -> Option<(&Slot, u32)> {
    let slots = record.slots.as_ref()?;
    let mut held = slots.held.iter();
    let slot = held.find(|slot| slot.token == token.stored())?;
    Some((slot, slots.limit))
}

fn check_reason(key: &Key, reason: &str) -> Result<(), Error> {
    let problem = if reason.trim().is_empty() {
        "empty"
    } else if reason.len() > LONGEST_REASON {
        "longer than 256 bytes"
    } else if reason.contains(char::is_control) {
        "not one line of text"
    } else {
        return Ok(());
    };
    let message = format!("cannot release `{key}` by force: the reason is {problem}");
    Err(Error::new(ErrorKind::InvalidInput, message)
        .with_key(key.as_str())
        .with_hint("give your name and a short reason: other clients see it"))
}
