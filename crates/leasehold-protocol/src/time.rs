//! Clocks as the protocol sees them.
//!
//! There are two kinds of time. [`Elapsed`] is a host's clock that only measures durations.
//! [`ServiceTime`] is the clock of the store, which all clients share. [`ServiceClock`] turns the
//! stamps of the store's answers into an interval that contains the service's clock
//! (`docs/protocol.md` section 3). Invariant: `earliest(e) <= service clock at e <= latest(e)`, given
//! the bounds `delta` (hosts of the service disagree) and `rho` (rate error of an elapsed clock).

use std::fmt;
use std::time::Duration;

/// The largest certain difference between a host's wall clock and the dates of answers at which
/// the dates alone are trusted. A holder leaves more than this of its grant unused, so dates that
/// are wrong by less break nothing.
pub const CORROBORATION: Duration = Duration::from_secs(1);

/// How long a sample of the service's clock is used at most. There is one [`Window`] per half of it.
const SAMPLE_LIFE: Duration = Duration::from_secs(600);

/// A reading of an elapsed clock: it counts through suspend and has an arbitrary origin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Elapsed(pub Duration);

impl Elapsed {
    /// A moment that no clock reaches.
    pub const NEVER: Elapsed = Elapsed(Duration::MAX);

    /// The time from `earlier` to here; zero when `earlier` is later.
    pub fn since(self, earlier: Elapsed) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment `by` later.
    #[must_use]
    pub fn plus(self, by: Duration) -> Elapsed {
        Elapsed(self.0.saturating_add(by))
    }

    /// The moment `by` earlier, or the origin.
    #[must_use]
    pub fn minus(self, by: Duration) -> Elapsed {
        Elapsed(self.0.saturating_sub(by))
    }
}

/// Service time, in milliseconds since the Unix epoch by the service's clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ServiceTime(pub i64);

impl ServiceTime {
    /// The moment `by` later, rounded up to a millisecond.
    #[must_use]
    pub fn plus(self, by: Duration) -> ServiceTime {
        ServiceTime(self.0.saturating_add(millis_ceil(by)))
    }

    /// The moment `by` later, rounded down to a millisecond.
    #[must_use]
    pub fn plus_floor(self, by: Duration) -> ServiceTime {
        let whole = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        ServiceTime(self.0.saturating_add(whole))
    }

    /// The time from `earlier` to here; zero when `earlier` is later.
    pub fn since(self, earlier: ServiceTime) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The distance between two times, whichever is first.
    pub fn distance(self, other: ServiceTime) -> Duration {
        Duration::from_millis(self.0.abs_diff(other.0))
    }
}

impl fmt::Debug for ServiceTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceTime({} ms)", self.0)
    }
}

fn millis_ceil(d: Duration) -> i64 {
    i64::try_from(d.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

/// Both clocks of a host at one moment. They are read before any other step (holder rule 1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Reading {
    /// The elapsed clock.
    pub elapsed: Elapsed,
    /// The host's wall clock, milliseconds since the Unix epoch. It is not trusted: it seeds what is
    /// published before the first stamp, and otherwise it can only *shorten* a grant.
    pub wall_ms: i64,
}

/// The two assumptions about clocks. Every other bound follows from them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ClockBounds {
    /// `delta`: how far the service's own hosts may disagree about the time. 200 ms by default.
    pub disagreement: Duration,
    /// `rho` in parts per million: the rate error of an elapsed clock. 1,000 by default.
    pub drift_ppm: u32,
}

impl Default for ClockBounds {
    fn default() -> Self {
        ClockBounds {
            disagreement: Duration::from_millis(200),
            drift_ppm: 1_000,
        }
    }
}

impl ClockBounds {
    /// The least true time that can have passed while an elapsed clock counted `d`.
    pub fn at_least(&self, d: Duration) -> Duration {
        scale(d, 1_000_000 - u64::from(self.drift_ppm), 1_000_000)
    }

    /// The most true time that can have passed while an elapsed clock counted `d`.
    pub fn at_most(&self, d: Duration) -> Duration {
        scale(d, 1_000_000 + u64::from(self.drift_ppm), 1_000_000)
    }
}

fn scale(d: Duration, numerator: u64, denominator: u64) -> Duration {
    let nanos = d.as_nanos().saturating_mul(u128::from(numerator)) / u128::from(denominator);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// A reading of the service's clock in an answer of the store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stamp {
    /// A `Date` header: whole seconds, floored, from any host of the service.
    WholeSeconds(i64),
    /// The one clock of the store, exact at some moment between request and answer.
    Exact(ServiceTime),
    /// Like `Exact`, for a store whose clock is the elapsed clock of the caller's own host plus a
    /// constant. Both clocks miss the same pauses of the virtual machine, and so do all contenders.
    /// So the wall clock is not used.
    Host(ServiceTime),
}

impl Stamp {
    /// The stamp for a caller whose elapsed clock is not the host's: `Host` becomes `Exact`.
    #[must_use]
    pub fn of_another_clock(self) -> Stamp {
        match self {
            Stamp::Host(time) => Stamp::Exact(time),
            other => other,
        }
    }
}

/// The service's clock is at least `time` from elapsed `at` on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Low {
    time: ServiceTime,
    at: Elapsed,
}

/// The service's clock was at most `time` when the clocks showed `at`. The bound ages by the clock that counted
/// more time (holder rule 2). Only the wall clock counts a pause of a virtual machine, and a bound without the
/// pause is too low.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct High {
    time: ServiceTime,
    at: Reading,
    /// The service's clock is this host's elapsed clock, and misses the same pauses.
    of_host: bool,
    /// The source is the `Date` of an answer, which a proxy may have written.
    dated: bool,
}

impl High {
    /// The time since the sample that the wall clock counted and the elapsed clock did not.
    fn missed(&self, now: Reading) -> Duration {
        if self.of_host {
            return Duration::ZERO;
        }
        let wall = now.wall_ms.saturating_sub(self.at.wall_ms);
        let wall = Duration::from_millis(u64::try_from(wall).unwrap_or(0));
        wall.saturating_sub(now.elapsed.since(self.at.elapsed))
    }
}

/// The best bounds of one half of the sample life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Window {
    opened: Elapsed,
    low: Low,
    high: High,
}

/// The interval that contains the service's clock, as one client knows it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ServiceClock {
    bounds: ClockBounds,
    current: Option<Window>,
    previous: Option<Window>,
}

impl ServiceClock {
    /// A clock that knows nothing yet.
    pub fn new(bounds: ClockBounds) -> Self {
        ServiceClock {
            bounds,
            current: None,
            previous: None,
        }
    }

    /// The bounds it was made with.
    pub fn bounds(&self) -> ClockBounds {
        self.bounds
    }

    /// Learns from the stamp of an answer received at `received` to a request sent at `sent`.
    ///
    /// A stamp that contradicts the known interval replaces it, and the result is `true`: the caller
    /// must repeat its decisions by this clock. The cause is a step of the service's clock, or time
    /// that neither clock of this host counted.
    pub fn learn(&mut self, stamp: Stamp, sent: Reading, received: Reading) -> bool {
        let (lowest, highest) = match stamp {
            Stamp::Exact(t) | Stamp::Host(t) => (t, t),
            Stamp::WholeSeconds(s) => {
                let d = s.saturating_mul(1_000);
                let delta = millis_ceil(self.bounds.disagreement);
                (
                    ServiceTime(d.saturating_sub(delta)),
                    ServiceTime(d.saturating_add(1_000).saturating_add(delta)),
                )
            }
        };
        // The stamp was made after `sent` and before `received`. So the lower bound counts from the
        // answer, and the upper one from the request. Exchanging either breaks S1.
        let low = Low {
            time: lowest,
            at: received.elapsed,
        };
        let high = High {
            time: highest,
            at: sent,
            of_host: matches!(stamp, Stamp::Host(_)),
            dated: matches!(stamp, Stamp::WholeSeconds(_)),
        };
        let fresh = Window {
            opened: received.elapsed,
            low,
            high,
        };
        let contradicted = self.latest(received).is_some_and(|latest| lowest > latest)
            || self
                .earliest(received.elapsed)
                .is_some_and(|earliest| self.bounds.high_at(high, received) < earliest);
        if contradicted {
            self.current = None;
            self.previous = None;
        }
        match self.current {
            Some(ref mut window) if received.elapsed.since(window.opened) < SAMPLE_LIFE / 2 => {
                let now = received.elapsed;
                if self.bounds.low_at(low, now) > self.bounds.low_at(window.low, now) {
                    window.low = low;
                }
                if self.bounds.high_at(high, received) < self.bounds.high_at(window.high, received)
                {
                    window.high = high;
                }
            }
            stale => {
                self.previous = stale;
                self.current = Some(fresh);
            }
        }
        contradicted
    }

    /// Whether the last stamp was a [`Stamp::Host`].
    pub fn is_of_host(&self) -> bool {
        self.current.is_some_and(|window| window.high.of_host)
    }

    fn windows(&self, now: Elapsed) -> impl Iterator<Item = &Window> {
        let windows = self.current.iter().chain(&self.previous);
        windows.filter(move |w| now.since(w.opened) < SAMPLE_LIFE)
    }

    /// The service's clock is at least this. `None` without a recent stamp.
    pub fn earliest(&self, now: Elapsed) -> Option<ServiceTime> {
        self.windows(now)
            .map(|w| self.bounds.low_at(w.low, now))
            .max()
    }

    /// The service's clock is at most this. `None` without a recent stamp.
    pub fn latest(&self, now: Reading) -> Option<ServiceTime> {
        self.windows(now.elapsed)
            .map(|w| self.bounds.high_at(w.high, now))
            .min()
    }

    /// The upper bound by the elapsed clock alone, the base of a published expiry. After a pause it is
    /// too low, which costs a renewal. A bound that includes the wall clock would be too high after a
    /// step of that clock, and a published expiry cannot be lowered.
    pub fn latest_by_elapsed(&self, now: Elapsed) -> Option<ServiceTime> {
        self.windows(now)
            .map(|w| {
                let unpaused = Reading {
                    elapsed: now,
                    wall_ms: w.high.at.wall_ms,
                };
                self.bounds.high_at(w.high, unpaused)
            })
            .min()
    }

    /// The last elapsed moment at which the service's clock is certainly not past `time`, by the
    /// upper bound known at `now`.
    pub fn not_past_until(&self, time: ServiceTime, now: Reading) -> Option<Elapsed> {
        self.windows(now.elapsed)
            .map(|w| {
                // latest(e) = high + (e - at) * (1 + rho) <= time, solved for e, rounded down.
                let room = time.since(w.high.time);
                let divided = scale(
                    room,
                    1_000_000,
                    1_000_000 + u64::from(self.bounds.drift_ppm),
                );
                if time < w.high.time {
                    // Already past at the sample: a moment before every possible reading.
                    Elapsed::default()
                } else {
                    // The time that our elapsed clock missed since the sample is subtracted.
                    w.high.at.elapsed.plus(divided).minus(w.high.missed(now))
                }
            })
            .max()
    }

    /// The first elapsed moment at which the service's clock is certainly past `time`.
    pub fn past_from(&self, time: ServiceTime, now: Elapsed) -> Option<Elapsed> {
        self.windows(now)
            .map(|w| {
                // earliest(e) = low + (e - at) * (1 - rho) > time, solved for e, rounded up.
                let room = ServiceTime(time.0.saturating_add(1)).since(w.low.time);
                let room = room.saturating_add(Duration::from_millis(1));
                let divided = scale(
                    room,
                    1_000_000,
                    1_000_000 - u64::from(self.bounds.drift_ppm),
                );
                if time < w.low.time {
                    w.low.at
                } else {
                    w.low.at.plus(divided)
                }
            })
            .min()
    }

    /// Whether this host's wall clock agrees with the dates of answers within [`CORROBORATION`]. A
    /// proxy may have replaced the service's dates. Exact stamps need no second source: always `true`.
    pub fn is_corroborated(&self, now: Reading) -> bool {
        let dated = self.current.is_some_and(|window| window.high.dated);
        let deviation = self.wall_deviation_ms(now).filter(|_| dated);
        let most = u64::try_from(CORROBORATION.as_millis()).unwrap_or(u64::MAX);
        deviation.is_none_or(|deviation| deviation.unsigned_abs() <= most)
    }

    /// The certain difference between the wall clock and the service's clock, in milliseconds:
    /// positive when the host is ahead, zero when it may be right. `None` without a recent stamp.
    pub fn wall_deviation_ms(&self, now: Reading) -> Option<i64> {
        let behind = now.wall_ms.saturating_sub(self.earliest(now.elapsed)?.0);
        let ahead = now.wall_ms.saturating_sub(self.latest(now)?.0);
        // One of the two is zero.
        Some(ahead.max(0) + behind.min(0))
    }
}

impl ClockBounds {
    fn low_at(&self, bound: Low, now: Elapsed) -> ServiceTime {
        bound.time.plus_floor(self.at_least(now.since(bound.at)))
    }

    fn high_at(&self, bound: High, now: Reading) -> ServiceTime {
        let passed = now.elapsed.since(bound.at.elapsed) + bound.missed(now);
        // One nanosecond up: `at_most` rounds down, and this is an upper bound.
        let passed = self.at_most(passed) + Duration::from_nanos(1);
        bound.time.plus(passed)
    }
}

#[cfg(test)]
mod tests;
