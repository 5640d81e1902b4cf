//! Requests for a key or for a place in its queue, and their answers.
//!
//! Invariants: the clocks are read before a request is made. A request without an answer in time
//! goes on beside the next one. A wait ends at the call's bound, whatever the store does.

use super::acquisition::{Acquisition, End, IN_FLIGHT, stopped};
use super::order::{Adoption, Patience};
use super::step::{Ask, Asked, Seat, Turn};
use crate::done::Done;
use crate::error::{Effect, Error, ErrorKind};
use crate::holder::HolderInfo;
use crate::lease::end::seen_in;
use crate::meter::CallUsage;
use crate::queue::{KeyShown, LeaderRole, Start, Stop};
use crate::runtime::request::Answer;
use crate::runtime::retry::{RETRY_FIRST, RETRY_MAX};
use crate::shared::no_answer_within;
use crate::store::{Consistency, Outcome, StoreError, StoreErrorKind};
use leasehold_protocol::attempt::{Granted, Refusal, Request, Shown};
use leasehold_protocol::lens::Want;
use leasehold_protocol::queue::Place;
use leasehold_protocol::record::{Record, Seen};
use leasehold_protocol::slot_write::SlotWrite;
use leasehold_protocol::slots::MOST;
use leasehold_protocol::takeover::Verdict;
use leasehold_protocol::time::Elapsed;
use leasehold_protocol::write::Write;

/// 2026-11-01 in milliseconds: no right wall clock shows less, since this line is younger.
const EARLIEST_WALL_MS: i64 = 1_793_491_200_000;
/// How often the taking of a slot is refused by that of another before a pause.
const RACES: u32 = 3;

impl Acquisition {
    /// Sends requests until one is granted, or, without patience, until the key is seen held.
    pub(super) async fn win(&mut self) -> Result<Result<Granted, HolderInfo>, End> {
        self.learn_the_time().await?;
        let mut turn = match self.begin().await? {
            Turn::Ask(Ask::Acquire(None)) if self.attempt.must_look() => {
                match (self.look().await?, self.order.patience, &self.last_held) {
                    (Some(turn), ..) => turn,
                    (None, Patience::None, Some(held)) => return Ok(Err(held.clone())),
                    (None, ..) => self.wait_for_turn().await?,
                }
            }
            Turn::Ask(Ask::Acquire(None)) => Turn::Ask(Ask::Acquire(self.known_to_be_over())),
            turn => turn,
        };
        let mut blind = 0;
        loop {
            let ask = match &turn {
                Turn::Ours(granted) => return Ok(Ok(granted.clone())),
                Turn::Ask(ask) => ask,
            };
            let Some((asked, answer)) = self.ask(ask).await? else {
                // No answer in time; the request may still land.
                let limit = self.order.policy.request_timeout();
                let late = StoreError::new(
                    StoreErrorKind::Unavailable,
                    Effect::Unknown,
                    format!(
                        "{}: {}",
                        self.core.store.describe(),
                        no_answer_within(limit)
                    ),
                );
                self.retry_later(ask.operation(), late).await?;
                continue;
            };
            if answer.result.is_ok() && self.order.patience != Patience::None {
                self.core.poll_limit.asked(false);
            }
            let shown = answer.shown(true);
            let (record, applied) = match answer.result {
                Ok(Outcome::Applied(record)) => match asked {
                    Asked::Acquire(request) => return self.applied(&request, record).map(Ok),
                    Asked::Other => (record, true),
                },
                Ok(Outcome::Refused(record)) => (record, false),
                Err(error) if error.kind.is_retryable() => {
                    self.retry_later(ask.operation(), error).await?;
                    continue;
                }
                Err(error) => {
                    self.uncertain |= error.effect == Effect::Unknown;
                    return Err(self.fatal(ask.operation(), error));
                }
            };
            self.calm_down();
            let refusal = self.judge(record.as_ref(), &shown);
            self.check_limit(record.as_ref())?;
            turn = match refusal {
                Refusal::Ours(granted) => return Ok(Ok(granted)),
                Refusal::Others(_) if self.order.adopts.is_some() => {
                    // A guard that was not detached has renewed it: try again with the present record.
                    blind += 1;
                    self.back_off(blind).await?;
                    Turn::Ask(Ask::Acquire(Some((
                        self.still_adopts(record.as_ref())?,
                        Vec::new(),
                    ))))
                }
                Refusal::Others(Verdict::Free) => {
                    // Refused although the key is free: a race, which is short with a correct store. Those for slots
                    // are won by several, one after the other.
                    blind += 1;
                    let races = match self.order.want {
                        Want::Whole => 0,
                        Want::Slot(_) => RACES,
                    };
                    self.back_off(blind.saturating_sub(races)).await?;
                    Turn::Ask(Ask::Acquire(None))
                }
                Refusal::Others(Verdict::TakeOver(seen, places)) => {
                    Turn::Ask(Ask::Acquire(Some((seen, places))))
                }
                Refusal::Others(Verdict::Done { .. }) => return Err(self.done(record.as_ref())),
                Refusal::Others(Verdict::Wait { ends }) => {
                    if let (Patience::None, Some(held)) = (self.order.patience, &self.last_held) {
                        return Ok(Err(held.clone()));
                    }
                    self.looks_around(record.as_ref(), &shown);
                    self.waiting.ends = ends;
                    self.waiting.last = shown.sent.elapsed;
                    // Refused although there is room: a race as well.
                    let again = matches!(ask, Ask::Join) && !applied;
                    blind = match again && self.waiting.seat == Seat::Room {
                        true => blind + 1,
                        false => 0,
                    };
                    self.back_off(blind).await?;
                    self.wait_for_turn().await?
                }
            };
        }
    }

    /// Reads the record before the first request for a slot, which names what the record has. `None`: no slot can be
    /// taken now.
    async fn look(&mut self) -> Result<Option<Turn>, End> {
        while self.attempt.must_look() {
            self.sends();
            let (core, call_usage) = (self.core.clone(), self.call_usage());
            let (key, timeout) = (self.order.key.shared(), self.order.policy.request_timeout());
            let consistency = match std::mem::take(&mut self.waiting.unsure) {
                true => Consistency::Strong,
                false => Consistency::Eventual,
            };
            let read = core.read(key, consistency, timeout, &call_usage);
            let answer = self.or_stop(read).await?;
            let turn = self.polled(consistency, answer)?;
            if self.order.adopts.is_some() && !self.attempt.must_look() {
                return Ok(Some(Turn::Ask(Ask::Acquire(self.known_to_be_over()))));
            }
            if turn.is_some() {
                return Ok(turn);
            }
            let until = self.waiting.not_before;
            self.or_stop(self.core.clocks.sleep_until(until)).await?;
        }
        Ok(None)
    }

    /// Ends a call whose limit of slots is another than that of the key.
    pub(super) fn check_limit(&self, record: Option<&Record>) -> Result<(), End> {
        let other = record.and_then(|record| self.attempt.other_limit(record));
        match (other, self.order.want) {
            (Some(other), Want::Slot(limit)) => Err(End::Failed(self.other_limit(limit, other))),
            _ => Ok(()),
        }
    }

    fn other_limit(&self, limit: u32, other: u32) -> Error {
        let named = |limit| match limit {
            MOST => "is shared".to_owned(),
            limit => format!("has {limit} slots"),
        };
        let key = &self.order.key;
        let message = format!(
            "`{key}` {}, and for this call it {}",
            named(other),
            named(limit)
        );
        let store = self.core.store.describe();
        Error::new(ErrorKind::InvalidInput, format!("{message} ({store})")).with_hint(
            "use one limit in all clients of the key: another one counts once nobody holds a slot or waits for one",
        )
    }

    /// The grant that the first request takes over: the adopted one, or one whose end a poll has shown.
    fn known_to_be_over(&mut self) -> Option<(Seen, Vec<Place>)> {
        if let Some(adopts) = &self.order.adopts {
            return Some((adopts.seen.clone(), Vec::new()));
        }
        let (record, shown) = *self.order.polled.take()?;
        match self.judge(Some(&record), &shown) {
            Refusal::Others(Verdict::TakeOver(seen, places)) => Some((seen, places)),
            _ => None,
        }
    }

    /// Waits after a refusal that the next request may not meet. The first one needs no delay.
    async fn back_off(&self, refusals: u32) -> Result<(), Stop> {
        if refusals < 2 {
            return Ok(());
        }
        let delay = self.core.backoff(refusals, RETRY_FIRST, RETRY_MAX);
        let until = self.core.clocks.elapsed().plus(delay);
        self.expect(until);
        self.or_stop(self.core.clocks.sleep_until(until)).await
    }

    /// The grant to adopt, if the record still shows it.
    fn still_adopts(&self, record: Option<&Record>) -> Result<Seen, End> {
        let Some(adoption) = &self.order.adopts else {
            return Err(self.odd_answer());
        };
        let Adoption { id, .. } = &**adoption;
        seen_in(record, id).map_err(|loss| {
            End::Failed(
                id.lost_error(&loss.to_string())
                    .with_effect(Effect::NotApplied),
            )
        })
    }

    /// Begins as the queue's [`Start`] says: with a request for the key or for a place, or with a poll.
    pub(super) async fn begin(&mut self) -> Result<Turn, End> {
        match self.leader.as_ref().map(LeaderRole::start) {
            Some(Start::Poll(polls)) => {
                (self.waiting.at, self.waiting.ends) = (polls.at, polls.ends);
                self.waiting.full = polls.full;
                self.wait_for_turn().await
            }
            Some(Start::Join(until)) if self.may_queue() && self.core.clocks.elapsed() < until => {
                self.waited = true;
                Ok(Turn::Ask(Ask::Join))
            }
            _ => Ok(Turn::Ask(Ask::Acquire(None))),
        }
    }

    /// Sends one read to learn the service's time, if the wall clock is certainly wrong and there is no
    /// sample.
    pub(super) async fn learn_the_time(&self) -> Result<(), Stop> {
        let now = self.core.clocks.reading();
        let sampled = self
            .core
            .clocks
            .with_service(|service| service.latest(now).is_some());
        if !sampled && now.wall_ms < EARLIEST_WALL_MS {
            let call_usage = self.call_usage();
            let poll = self.core.read(
                self.order.key.shared(),
                Consistency::Eventual,
                self.order.policy.request_timeout(),
                &call_usage,
            );
            // Without an answer, an impossible seed is still found and withdrawn later.
            self.or_stop(poll).await?;
        }
        Ok(())
    }

    /// Sends a request for the key or for a place. Waits for an answer, to it or to an earlier one;
    /// `None` when none came within the request time-out.
    pub(super) async fn ask(
        &mut self,
        ask: &Ask,
    ) -> Result<Option<(Asked, Answer<Outcome>)>, Stop> {
        let mut limit = self
            .core
            .clocks
            .elapsed()
            .plus(self.order.policy.request_timeout());
        if self.unanswered < IN_FLIGHT {
            // Holder rule 1: the clocks first, then everything else, then the request.
            let now = self.core.clocks.reading();
            let (asked, write) = match ask {
                Ask::Join => (Asked::Other, self.join(now)),
                Ask::Acquire(take_over) => {
                    let core = self.core.clone();
                    let request =
                        |service: &_| self.attempt.request(take_over.clone(), service, now);
                    let (request, write) = core.clocks.with_service(request);
                    match &write {
                        Write::Slot(SlotWrite::Evict { .. }) => (Asked::Other, write),
                        _ => (Asked::Acquire(request), write),
                    }
                }
            };
            let mut flight = self.core.launch(write, now, &self.call_usage());
            self.unanswered += 1;
            self.sends();
            limit = now.elapsed.plus(self.order.policy.request_timeout());
            let answered = tokio::select! {
                biased;
                answer = &mut flight => {
                    self.unanswered -= 1;
                    return Ok(Some((asked, answer)));
                }
                answered = self.answer_by(limit) => answered,
            };
            // The request goes on in a task; its answer arrives in the mailbox.
            flight.post(asked, &mut self.mailbox);
            return answered;
        }
        self.answer_by(limit).await
    }

    /// The answer to an earlier request; `None` when none comes until `limit`.
    pub(super) async fn answer_by(
        &mut self,
        limit: Elapsed,
    ) -> Result<Option<(Asked, Answer<Outcome>)>, Stop> {
        let clock = self.core.clocks.clone();
        let answer = tokio::select! {
            biased;
            answer = self.mailbox.next() => Some(answer),
            () = clock.sleep_until(limit) => None,
            stop = stopped(&self.core, &self.gone, self.limit) => return Err(stop),
        };
        if answer.is_some() {
            self.unanswered -= 1;
        }
        Ok(answer)
    }

    pub(super) fn applied(
        &mut self,
        request: &Request,
        record: Option<Record>,
    ) -> Result<Granted, End> {
        let now = self.core.clocks.reading();
        // The request landed, so the grant must be released if the call fails.
        self.uncertain = true;
        let record = record.ok_or_else(|| self.odd_answer())?;
        Ok(self
            .core
            .clocks
            .with_service(|service| self.attempt.applied(request, &record, service, now)))
    }

    pub(super) fn judge(&mut self, record: Option<&Record>, shown: &Shown) -> Refusal {
        let now = self.core.clocks.reading();
        let view = record.map(|record| self.attempt.view(record));
        let view = view.as_deref();
        if let Some((record, token)) = record.and_then(|record| Some((record, record.token()?)))
            && view.is_some_and(|view| view.owner.is_some())
        {
            let slots = record.slots.as_ref();
            let seen = KeyShown {
                token,
                held: record.last_hold,
                slots: slots.is_some(),
                at_once: slots
                    .filter(|slots| slots.is_full())
                    .map_or(1, |slots| slots.limit),
                ahead: record.place_of(self.attempt.id()),
            };
            self.pace(|pace| pace.saw(seen, shown));
        }
        if let Some(record) = view
            && record.owner.is_some()
            && record.done.is_none()
            && !self.attempt.id().owns(record)
        {
            let held = HolderInfo::seen_by(record, self.attempt.id());
            if let Some(leader) = &self.leader {
                leader.saw(&held);
            }
            self.last_held = Some(held);
        } else {
            // An earlier holder does not explain a later failure of this call.
            self.last_held = None;
        }
        let attempt = &mut self.attempt;
        self.core
            .clocks
            .with_service(|service| attempt.refused(record, shown, now, service))
    }

    /// The end of a call for a key whose work is done.
    pub(super) fn done(&self, record: Option<&Record>) -> End {
        match record.and_then(Done::of) {
            Some(done) => End::Failed(Error::already_done(done)),
            None => self.odd_answer(),
        }
    }

    pub(super) fn call_usage(&self) -> CallUsage {
        Some(self.call_usage.clone())
    }

    pub(super) fn sends(&mut self) {
        self.sent += 1;
        self.last_sent = self.core.clocks.elapsed();
        if let Some(leader) = &self.leader {
            leader.sends(self.last_sent.plus(self.order.policy.request_timeout()));
        }
    }
}
