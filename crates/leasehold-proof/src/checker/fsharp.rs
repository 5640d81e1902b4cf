//! One client of FSharp.DynamoDbLock, by its two exact requests.
//!
//! PutItem if there is no record or `now` is past its expiry, DeleteItem if the record carries its
//! client id. `now` is its wall clock, and the expiry is fixed before the wait. It believes in its
//! lock until its wall clock is past that expiry.

use super::message::{Answer, Ask, Outcome};
use super::phase::{Choice, Note, Output};
use super::shape::Shape;

/// Where it is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Phase {
    Idle,
    Putting { expires_ms: i64 },
    Holding { expires_ms: i64 },
    Deleting,
}

/// An F# client.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Fsharp {
    pub(super) index: u8,
    pub(super) wall_offset_ms: i64,
    pub(super) attempts: u8,
    pub(super) requests: u8,
    /// The request that it waits for.
    pub(super) waiting: Option<u8>,
    pub(super) phase: Phase,
}

impl Fsharp {
    pub(super) fn new(index: u8, wall_offset_ms: i64) -> Fsharp {
        Fsharp {
            index,
            wall_offset_ms,
            attempts: 0,
            requests: 0,
            waiting: None,
            phase: Phase::Idle,
        }
    }

    fn wall_ms(&self, shape: &Shape, time: u8) -> i64 {
        shape
            .reading(self.index, time, 0, self.wall_offset_ms)
            .wall_ms
    }

    fn owner(&self) -> String {
        format!("f{}-{}", self.index, self.attempts)
    }

    pub(super) fn believes(&self, shape: &Shape, time: u8) -> bool {
        match self.phase {
            Phase::Holding { expires_ms } => self.wall_ms(shape, time) <= expires_ms,
            _ => false,
        }
    }

    pub(super) fn may(&self, choice: Choice, shape: &Shape) -> bool {
        let limits = &shape.clients[usize::from(self.index)];
        let may_send = self.requests < limits.requests;
        match (choice, &self.phase) {
            (Choice::Start, Phase::Idle) => may_send && self.attempts < limits.attempts,
            // It tries again every `CheckDelay`; an answer that is waited for comes first.
            (Choice::Send, Phase::Putting { .. }) => may_send && self.waiting.is_none(),
            (Choice::GiveUp, Phase::Putting { .. } | Phase::Deleting) => true,
            (Choice::Release, Phase::Holding { .. }) => may_send,
            _ => false,
        }
    }

    pub(super) fn choose(&mut self, choice: Choice, shape: &Shape, time: u8) -> Output {
        let now_ms = self.wall_ms(shape, time);
        let output = match (choice, &self.phase) {
            (Choice::Start, _) => {
                self.attempts += 1;
                let lease = i64::try_from(shape.terms.lease.as_millis()).unwrap_or(i64::MAX);
                let expires_ms = now_ms + lease;
                self.phase = Phase::Putting { expires_ms };
                let mut output = self.put(now_ms, expires_ms);
                output.note = Note::Over {
                    attempt: self.attempts,
                };
                output
            }
            (Choice::Send, Phase::Putting { expires_ms }) => self.put(now_ms, *expires_ms),
            (Choice::Release, _) => {
                self.phase = Phase::Deleting;
                let owner = self.owner();
                self.send(Ask::Delete { owner })
            }
            _ => {
                self.phase = Phase::Idle;
                self.waiting = None;
                Output::NOTHING
            }
        };
        self.settle(shape);
        output
    }

    fn put(&mut self, now_ms: i64, expires_ms: i64) -> Output {
        let owner = self.owner();
        self.send(Ask::Put {
            owner,
            now_ms,
            expires_ms,
        })
    }

    fn send(&mut self, ask: Ask) -> Output {
        let tag = self.requests;
        self.requests += 1;
        self.waiting = Some(tag);
        Output::asks(tag, self.attempts, ask)
    }

    pub(super) fn take(&mut self, answer: &Answer, shape: &Shape) -> Output {
        if self.waiting != Some(answer.tag) {
            return Output::NOTHING;
        }
        self.waiting = None;
        let applied = matches!(answer.outcome, Outcome::Applied(_));
        let mut output = Output::NOTHING;
        match self.phase {
            Phase::Putting { expires_ms } if applied => {
                self.phase = Phase::Holding { expires_ms };
                output.note = Note::Shown {
                    attempt: self.attempts,
                    token: 0,
                };
            }
            Phase::Deleting => self.phase = Phase::Idle,
            _ => {}
        }
        self.settle(shape);
        output
    }

    /// A tick has passed.
    pub(super) fn tick(&mut self, shape: &Shape, time: u8) {
        let limits = &shape.clients[usize::from(self.index)];
        if matches!(self.phase, Phase::Holding { .. })
            && self.requests >= limits.requests
            && !self.believes(shape, time)
        {
            self.phase = Phase::Idle;
        }
        self.settle(shape);
    }

    fn settle(&mut self, shape: &Shape) {
        let limits = &shape.clients[usize::from(self.index)];
        let spent = self.requests >= limits.requests;
        if matches!(self.phase, Phase::Putting { .. }) && spent && self.waiting.is_none() {
            self.phase = Phase::Idle;
        }
        if self.phase == Phase::Idle && (spent || self.attempts >= limits.attempts) {
            *self = Fsharp {
                attempts: limits.attempts,
                requests: limits.requests,
                ..Fsharp::new(self.index, 0)
            };
        }
    }
}
