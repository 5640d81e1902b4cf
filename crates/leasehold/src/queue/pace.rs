//! When a waiter polls, by what it knows of the turns of its key. Pure: the caller passes the time.
//!
//! A turn begins when the key is handed over, and ends when it is handed on. Its length follows from how
//! long the last grant was held, which the record says, or else from the tokens that answers have shown.
//! Slots are handed on so many times as often, and their tokens do not count turns: the places before a waiter do.
//! A waiter expects its grant after the present turn and those of the waiters before it. It sleeps until
//! then, but for one look in the turn before its own, which tells when that began. At the expected time it
//! polls with the shortest delay, and later ever less often. Waiters behind the first go by the longer turns that
//! they have seen: where all polls together slow the holders down, they must not grow with that.

use std::time::Duration;

use leasehold_protocol::attempt::Shown;
use leasehold_protocol::queue::Place;
use leasehold_protocol::record::Record;
use leasehold_protocol::slots::Slots;
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
    /// How many grants there are at a time.
    at_once: u32,
    /// How many waiters were before this one.
    ahead: Option<usize>,
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
    /// When an answer has first shown it.
    shown: Elapsed,
    /// The last moment at which it certainly went on.
    last: Elapsed,
}

/// What an answer has shown of a key.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KeyShown {
    /// The token of the record.
    pub(crate) token: u64,
    /// How long the last grant was held.
    pub(crate) held: Option<Duration>,
    /// Whether it has slots, whose tokens do not count turns.
    pub(crate) slots: bool,
    /// How many grants there are at a time: all slots, where they are full. Otherwise the whole key is waited for.
    pub(crate) at_once: u32,
    /// How many waiters are before this one.
    pub(crate) ahead: Option<usize>,
}

/// How often a waiter may poll.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delays {
    /// The shortest delay.
    pub(crate) first: Duration,
    /// The longest one.
    pub(crate) max: Duration,
}

/// How many turns come before that of this place of a queue. Slots that are full end one by one, each for one place.
/// Otherwise the whole key is waited for, or is held: then all slots for which there is room are given together.
pub(crate) fn turns_before(record: &Record, place: usize) -> usize {
    let queue = &record.queue[..=place.min(record.queue.len() - 1)];
    let slots = record.slots.as_ref().filter(|_| record.owner.is_none());
    if slots.is_some_and(Slots::is_full) {
        return queue.len() - 1;
    }
    let given_together = |pair: &&[Place]| pair.iter().all(Place::is_for_slot);
    queue.len() - 1 - queue.windows(2).filter(given_together).count()
}

impl Pace {
    /// Records what an answer has shown.
    pub(crate) fn saw(&mut self, seen: KeyShown, shown: &Shown) {
        let KeyShown { token, held, .. } = seen;
        self.at_once = seen.at_once;
        let moved = match (std::mem::replace(&mut self.ahead, seen.ahead), seen.ahead) {
            (Some(before), Some(ahead)) => before.checked_sub(ahead).filter(|moved| *moved > 0),
            _ => None,
        };
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
        let turns = match seen.slots {
            false => u32::try_from(token - newest).ok(),
            true => moved.and_then(|moved| u32::try_from(moved).ok()),
        };
        let gap = at.since(before.last);
        let since = match (self.length(), turns) {
            (Some(turn), Some(turns)) if before.seen => {
                let expected = before.since.plus(turn.saturating_mul(turns));
                expected.max(before.last).min(at)
            }
            // It is unknown how many came in between, so the last one has just begun, or is half over.
            (Some(turn), None) => at.minus(gap.min(turn) / 2),
            // In the middle of the time in which it may have begun.
            (_, turns) => at.minus(gap / turns.unwrap_or(1).saturating_mul(2)),
        };
        if before.seen
            && let Some(turns) = turns
        {
            let seen = at.since(before.shown) / turns;
            self.turn = Some(match self.turn {
                // A pause in which nobody wanted the key counts as two turns at most.
                Some(turn) => (turn + seen.min(turn * 2)) / 2,
                None => seen,
            });
        }
        self.begins(token, since, at, true);
    }

    fn begins(&mut self, token: u64, since: Elapsed, last: Elapsed, seen: bool) {
        let turn = Turn {
            since,
            seen,
            shown: last,
            last,
        };
        self.newest = Some((token, turn));
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
        let around = self.round_trip.length() + self.shortest / 2;
        let held = self.held.map(|held| (held + around) / self.at_once.max(1));
        held.or(self.turn)
    }

    /// The same, but no shorter than turns were.
    pub(crate) fn turn(&self) -> Option<Duration> {
        self.length().max(self.turn)
    }

    /// When so many turns from now have passed. If their length is unknown, they are as long as this one was.
    pub(crate) fn after(&self, turns: usize, held: Duration, now: Elapsed) -> Elapsed {
        let turns = u32::try_from(turns).unwrap_or(u32::MAX);
        now.plus(self.length().unwrap_or(held).saturating_mul(turns))
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
        let length = match ahead {
            0 => self.length(),
            _ => self.turn(),
        };
        let Some(turn) = length else {
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
    use leasehold_protocol::attempt::AttemptId;
    use leasehold_protocol::slots::Slot;
    use leasehold_protocol::time::{Reading, ServiceTime};

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

    fn newly(token: u64, held: Option<u64>) -> KeyShown {
        KeyShown {
            token,
            held: held.map(Duration::from_millis),
            ..KeyShown::default()
        }
    }

    /// Answers without a round trip: token, time.
    fn seen(answers: &[(u64, u64)], held: Option<u64>) -> Pace {
        let mut pace = Pace::default();
        for (token, ms) in answers {
            pace.saw(newly(*token, held), &shown(*ms, *ms));
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
        assert_eq!(three.length(), Some(Duration::from_millis(30)));
        let mut pace = seen(&[(7, 100)], Some(20));
        assert_eq!(pace.length(), Some(Duration::from_millis(20)));
        // With the way there and back.
        pace.saw(newly(8, Some(40)), &shown(200, 240));
        assert_eq!(pace.length(), Some(Duration::from_millis(80)));
        // A long pause counts for little, and older answers for nothing.
        let paused = seen(&[(7, 0), (8, 0), (9, 20), (8, 25), (10, 60_000)], None);
        assert!(
            paused.length() < Some(Duration::from_millis(40)),
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
        pace.saw(newly(2, None), &shown(60, 120));
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
    fn waiters_behind_the_first_go_by_the_turns_that_they_have_seen() {
        // Held for 10 ms each, and handed on every 100 ms. The last began between 100 and 200.
        let pace = seen(&[(1, 0), (2, 0), (3, 100), (4, 200)], Some(10));
        assert_eq!(pace.length(), Some(Duration::from_millis(10)));
        assert_eq!(next(&pace, 0, 200), 211);
        assert_eq!(next(&pace, 2, 200), 100 + 230);
    }

    #[test]
    fn slots_are_handed_on_so_many_times_as_often() {
        let of_three = |token, ahead| KeyShown {
            slots: true,
            at_once: 3,
            ahead: Some(ahead),
            ..newly(token, Some(90))
        };
        let mut pace = Pace::default();
        pace.saw(of_three(1_000, 9), &shown(0, 0));
        assert_eq!(pace.length(), Some(Duration::from_millis(30)));
        // Tokens say nothing: three places were handed a slot in 300 ms, and one in 100 ms.
        pace.saw(of_three(50_000, 9), &shown(0, 0));
        pace.saw(of_three(60_000, 6), &shown(300, 300));
        pace.saw(of_three(99_000, 5), &shown(400, 400));
        assert_eq!(next(&pace, 1, 400), 300 + 130);
        // Two hold a slot, and the first waits for the whole key.
        let mut of_two = pace;
        of_two.saw(
            KeyShown {
                at_once: 1,
                ..of_three(99_000, 5)
            },
            &shown(400, 400),
        );
        assert_eq!(of_two.length(), Some(Duration::from_millis(90)));
        // It is unknown how many places were handed on in between.
        pace.saw(
            KeyShown {
                ahead: None,
                ..of_three(99_001, 0)
            },
            &shown(500, 500),
        );
        assert_eq!(next(&pace, 1, 500), 485 + 130);
    }

    #[test]
    fn slots_that_are_given_together_are_one_turn() {
        let place = |n: u8| {
            let id = AttemptId::from_random([n; 16]);
            Place::new(id, Duration::ZERO, Duration::ZERO, ServiceTime(0))
        };
        let mut record = Record::unused("k");
        record.queue = vec![
            place(1).for_slot(),
            place(2).for_slot(),
            place(3),
            place(4),
            place(5).for_slot(),
            place(6).for_slot(),
        ];
        let turns = |record: &Record| (0..7).map(|n| turns_before(record, n)).collect::<Vec<_>>();
        assert_eq!(turns(&record), [0, 0, 1, 2, 3, 3, 3]);
        let held = Slot::new(
            AttemptId::from_random([7; 16]),
            1,
            ServiceTime(0),
            Duration::ZERO,
            "",
        );
        let mut slots = Slots {
            limit: 2,
            held: vec![held.clone()],
        };
        record.slots = Some(slots.clone());
        assert_eq!(turns(&record), [0, 0, 1, 2, 3, 3, 3]);
        slots.held.push(held);
        record.slots = Some(slots);
        assert_eq!(turns(&record), [0, 1, 2, 3, 4, 5, 5]);
        record.owner = Some("whole".into());
        assert_eq!(turns(&record), [0, 0, 1, 2, 3, 3, 3]);
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
