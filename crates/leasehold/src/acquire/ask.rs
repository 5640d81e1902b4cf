//! Acquire requests, polls, and the wait between them.
//!
//! Invariants: the clocks are read before a request is made. A request without an answer in time
//! goes on beside the next one. A wait ends at the call's bound, whatever the store does.

use super::acquisition::{Acquisition, End, IN_FLIGHT, stopped};
use super::order::{Adoption, Patience};
use crate::error::Effect;
use crate::holder::HolderInfo;
use crate::lease::end::seen_in;
use crate::meter::CallUsage;
use crate::policy::CheckDelay;
use crate::queue::{LeaderRole, Polls, Start, Stop};
use crate::runtime::request::Answer;
use crate::runtime::retry::{RETRY_FIRST, RETRY_MAX};
use crate::shared::no_answer_within;
use crate::store::{Consistency, Outcome, StoreError, StoreErrorKind};
use leasehold_protocol::attempt::{Granted, Refusal, Request, Shown};
use leasehold_protocol::queue::Place;
use leasehold_protocol::record::{Record, Seen};
use leasehold_protocol::takeover::Verdict;
use leasehold_protocol::time::Elapsed;
use leasehold_protocol::write::Operation;

/// 2026-11-01 in milliseconds: no right wall clock shows less, since this line is younger.
const EARLIEST_WALL_MS: i64 = 1_793_491_200_000;
impl Acquisition {
    /// Sends requests until one is granted, or, without patience, until the key is seen held.
    pub(super) async fn win(&mut self) -> Result<Result<Granted, HolderInfo>, End> {
        self.learn_the_time().await?;
        let mut take_over = match self.begin().await? {
            Turn::Ours(granted) => return Ok(Ok(granted)),
            Turn::Free => {
                let adopts = self.order.adopts.as_ref();
                adopts.map(|adopts| (adopts.seen.clone(), Vec::new()))
            }
            Turn::TakeOver(seen, places) => Some((seen, places)),
        };
        let mut blind = 0;
        loop {
            let Some((request, answer)) = self.ask(take_over.clone()).await? else {
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
                self.retry_later(Operation::Acquire, late).await?;
                continue;
            };
            if answer.result.is_ok() && self.order.patience != Patience::None {
                self.core.poll_limit.asked(false);
            }
            let shown = answer.shown(true);
            let record = match answer.result {
                Ok(Outcome::Applied(record)) => {
                    return self.applied(&request, record).map(Ok);
                }
                Ok(Outcome::Refused(record)) => record,
                Err(error) if error.kind.is_retryable() => {
                    self.retry_later(Operation::Acquire, error).await?;
                    continue;
                }
                Err(error) => {
                    self.uncertain |= error.effect == Effect::Unknown;
                    return Err(self.fatal(Operation::Acquire, error));
                }
            };
            self.calm_down();
            take_over = match self.judge(record.as_ref(), &shown) {
                Refusal::Ours(granted) => return Ok(Ok(granted)),
                Refusal::Others(_) if self.order.adopts.is_some() => {
                    // A guard that was not detached has renewed it: try again with the present record.
                    blind += 1;
                    self.back_off(blind).await?;
                    Some((self.still_adopts(record.as_ref())?, Vec::new()))
                }
                Refusal::Others(Verdict::Free) => {
                    // Refused although the key is free: a race, which is short with a correct store.
                    blind += 1;
                    self.back_off(blind).await?;
                    None
                }
                Refusal::Others(Verdict::TakeOver(seen, places)) => Some((seen, places)),
                Refusal::Others(Verdict::Wait { ends }) => {
                    blind = 0;
                    if let (Patience::None, Some(held)) = (self.order.patience, &self.last_held) {
                        return Ok(Err(held.clone()));
                    }
                    let polls = Polls {
                        ends,
                        ..Polls::default()
                    };
                    match self.wait_for_turn(polls).await? {
                        Turn::Ours(granted) => return Ok(Ok(granted)),
                        Turn::Free => None,
                        Turn::TakeOver(seen, places) => Some((seen, places)),
                    }
                }
            };
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

    /// Begins as the queue's [`Start`] says: with a request now or later, or with a poll.
    pub(super) async fn begin(&mut self) -> Result<Turn, End> {
        match self.leader.as_ref().map(LeaderRole::start) {
            Some(Start::Poll(polls)) => self.wait_for_turn(polls).await,
            Some(Start::Request { not_before }) => {
                self.cool_down(not_before).await?;
                Ok(Turn::Free)
            }
            None => Ok(Turn::Free),
        }
    }

    /// Leaves the key to others until `until`, but for at most half of the rest of the wait.
    async fn cool_down(&self, until: Elapsed) -> Result<(), Stop> {
        let now = self.core.clocks.elapsed();
        let until = until.min(now.plus(self.limit.since(now) / 2));
        self.expect(until);
        self.or_stop(self.core.clocks.sleep_until(until)).await
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

    /// Sends one request and waits for an answer, to it or to an earlier one; `None` when none
    /// came within the request time-out.
    pub(super) async fn ask(
        &mut self,
        take_over: Option<(Seen, Vec<Place>)>,
    ) -> Result<Option<(Request, Answer<Outcome>)>, Stop> {
        let mut limit = self
            .core
            .clocks
            .elapsed()
            .plus(self.order.policy.request_timeout());
        if self.unanswered < IN_FLIGHT {
            // Holder rule 1: the clocks first, then everything else, then the request.
            let now = self.core.clocks.reading();
            let (request, write) = self
                .core
                .clocks
                .with_service(|service| self.attempt.request(take_over, service, now));
            let mut flight = self.core.launch(write, now, &self.call_usage());
            self.unanswered += 1;
            self.sends();
            limit = now.elapsed.plus(self.order.policy.request_timeout());
            let answered = tokio::select! {
                biased;
                answer = &mut flight => {
                    self.unanswered -= 1;
                    return Ok(Some((request, answer)));
                }
                answered = self.answer_by(limit) => answered,
            };
            // The request goes on in a task; its answer arrives in the mailbox.
            flight.post(request, &mut self.mailbox);
            return answered;
        }
        self.answer_by(limit).await
    }

    /// The answer to an earlier request; `None` when none comes until `limit`.
    pub(super) async fn answer_by(
        &mut self,
        limit: Elapsed,
    ) -> Result<Option<(Request, Answer<Outcome>)>, Stop> {
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

    fn applied(&mut self, request: &Request, record: Option<Record>) -> Result<Granted, End> {
        let now = self.core.clocks.reading();
        // The request landed, so the grant must be released if the call fails.
        self.uncertain = true;
        let record = record.ok_or_else(|| self.odd_answer())?;
        Ok(self
            .core
            .clocks
            .with_service(|service| self.attempt.applied(request, &record, service, now)))
    }

    /// Sleeps, and meanwhile reads late answers: one of them may be the grant, whose time runs.
    async fn sleep_until(&mut self, until: Elapsed) -> Result<Option<Granted>, End> {
        while self.unanswered > 0 {
            let Some((request, answer)) = self.answer_by(until).await? else {
                return Ok(None);
            };
            let shown = answer.shown(true);
            match answer.result {
                Ok(Outcome::Applied(record)) => return self.applied(&request, record).map(Some),
                // The record is older than the last one seen. It only matters if it is ours.
                Ok(Outcome::Refused(record)) => {
                    if let Refusal::Ours(granted) = self.judge(record.as_ref(), &shown) {
                        return Ok(Some(granted));
                    }
                }
                Err(error) => self.uncertain |= error.effect == Effect::Unknown,
            }
        }
        self.or_stop(self.core.clocks.sleep_until(until)).await?;
        Ok(None)
    }

    pub(super) fn judge(&mut self, record: Option<&Record>, shown: &Shown) -> Refusal {
        let now = self.core.clocks.reading();
        if let Some(record) = record
            && record.owner.is_some()
            && !self.attempt.id().owns(record)
        {
            let held = HolderInfo::of(record);
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

    /// Waits until the key may be taken or requested again, with polls by reads or by acquire requests.
    pub(super) async fn wait_for_turn(&mut self, mut polls: Polls) -> Result<Turn, End> {
        self.waited = true;
        loop {
            let until = polls.at.unwrap_or_else(|| self.next_poll(&polls));
            polls.at = Some(until);
            if let Some(leader) = &self.leader {
                leader.plan(Start::Poll(polls));
                leader.expect(until);
            }
            if let Some(granted) = self.sleep_until(until).await? {
                return Ok(Turn::Ours(granted));
            }
            self.check_queue()?;
            polls.round += 1;
            polls.at = None;
            let place = self.core.poll_limit.take(self.core.clocks.elapsed());
            self.expect(place);
            self.or_stop(self.core.clocks.sleep_until(place)).await?;
            if self.order.policy.polls_by_acquire() {
                // The acquire request is the poll.
                return Ok(Turn::Free);
            }
            self.sends();
            let call_usage = self.call_usage();
            let poll = self.core.read(
                self.order.key.shared(),
                Consistency::Eventual,
                self.order.policy.request_timeout(),
                &call_usage,
            );
            let answer = self.or_stop(poll).await?;
            let throttled =
                matches!(&answer.result, Err(error) if error.kind == StoreErrorKind::Throttled);
            if throttled || answer.result.is_ok() {
                self.core.poll_limit.asked(throttled);
            }
            let shown = answer.shown(false);
            let record = match answer.result {
                Ok(record) => record,
                Err(error) if error.kind.is_retryable() => {
                    self.retry_later(Operation::Read, error).await?;
                    continue;
                }
                Err(error) => return Err(self.fatal(Operation::Read, error)),
            };
            self.calm_down();
            match self.judge(record.as_ref(), &shown) {
                Refusal::Ours(granted) => return Ok(Turn::Ours(granted)),
                Refusal::Others(Verdict::Free) => return Ok(Turn::Free),
                Refusal::Others(Verdict::TakeOver(seen, places)) => {
                    return Ok(Turn::TakeOver(seen, places));
                }
                Refusal::Others(Verdict::Wait { ends }) => polls.ends = ends,
            }
            if let Some(token) = record.as_ref().and_then(Record::token) {
                polls.saw(token);
            }
        }
    }

    /// When to poll again: after a random delay, or when the grant that was seen can end.
    pub(super) fn next_poll(&self, polls: &Polls) -> Elapsed {
        let delay = match self.order.policy.check_delay(&self.core.hints) {
            CheckDelay::Fixed(delay) | CheckDelay::ByAcquire(delay) => delay,
            CheckDelay::Backoff { first, max } => {
                // An eighth of the first bound is certain, so a poll is never sent at once.
                first.min(max) / 8 + self.core.backoff(polls.round, first, max)
            }
        };
        let delay = self.core.poll_limit.stretch(delay);
        let now = self.core.clocks.elapsed();
        let until = now.plus(delay);
        match polls.ends {
            Some(ends) if ends > now => until.min(ends),
            _ => until,
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

/// What a waiter may do next.
pub(super) enum Turn {
    Ours(Granted),
    Free,
    TakeOver(Seen, Vec<Place>),
}
