//! The builder of a policy.

use std::sync::Arc;
use std::time::Duration;

use leasehold_protocol::time::ClockBounds;

/// How often a waiting acquisition polls a held key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CheckDelay {
    /// Poll after a fixed delay.
    Fixed(Duration),
    /// Poll after a fixed delay, by an acquire request instead of a read, as FSharp.DynamoDbLock
    /// does. A free key is acquired a round trip earlier. On DynamoDB a refused request costs ten
    /// times a read, and one item takes 1000 writes a second.
    ByAcquire(Duration),
    /// Poll after a random delay below a bound that doubles from `first` to `max` ("full jitter").
    Backoff {
        /// The first bound.
        first: Duration,
        /// The last bound.
        max: Duration,
    },
}

/// The behaviour of a guard that is dropped without a release.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum DropPolicy {
    /// Release the lease in the background, at once.
    #[default]
    Release,
    /// Stop the renewals: the key stays held until the lease expires.
    LeaveToExpire,
}

/// Builds a [`Policy`](crate::Policy).
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
    /// L: how long a grant lives without renewal. Default 20 s. Too small: slow networks and pauses
    /// lose leases. Too large: a dead holder blocks its key for longer.
    #[must_use]
    pub fn lease_duration(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How long the work needs to stop after [`lost`](crate::Lease::lost) has fired. Default 0. It is
    /// added to the margin.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// [`lost`](crate::Lease::lost) fires this long, plus the grace, before the lease ends. Default:
    /// the larger of 1 s and 5 % of the lease. Too small: the work still runs when the next holder
    /// begins.
    #[must_use]
    pub fn margin(mut self, margin: Duration) -> Self {
        self.margin = Some(margin);
        self
    }

    /// S: added to every published expiry for clients of FSharp.DynamoDbLock, which compare it with
    /// their own wall clock. Default: the store's, 1 s, but 0 on SQLite and in memory. Too small: an F#
    /// client whose clock is further ahead takes a live lease. Too large: a dead holder blocks its key
    /// for longer.
    #[must_use]
    pub fn expiry_padding(mut self, expiry_padding: Duration) -> Self {
        self.expiry_padding = Some(expiry_padding);
        self
    }

    /// How long one request may take before another one is sent; the first goes on. Default: the
    /// smaller of 2 s and a sixth of the lease. Too small: needless requests. Too large: one lost
    /// answer uses up much of the lease.
    #[must_use]
    pub fn request_timeout(mut self, request_timeout: Duration) -> Self {
        self.request_timeout = Some(request_timeout);
        self
    }

    /// The bound of a call that waits for no holder (`try_acquire`, `release`, `inspect`). A waiting
    /// `acquire`, also one that [waits for ever](PolicyBuilder::wait_forever), ends when the store has
    /// failed for as long. Default 10 s. Too small: calls fail while the service fails over. Too large:
    /// `try_acquire` hangs with a dead network.
    #[must_use]
    pub fn call_timeout(mut self, call_timeout: Duration) -> Self {
        self.call_timeout = call_timeout;
        self
    }

    /// How long `acquire` waits for the key. It bounds the whole call, the network included. Default
    /// 30 s.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// `acquire` waits without a limit while the store answers. When the store has failed for
    /// [`call_timeout`](PolicyBuilder::call_timeout), the wait ends with
    /// [`Unreachable`](crate::ErrorKind::Unreachable) or [`Throttled`](crate::ErrorKind::Throttled):
    /// acquire again in a loop. The future may be dropped at any time.
    #[must_use]
    pub fn wait_forever(mut self) -> Self {
        self.wait = None;
        self
    }

    /// How often a waiting `acquire` polls the key. Default: by its place in the queue of the key, and by
    /// how long the key is held (3 ms to 1 s on DynamoDB). Without a queue: backoff with the store's
    /// bounds (50 ms to 1 s). A poll costs half a read unit, and shortly before its turn a whole one. A
    /// refused request of [`CheckDelay::ByAcquire`] costs a write unit.
    #[must_use]
    pub fn check_delay(mut self, check_delay: CheckDelay) -> Self {
        self.check_delay = Some(check_delay);
        self
    }

    /// R: how long a released or expired record stays before the table's TTL may delete it. Default
    /// 7 days. At least 24 h, and at least 15 min more than lease and expiry padding: the record makes
    /// tokens grow.
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// The assumptions about clocks. Default: the service's hosts disagree by at most 200 ms, and
    /// elapsed clocks are off by at most 0.1 %.
    #[must_use]
    pub fn clock_bounds(mut self, bounds: ClockBounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// Whether a key is taken from a dead holder only after its record was watched for a whole lease.
    /// Default off. On: only the rate of the own elapsed clock is trusted, and a take-over needs a
    /// lease of waiting. Dead F# holders then block for ever: their records have no lease duration.
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Whether the lease is renewed only by [`renew`](crate::Lease::renew). Default off: it is renewed
    /// every third of the lease.
    #[must_use]
    pub fn manual_renewal(mut self, manual: bool) -> Self {
        self.manual_renewal = manual;
        self
    }

    /// Whether clients of FSharp.DynamoDbLock use the same keys. Default off. On: every token is best
    /// effort, because the PutItem of these clients erases the token.
    #[must_use]
    pub fn shared_with_fsharp(mut self, shared: bool) -> Self {
        self.shared_with_fsharp = shared;
        self
    }

    /// Whether a grant ends with this process, if the store can see that (SQLite). Default on. Turn it
    /// off if other work goes on under the lock after the death of this process.
    #[must_use]
    pub fn bound_to_process(mut self, bound: bool) -> Self {
        self.bound_to_process = bound;
        self
    }

    /// The behaviour of a guard that is dropped without a release. Default: release in the background.
    #[must_use]
    pub fn drop_policy(mut self, drop_policy: DropPolicy) -> Self {
        self.drop_policy = drop_policy;
        self
    }

    /// Whether a released guard is handed off, without a request, to the next waiter of this client for
    /// the key (`acquire`, `run`). The waiter must ask for the same grant: the same data, and the same
    /// settings except for how to wait. Default on. The token grows with every hand-off. The record
    /// does not change, so observers see one long grant. Off: every waiter acquires for itself, with
    /// two requests. Turn it off if another process may release or adopt leases by a saved `LeaseId`.
    #[must_use]
    pub fn hand_off(mut self, hand_off: bool) -> Self {
        self.hand_off = hand_off;
        self
    }

    /// How long a guard may hold its key, even if its renewals succeed. After that
    /// [`lost`](crate::Lease::lost) fires with [`HeldTooLong`](crate::EndReason::HeldTooLong), and the
    /// lease is not renewed, so work that hangs does not keep its lock for ever. Default: no bound.
    /// Too small: work that is only slow loses its lock.
    #[must_use]
    pub fn max_hold(mut self, max_hold: Duration) -> Self {
        self.max_hold = Some(max_hold);
        self
    }

    /// The label of the holder, which other clients see. Default: host, program and pid. It never
    /// decides ownership.
    #[must_use]
    pub fn label(mut self, label: impl Into<Arc<str>>) -> Self {
        self.label = Some(label.into());
        self
    }
}
