//! The time that is certainly left of a held lease.

use std::time::Duration;

use super::guard::Lease;
use super::state::LeaseState;
use crate::error::{Effect, Error, ErrorKind};

impl Lease {
    /// Makes sure that at least `time` is left until [`lost`](Lease::lost) fires, before work that must not be
    /// interrupted. If so much is [left](Lease::remaining), it returns at once, without a request. Otherwise it renews.
    ///
    /// The largest possible `time` is a little less than the lease duration without margin and grace: 19 s of the
    /// default lease of 20 s. A `time` close to it needs a renewal at each call, and fails when that is slow.
    ///
    /// # Errors
    ///
    /// - [`InvalidInput`](ErrorKind::InvalidInput): no renewal gives so much. The message has the largest possible
    ///   value, and [`setting`](Error::setting) is `lease_duration` or `max_hold`.
    /// - [`TooLate`](ErrorKind::TooLate): the renewal took so long that less than `time` is left. The lease is held.
    /// - [`Unreachable`](ErrorKind::Unreachable): no renewal was acknowledged within the call time-out. The lease may
    ///   still be held.
    /// - [`Lost`](ErrorKind::Lost): the lease is lost.
    ///
    /// # Cancel safety
    ///
    /// The renewal goes on when this future is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), leasehold::Error> {
    /// use std::time::Duration;
    /// use leasehold::{LockClient, store::memory::MemoryStore};
    ///
    /// let locks = LockClient::new(MemoryStore::new());
    /// let lease = locks.acquire("ledger").await?;
    /// lease.ensure(Duration::from_secs(10)).await?;
    /// // Ten seconds for a step that must not be cut off.
    /// # lease.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn ensure(&self, time: Duration) -> Result<(), Error> {
        let ensured = self.lease_state.ensure(time).await;
        self.context().meter.counted(ensured)
    }
}

impl LeaseState {
    /// As [`Lease::ensure`], not counted.
    pub(crate) async fn ensure(&self, time: Duration) -> Result<(), Error> {
        let is_enough = |left: Duration| left >= time && !left.is_zero();
        if is_enough(self.remaining()) {
            return Ok(());
        }
        self.check_possible(time)?;
        self.within_call(None).await?;
        let left = self.remaining();
        if is_enough(left) {
            return Ok(());
        }
        if let Some(why) = self.loss() {
            return Err(self.id.lost_error(&why.to_string()));
        }
        let key = self.id.key();
        let message = format!(
            "cannot ensure {time:?} of `{key}`: its renewal took so long that {left:.1?} is left"
        );
        Err(Error::new(ErrorKind::TooLate, message)
            .with_key(key.as_str())
            .with_effect(Effect::Unknown)
            .with_hint(
                "try again, set a longer `lease_duration`, or check the latency to the store",
            ))
    }

    /// Refuses a time that no renewal can give.
    fn check_possible(&self, time: Duration) -> Result<(), Error> {
        let policy = &self.policy;
        let lease = policy.lease_duration();
        let whole = policy.bounds().at_least(lease);
        let by_lease = whole.saturating_sub(policy.safety_margin());
        let (largest, setting, why) = match policy.max_hold() {
            Some(most) if most < by_lease => {
                (most, "max_hold", format!("the `max_hold` is {most:?}"))
            }
            _ => {
                let (margin, grace) = (policy.margin(), policy.grace());
                let why = format!(
                    "the `lease_duration` of {lease:?} includes a margin of {margin:?} and a grace of {grace:?}"
                );
                (by_lease, "lease_duration", why)
            }
        };
        if time <= largest {
            return Ok(());
        }
        let key = self.id.key();
        let message = format!(
            "cannot ensure {time:?} of `{key}`: {largest:?} is the largest possible time, since {why}"
        );
        Err(Error::new(ErrorKind::InvalidInput, message)
            .with_key(key.as_str())
            .with_setting(setting, None)
            .with_hint(format!("ensure less, or set a longer `{setting}`")))
    }
}
