//! Requests in flight: their faults in the network and the service, and the `Store` that the library sees.
//!
//! A request that was sent arrives once, twice or never, even if its caller has left. Every call ends within the store's
//! own bound.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use leasehold::Effect;
use leasehold::store::{
    Consistency, Hints, Outcome, Page, Reply, Store, StoreError, StoreErrorKind,
};
use leasehold_protocol::record::Record;
use leasehold_protocol::time::Stamp;
use leasehold_protocol::write::Write;

use super::coverage::{Fault, Phase};
use super::request::{Answer, Body, Request, Value};
use super::shape::{CHECK_DELAY_MAX, MILLI, Nanos, SECOND};
use super::words::{digest, outcome, words};
use super::world::{Event, Shared, Step, World};

impl World {
    /// A process sends a request.
    fn send(&mut self, process: usize, body: Body) -> usize {
        let number = self.requests.len();
        let phase = self.phase_of(&body);
        let bound = self.now + self.shape.request_bound;
        let there = self.latency();
        let back = self.latency();
        let arrival = self.now + there;
        let fault = self.draw_fault(phase);
        let mut request = Request {
            process,
            incarnation: self.processes[process].incarnation,
            body,
            phase,
            fault,
            bound,
            back,
            age: 0,
            answer: None,
            answered: false,
            waker: None,
            sent: self.reading(process),
        };
        if matches!(request.body, Body::Read(_, Consistency::Eventual)) && self.rng.chance(60) {
            request.age = self.rng.below(self.shape.staleness + 1);
        }
        if let Some(fault) = fault {
            self.coverage.met(fault, phase);
            for beside in [Phase::Queue, Phase::HandedOff, Phase::HoldSlot] {
                if fault.applies(beside) && self.phases(process).any(|phase| phase == beside) {
                    self.coverage.met(fault, beside);
                }
            }
        }
        match fault {
            Some(Fault::RequestLost) => {
                let after = if self.rng.chance(50) {
                    there + back
                } else {
                    Nanos::MAX / 4
                };
                request.answer = Some(Err(broken("the connection was reset")));
                self.enter((self.now + after).min(bound), Event::Answer(number));
            }
            Some(Fault::LateRequest) => {
                let late = self.rng.within(SECOND / 2, 45 * SECOND);
                self.enter(arrival + late, Event::Arrive(number));
                self.enter(bound, Event::Answer(number));
            }
            _ => self.enter(arrival, Event::Arrive(number)),
        }
        if let Body::Write(write) = &request.body {
            self.service.sends(process, write);
            self.judge_expiry(process, write);
        }
        let numbers = [process as u64, phase as u64, fault.map_or(99, |f| f as u64)];
        self.trace.note(self.now, "send", numbers, || {
            let trouble = fault.map_or(String::new(), |f| format!("  !! {f:?}"));
            format!("p{process} #{number} {}{trouble}", words(&request.body))
        });
        self.processes[process].in_flight[phase as usize] += 1;
        self.requests.push(request);
        number
    }

    fn draw_fault(&mut self, phase: Phase) -> Option<Fault> {
        if self.calm || !self.rng.rarely(self.shape.weather.request) {
            return None;
        }
        let fault = self.rng.pick(&[
            Fault::RequestLost,
            Fault::AnswerLost,
            Fault::NoAnswer,
            Fault::LateRequest,
            Fault::LateAnswer,
            Fault::ErrorBefore,
            Fault::ErrorAfter,
            Fault::Throttle,
            Fault::Conflict,
            Fault::Duplicate,
            Fault::DuplicateAnswered,
        ]);
        fault.applies(phase).then_some(fault)
    }

    fn latency(&mut self) -> Nanos {
        let usual = self.shape.latency;
        let half = self.rng.within(usual / 2, usual);
        // One in fifty takes much longer, as networks do.
        if self.rng.chance(2) { half * 10 } else { half }
    }

    /// The `Date` of one of the service's hosts.
    fn stamp(&mut self) -> Option<Stamp> {
        let hosts = self.shape.hosts_ms.len() as u64;
        let host = self.rng.below(hosts) as usize;
        if self.shape.dateless {
            return None;
        }
        let ms = self.service.time_ms(self.now) + self.shape.hosts_ms[host];
        Some(Stamp::WholeSeconds(ms.div_euclid(1_000)))
    }

    fn refused(&mut self, kind: StoreErrorKind, effect: Effect, what: &str) -> StoreError {
        let mut error = StoreError::new(kind, effect, what);
        error.stamp = self.stamp();
        error
    }

    /// A request reaches the service.
    pub(super) fn arrive(&mut self, number: usize) {
        let fault = self.requests[number].fault;
        let back = self.requests[number].back;
        let answer = match fault {
            Some(Fault::ErrorBefore) => Err(self.refused(
                StoreErrorKind::Unavailable,
                Effect::Unknown,
                "500, before it was applied",
            )),
            Some(Fault::Throttle) => {
                Err(self.refused(StoreErrorKind::Throttled, Effect::NotApplied, "throttled"))
            }
            Some(Fault::Conflict) => Err(self.refused(
                StoreErrorKind::Conflict,
                Effect::NotApplied,
                "TransactionConflict",
            )),
            _ => self.carry_out(number),
        };
        let mut at = self.now + back;
        match fault {
            Some(Fault::AnswerLost) => {
                self.requests[number].answer = Some(Err(broken("the answer was lost")));
            }
            Some(Fault::NoAnswer) => at = Nanos::MAX / 4,
            Some(Fault::ErrorAfter) => {
                let error = self.refused(
                    StoreErrorKind::Unavailable,
                    Effect::Unknown,
                    "500, after it was applied",
                );
                self.requests[number].answer = Some(Err(error));
            }
            Some(Fault::LateAnswer) => {
                self.requests[number].answer = Some(answer);
                at += self.rng.within(100 * MILLI, 12 * SECOND);
            }
            Some(Fault::Duplicate) => {
                self.requests[number].answer = Some(answer);
                let later = self.rng.within(MILLI, 20 * SECOND);
                self.enter(self.now + later, Event::Again(number));
            }
            Some(Fault::DuplicateAnswered) => {
                // The first answer gets lost inside of the service.
                let later = self.rng.within(0, 2 * SECOND);
                self.enter(self.now + later, Event::Again(number));
                at = Nanos::MAX / 4;
            }
            _ => self.requests[number].answer = Some(answer),
        }
        let bound = self.requests[number].bound;
        self.enter(at.min(bound), Event::Answer(number));
    }

    /// The service carries out a request once more.
    pub(super) fn again(&mut self, number: usize) {
        let answer = self.carry_out(number);
        if self.requests[number].fault == Some(Fault::DuplicateAnswered) {
            self.requests[number].answer = Some(answer);
            let at = self.now + self.requests[number].back;
            self.enter(at, Event::Answer(number));
        }
    }

    fn carry_out(&mut self, number: usize) -> Answer {
        let stamp = self.stamp();
        let now = self.now;
        let request = &self.requests[number];
        let (process, phase, age) = (request.process, request.phase, request.age);
        let mut stale = false;
        let value = match &request.body {
            Body::Write(write) => Value::Write(self.service.write(now, write)),
            Body::Read(key, _) => {
                let (record, old) = self.service.read(key, now, age);
                stale = old;
                Value::Read(record)
            }
            Body::List => {
                let records = self.service.items.iter().filter_map(|s| s.record.clone());
                Value::List(records.collect())
            }
            Body::Foreign(write) => Value::Foreign(self.service.foreign(now, write)),
        };
        if stale {
            self.coverage.met(Fault::Stale, phase);
        }
        let numbers = digest(number, &value);
        self.trace.note(now, "service", numbers, || {
            format!("p{process} #{number} {}", outcome(&value))
        });
        Ok(Reply::new(value, stamp))
    }

    /// An answer reaches its process, or the store gives up.
    pub(super) fn answer(&mut self, number: usize, step: &mut Step) {
        let now = self.now;
        let request = &mut self.requests[number];
        let (process, phase) = (request.process, request.phase);
        if request.answered || request.incarnation != self.processes[process].incarnation {
            return;
        }
        request.answered = true;
        request
            .answer
            .get_or_insert_with(|| Err(broken("no answer within the store's own bound")));
        step.waker = request.waker.take();
        if let Some(Ok(reply)) = &request.answer
            && let Value::Write(Outcome::Applied(record) | Outcome::Refused(record))
            | Value::Read(record) = &reply.value
        {
            self.service.shows(now, process, record.as_ref());
        }
        let failed = matches!(request.answer, Some(Err(_)));
        self.processes[process].in_flight[phase as usize] -= 1;
        let numbers = [process as u64, number as u64, u64::from(failed)];
        self.trace.note(now, "answer", numbers, || {
            format!(
                "p{process} #{number}{}",
                if failed { " failed" } else { "" }
            )
        });
        self.run(process, step);
    }
}

fn broken(what: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, Effect::Unknown, what)
}

/// The service as one process reaches it.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    pub(super) world: Shared,
    pub(super) process: usize,
}

impl Wire {
    /// Sends a request and waits for its answer.
    pub(super) async fn ask(&self, body: Body) -> Answer {
        let number = self.world.lock().send(self.process, body);
        Waiting { wire: self, number }.await
    }
}

struct Waiting<'a> {
    wire: &'a Wire,
    number: usize,
}

impl Future for Waiting<'_> {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        let mut world = self.wire.world.lock();
        let request = &mut world.requests[self.number];
        if request.answered {
            let gone = || Err(broken("answered before"));
            let (process, sent) = (request.process, request.sent);
            let answer = request.answer.take().unwrap_or_else(gone);
            let stamp = match &answer {
                Ok(reply) => reply.stamp,
                Err(error) => error.stamp,
            };
            world.learn(process, stamp, sent);
            return Poll::Ready(answer);
        }
        match &mut request.waker {
            Some(known) => known.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let waker = self.wire.world.lock().requests[self.number].waker.take();
        // Outside of the lock: it may be the last handle of a task.
        drop(waker);
    }
}

fn odd() -> StoreError {
    StoreError::new(
        StoreErrorKind::Other,
        Effect::Unknown,
        "an answer to another question",
    )
}

#[async_trait]
impl Store for Wire {
    fn describe(&self) -> String {
        "simulated table".into()
    }

    fn hints(&self) -> Hints {
        let mut hints = Hints::default();
        hints.expiry_padding = Duration::from_secs(1);
        hints.check_delay = Duration::from_millis(100);
        hints.check_delay_max = CHECK_DELAY_MAX;
        hints.max_polls_per_second = 100;
        hints
    }

    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        let reply = self.ask(Body::Write(write.into())).await?;
        match reply.value {
            Value::Write(value) => Ok(Reply::new(value, reply.stamp).with_units(reply.units)),
            _ => Err(odd()),
        }
    }

    async fn read(
        &self,
        key: &str,
        consistency: Consistency,
    ) -> Result<Reply<Option<Record>>, StoreError> {
        let reply = self.ask(Body::Read(key.to_owned(), consistency)).await?;
        match reply.value {
            Value::Read(value) => Ok(Reply::new(value, reply.stamp).with_units(reply.units)),
            _ => Err(odd()),
        }
    }

    async fn list(&self, prefix: &str, _after: Option<String>) -> Result<Reply<Page>, StoreError> {
        let reply = self.ask(Body::List).await?;
        match reply.value {
            Value::List(records) => {
                let of_prefix = |record: &Record| record.key.starts_with(prefix);
                let records = records.into_iter().filter(of_prefix).map(Ok);
                let page = Page::new(records.collect(), None);
                Ok(Reply::new(page, reply.stamp).with_units(reply.units))
            }
            _ => Err(odd()),
        }
    }
}

/// A store that is shared by the client of one process.
pub(super) fn store(world: &Shared, process: usize) -> Arc<Wire> {
    Arc::new(Wire {
        world: world.clone(),
        process,
    })
}
