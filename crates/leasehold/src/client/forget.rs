//! The end of a memory: the work of a key may run again.

use tracing::info;

use super::LockClient;
use crate::acquire::{Adoption, Order, Patience, TryAcquireOutcome, acquire};
use crate::done::Done;
use crate::error::{Effect, Error, ErrorKind};
use crate::holder::HolderInfo;
use crate::key::Key;
use crate::lease_id::LeaseId;
use crate::policy::DropPolicy;
use crate::store::Consistency;
use leasehold_protocol::lens::Want;
use leasehold_protocol::record::State;
use leasehold_protocol::token::FencingToken;

impl LockClient {
    /// Lets the work of `key` run again before its keep is over ([`once`](LockClient::once)). Returns the run that
    /// was remembered, or `None` if there was none. It costs one read and two writes: a take-over of exactly what
    /// was read, and a release.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) while the work runs, or the key is held: nothing is changed.
    /// [`Lost`](ErrorKind::Lost) when the work began to run again in between. Others by [`ErrorKind`]. When the
    /// second write fails, the key stays held under this client's label for one lease.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the call: a request in flight goes on, and a grant that it takes over is
    /// released.
    pub async fn forget(&self, key: &str) -> Result<Option<Done>, Error> {
        let key = self.key(key)?;
        let forgotten = self.forget_key(&key).await;
        self.core.meter.counted(forgotten)
    }

    async fn forget_key(&self, key: &Key) -> Result<Option<Done>, Error> {
        self.check_open(key)?;
        let Some(record) = self.read(key, Consistency::Strong).await? else {
            return Ok(None);
        };
        let State::Granted(seen) = record.state() else {
            return Ok(None);
        };
        let (Some(done), Some(token)) = (Done::of(&record), record.token()) else {
            let held = HolderInfo::of(&record);
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("cannot forget `{key}`: {held}"),
            )
            .with_key(key.as_str())
            .with_held(Some(held))
            .with_hint("wait for its end, or end it by `force_release`"));
        };
        let owner = record.owner.as_deref().unwrap_or_default().parse();
        let attempt = owner.map_err(|_| {
            let message = format!("cannot forget `{key}`: its record has an unknown owner");
            Error::new(ErrorKind::Malformed, message).with_key(key.as_str())
        })?;
        let label = format!("{}, to forget what was done", self.core.leases.label);
        let policy = self.core.policy.to_builder().hand_off(false).label(label);
        let order = Order {
            key: key.clone(),
            policy: policy.drop_policy(DropPolicy::Release).build()?,
            data: None,
            patience: Patience::None,
            adopts: Some(Box::new(Adoption {
                id: LeaseId::new(key.clone(), attempt, FencingToken::new(token, 0, false)),
                seen,
                force: None,
            })),
            want: Want::Whole,
            polled: None,
        };
        match acquire(&self.core, &order).await? {
            TryAcquireOutcome::Acquired(lease) => {
                info!(%key, token = %lease.token(), "forgets what was done");
                // What was done is forgotten already.
                let released = lease.release().await;
                released.map_err(|error| error.with_effect(Effect::Unknown))?;
                Ok(Some(done))
            }
            TryAcquireOutcome::Held(held) => {
                let message = format!("cannot forget `{key}`, it has begun to run again: {held}");
                Err(Error::new(ErrorKind::Lost, message)
                    .with_key(key.as_str())
                    .with_held(Some(held))
                    .with_hint("wait for its end"))
            }
        }
    }
}
