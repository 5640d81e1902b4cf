//! A request for one key, with its own settings.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::limits;
use crate::acquire::{Order, Patience, TryAcquireOutcome, acquire};
use crate::error::{Error, ErrorKind};
use crate::key::Key;
use crate::lease::guard::Lease;
use crate::policy::{CheckDelay, DropPolicy, Policy};
use crate::run::{self, LockScope};
use crate::shared::Core;
use leasehold_protocol::lens::Want;

/// A request for one key, with its own settings. [`LockClient::request`](crate::LockClient::request)
/// makes it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), leasehold::Error> {
/// use std::time::Duration;
/// use leasehold::{LockClient, store::memory::MemoryStore};
///
/// let locks = LockClient::new(MemoryStore::new());
/// let lease = locks
///     .request("customer/42")?
///     .lease_duration(Duration::from_secs(60))
///     .wait(Duration::from_secs(5))
///     .data("import of 2026-11")
///     .acquire()
///     .await?;
/// # lease.release().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before `acquire`, `try_acquire` or `run` is called"]
pub struct LockRequest {
    pub(super) core: Arc<Core>,
    pub(super) key: Key,
    pub(super) policy: Policy,
    data: Option<Arc<[u8]>>,
    want: Want,
}

impl LockRequest {
    pub(super) fn new(core: &Arc<Core>, key: Key) -> Self {
        LockRequest {
            core: core.clone(),
            key,
            policy: core.policy.clone(),
            data: None,
            want: Want::Whole,
        }
    }

    /// The same for one of this many slots.
    pub(super) fn for_slot(self, limit: u32) -> Self {
        let want = Want::Slot(limit);
        LockRequest { want, ..self }
    }

    /// Other settings for this request; see [`Policy::to_builder`]. The service clock, which all
    /// requests share, keeps the clock bounds of the client's policy.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// As [`PolicyBuilder::lease_duration`](crate::PolicyBuilder::lease_duration). Checked when the request is sent.
    pub fn lease_duration(self, lease: Duration) -> Self {
        self.set(|policy| policy.lease_duration(lease))
    }

    /// As [`PolicyBuilder::wait`](crate::PolicyBuilder::wait).
    pub fn wait(self, wait: Duration) -> Self {
        self.set(|policy| policy.wait(wait))
    }

    /// As [`PolicyBuilder::wait_forever`](crate::PolicyBuilder::wait_forever).
    pub fn wait_forever(self) -> Self {
        self.set(crate::PolicyBuilder::wait_forever)
    }

    /// As [`PolicyBuilder::call_timeout`](crate::PolicyBuilder::call_timeout).
    pub fn call_timeout(self, call_timeout: Duration) -> Self {
        self.set(|policy| policy.call_timeout(call_timeout))
    }

    /// As [`PolicyBuilder::max_hold`](crate::PolicyBuilder::max_hold).
    pub fn max_hold(self, max_hold: Duration) -> Self {
        self.set(|policy| policy.max_hold(max_hold))
    }

    /// As [`PolicyBuilder::check_delay`](crate::PolicyBuilder::check_delay).
    pub fn check_delay(self, check_delay: CheckDelay) -> Self {
        self.set(|policy| policy.check_delay(check_delay))
    }

    /// As [`PolicyBuilder::label`](crate::PolicyBuilder::label).
    pub fn label(self, label: impl Into<Arc<str>>) -> Self {
        self.set(|policy| policy.label(label))
    }

    /// As [`PolicyBuilder::manual_renewal`](crate::PolicyBuilder::manual_renewal).
    pub fn manual_renewal(self, manual: bool) -> Self {
        self.set(|policy| policy.manual_renewal(manual))
    }

    /// As [`PolicyBuilder::hand_off`](crate::PolicyBuilder::hand_off).
    pub fn hand_off(self, hand_off: bool) -> Self {
        self.set(|policy| policy.hand_off(hand_off))
    }

    /// As [`PolicyBuilder::drop_policy`](crate::PolicyBuilder::drop_policy).
    pub fn drop_policy(self, drop_policy: DropPolicy) -> Self {
        self.set(|policy| policy.drop_policy(drop_policy))
    }

    /// A payload in the record while the lock is held, for observers. It replaces the one that the last holder
    /// [left](Lease::previous_data). [`Lease::set_data`] changes it, and
    /// [`Lease::release_keeping_data`] leaves it to the next holder. On DynamoDB a record of more
    /// than 1 KB doubles the price of every request.
    pub fn data(mut self, data: impl AsRef<[u8]>) -> Self {
        self.data = Some(data.as_ref().into());
        self
    }

    /// As [`LockClient::try_acquire`](crate::LockClient::try_acquire), with these settings.
    ///
    /// # Errors
    ///
    /// Also [`Configuration`](ErrorKind::Configuration) when the settings do not add up.
    ///
    /// # Cancel safety
    ///
    /// As [`LockClient::try_acquire`](crate::LockClient::try_acquire).
    pub fn try_acquire(
        self,
    ) -> impl Future<Output = Result<TryAcquireOutcome, Error>> + Send + use<> {
        let core = self.core.clone();
        let order = self.order(|_| Patience::None);
        async move {
            core.meter.counted(match order {
                Ok(ref order) => acquire(&core, order).await,
                Err(error) => Err(error),
            })
        }
    }

    /// As [`LockClient::acquire`](crate::LockClient::acquire), with these settings.
    ///
    /// # Errors
    ///
    /// Also [`Configuration`](ErrorKind::Configuration) when the settings do not add up.
    ///
    /// # Cancel safety
    ///
    /// As [`LockClient::acquire`](crate::LockClient::acquire).
    pub fn acquire(self) -> impl Future<Output = Result<Lease, Error>> + Send + use<> {
        let core = self.core.clone();
        let order = self.order(Patience::of);
        async move {
            let answer = match order {
                Ok(ref order) => acquire(&core, order).await,
                Err(error) => Err(error),
            };
            core.meter.counted(match answer {
                Ok(TryAcquireOutcome::Acquired(lease)) => Ok(lease),
                Ok(TryAcquireOutcome::Held(held)) => {
                    Err(Error::new(ErrorKind::WaitExpired, held.to_string())
                        .with_key(held.key())
                        .with_held(Some(held)))
                }
                Err(error) => Err(error),
            })
        }
    }

    /// As [`LockClient::run`](crate::LockClient::run), with these settings.
    ///
    /// # Errors
    ///
    /// As [`LockClient::run`](crate::LockClient::run).
    ///
    /// # Panics
    ///
    /// When the work does.
    ///
    /// # Cancel safety
    ///
    /// As [`LockClient::run`](crate::LockClient::run).
    pub async fn run<T, F, Fut>(self, work: F) -> Result<T, Error>
    where
        F: FnOnce(LockScope) -> Fut,
        Fut: Future<Output = T>,
    {
        let lease = self.acquire().await?;
        run::run(lease, work).await
    }

    pub(super) fn set(
        mut self,
        change: impl FnOnce(crate::PolicyBuilder) -> crate::PolicyBuilder,
    ) -> Self {
        self.policy = Policy::unchecked(change(self.policy.to_builder()));
        self
    }

    pub(super) fn order(self, patience: impl FnOnce(&Policy) -> Patience) -> Result<Order, Error> {
        let policy = self
            .policy
            .checked()
            .map_err(|error| error.with_key(self.key.as_str()))?;
        if self.want != Want::Whole {
            limits::check(&self.key, &policy, self.data.is_some())?;
        }
        Ok(Order {
            want: self.want,
            patience: patience(&policy),
            key: self.key,
            policy,
            data: self.data,
            adopts: None,
            polled: None,
        })
    }
}
