//! Settings on their way to a policy.

use std::sync::Arc;
use std::time::Duration;

use leasehold_protocol::time::ClockBounds;

/// How often a waiting acquisition polls at a held key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CheckDelay {
    /// Always after the same delay.
    Fixed(Duration),
    /// Always after the same delay, by an acquire request instead of a read, as FSharp.DynamoDbLock does. A free key is acquired
    /// a round trip earlier. On DynamoDB a refused request costs ten times a read, and one item takes 1000 writes a second.
    ByAcquire(Duration),
    /// After a random delay below a bound that doubles from `first` to `max` ("full jitter").
    Backoff {
        /// The first bound.
        first: Duration,
        /// The last bound.
        max: Duration,
    },
}

/// What a guard does when it is dropped without a release.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum DropPolicy {
    /// Release it in the background, at once.
    #[default]
    Release,
    /// Stop renewing it, and let it end with its lease.
    LeaveToExpire,
}

/// Settings on their way to a [`Policy`](crate::Policy).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyBuilder {
    pub(super) lease: Duration,
    pub(super) grace: Duration,
    pub(super) margin: Option<Duration>,
    pub(super) expiry_padding: Option<Duration>,
    pub(super) request_timeout: Option<Duration>,
    pub(super) call_timeout: Duration,
    pub(super) wait: Option<Duration>,
    pub(super) check_delay: Option<CheckDelay>,
    pub(super) retention: Duration,
    pub(super) bounds: ClockBounds,
    pub(super) strict: bool,
    pub(super) manual_renewal: bool,
    pub(super) shared_with_fsharp: bool,
    pub(super) bound_to_process: bool,
    pub(super) drop_policy: DropPolicy,
    pub(super) hand_off: bool,
    pub(super) max_hold: Option<Duration>,
    pub(super) label: Option<Arc<str>>,
}

impl Default for PolicyBuilder {
    fn default() -> Self {
        PolicyBuilder {
            lease: Duration::from_secs(20),
            grace: Duration::ZERO,
            margin: None,
            expiry_padding: None,
            request_timeout: None,
            call_timeout: Duration::from_secs(10),
            wait: Some(Duration::from_secs(30)),
            check_delay: None,
            retention: Duration::from_secs(7 * 86_400),
            bounds: ClockBounds::default(),
            strict: false,
            manual_renewal: false,
            shared_with_fsharp: false,
            bound_to_process: true,
            drop_policy: DropPolicy::Release,
            hand_off: true,
            max_hold: None,
            label: None,
        }
    }
}

impl PolicyBuilder {
    /// L: how long a grant lives without renewal. Default 20 s. Shorter: a dead holder blocks for
    /// less, but slow networks and pauses lose leases. Longer: the other way round.
    #[must_use]
    pub fn lease_duration(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How long the work needs to stop after [`lost`](crate::Lease::lost) has fired. Default 0.
    /// Comes on top of the margin.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// `lost` fires this long, plus the grace, before the lease ends.
    /// Default: the larger of 1 s and 5 % of the lease. Too small: the work is still winding down
    /// when the next holder begins.
    #[must_use]
    pub fn margin(mut self, margin: Duration) -> Self {
        self.margin = Some(margin);
        self
    }

    /// S: what is added to every published expiry for clients of FSharp.DynamoDbLock, which compare
    /// it with their own wall clock. Default: the store's, 1 s on DynamoDB and 0 elsewhere. It is
    /// how far such a client's clock may be ahead; a dead holder blocks for longer by it.
    #[must_use]
    pub fn expiry_padding(mut self, expiry_padding: Duration) -> Self {
        self.expiry_padding = Some(expiry_padding);
        self
    }

    /// How long one request may take before another one is sent; the first goes on. Default: the
    /// smaller of 2 s and a sixth of the lease. Too small: needless requests; too large: one lost
    /// answer costs a good part of the lease.
    #[must_use]
    pub fn request_timeout(mut self, request_timeout: Duration) -> Self {
        self.request_timeout = Some(request_timeout);
        self
    }

    /// The bound of a call that waits for no holder (`try_acquire`, `release`, `inspect`). A waiting `acquire`, also one that
    /// [waits for ever](PolicyBuilder::wait_forever), ends once the store has failed for as long. Default 10 s. Too small: calls fail while the service fails over;
    /// too large: `try_acquire` hangs with a dead network.
    #[must_use]
    pub fn call_timeout(mut self, call_timeout: Duration) -> Self {
        self.call_timeout = call_timeout;
        self
    }

    /// How long `acquire` waits for the key; this bounds everything, the network included.
    /// Default 30 s.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// `acquire` waits for as long as the key is held, while the store answers. Once the store has failed for
    /// [`call_timeout`](PolicyBuilder::call_timeout) the wait ends with [`Unreachable`](crate::ErrorKind::Unreachable) or
    /// [`Throttled`](crate::ErrorKind::Throttled): acquire again in a loop. Its future may be dropped at any time.
    #[must_use]
    pub fn wait_forever(mut self) -> Self {
        self.wait = None;
        self
    }

    /// How often a waiting `acquire` polls at the key. Default: backoff with the store's bounds
    /// (50 ms to 1 s on DynamoDB). Each poll costs half a read unit, a refused request of [`CheckDelay::ByAcquire`] a write unit.
    #[must_use]
    pub fn check_delay(mut self, check_delay: CheckDelay) -> Self {
        self.check_delay = Some(check_delay);
        self
    }

    /// R: how long a released or expired record stays before the table's TTL may delete it.
    /// Default 7 days, at least 24 h and 15 min more than lease and expiry padding: the record is what makes
    /// tokens grow.
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// What is assumed of clocks. Default: the service's hosts disagree by at most 200 ms, and
    /// elapsed clocks are off by at most 0.1 %.
    #[must_use]
    pub fn clock_bounds(mut self, bounds: ClockBounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// Take over a dead holder only after watching its record for a whole lease, trusting no clock
    /// but the rate of our own. Default off. A newcomer then needs a lease to take over, and dead
    /// F# holders are never taken over (their records carry no lease length).
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Renew only when [`renew`](crate::Lease::renew) is called. Default off: renew every third of
    /// the lease.
    #[must_use]
    pub fn manual_renewal(mut self, manual: bool) -> Self {
        self.manual_renewal = manual;
        self
    }

    /// Whether clients of FSharp.DynamoDbLock use the same keys. Their PutItem erases the token,
    /// so every token is then typed best effort. Default off.
    #[must_use]
    pub fn shared_with_fsharp(mut self, shared: bool) -> Self {
        self.shared_with_fsharp = shared;
        self
    }

    /// Whether a grant ends with this process, where the store can see that (SQLite). Default on.
    /// Turn it off when something else goes on working under the lock after this process has died.
    #[must_use]
    pub fn bound_to_process(mut self, bound: bool) -> Self {
        self.bound_to_process = bound;
        self
    }

    /// What a guard does when it is dropped without a release. Default: release in the background.
    #[must_use]
    pub fn drop_policy(mut self, drop_policy: DropPolicy) -> Self {
        self.drop_policy = drop_policy;
        self
    }

    /// Whether a guard that is released is handed off, without a request, to the next waiter of this
    /// client for the key (`acquire`, `run`) that wants the same grant: the same settings but for
    /// how to wait, and the same data. Default on. The token grows with every hand-off; the record
    /// does not change, so observers see one long grant. Off: every waiter acquires for itself, two
    /// requests each. Turn it off if another process
    /// may release or adopt leases by a saved `LeaseId`.
    #[must_use]
    pub fn hand_off(mut self, hand_off: bool) -> Self {
        self.hand_off = hand_off;
        self
    }

    /// How long a guard may hold its key at all, however healthy its lease is. After it
    /// [`lost`](crate::Lease::lost) fires with [`HeldTooLong`](crate::EndReason::HeldTooLong), nothing is renewed any
    /// more, and the lease ends: work that hangs does not keep its lock for ever. Default: no bound.
    /// Too small: work that is only slow loses its lock.
    #[must_use]
    pub fn max_hold(mut self, max_hold: Duration) -> Self {
        self.max_hold = Some(max_hold);
        self
    }

    /// The label that others are shown while we hold a key. Default: host, program and pid.
    /// It never decides ownership.
    #[must_use]
    pub fn label(mut self, label: impl Into<Arc<str>>) -> Self {
        self.label = Some(label.into());
        self
    }
}
