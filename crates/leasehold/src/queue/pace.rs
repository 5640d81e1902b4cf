//! When a waiter polls, by what it knows of the turns of its key. Pure: the caller passes the time.
//!
//! A turn begins when the key is handed over, and ends when it is handed on. Its length follows from how
//! long the last grant was held, which the record says, or else from the tokens that answers have shown.
//! Slots are handed on so many times as often, and their tokens do not count turns: the places before a waiter do.
//! A waiter expects its grant after the present turn and those of the waiters before it. It sleeps until
//! then, but for one look in the turn before its own, which tells when that began. At the expected time it
//! polls with the shortest delay, and later ever less often. A turn whose beginning the first waiter has not seen may
//! end earlier, so it polls ever more often before the expected time. Turns that took longer count only where the
//! record says nothing: waiters that go by them come late, and so turns get longer and longer.

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
/// So much longer may the first waiter sleep long before the expected time.
const LONGER: u32 = 2;
/// The most polls of the first waiter for one round trip.
const PER_ROUND_TRIP: u32 = 3;

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

    /// How long the last grant was held.
    pub(crate) fn held(&self) -> Option<Duration> {
        self.held
    }

    /// How long a turn takes, if that is known: the grant, its way there and back, and half a delay.
    pub(crate) fn length(&self) -> Option<Duration> {
        let around = self.round_trip.length() + self.shortest / 2;
        let held = self.held.map(|held| (held + around) / self.at_once.max(1));
        held.or(self.turn)
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
        let (since, seen) = self
            .newest
            .map_or((now, false), |(_, turn)| (turn.since, turn.seen));
        let Some(turn) = self.length() else {
            // Each turn takes a round trip at least.
            let shortest = self.shortest.saturating_mul(turns);
            let shortest = shortest.max(round_trip.saturating_mul(turns - 1));
            let delay = (now.since(since) / OF_HELD).max(shortest);
            return last.plus(delay.min(max));
        };
        // A poll arrives there half a round trip after it is sent.
        let there = |at: Elapsed| at.minus(round_trip / 2);
        let expected = there(since.plus(turn.saturating_mul(turns)));
        let left = expected.since(last) / OF_DISTANCE;
        let aim = match ahead {
            // A turn that was there before may end before that, by as much as it was not seen.
            0 if !seen => last.plus(left).min(expected),
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
        let max = match ahead {
            0 => max.max(left.min(max * LONGER)),
            _ => max,
        };
        // It sleeps before the aim, but not for so long that a change of the queue is missed.
        aim.max(last.plus(delay)).min(last.plus(max))
    }
}

#[cfg(test)]
mod tests;
