//! The host's elapsed clock: it counts through suspend, and nobody can set or slew it.
//!
//! On Linux no single clock does both. `CLOCK_BOOTTIME` counts through suspend, but NTP slews it:
//! chrony by up to 83,333 ppm. That ends a lease of 20 s up to 1.7 s late by the holder's clock, or
//! early by a contender's (S1). `CLOCK_MONOTONIC_RAW` is never slewed, but stops in suspend. The
//! difference of `CLOCK_BOOTTIME` and `CLOCK_MONOTONIC`, which are slewed alike, is the time in
//! suspend. The elapsed clock is the sum of this difference and `CLOCK_MONOTONIC_RAW`. All processes
//! of the machine agree on it, up to the time that the reads of three clocks take.
//!
//! Other systems use `CLOCK_MONOTONIC`, which counts through suspend on Apple systems.

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) use self::linux::elapsed;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) use self::other::elapsed;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    use rustix::time::{ClockId, clock_gettime};

    use leasehold_protocol::time::Elapsed;

    /// The largest distance between the two readings of the monotonic clock around one of the boot clock.
    const CLOSE_NANOS: i64 = 20_000;
    /// How often that is tried, since this thread may be stopped between two readings.
    const TRIES: u32 = 16;

    /// The time in suspend. Each measurement is a lower bound, so the largest is the best.
    static SLEPT_NANOS: AtomicI64 = AtomicI64::new(i64::MIN);

    pub(in crate::clock) fn elapsed() -> Elapsed {
        // Read first: a suspend between this and the next readings is then counted.
        let raw = nanos(ClockId::MonotonicRaw);
        let slept = SLEPT_NANOS.load(Ordering::Relaxed);
        let slept = slept.max(slept_at_least(slept));
        SLEPT_NANOS.fetch_max(slept, Ordering::Relaxed);
        let sum = raw.saturating_add(slept);
        Elapsed(Duration::from_nanos(u64::try_from(sum).unwrap_or(0)))
    }

    /// A lower bound of the time in suspend. It ends early if a measurement agrees with `known`.
    fn slept_at_least(known: i64) -> i64 {
        let mut best = i64::MIN;
        for _ in 0..TRIES {
            let before = nanos(ClockId::Monotonic);
            let boot = nanos(ClockId::Boottime);
            let after = nanos(ClockId::Monotonic);
            let (at_least, at_most) = bounds(before, boot, after);
            best = best.max(at_least);
            if known >= at_least && known <= at_most || after.saturating_sub(before) < CLOSE_NANOS {
                break;
            }
        }
        best
    }

    /// Bounds of the time in suspend, by a reading of the boot clock between two of the monotonic one.
    fn bounds(before: i64, boot: i64, after: i64) -> (i64, i64) {
        (boot.saturating_sub(after), boot.saturating_sub(before))
    }

    fn nanos(clock: ClockId) -> i64 {
        let t = clock_gettime(clock);
        t.tv_sec
            .saturating_mul(1_000_000_000)
            .saturating_add(t.tv_nsec)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn b12_slewing_moves_what_was_slept_by_nothing() {
            // 20 s pass while chrony slews both clocks by 83,333 ppm; the host sleeps for 5 s in between.
            let slewed = |true_nanos: i64| true_nanos + true_nanos / 12;
            let second = 1_000_000_000;
            let at = |passed: i64, slept: i64| {
                let monotonic = slewed(passed);
                bounds(monotonic, monotonic + slept, monotonic)
            };
            assert_eq!(at(0, 0), (0, 0));
            assert_eq!(at(10 * second, 0), (0, 0));
            assert_eq!(at(20 * second, 5 * second), (5 * second, 5 * second));
        }

        #[test]
        fn a_thread_that_is_stopped_between_readings_gives_a_lower_bound() {
            let (at_least, at_most) = bounds(1_000, 5_000, 4_000_001_000);
            assert!(at_least <= 4_000 && at_most == 4_000);
        }

        #[test]
        fn it_runs_at_the_rate_of_the_clock_that_nobody_slews() {
            let (raw, sum) = (nanos(ClockId::MonotonicRaw), elapsed());
            let until = raw + 20_000_000;
            while nanos(ClockId::MonotonicRaw) < until {
                std::hint::spin_loop();
            }
            let passed = elapsed().since(sum);
            let raw_passed = nanos(ClockId::MonotonicRaw) - raw;
            let passed = i64::try_from(passed.as_nanos()).expect("short");
            assert!(
                passed >= 19_000_000 && passed <= raw_passed,
                "{passed} of {raw_passed}"
            );
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod other {
    use leasehold_protocol::time::Elapsed;

    #[cfg(unix)]
    pub(in crate::clock) fn elapsed() -> Elapsed {
        use rustix::time::{ClockId, clock_gettime};
        let t = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(t.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(t.tv_nsec).unwrap_or(0);
        Elapsed(std::time::Duration::new(seconds, nanos))
    }

    #[cfg(not(unix))]
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub(in crate::clock) fn elapsed() -> Elapsed {
        use std::sync::OnceLock;
        use std::time::Instant;
        // QueryPerformanceCounter, which counts through sleep.
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        Elapsed(ORIGIN.get_or_init(Instant::now).elapsed())
    }
}
