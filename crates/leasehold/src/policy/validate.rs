//! Validation of settings: the sums, the retention, the shortest lease.

use std::time::Duration;

use super::builder::{CheckDelay, PolicyBuilder};
use super::settings::Policy;
use crate::error::{Error, ErrorKind};

/// The longest duration in a policy: ten years, far from every overflow.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);
/// The longest life of a signed request, which may land this late.
const SIGNATURE_LIFE: Duration = Duration::from_secs(15 * 60);
const LEAST_RETENTION: Duration = Duration::from_secs(86_400);
/// How often a lease is renewed within its length.
const RENEWALS_PER_LEASE: u32 = 3;

impl PolicyBuilder {
    /// Validates the settings.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`], with the invalid sum or value and the setting to change.
    pub fn build(self) -> Result<Policy, Error> {
        Policy::unchecked(self).checked()
    }
}

impl Policy {
    /// The same policy, if it is valid.
    pub(crate) fn checked(self) -> Result<Policy, Error> {
        self.check()?;
        Ok(self)
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
                "lease_duration",
                "the lease is 0: a lock would end at once".into(),
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
            ("lease_duration", s.lease),
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
                    format!("`{name}` is {value:?}: times would overflow, the maximum is 10 years"),
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
                "`max_hold` is 0: a lock would be lost at once".into(),
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

    /// A renewal may start a third of the lease after the last one and may need a second try. The work
    /// must end before the lease.
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
                "set `lease_duration` to {needed:?} or more, or make `grace` or `margin` smaller"
            ))
            .with_setting("lease_duration", Some(needed)))
    }
}

impl Policy {
    /// The longest time between renewals, the sum that must fit into the lease, and the usable part of
    /// the lease.
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
        // In a long lease, renewal takes a third, the default time-out at most a sixth and the default
        // margin at most a twentieth. The fixed parts fit into the rest.
        let s = &self.settings;
        let fixed = s.grace
            + s.request_timeout.unwrap_or_default()
            + s.margin.unwrap_or(Duration::from_secs(1));
        let enough = fixed.saturating_mul(5) / 2 + Duration::from_millis(100);
        if enough > s.retention {
            return enough;
        }
        // Every longer lease is valid, too, since the sum grows slower than the lease.
        let tenths = |n: u64| Duration::from_millis(n.saturating_mul(100));
        let is_valid = |n| {
            let (_, sum, usable) =
                Policy::unchecked(self.to_builder().lease_duration(tenths(n))).sum();
            sum <= usable
        };
        let most = u64::try_from(enough.as_millis().div_ceil(100)).unwrap_or(u64::MAX);
        let (mut short, mut long) = (0, most);
        while long - short > 1 {
            let middle = short.midpoint(long);
            if is_valid(middle) {
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
    use crate::policy::DropPolicy;

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
                .split("`lease_duration` to ")
                .nth(1)
                .expect("a number")
                .chars()
                .take_while(|c| c.is_ascii_digit() || *c == '.')
                .collect();
            let needed = Duration::from_secs_f64(number.parse().expect("seconds"));
            assert_eq!(error.setting(), Some("lease_duration"));
            assert_eq!(error.needed(), Some(needed));
            let with = |lease| builder.clone().lease_duration(lease).build();
            assert!(with(needed).is_ok(), "{hint}");
            let less = with(needed - Duration::from_millis(100));
            assert!(less.is_err(), "{hint}, and no more than that");
        }
    }

    #[test]
    fn the_hint_of_a_lease_of_milliseconds_is_enough() {
        let ms = Duration::from_millis;
        let builder = Policy::builder().margin(ms(1)).request_timeout(ms(10));
        let error = builder.clone().lease_duration(ms(5)).build();
        let needed = error.expect_err("too short").needed().expect("named");
        assert_eq!(needed, ms(100));
        assert!(builder.lease_duration(needed).build().is_ok());
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
        let others: [fn(PolicyBuilder) -> PolicyBuilder; 16] = [
            |p| p.lease_duration(s(30)),
            |p| p.grace(s(1)),
            |p| p.margin(s(2)),
            |p| p.expiry_padding(s(2)),
            |p| p.request_timeout(s(1)),
            |p| p.call_timeout(s(1)),
            |p| p.retention(s(9 * 86_400)),
            |p| {
                p.clock_bounds(leasehold_protocol::time::ClockBounds {
                    disagreement: s(9),
                    drift_ppm: 1,
                })
            },
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

    #[test]
    fn a_claim_is_time_for_two_polls_and_a_renewal_and_never_more_than_the_lease() {
        let hints = crate::store::Hints::default();
        let claim = |policy| Policy::unchecked(policy).claim(&hints).as_millis();
        // Margin 1 s, request 2 s, dates 1 s, and the longest delay.
        assert_eq!(claim(Policy::builder()), 5_006);
        let fixed = Policy::builder().check_delay(CheckDelay::Fixed(s(8)));
        assert_eq!(claim(fixed), 12_000);
        assert_eq!(claim(Policy::builder().lease_duration(s(3))), 3_000);
    }
}
