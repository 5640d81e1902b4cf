//! What expiry to publish, and until when a holder may believe in it.
//!
//! Invariant (S1): the holder believes in its grant only while service time is at most the published expiry P. A
//! contender acts on P only once service time is past it. Nothing here depends on a correct wall clock of the host:
//! a wrong one costs a renewal or a wait, never exclusion (`docs/protocol.md` section 3).

use std::time::Duration;

use super::time::{ClockBounds, Elapsed, Reading, ServiceClock, ServiceTime};

/// The durations and clock bounds of one grant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Terms {
    /// L: how long a grant lives without renewal.
    pub lease: Duration,
    /// S: added to every published expiry for F# clients, which compare P with their wall clock.
    pub expiry_padding: Duration,
    /// R: how long a released or expired record stays before TTL may delete it.
    pub retention: Duration,
    /// sigma: how long before its deadline `lost` fires for a holder.
    pub safety_margin: Duration,
    /// What is assumed of clocks.
    pub bounds: ClockBounds,
}

impl Terms {
    /// P for a request that is about to be sent. It is greater than `last`, the P of this grant so far.
    pub fn publish(
        &self,
        clock: &ServiceClock,
        now: Reading,
        last: Option<ServiceTime>,
    ) -> ServiceTime {
        let base = service_now(clock, now);
        let fresh = base.plus(self.lease).plus(self.expiry_padding);
        match last {
            Some(last) => fresh.max(ServiceTime(last.0.saturating_add(1))),
            None => fresh,
        }
    }

    /// The TTL attribute of a record: R after the later of `until` and now, in Unix seconds. "Now" is
    /// the upper bound that includes the wall clock: an early deletion loses the token, a late one
    /// only costs storage.
    pub fn ttl_seconds(&self, until: ServiceTime, clock: &ServiceClock, now: Reading) -> i64 {
        self.retained(clock.latest(now).map_or(until, |latest| latest.max(until)))
    }

    /// Rounded up: rounded down, the service could delete the record before R has passed.
    fn retained(&self, until: ServiceTime) -> i64 {
        let ms = until.plus(self.retention).0.max(0);
        ms.div_euclid(1_000) + i64::from(ms.rem_euclid(1_000) != 0)
    }

    /// The TTL attribute for a record that is released now. `None` without a recent stamp: the record
    /// keeps its TTL, because a wall clock far behind would delete record and token at once.
    pub fn released_ttl_seconds(&self, clock: &ServiceClock, now: Reading) -> Option<i64> {
        clock.latest(now).map(|latest| self.retained(latest))
    }
}

/// The best guess of service time for what must be published: the upper bound, or the wall clock
/// while there is no stamp yet.
pub fn service_now(clock: &ServiceClock, now: Reading) -> ServiceTime {
    clock
        .latest_by_elapsed(now.elapsed)
        .unwrap_or(ServiceTime(now.wall_ms))
}

fn millis(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}

/// One request that published an expiry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Sent {
    /// Both clocks, read before any other step of the request.
    pub at: Reading,
    /// The expiry that it published.
    pub expires_at: ServiceTime,
}

/// Until when the holder may believe in its grant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Deadline {
    /// On the elapsed clock.
    pub at: Elapsed,
    /// The clocks at the send from which it counts. Only the wall clock counts a pause of the virtual
    /// machine (holder rule 2).
    anchor: Reading,
    /// The service time until which the holder believes in its grant.
    believed: ServiceTime,
    /// The service's clock is this host's elapsed clock. All contenders miss the same pauses, so the
    /// wall clock does not count.
    of_host: bool,
}

impl Deadline {
    /// The deadline that an acknowledged request gives: the earlier of two moments. The first is the
    /// end of the lease, counted from the *send* (from the answer, exclusion breaks in 10 steps). The
    /// second is when service time may reach P less the expiry padding: an F# client, whose clock may
    /// be ahead by that much, acts that long before P.
    pub fn of(sent: &Sent, terms: &Terms, clock: &ServiceClock, now: Reading) -> Deadline {
        let by_lease = sent.at.elapsed.plus(clock.bounds().at_least(terms.lease));
        let expiry_padding = millis(terms.expiry_padding);
        let believed = ServiceTime(sent.expires_at.0.saturating_sub(expiry_padding));
        let at = match clock.not_past_until(believed, now) {
            Some(by_service) => by_lease.min(by_service),
            None => by_lease,
        };
        Deadline {
            at,
            anchor: sent.at,
            believed,
            of_host: clock.is_of_host(),
        }
    }

    /// The deadline of a grant that its holder must not believe in.
    pub fn over() -> Deadline {
        Deadline {
            at: Elapsed::default(),
            anchor: Reading::default(),
            believed: ServiceTime(0),
            of_host: false,
        }
    }

    /// The elapsed clock at the send from which it counts.
    pub fn sent_at(&self) -> Elapsed {
        self.anchor.elapsed
    }

    /// The later of two deadlines.
    #[must_use]
    pub fn later(self, other: Deadline) -> Deadline {
        if other.at > self.at { other } else { self }
    }

    /// The elapsed clock, or the advance of the wall clock since the send if that is more. With
    /// [`Stamp::Host`](super::time::Stamp::Host) the wall clock does not count.
    pub fn effective_now(&self, now: Reading) -> Elapsed {
        if self.of_host {
            return now.elapsed;
        }
        let wall = now.wall_ms.saturating_sub(self.anchor.wall_ms);
        let wall = Duration::from_millis(u64::try_from(wall).unwrap_or(0));
        now.elapsed.max(self.anchor.elapsed.plus(wall))
    }

    /// The time that is left until `safety_margin` before the deadline. It uses the present state of
    /// `clock`: an answer to another request may have shown time that neither clock of this host
    /// counted.
    pub fn remaining(
        &self,
        now: Reading,
        safety_margin: Duration,
        clock: &ServiceClock,
    ) -> Duration {
        let left = self.at.minus(safety_margin).since(self.effective_now(now));
        match clock.not_past_until(self.believed, now) {
            Some(until) => left.min(until.minus(safety_margin).since(now.elapsed)),
            None => left,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::time::Stamp;
    use super::*;

    fn terms() -> Terms {
        Terms {
            lease: Duration::from_secs(20),
            expiry_padding: Duration::from_secs(1),
            retention: Duration::from_secs(7 * 86_400),
            safety_margin: Duration::from_secs(1),
            bounds: ClockBounds::default(),
        }
    }

    fn reading(elapsed_ms: u64, wall_ms: i64) -> Reading {
        Reading {
            elapsed: Elapsed(Duration::from_millis(elapsed_ms)),
            wall_ms,
        }
    }

    #[test]
    fn without_a_stamp_the_wall_clock_is_published_and_the_lease_bounds_the_belief() {
        let clock = ServiceClock::new(ClockBounds::default());
        let now = reading(0, 1_000_000);
        let p = terms().publish(&clock, now, None);
        assert_eq!(p, ServiceTime(1_021_000));
        let sent = Sent {
            at: now,
            expires_at: p,
        };
        let deadline = Deadline::of(&sent, &terms(), &clock, now);
        assert_eq!(deadline.at, Elapsed(Duration::from_millis(19_980)));
    }

    #[test]
    fn a_clock_far_behind_makes_the_first_grant_worthless() {
        let mut clock = ServiceClock::new(ClockBounds::default());
        let now = reading(0, 0);
        let sent = Sent {
            at: now,
            expires_at: terms().publish(&clock, now, None),
        };
        clock.learn(Stamp::WholeSeconds(3_600), now, now);
        let deadline = Deadline::of(&sent, &terms(), &clock, now);
        assert_eq!(
            deadline.remaining(now, terms().safety_margin, &clock),
            Duration::ZERO
        );
        // The renewal publishes by the service's clock.
        let p = terms().publish(&clock, now, Some(sent.expires_at));
        let renewed = Sent {
            at: now,
            expires_at: p,
        };
        let deadline = Deadline::of(&renewed, &terms(), &clock, now);
        assert!(deadline.remaining(now, terms().safety_margin, &clock) > Duration::from_secs(18));
    }

    #[test]
    fn the_published_expiry_only_moves_forward() {
        let clock = ServiceClock::new(ClockBounds::default());
        let p = terms().publish(&clock, reading(0, 5_000), Some(ServiceTime(90_000)));
        assert_eq!(p, ServiceTime(90_001));
    }

    #[test]
    fn r6_ttl_is_rounded_up_and_counts_through_a_pause() {
        let mut t = terms();
        t.retention = Duration::from_secs(86_400);
        let mut clock = ServiceClock::new(ClockBounds::default());
        let ttl = |clock: &ServiceClock, ms, now| t.ttl_seconds(ServiceTime(ms), clock, now);
        assert_eq!(ttl(&clock, 1_000, reading(0, 0)), 86_401);
        assert_eq!(ttl(&clock, 1_001, reading(0, 0)), 86_402);
        // Two days pass that only the wall clock counts: P is that much too low, the TTL is not.
        clock.learn(
            Stamp::Exact(ServiceTime(1_000)),
            reading(0, 0),
            reading(0, 0),
        );
        let two_days = 2 * 86_400_000;
        assert_eq!(
            ttl(&clock, 1_000, reading(10, two_days)),
            1 + 3 * 86_400 + 173
        );
    }

    #[test]
    fn a_pause_seen_only_by_the_wall_clock_counts() {
        let clock = ServiceClock::new(ClockBounds::default());
        let sent = Sent {
            at: reading(0, 0),
            expires_at: ServiceTime(21_000),
        };
        let deadline = Deadline::of(&sent, &terms(), &clock, reading(0, 0));
        let safety_margin = terms().safety_margin;
        assert!(
            deadline.remaining(reading(1_000, 1_000), safety_margin, &clock)
                > Duration::from_secs(17)
        );
        assert_eq!(
            deadline.remaining(reading(1_000, 60_000), safety_margin, &clock),
            Duration::ZERO
        );
        // A wall clock set back changes nothing.
        assert!(
            deadline.remaining(reading(1_000, -60_000), safety_margin, &clock)
                > Duration::from_secs(17)
        );
    }

    #[test]
    fn b10_a_stepped_wall_clock_ends_no_grant_on_a_clock_of_the_same_host() {
        for (stamp, held) in [
            (Stamp::Host(ServiceTime(0)), true),
            (Stamp::Exact(ServiceTime(0)), false),
        ] {
            let mut clock = ServiceClock::new(ClockBounds::default());
            let now = reading(0, 0);
            clock.learn(stamp, now, now);
            let sent = Sent {
                at: now,
                expires_at: terms().publish(&clock, now, None),
            };
            let deadline = Deadline::of(&sent, &terms(), &clock, now);
            let stepped = reading(1_000, 3_601_000);
            let left = deadline.remaining(stepped, terms().safety_margin, &clock);
            assert_eq!(left > Duration::from_secs(17), held, "{stamp:?}: {left:?}");
            assert_eq!(
                deadline.remaining(reading(19_500, 0), terms().safety_margin, &clock),
                Duration::ZERO
            );
        }
    }

    #[test]
    fn b8_an_answer_to_another_request_proves_a_pause_that_both_clocks_missed() {
        let mut clock = ServiceClock::new(ClockBounds::default());
        let now = reading(0, 0);
        assert!(!clock.learn(Stamp::Exact(ServiceTime(0)), now, now));
        let sent = Sent {
            at: now,
            expires_at: terms().publish(&clock, now, None),
        };
        let deadline = Deadline::of(&sent, &terms(), &clock, now);
        let later = reading(1_000, 1_000);
        let safety_margin = terms().safety_margin;
        assert!(deadline.remaining(later, safety_margin, &clock) > Duration::from_secs(17));
        // By the service's clock, 15 s have passed in that second.
        assert!(clock.learn(Stamp::Exact(ServiceTime(15_000)), later, later));
        let left = deadline.remaining(later, safety_margin, &clock);
        assert!(
            left < Duration::from_secs(5) && left > Duration::from_secs(3),
            "{left:?}"
        );
        assert!(clock.learn(Stamp::Exact(ServiceTime(60_000)), later, later));
        assert_eq!(
            deadline.remaining(later, safety_margin, &clock),
            Duration::ZERO
        );
    }

    #[test]
    fn the_pad_is_for_others_not_for_the_holder() {
        // A host 15 s behind publishes without a stamp; an F# client may act an expiry padding before P.
        let mut clock = ServiceClock::new(ClockBounds::default());
        let now = reading(0, 85_000);
        let sent = Sent {
            at: now,
            expires_at: terms().publish(&clock, now, None),
        };
        clock.learn(Stamp::Exact(ServiceTime(100_000)), now, now);
        let deadline = Deadline::of(&sent, &terms(), &clock, now);
        let until_p =
            Duration::from_millis(sent.expires_at.since(ServiceTime(100_000)).as_millis() as u64);
        assert!(deadline.at.0 <= until_p - terms().expiry_padding);
    }
}
