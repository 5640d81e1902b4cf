//! When a call that waits for a run looks again.

use std::time::Duration;

/// The part of a lease over which the calls that wait for its end are spread.
const SPREAD: f64 = 0.25;
/// The same for a call that is not patient.
const CLOSE: f64 = 0.02;

/// A run as it was seen.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Seen {
    /// For how long it has run.
    pub(super) age: Duration,
    /// How long the last run of the key took.
    pub(super) last: Option<Duration>,
    /// When its grant ends if it is not renewed, from now.
    pub(super) ends: Option<Duration>,
    /// The lease of its grant.
    pub(super) lease: Duration,
}

impl Seen {
    /// How long until the next look: at the expected end of the run, and after that when its age has doubled.
    /// A patient call that finds it overdue waits for the end of its grant. `random` is in 0..1.
    pub(super) fn next_look(&self, patient: bool, first: Duration, random: f64) -> Duration {
        let expected = self.last.unwrap_or_default();
        let overdue = self.last.is_some() && self.age >= expected * 2 + first;
        let by_age = match expected.checked_sub(self.age) {
            Some(left) => left + expected.mul_f64(random / 8.0),
            None => self.age,
        };
        let spread = if patient { SPREAD } else { CLOSE };
        // An old answer may show a run of long ago.
        let ends = self.ends.unwrap_or(self.lease).min(self.lease * 2);
        let last = ends + self.lease.mul_f64(random * spread);
        match patient && overdue {
            true => last,
            false => by_age.min(last),
        }
        .max(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(50);

    fn seen(age_ms: u64, last_ms: Option<u64>) -> Seen {
        Seen {
            age: Duration::from_millis(age_ms),
            last: last_ms.map(Duration::from_millis),
            ends: Some(Duration::from_secs(21)),
            lease: Duration::from_secs(20),
        }
    }

    fn ms(seen: Seen, patient: bool, random: f64) -> u128 {
        seen.next_look(patient, FIRST, random).as_millis()
    }

    #[test]
    fn a_look_is_due_at_the_expected_end_and_then_when_the_age_has_doubled() {
        assert_eq!(ms(seen(200, Some(1_000)), false, 0.0), 800);
        assert_eq!(ms(seen(200, Some(1_000)), false, 0.8), 900);
        assert_eq!(ms(seen(1_200, Some(1_000)), false, 0.5), 1_200);
        assert_eq!(ms(seen(3_000, None), false, 0.5), 3_000);
        // Never at once, and never long after the end of the grant.
        assert_eq!(ms(seen(0, None), false, 0.5), 50);
        assert_eq!(ms(seen(90_000, None), false, 0.5), 21_200);
    }

    #[test]
    fn a_patient_call_waits_for_the_end_of_a_run_that_is_overdue() {
        assert_eq!(ms(seen(1_200, Some(1_000)), true, 0.0), 1_200);
        assert_eq!(ms(seen(2_050, Some(1_000)), true, 0.0), 21_000);
        assert_eq!(ms(seen(2_050, Some(1_000)), true, 0.5), 23_500);
        // The first run of a key has no expected end.
        assert_eq!(ms(seen(2_050, None), true, 0.5), 2_050);
    }

    #[test]
    fn without_a_known_end_a_lease_is_waited() {
        let seen = Seen {
            ends: None,
            ..seen(90_000, None)
        };
        assert_eq!(ms(seen, false, 0.0), 20_000);
    }
}
