//! Validated durations and their relations.
//!
//! A [`Policy`] that exists adds up: renewal, retry, grace and margin fit into the lease, and a
//! record outlives every request that could still land on it. A policy that does not is refused
//! when it is built, with the sum in the message. Nothing outside of this room checks durations.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::store::Hints;
use leasehold_protocol::deadline::Terms;
use leasehold_protocol::takeover::Rules;
use leasehold_protocol::time::ClockBounds;

/// No duration in a policy is longer: ten years, far from every overflow.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);
/// The longest life of a signed request: one may land this late.
const SIGNATURE_LIFE: Duration = Duration::from_secs(15 * 60);
const LEAST_RETENTION: Duration = Duration::from_secs(86_400);
/// How often a lease is renewed within its length.
const RENEWALS_PER_LEASE: u32 = 3;

/// How often a waiting acquisition polls at a held key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CheckDelay {
    /// Always after the same delay.
    Fixed(Duration),
    /// Always after the same delay, and not with a look but by asking for the key, as FSharp.DynamoDbLock does: whoever comes
    /// when it is free has it a round trip earlier. On DynamoDB a request that is refused costs ten times a look, and all
    /// of them are writes of one item, which takes 1000 a second.
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

/// The settings of a client. Build one with [`Policy::builder`]; `Policy::default()` is the
/// builder's default, which adds up.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Policy {
    // Shared: every waiter and every held lease has its policy at hand.
    settings: Arc<PolicyBuilder>,
}

/// Settings on their way to a [`Policy`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyBuilder {
    lease: Duration,
    grace: Duration,
    margin: Option<Duration>,
    expiry_padding: Option<Duration>,
    request_timeout: Option<Duration>,
    call_timeout: Duration,
    wait: Option<Duration>,
    check_delay: Option<CheckDelay>,
    retention: Duration,
    bounds: ClockBounds,
    strict: bool,
    manual_renewal: bool,
    shared_with_fsharp: bool,
    bound_to_process: bool,
    drop_policy: DropPolicy,
    hand_off: bool,
    max_hold: Option<Duration>,
    label: Option<Arc<str>>,
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

    /// How long before the deadline, less the grace, a holder is told that it is losing the lock.
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

    /// How long a call may take in which nobody waits for a holder (`try_acquire`, `release`,
    /// `inspect`), and how long a waiting `acquire` puts up with a store that fails or does not answer, also one that
    /// [waits for ever](PolicyBuilder::wait_forever). Default 10 s. Too small: calls fail while the service fails over;
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
    /// (50 ms to 1 s on DynamoDB). Each look costs half a read unit, a refused request of [`CheckDelay::ByAcquire`] a write unit.
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
    /// requests each. Turn it off where others release or adopt live guards by an identity that was
    /// written down: the record's grant is what they end, whoever has it by then.
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

    /// Checks that everything adds up.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`] with the sum that does not, and the setting to change.
    pub fn build(self) -> Result<Policy, Error> {
        Policy::unchecked(self).checked()
    }
}

impl Policy {
    /// The defaults, to be changed.
    pub fn builder() -> PolicyBuilder {
        PolicyBuilder::default()
    }

    /// These settings, to be changed.
    pub fn to_builder(&self) -> PolicyBuilder {
        PolicyBuilder::clone(&self.settings)
    }

    /// Settings that are checked later.
    pub(crate) fn unchecked(settings: PolicyBuilder) -> Policy {
        Policy {
            settings: Arc::new(settings),
        }
    }

    /// The same, if it adds up.
    pub(crate) fn checked(self) -> Result<Policy, Error> {
        self.check()?;
        Ok(self)
    }

    /// L.
    pub fn lease_duration(&self) -> Duration {
        self.settings.lease
    }

    /// The time between `lost` and the deadline: margin and grace.
    pub fn safety_margin(&self) -> Duration {
        self.margin() + self.settings.grace
    }

    /// The wait bound of `acquire`; `None`: for ever.
    pub fn wait(&self) -> Option<Duration> {
        self.settings.wait
    }

    /// The bound of calls that wait for nobody.
    pub fn call_timeout(&self) -> Duration {
        self.settings.call_timeout
    }

    /// The soft bound of one request.
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

    /// More than the time to the first look of a waiter, and the longest between any two.
    pub(crate) fn check_delays(&self, hints: &Hints) -> (Duration, Duration) {
        match self.check_delay(hints) {
            CheckDelay::Fixed(delay) | CheckDelay::ByAcquire(delay) => (delay / 8 + delay, delay),
            CheckDelay::Backoff { first, max } => {
                let first = first.min(max);
                (first / 8 + first, first / 8 + max)
            }
        }
    }

    pub(crate) fn polls_by_acquire(&self) -> bool {
        matches!(self.settings.check_delay, Some(CheckDelay::ByAcquire(_)))
    }

    /// The bound of a hold; `None`: there is none.
    pub fn max_hold(&self) -> Option<Duration> {
        self.settings.max_hold
    }

    pub(crate) fn is_handing_off(&self) -> bool {
        self.settings.hand_off
    }

    /// Whether an order with `other` asks for the same grant and the same renewal task: everything but
    /// how to wait.
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

    fn check(&self) -> Result<(), Error> {
        let s = &self.settings;
        let refuse = |setting, message: String, hint: &str| {
            Err(Error::new(ErrorKind::Configuration, message)
                .with_hint(hint)
                .with_setting(setting, None))
        };
        if s.lease < Duration::from_millis(1) {
            return refuse(
                "lease",
                "the lease is 0: a lock would end as it is taken".into(),
                "set it to some seconds, 20 s if in doubt",
            );
        }
        let delays = match s.check_delay {
            Some(CheckDelay::Fixed(delay) | CheckDelay::ByAcquire(delay)) => {
                vec![("check_delay", delay)]
            }
            Some(CheckDelay::Backoff { first, max }) => {
                vec![("check_delay.first", first), ("check_delay.max", max)]
            }
            None => vec![],
        };
        for (name, delay) in &delays {
            if delay.is_zero() {
                return refuse(
                    name,
                    format!("`{name}` is 0: waiting would be a busy loop of requests"),
                    "set it to some milliseconds at least",
                );
            }
        }
        let mut all = vec![
            ("lease", s.lease),
            ("grace", s.grace),
            ("margin", self.margin()),
            ("expiry_padding", s.expiry_padding.unwrap_or_default()),
            ("request_timeout", self.request_timeout()),
            ("call_timeout", s.call_timeout),
            ("retention", s.retention),
        ];
        all.extend(delays);
        for (name, value) in all {
            if value > LONGEST {
                return refuse(
                    name,
                    format!("`{name}` is {value:?}: times would overflow, the longest is 10 years"),
                    "set it to what you need, usually seconds",
                );
            }
        }
        if s.bounds.drift_ppm >= 500_000 {
            return refuse(
                "clock_bounds",
                format!(
                    "a clock drift of {} ppm leaves nothing of a lease",
                    s.bounds.drift_ppm
                ),
                "set `clock_bounds` to the real rate error, 1000 ppm if in doubt",
            );
        }
        if s.max_hold.is_some_and(|most| most.is_zero()) {
            return refuse(
                "max_hold",
                "`max_hold` is 0: a lock would be lost as it is taken".into(),
                "set it to the longest time that the work may take, or leave it out",
            );
        }
        if self.request_timeout().is_zero() || s.call_timeout.is_zero() {
            return refuse(
                "request_timeout",
                "`request_timeout` or `call_timeout` is 0: no request could be answered".into(),
                "leave them at their defaults, or set some hundred milliseconds",
            );
        }
        self.check_retention()?;
        self.check_sum()
    }

    fn check_retention(&self) -> Result<(), Error> {
        let s = &self.settings;
        let expiry_padding = s.expiry_padding.unwrap_or(Duration::from_secs(1));
        let least = (s.lease + expiry_padding + SIGNATURE_LIFE).max(LEAST_RETENTION);
        if s.retention >= least {
            return Ok(());
        }
        let message = format!(
            "a retention of {:?} is too short: a record must outlive lease {:?} + expiry_padding {expiry_padding:?} + {SIGNATURE_LIFE:?} \
             for which a signed request may still land, and at least 24 h",
            s.retention, s.lease
        );
        Err(Error::new(ErrorKind::Configuration, message)
            .with_hint(format!("set `retention` to at least {least:?}"))
            .with_setting("retention", Some(least)))
    }

    /// A renewal may start a third of the lease after the last one, may need a second try, and the
    /// work must be over before the lease is.
    fn check_sum(&self) -> Result<(), Error> {
        let s = &self.settings;
        let (interval, sum, usable) = self.sum();
        if sum <= usable {
            return Ok(());
        }
        let (timeout, margin) = (self.request_timeout(), self.margin());
        let message = format!(
            "the lease is too short: renewal after {interval:.3?} + request {timeout:.3?} + grace {:?} + margin {margin:.3?} \
             = {sum:.3?}, but a lease of {:?} gives {usable:.3?}",
            s.grace, s.lease
        );
        let needed = self.needed_lease();
        Err(Error::new(ErrorKind::Configuration, message)
            .with_hint(format!(
                "set `lease` to {needed:?} or more, or make `grace` or `margin` smaller"
            ))
            .with_setting("lease", Some(needed)))
    }
}

impl Policy {
    /// The longest time between renewals, what has to fit into the lease, and what the lease gives for certain.
    fn sum(&self) -> (Duration, Duration, Duration) {
        let s = &self.settings;
        let interval = if s.manual_renewal {
            Duration::ZERO
        } else {
            s.lease / RENEWALS_PER_LEASE
        };
        let sum = interval + self.request_timeout() + s.grace + self.margin();
        (interval, sum, s.bounds.at_least(s.lease))
    }

    /// The shortest lease for the other settings, in tenths of a second.
    fn needed_lease(&self) -> Duration {
        // Renewal takes a third, the default time-out at most a sixth and the default margin at most
        // a twentieth once the lease is long: what is fixed fits into the rest.
        let s = &self.settings;
        let fixed = s.grace
            + s.request_timeout.unwrap_or_default()
            + s.margin.unwrap_or(Duration::from_secs(1));
        let enough = fixed.saturating_mul(5) / 2 + Duration::from_millis(100);
        if enough > s.retention {
            return enough;
        }
        // What is longer adds up, too, for the parts of the sum grow slower than the lease.
        let tenths = |n: u64| Duration::from_millis(n.saturating_mul(100));
        let adds_up = |n| {
            let (_, sum, usable) =
                Policy::unchecked(self.to_builder().lease_duration(tenths(n))).sum();
            sum <= usable
        };
        let most = u64::try_from(enough.as_millis().div_ceil(100)).unwrap_or(u64::MAX);
        let (mut short, mut long) = (0, most);
        while long - short > 1 {
            let middle = short.midpoint(long);
            if adds_up(middle) {
                long = middle;
            } else {
                short = middle;
            }
        }
        tenths(long)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn refused(builder: PolicyBuilder) -> String {
        let error = builder.build().expect_err("must be refused");
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.hint().is_some());
        error.to_string()
    }

    #[test]
    fn the_defaults_add_up() {
        let policy = Policy::builder().build().expect("defaults");
        assert_eq!(policy, Policy::default());
        assert_eq!(policy.safety_margin(), s(1));
        assert_eq!(policy.request_timeout(), s(2));
    }

    #[test]
    fn sums_that_do_not_fit_are_shown() {
        let message = refused(Policy::builder().lease_duration(s(10)).grace(s(5)));
        assert!(message.contains("grace 5s"), "{message}");
        assert!(message.contains("a lease of 10s"), "{message}");
        assert!(
            Policy::builder()
                .lease_duration(s(20))
                .grace(s(5))
                .build()
                .is_ok()
        );
        // With manual renewal there is no interval to fit in.
        assert!(
            Policy::builder()
                .lease_duration(s(10))
                .grace(s(5))
                .manual_renewal(true)
                .build()
                .is_ok()
        );
    }

    #[test]
    fn zero_and_endless_leases_are_refused() {
        assert!(refused(Policy::builder().lease_duration(Duration::ZERO)).contains("lease is 0"));
        assert!(refused(Policy::builder().lease_duration(Duration::MAX)).contains("overflow"));
        assert!(
            refused(Policy::builder().lease_duration(s(11 * 365 * 86_400))).contains("10 years")
        );
    }

    #[test]
    fn the_hint_of_a_short_lease_is_enough() {
        for (lease, grace, timeout) in [
            (1, 0, 0),
            (2, 0, 0),
            (10, 5, 0),
            (3, 30, 0),
            (60, 50, 0),
            (20, 0, 15),
            (20, 100, 15),
        ] {
            let mut builder = Policy::builder().lease_duration(s(lease)).grace(s(grace));
            if timeout > 0 {
                builder = builder.request_timeout(s(timeout));
            }
            let error = builder.clone().build().expect_err("too short");
            let hint = error.hint().expect("hint").to_owned();
            let number: String = hint
                .split("`lease` to ")
                .nth(1)
                .expect("a number")
                .chars()
                .take_while(|c| c.is_ascii_digit() || *c == '.')
                .collect();
            let needed = Duration::from_secs_f64(number.parse().expect("seconds"));
            assert!(builder.lease_duration(needed).build().is_ok(), "{hint}");
        }
    }

    #[test]
    fn a_record_outlives_late_requests() {
        assert!(refused(Policy::builder().retention(s(3_600))).contains("24 h"));
        let long = Policy::builder().lease_duration(s(7 * 86_400));
        assert!(refused(long.clone()).contains("retention"));
        assert!(long.retention(s(8 * 86_400)).build().is_ok());
    }

    #[test]
    fn what_a_grant_is_made_of_is_all_but_how_to_wait() {
        let base = Policy::default();
        let with = |change: fn(PolicyBuilder) -> PolicyBuilder| {
            Policy::unchecked(change(base.to_builder()))
        };
        assert!(base.grants_like(&with(|p| p.wait_forever())));
        assert!(base.grants_like(&with(|p| p.check_delay(CheckDelay::Fixed(s(1))))));
        let others: [fn(PolicyBuilder) -> PolicyBuilder; 15] = [
            |p| p.lease_duration(s(30)),
            |p| p.grace(s(1)),
            |p| p.margin(s(2)),
            |p| p.expiry_padding(s(2)),
            |p| p.request_timeout(s(1)),
            |p| p.call_timeout(s(1)),
            |p| p.retention(s(9 * 86_400)),
            |p| p.strict(true),
            |p| p.manual_renewal(true),
            |p| p.shared_with_fsharp(true),
            |p| p.bound_to_process(false),
            |p| p.drop_policy(DropPolicy::LeaveToExpire),
            |p| p.hand_off(false),
            |p| p.max_hold(s(9)),
            |p| p.label("x"),
        ];
        for change in others {
            let other = with(change);
            assert!(!base.grants_like(&other), "{other:?}");
        }
    }

    #[test]
    fn busy_loops_are_refused() {
        let zero = CheckDelay::Fixed(Duration::ZERO);
        assert!(refused(Policy::builder().check_delay(zero)).contains("busy loop"));
    }
}
