//! The wait for a turn: a place in the queue of the record, and polls.
//!
//! Invariants: a waiter that has seen no place of its own in a queue with room joins it. A waiter with
//! a place polls often enough to notice a grant within its claim. Reads in flight are bounded.

use std::time::Duration;

use super::acquisition::{Acquisition, End, stopped};
use super::order::Patience;
use super::step::{Ask, Asked, Seat, Turn};
use crate::queue::{Delays, Pace, Polls, Start, turns_before};
use crate::runtime::reads::Reads;
use crate::runtime::request::Answer;
use crate::store::{Consistency, Outcome, StoreErrorKind};
use leasehold_protocol::attempt::{Refusal, Shown};
use leasehold_protocol::deadline::service_now;
use leasehold_protocol::record::Record;
use leasehold_protocol::takeover::Verdict;
use leasehold_protocol::time::{Elapsed, Reading, ServiceTime};
use leasehold_protocol::write::{Operation, Write};

/// The most polls of the first waiter in flight. Each of them needs a connection.
const READS: usize = 3;
/// The shortest delay between polls of the first waiter is this part of the first check delay.
const QUICK: u32 = 32;
/// It is not shorter than the grain of timers.
const GRAIN: Duration = Duration::from_millis(1);
/// Its longest delay is this part of the longest check delay.
const FIRST: u32 = 4;
/// Waiters behind the second sleep longer, up to this: many of them are many polls where delays are short.
const BEHIND: Duration = Duration::from_millis(200);
/// Of polls with the longest delay, each fourth of who may be next is strongly consistent: the deadline of a grant
/// counts from such an answer.
const CONSISTENT: u32 = 4;
/// The delay of a waiter without a place begins with all turns of those with a place, or the longest check delay if
/// that is shorter. It doubles until so many polls were in vain.
const DOUBLED: u32 = 4;

impl Acquisition {
    /// Waits until the key may be taken or requested again, or until there is room in its queue.
    pub(super) async fn wait_for_turn(&mut self) -> Result<Turn, End> {
        self.waited = true;
        // Polls that are in flight at the end go on in the background.
        let mut reads = Reads::default();
        loop {
            if self.waiting.seat == Seat::Room && self.may_queue() {
                return Ok(Turn::Ask(Ask::Join));
            }
            let due = self.next_poll();
            self.plan(due);
            let clock = self.core.clocks.clone();
            let may_poll = reads.len() < self.most_reads();
            let turn = tokio::select! {
                biased;
                (asked, answer) = self.mailbox.next() => {
                    self.unanswered -= 1;
                    self.late(&asked, answer)?
                }
                (consistency, answer) = reads.next() => self.polled(consistency, answer)?,
                () = clock.sleep_until(due), if may_poll => self.poll(&mut reads)?,
                stop = stopped(&self.core, &self.gone, self.limit) => return Err(stop.into()),
            };
            if let Some(turn) = turn {
                return Ok(turn);
            }
        }
    }

    /// Whether this call takes a place in the queue of the record.
    pub(super) fn may_queue(&self) -> bool {
        let waits = self.order.patience != Patience::None && self.order.adopts.is_none();
        waits && self.order.policy.is_queueing()
    }

    /// The request for a place.
    pub(super) fn join(&mut self, now: Reading) -> Write {
        let claim = self.order.policy.claim(&self.core.hints);
        let left = self.limit.since(now.elapsed);
        let until = self.core.clocks.with_service(|service| match self.limit {
            Elapsed::NEVER => ServiceTime(i64::MAX),
            _ => service_now(service, now).plus(left),
        });
        self.attempt.join(claim, until, now)
    }

    /// A late answer to a write: it only matters if it shows a grant or a place.
    fn late(&mut self, asked: &Asked, answer: Answer<Outcome>) -> Result<Option<Turn>, End> {
        let shown = answer.shown(true);
        let record = match answer.result {
            Ok(Outcome::Applied(record)) => match asked {
                Asked::Acquire(request) => {
                    return self
                        .applied(request, record)
                        .map(|grant| Some(Turn::Ours(grant)));
                }
                Asked::Other => record,
            },
            Ok(Outcome::Refused(record)) => record,
            // It had no answer in time, so the call is uncertain already.
            Err(_) => return Ok(None),
        };
        // The record is older than the last one seen.
        if let Refusal::Ours(granted) = self.judge(record.as_ref(), &shown) {
            return Ok(Some(Turn::Ours(granted)));
        }
        Ok(None)
    }

    /// Reserves a poll, or sends the one that was reserved.
    fn poll(&mut self, reads: &mut Reads<Consistency>) -> Result<Option<Turn>, End> {
        let now = self.core.clocks.elapsed();
        if self.waiting.reserved.is_none() {
            self.check_queue()?;
            self.waiting.reserved = Some(self.core.poll_limit.take(now));
            return Ok(None);
        }
        self.waiting.reserved = None;
        self.waiting.at = None;
        self.waiting.last = now;
        let round = self.pace(Pace::polls);
        if self.order.policy.polls_by_acquire() {
            // The acquire request is the poll.
            return Ok(Some(Turn::Ask(Ask::Acquire(None))));
        }
        self.sends();
        let consistency = self.consistency(now, round);
        let (core, key) = (self.core.clone(), self.order.key.shared());
        let (timeout, call_usage) = (self.order.policy.request_timeout(), self.call_usage());
        reads.push(
            consistency,
            Box::pin(async move { core.read(key, consistency, timeout, &call_usage).await }),
        );
        Ok(None)
    }

    /// The polls of those who may be next are strongly consistent near the end of a turn. Where the caller has set how
    /// often to poll, the end of a turn is not expected at any time.
    fn consistency(&mut self, now: Elapsed, round: u32) -> Consistency {
        let strong = std::mem::take(&mut self.waiting.unsure)
            || self.waiting.may_be_next
                && (round.is_multiple_of(CONSISTENT)
                    || !self.order.policy.has_check_delay()
                        && self.next_poll().since(now) < self.delays(0).max);
        match strong {
            true => Consistency::Strong,
            false => Consistency::Eventual,
        }
    }

    /// The meaning of a poll's answer.
    pub(super) fn polled(
        &mut self,
        consistency: Consistency,
        answer: Answer<Option<Record>>,
    ) -> Result<Option<Turn>, End> {
        let throttled =
            matches!(&answer.result, Err(error) if error.kind == StoreErrorKind::Throttled);
        if throttled || answer.result.is_ok() {
            self.core.poll_limit.asked(throttled);
        }
        let shown = answer.shown(consistency == Consistency::Strong);
        let record = match answer.result {
            Ok(record) => record,
            Err(error) if error.kind.is_retryable() => {
                self.waiting.not_before = self.failed(Operation::Read, error)?;
                return Ok(None);
            }
            Err(error) => return Err(self.fatal(Operation::Read, error)),
        };
        self.calm_down();
        let other = record.as_ref().and_then(|it| self.attempt.other_limit(it));
        if consistency == Consistency::Eventual && other.is_some() {
            // An old answer shows a limit that does not count any more.
            self.waiting.unsure = true;
            return Ok(None);
        }
        let refusal = self.judge(record.as_ref(), &shown);
        self.check_limit(record.as_ref())?;
        let verdict = match refusal {
            Refusal::Ours(granted) => return Ok(Some(Turn::Ours(granted))),
            Refusal::Others(verdict) => verdict,
        };
        if !self.looks_around(record.as_ref(), &shown) {
            return Ok(None);
        }
        Ok(match verdict {
            Verdict::Done { .. } => return Err(self.done(record.as_ref())),
            Verdict::Free => Some(Turn::Ask(Ask::Acquire(None))),
            Verdict::TakeOver(seen, places) => Some(Turn::Ask(Ask::Acquire(Some((seen, places))))),
            Verdict::Wait { ends } => {
                self.waiting.ends = ends;
                None
            }
        })
    }

    /// Learns its seat in the queue. False if the answer may be from before it had its place.
    pub(super) fn looks_around(&mut self, record: Option<&Record>, shown: &Shown) -> bool {
        let view = record.map(|record| self.attempt.view(record));
        let held = view.filter(|record| record.owner.is_some() && record.native.is_some());
        let held = held.as_deref();
        let place = held.and_then(|record| record.place_of(self.attempt.id()));
        let placed = matches!(self.waiting.seat, Seat::Taken(_));
        let old = place.is_none() && !shown.consistent && placed;
        self.waiting.unsure |= old;
        if old {
            return false;
        }
        if let Some(ahead) = place
            && !std::mem::replace(&mut self.waiting.placed, true)
        {
            self.core.meter.place(ahead + 1);
        }
        self.waiting.may_be_next = false;
        if let (Some(record), Some(place)) = (record, place) {
            self.waiting.turns = turns_before(record, place);
            // As many places as there are slots can be given one at once.
            let slots = record.slots.as_ref();
            let full = slots.filter(|slots| slots.is_full());
            self.waiting.may_be_next =
                self.waiting.turns == 0 || full.is_some_and(|slots| place < slots.held.len());
        }
        let limit = self.order.want.limit();
        self.waiting.places = held.map_or(0, |record| record.places(limit));
        self.waiting.seat = match (held, place) {
            (_, Some(ahead)) => Seat::Taken(ahead),
            (Some(record), None) if record.queue.len() < self.waiting.places => Seat::Room,
            (Some(_), None) => Seat::Full,
            (None, None) => Seat::None,
        };
        self.waiting.full = match self.waiting.seat {
            Seat::Full => self.waiting.full + 1,
            _ => 0,
        };
        true
    }

    fn most_reads(&self) -> usize {
        match self.waiting.seat {
            Seat::Taken(0) if !self.order.policy.has_check_delay() => READS,
            _ => 1,
        }
    }

    /// When to poll next: by the place in the queue, or after a random delay. One poll is timed to the end
    /// of the grant that was seen.
    fn next_poll(&mut self) -> Elapsed {
        let waiting = &self.waiting;
        let now = self.core.clocks.elapsed();
        let at = match (waiting.reserved, waiting.seat) {
            (Some(reserved), _) => return reserved,
            (None, Seat::Taken(ahead)) if !self.order.policy.has_check_delay() => {
                let (last, turns, delays) = (waiting.last, waiting.turns, self.delays(ahead));
                self.pace(|pace| pace.next(turns, last, now, delays))
            }
            _ => {
                let at = waiting.at.unwrap_or_else(|| now.plus(self.random_delay()));
                self.waiting.at = Some(at);
                at
            }
        };
        let at = match self.waiting.ends {
            Some(ends) if ends > now => at.min(ends),
            _ => at,
        };
        at.max(self.waiting.not_before)
    }

    /// How often a waiter with a place polls.
    fn delays(&self, ahead: usize) -> Delays {
        let hints = &self.core.hints;
        let longest = hints.check_delay_max;
        let max = match u32::try_from(ahead) {
            Ok(0) => longest / FIRST,
            Ok(ahead) => longest.max(longest.saturating_mul(ahead).min(BEHIND)),
            Err(_) => longest,
        };
        Delays {
            first: self
                .core
                .poll_limit
                .stretch((hints.check_delay / QUICK).max(GRAIN))
                .min(max),
            max,
        }
    }

    fn random_delay(&mut self) -> Duration {
        if self.waiting.full > 0 && !self.order.policy.has_check_delay() {
            let places = u32::try_from(self.waiting.places).unwrap_or(u32::MAX);
            // By then all that have a place have had their turn.
            let turn = self.pace(|pace| pace.length());
            let all = turn.map_or(Duration::MAX, |turn| turn.saturating_mul(places));
            let first = self.core.hints.check_delay_max.min(all);
            let longest = first * (1 << (self.waiting.full.min(DOUBLED) - 1));
            return longest.mul_f64(0.125 + self.core.random.fraction());
        }
        let round = self.pace(|pace| pace.round());
        let delay = self.core.check_delay(&self.order.policy, round);
        self.core.poll_limit.stretch(delay)
    }

    /// What the next leader begins with, if this one leaves.
    fn plan(&self, due: Elapsed) {
        let Some(leader) = &self.leader else { return };
        leader.plan(match self.waiting.seat {
            Seat::Room | Seat::Taken(_) if self.may_queue() => Start::Join(due),
            _ => Start::Poll(Polls {
                at: Some(due),
                ends: self.waiting.ends,
                full: self.waiting.full,
            }),
        });
        leader.expect(due);
    }

    pub(super) fn pace<T>(&self, f: impl FnOnce(&mut Pace) -> T) -> T {
        match &self.leader {
            Some(leader) => leader.pace(f),
            None => f(&mut Pace::default()),
        }
    }
}
