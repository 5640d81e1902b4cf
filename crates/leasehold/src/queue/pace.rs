//! When a waiter polls, by what it has seen of the turns of its key. Pure: the caller passes the time.
//!
//! A turn is the time from one grant of the key to the next, as answers show it. A waiter sleeps for
//! most of the turns before its own. Near the end of those it polls often, and if that end passes, ever
//! less often, in proportion to the time that has passed.

use std::time::Duration;

use leasehold_protocol::time::Elapsed;

/// Which part of the expected time a waiter sleeps.
const SLEPT: f64 = 0.8;
/// A delay is this part of the distance to the expected end of the turn.
const OF_DISTANCE: u32 = 8;
/// The same where no turn has been seen, of the time that the holder has had.
const OF_HELD: u32 = 4;

/// What the waiters of a client have seen of a key.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// The newest token that an answer has shown, and when one first did.
    newest: Option<(u64, Elapsed)>,
    /// How long a turn takes.
    turn: Option<Duration>,
    /// How long a request takes.
    round_trip: Option<Duration>,
    /// Polls since the newest token was first shown.
    round: u32,
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
    /// Records the token that an answer has shown.
    pub(crate) fn saw(&mut self, token: u64, at: Elapsed) {
        let Some((newest, since)) = self.newest else {
            self.newest = Some((token, at));
            return;
        };
        if token <= newest {
            return;
        }
        let turns = u32::try_from(token - newest).unwrap_or(u32::MAX);
        let seen = at.since(since) / turns;
        self.turn = Some(match self.turn {
            // A pause in which nobody wanted the key counts as two turns at most.
            Some(turn) => (turn + seen.min(turn * 2)) / 2,
            None => seen,
        });
        self.newest = Some((token, at));
        self.round = 0;
    }

    /// Records how long an answer took.
    pub(crate) fn answered(&mut self, took: Duration) {
        self.round_trip = Some(match self.round_trip {
            Some(before) => (before * 3 + took) / 4,
            None => took,
        });
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

    /// How long a request takes.
    pub(crate) fn round_trip(&self) -> Duration {
        self.round_trip.unwrap_or_default()
    }

    /// How long a turn takes, if one was seen.
    pub(crate) fn turn(&self) -> Option<Duration> {
        self.turn
    }

    /// When to poll next, behind `ahead` other waiters and the holder. The last poll was at `last`.
    pub(crate) fn next(
        &self,
        ahead: usize,
        last: Elapsed,
        now: Elapsed,
        delays: Delays,
    ) -> Elapsed {
        let Delays { first, max } = delays;
        let turns = u32::try_from(ahead).unwrap_or(u32::MAX).saturating_add(1);
        let since = self.newest.map_or(now, |(_, since)| since);
        // Several polls may be in flight, but not many.
        let shortest = first.max(self.round_trip() / 4);
        let Some(turn) = self.turn else {
            let held = now.since(since) / OF_HELD;
            return last.plus(held.max(shortest.saturating_mul(turns)).min(max));
        };
        let expected = turn.saturating_mul(turns);
        let aim = since.plus(expected.mul_f64(SLEPT)).minus(self.round_trip());
        let end = since.plus(expected);
        let distance = end.since(now).max(now.since(end));
        let delay = (distance / OF_DISTANCE).max(shortest).min(max);
        // Before the aim it sleeps, but not for so long that a change of the queue is missed.
        aim.max(last.plus(delay)).min(last.plus(max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAYS: Delays = Delays {
        first: Duration::from_millis(3),
        max: Duration::from_secs(1),
    };

    fn at(ms: u64) -> Elapsed {
        Elapsed(Duration::from_millis(ms))
    }

    fn seen(turns: &[(u64, u64)]) -> Pace {
        let mut pace = Pace::default();
        for (token, ms) in turns {
            pace.saw(*token, at(*ms));
        }
        pace
    }

    #[test]
    fn a_turn_is_the_time_between_two_tokens() {
        assert_eq!(seen(&[(7, 100)]).turn(), None);
        assert_eq!(
            seen(&[(7, 100), (10, 190)]).turn(),
            Some(Duration::from_millis(30))
        );
        // Older answers count for nothing, and a long pause for little.
        let paused = seen(&[(7, 100), (8, 130), (7, 140), (9, 60_000)]);
        assert_eq!(paused.turn(), Some(Duration::from_millis(45)));
    }

    #[test]
    fn the_first_place_polls_shortly_before_the_end_of_the_turn() {
        let mut pace = seen(&[(1, 0), (2, 100)]);
        let next = |pace: &Pace, last, now| pace.next(0, at(last), at(now), DELAYS).0.as_millis();
        assert_eq!(next(&pace, 100, 100), 180);
        // At the end with the shortest delay, and after it with growing ones.
        assert_eq!(next(&pace, 200, 200), 203);
        assert_eq!(next(&pace, 1_000, 1_000), 1_100);
        assert_eq!(next(&pace, 60_000, 60_000), 61_000);
        // A poll is sent so that its answer comes then.
        pace.answered(Duration::from_millis(40));
        assert_eq!(next(&pace, 100, 100), 140);
        assert_eq!(next(&pace, 200, 200), 210);
    }

    #[test]
    fn the_others_wait_by_their_place() {
        let pace = seen(&[(1, 0), (2, 100)]);
        let next = |ahead, last| pace.next(ahead, at(last), at(last), DELAYS).0.as_millis();
        assert_eq!(next(4, 100), 500);
        assert_eq!(next(1, 100), 260);
        // Never longer than the longest delay.
        assert_eq!(next(23, 100), 1_100);
    }

    #[test]
    fn without_a_turn_seen_delays_grow_with_the_time_of_the_holder() {
        let pace = seen(&[(1, 0)]);
        let delay = |ahead, now| {
            pace.next(ahead, at(now), at(now), DELAYS)
                .since(at(now))
                .as_millis()
        };
        assert_eq!(
            (delay(0, 0), delay(0, 40), delay(0, 10_000)),
            (3, 10, 1_000)
        );
        assert_eq!(delay(9, 0), 30);
    }
}
