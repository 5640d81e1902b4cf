//! The settings of a client, and the values derived from them.

use std::sync::Arc;
use std::time::Duration;

use leasehold_protocol::deadline::Terms;
use leasehold_protocol::takeover::Rules;
use leasehold_protocol::time::ClockBounds;

use super::builder::{CheckDelay, DropPolicy, PolicyBuilder};
use crate::store::Hints;

/// The settings of a client. [`Policy::builder`] makes one; `Policy::default()` has the builder's
/// defaults, which are valid.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Policy {
    // Shared, since every waiter and every held lease has its policy.
    pub(super) settings: Arc<PolicyBuilder>,
}

/// The service's dates are whole seconds.
const ROUNDED: Duration = Duration::from_secs(1);

impl Policy {
    /// A builder with the defaults.
    pub fn builder() -> PolicyBuilder {
        PolicyBuilder::default()
    }

    /// A builder with these settings.
    pub fn to_builder(&self) -> PolicyBuilder {
        PolicyBuilder::clone(&self.settings)
    }

    /// Settings that are checked later.
    pub(crate) fn unchecked(settings: PolicyBuilder) -> Policy {
        Policy {
            settings: Arc::new(settings),
        }
    }

    /// L, the lease duration.
    pub fn lease_duration(&self) -> Duration {
        self.settings.lease
    }

    /// The time between `lost` and the deadline: margin and grace.
    pub fn safety_margin(&self) -> Duration {
        self.margin() + self.settings.grace
    }

    /// The wait bound of `acquire`; `None`: no bound.
    pub fn wait(&self) -> Option<Duration> {
        self.settings.wait
    }

    /// The bound of calls that wait for no holder.
    pub fn call_timeout(&self) -> Duration {
        self.settings.call_timeout
    }

    /// How long one request may take before another one is sent.
    pub fn request_timeout(&self) -> Duration {
        self.settings
            .request_timeout
            .unwrap_or_else(|| (self.settings.lease / 6).min(Duration::from_secs(2)))
    }

    /// How long the work needs to stop.
    pub fn grace(&self) -> Duration {
        self.settings.grace
    }

    /// The time between the end of the grace and the end of the lease.
    pub fn margin(&self) -> Duration {
        self.settings
            .margin
            .unwrap_or_else(|| (self.settings.lease / 20).max(Duration::from_secs(1)))
    }

    pub(crate) fn is_manual(&self) -> bool {
        self.settings.manual_renewal
    }

    pub(crate) fn is_shared_with_fsharp(&self) -> bool {
        self.settings.shared_with_fsharp
    }

    pub(crate) fn is_bound_to_process(&self) -> bool {
        self.settings.bound_to_process
    }

    pub(crate) fn drop_policy(&self) -> DropPolicy {
        self.settings.drop_policy
    }

    pub(crate) fn label(&self) -> Option<Arc<str>> {
        self.settings.label.clone()
    }

    pub(crate) fn check_delay(&self, hints: &Hints) -> CheckDelay {
        self.settings.check_delay.unwrap_or(CheckDelay::Backoff {
            first: hints.check_delay,
            max: hints.check_delay_max,
        })
    }

    /// Whether the caller has set how often to poll.
    pub(crate) fn has_check_delay(&self) -> bool {
        self.settings.check_delay.is_some()
    }

    /// Whether waiters take a place in the queue of the record. F# clients know of no queue, and write
    /// over it.
    pub(crate) fn is_queueing(&self) -> bool {
        !self.settings.shared_with_fsharp && !self.polls_by_acquire()
    }

    /// How soon a waiter promises to notice that it was handed the key. The time is enough for two
    /// polls and a renewal, before the margin of the lease begins.
    pub(crate) fn claim(&self, hints: &Hints) -> Duration {
        let longest = match self.check_delay(hints) {
            CheckDelay::Fixed(delay) | CheckDelay::ByAcquire(delay) => delay,
            CheckDelay::Backoff { first, max } => first / 8 + max,
        };
        let noticed = self.safety_margin() + self.request_timeout() + longest + ROUNDED;
        noticed.min(self.settings.lease)
    }

    pub(crate) fn polls_by_acquire(&self) -> bool {
        matches!(self.settings.check_delay, Some(CheckDelay::ByAcquire(_)))
    }

    /// How long a guard may hold its key; `None`: no bound.
    pub fn max_hold(&self) -> Option<Duration> {
        self.settings.max_hold
    }

    pub(crate) fn is_handing_off(&self) -> bool {
        self.settings.hand_off
    }

    /// Whether `other` gives the same grant and renewals: all settings are equal except for how to
    /// wait.
    pub(crate) fn grants_like(&self, other: &Policy) -> bool {
        if Arc::ptr_eq(&self.settings, &other.settings) {
            return true;
        }
        let PolicyBuilder {
            wait: _,
            check_delay: _,
            lease,
            grace,
            margin,
            expiry_padding,
            request_timeout,
            call_timeout,
            retention,
            bounds,
            strict,
            manual_renewal,
            shared_with_fsharp,
            bound_to_process,
            drop_policy,
            hand_off,
            max_hold,
            label,
        } = &*self.settings;
        let o = &other.settings;
        (lease, grace, margin, expiry_padding) == (&o.lease, &o.grace, &o.margin, &o.expiry_padding)
            && (request_timeout, call_timeout) == (&o.request_timeout, &o.call_timeout)
            && (retention, bounds, strict) == (&o.retention, &o.bounds, &o.strict)
            && (manual_renewal, drop_policy) == (&o.manual_renewal, &o.drop_policy)
            && (shared_with_fsharp, bound_to_process)
                == (&o.shared_with_fsharp, &o.bound_to_process)
            && (hand_off, max_hold, label) == (&o.hand_off, &o.max_hold, &o.label)
    }

    pub(crate) fn bounds(&self) -> ClockBounds {
        self.settings.bounds
    }

    pub(crate) fn terms(&self, hints: &Hints) -> Terms {
        Terms {
            lease: self.settings.lease,
            expiry_padding: self.settings.expiry_padding.unwrap_or(hints.expiry_padding),
            retention: self.settings.retention,
            safety_margin: self.safety_margin(),
            bounds: self.settings.bounds,
        }
    }

    pub(crate) fn rules(&self, hints: &Hints) -> Rules {
        Rules {
            strict: self.settings.strict,
            expiry_padding: self.settings.expiry_padding.unwrap_or(hints.expiry_padding),
            bounds: self.settings.bounds,
        }
    }
}
