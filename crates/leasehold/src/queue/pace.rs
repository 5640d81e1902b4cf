//! When a waiter polls, by what it knows of the turns of its key. Pure: the caller passes the time.
//!
//! A turn begins when the key is handed over, and ends when it is handed on. Its length follows from how
//! long the last grant was held, which the record says, or else from the tokens that answers have shown.
//! A waiter expects its grant after the present turn and those of the waiters before it. It sleeps until
//! then, but for one look in the turn before its own, which tells when that began. At the expected time it
//! polls with the shortest delay, and later ever less often.

use std::time::Duration;

use leasehold_protocol::attempt::Shown;
use leasehold_protocol::time::Elapsed;

/// Which part of the turn before its own passes before a waiter looks.
const INTO_TURN: f64 = 0.3;
/// A waiter further away sleeps for this part of the turns before its own.
const OF_TURNS: f64 = 0.8;
/// Which waiters are further away: more than so many others are before them.
const FAR: usize = 2;
/// A delay is this part of the distance to the expected time.
const OF_DISTANCE: u32 = 8;
/// The same where nothing is known of turns, of the time that the holder has had.
const OF_HELD: u32 = 4;
/// The most polls of the first waiter for one round trip.
const PER_ROUND_TRIP: u32 = 2;

/// What the waiters of a client know of the turns of a key.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// The newest token that an answer has shown, and its turn.
    newest: Option<(u64, Turn)>,
    /// How long the last grant was held.
    held: Option<Duration>,
    /// How long turns were.
    turn: Option<Duration>,
    round_trip: RoundTrip,
    /// The shortest delay at the last poll.
    shortest: Duration,
    /// Polls since the newest token was first shown.
    round: u32,
}

/// How long a request takes.
#[derive(Clone, Copy, Debug, Default)]
enum RoundTrip {
    #[default]
    Unknown,
    /// The first request may have opened a connection.
    First(Duration),
    Mean(Duration),
}

impl RoundTrip {
    fn length(self) -> Duration {
        match self {
            RoundTrip::Unknown => Duration::ZERO,
            RoundTrip::First(took) | RoundTrip::Mean(took) => took,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    /// When it began, by the middle of the requests that tell it.
    since: Elapsed,
    /// Whether that was seen. Otherwise it may have begun long before.
    seen: bool,
    /// The last moment at which it certainly went on.
    last: Elapsed,
}

/// How often a waiter may poll.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delays {
    /// The shortest delay.
    pub(crate) first: Duration,
    /// The longest one.
    pub(crate) max: Duration,
}

impl Pace {
    /// Records the token that an answer has shown, and how long the last grant was held.
    pub(crate) fn saw(&mut self, token: u64, held: Option<Duration>, shown: &Shown) {
        let took = shown.received.since(shown.sent.elapsed);
        self.round_trip = match self.round_trip {
            RoundTrip::Unknown => RoundTrip::First(took),
            RoundTrip::First(_) => RoundTrip::Mean(took),
            RoundTrip::Mean(mean) => RoundTrip::Mean((mean * 3 + took) / 4),
        };
        let at = shown.sent.elapsed.plus(took / 2);
        let Some((newest, before)) = self.newest else {
            self.held = held;
            self.begins(token, at, at, false);
            return;
        };
        if token <= newest {
            if token == newest && at > before.last {
                self.newest = Some((newest, Turn { last: at, ..before }));
            }
            return;
        }
        self.held = held.or(self.held);
        let turns = u32::try_from(token - newest).unwrap_or(u32::MAX);
        let gap = at.since(before.last);
        let since = match self.length() {
            Some(turn) if before.seen => {
                let expected = before.since.plus(turn.saturating_mul(turns));
                expected.max(before.last).min(at)
            }
            // In the middle of the time in which it may have begun.
            _ => at.minus(gap / turns.saturating_mul(2)),
        };
        if before.seen {
            let seen = since.since(before.since) / turns;
            self.turn = Some(match self.turn {
                // A pause in which nobody wanted the key counts as two turns at most.
                Some(turn) => (turn + seen.min(turn * 2)) / 2,
                None => seen,
            });
        }
        self.begins(token, since, at, true);
    }

    fn begins(&mut self, token: u64, since: Elapsed, last: Elapsed, seen: bool) {
        self.newest = Some((token, Turn { since, seen, last }));
        self.round = 0;
    }

    /// Records a poll. Returns how many there were since the last new token.
    pub(crate) fn polls(&mut self) -> u32 {
        self.round = self.round.saturating_add(1);
        self.round
    }

    /// How many polls have found the same grant.
    pub(crate) fn round(&self) -> u32 {
        self.round
    }

    /// How long a turn takes, if that is known: the grant, its way there and back, and half a delay.
    pub(crate) fn length(&self) -> Option<Duration> {
        let around = |held| held + self.round_trip.length() + self.shortest / 2;
        self.held.map(around).or(self.turn)
    }

    /// When to poll next, behind `ahead` other waiters and the holder. The last poll was at `last`.
    pub(crate) fn next(
        &mut self,
        ahead: usize,
        last: Elapsed,
        now: Elapsed,
        delays: Delays,
    ) -> Elapsed {
        let Delays { first, max } = delays;
        let round_trip = self.round_trip.length();
        self.shortest = first.max(round_trip / PER_ROUND_TRIP);
        let turns = u32::try_from(ahead).unwrap_or(u32::MAX).saturating_add(1);
        let since = self.newest.map_or(now, |(_, turn)| turn.since);
        let Some(turn) = self.length() else {
            let held = now.since(since) / OF_HELD;
            let delay = held.max(self.shortest.saturating_mul(turns));
            return last.plus(delay.min(max));
        };
        // A poll arrives there half a round trip after it is sent.
        let there = |at: Elapsed| at.minus(round_trip / 2);
        let expected = there(since.plus(turn.saturating_mul(turns)));
        let aim = match ahead {
            0 => expected,
            _ if ahead <= FAR => {
                let before = turn.mul_f64(f64::from(turns - 1) + INTO_TURN);
                there(since.plus(before))
            }
            _ => there(since.plus(turn.mul_f64(f64::from(turns) * OF_TURNS))),
        };
        let (distance, shortest) = match ahead {
            0 => (now.since(expected), self.shortest),
            _ => (
                now.since(expected).max(expected.since(now)),
                self.shortest * 2,
            ),
        };
        let delay = (distance / OF_DISTANCE).max(shortest).min(max);
        // It sleeps before the aim, but not for so long that a change of the queue is missed.
        aim.max(last.plus(delay)).min(last.plus(max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leasehold_protocol::time::Reading;

    const DELAYS: Delays = Delays {
        first: Duration::from_millis(3),
        max: Duration::from_secs(1),
    };

    fn at(ms: u64) -> Elapsed {
        Elapsed(Duration::from_millis(ms))
    }

    fn shown(sent: u64, received: u64) -> Shown {
        Shown {
            sent: Reading {
                elapsed: at(sent),
                wall_ms: 0,
            },
            received: at(received),
            consistent: true,
        }
    }

    /// Answers without a round trip: token, time.
    fn seen(answers: &[(u64, u64)], held: Option<u64>) -> Pace {
        let mut pace = Pace::default();
        for (token, ms) in answers {
            pace.saw(*token, held.map(Duration::from_millis), &shown(*ms, *ms));
        }
        pace
    }

    fn next(pace: &Pace, ahead: usize, last: u64) -> u128 {
        let mut pace = *pace;
        pace.next(ahead, at(last), at(last), DELAYS).0.as_millis()
    }

    #[test]
    fn a_turn_is_as_long_as_the_record_says_or_as_answers_have_shown() {
        assert_eq!(seen(&[(7, 100)], None).length(), None);
        // The first turn had begun before it was seen.
        assert_eq!(seen(&[(7, 100), (8, 130)], None).length(), None);
        let three = seen(&[(7, 100), (8, 100), (11, 190)], None);
        assert_eq!(three.length(), Some(Duration::from_millis(25)));
        let mut pace = seen(&[(7, 100)], Some(20));
        assert_eq!(pace.length(), Some(Duration::from_millis(20)));
        // With the way there and back.
        pace.saw(8, Some(Duration::from_millis(40)), &shown(200, 240));
        assert_eq!(pace.length(), Some(Duration::from_millis(80)));
        // A long pause counts for little, and older answers for nothing.
        let paused = seen(&[(7, 0), (8, 0), (9, 20), (8, 25), (10, 60_000)], None);
        assert!(
            paused.length() < Some(Duration::from_millis(20)),
            "{paused:?}"
        );
    }

    #[test]
    fn the_first_waiter_polls_when_it_expects_its_grant() {
        let mut pace = seen(&[(1, 0), (2, 0), (2, 60)], Some(100));
        // With half of the shortest delay.
        assert_eq!(next(&pace, 0, 60), 101);
        // Then with the shortest delay, and later with growing ones.
        assert_eq!(next(&pace, 0, 102), 105);
        assert_eq!(next(&pace, 0, 901), 1_000);
        assert_eq!(next(&pace, 0, 60_000), 61_000);
        // A poll is sent so that it arrives then. Turns are longer by the way there and back.
        pace.saw(2, None, &shown(60, 120));
        assert_eq!(next(&pace, 0, 120), 127);
    }

    #[test]
    fn the_others_wait_by_their_place() {
        let pace = seen(&[(1, 0), (2, 0)], Some(100));
        assert_eq!(next(&pace, 1, 0), 131);
        assert_eq!(next(&pace, 2, 0), 233);
        assert_eq!(next(&pace, 9, 0), 812);
        // Never longer than the longest delay.
        assert_eq!(next(&pace, 23, 100), 1_100);
    }

    #[test]
    fn where_nothing_is_known_delays_grow_with_the_time_of_the_holder() {
        let pace = seen(&[(1, 0)], None);
        let delay = |ahead, now: u64| next(&pace, ahead, now) - u128::from(now);
        assert_eq!(
            (delay(0, 0), delay(0, 40), delay(0, 10_000)),
            (3, 10, 1_000)
        );
        assert_eq!(delay(9, 0), 30);
    }
}
