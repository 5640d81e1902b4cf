//! The service carries out a request: a part of [`World`].

use std::rc::Rc;

use super::message::{Answer, Ask, Author, Message, Request};
use super::order::PASSED;
use super::service::Served;
use super::states::State;
use super::world::{Action, Done, Envelope, Event, Next, World};

impl World {
    /// The service carries out a request.
    pub(super) fn serve(
        &mut self,
        state: &State,
        message: u32,
        envelope: Envelope,
        next: &mut Vec<Next>,
    ) {
        if self.is_signed_too_far_away(message, state.time) {
            return;
        }
        if envelope.register {
            let mut after = *state;
            after.remove(message);
            let mut breach = None;
            if let Message::Request(Request {
                ask: Ask::Register { token, place },
                ..
            }) = &*self.messages.value(message)
            {
                let mut ledger = (*self.ledgers.value(state.ledger)).clone();
                breach = ledger.register(*token, *place);
                after.ledger = self.ledgers.number(ledger).0;
            }
            let again = false;
            next.push((Action::Serve { message, again }, after, breach));
            return;
        }
        let current = self.serve_on(state.stored, message, state.time);
        self.served_as(state, message, envelope, &current, next);
        if envelope.stale && self.shape.stale_reads && state.previous != state.stored {
            let old = self.serve_on(state.previous, message, state.time);
            let old = Done {
                stored: state.stored,
                ..old
            };
            self.served_as(state, message, envelope, &old, next);
        }
    }

    fn served_as(
        &mut self,
        state: &State,
        message: u32,
        envelope: Envelope,
        done: &Done,
        next: &mut Vec<Next>,
    ) {
        let mut applied = *state;
        if done.stored != state.stored {
            applied.stored = done.stored;
            if self.shape.stale_reads {
                applied.previous = state.stored;
            }
        }
        if let Some((author, token)) = done.granted {
            let mut ledger = (*self.ledgers.value(state.ledger)).clone();
            ledger.land(author, token);
            applied.ledger = self.ledgers.number(ledger).0;
        }
        if let Some(author) = done.completed {
            let process = state.clients[usize::from(author.process)];
            if !self.known[process as usize].finished {
                let mut ledger = (*self.ledgers.value(state.ledger)).clone();
                ledger.complete(author);
                applied.ledger = self.ledgers.number(ledger).0;
            }
        }
        let waits = |author: &&Author| {
            let process = state.clients[usize::from(author.process)];
            self.known[process as usize].waits == Some(author.attempt)
        };
        let found = done
            .breach
            .or(done.passed.iter().find(waits).map(|_| PASSED));
        let process = state.clients[usize::from(envelope.process)];
        let awaited = self.known[process as usize].tags >> envelope.tag & 1 == 1;
        let may_repeat = state.faults[0] > 0 && !envelope.read;
        for again in [false, true] {
            if again && !may_repeat {
                continue;
            }
            let mut after = applied;
            if again {
                after.faults[0] -= 1;
            } else {
                after.remove(message);
            }
            let action = Action::Serve { message, again };
            if !awaited {
                next.push((action, after, found));
                continue;
            }
            for answer in done.answers.iter() {
                let mut after = after;
                if self.shape.prompt {
                    let (client, event) = (usize::from(envelope.process), Event::Answer(*answer));
                    let (after, breach) = self.step(&after, client, event);
                    next.push((action, after, found.or(breach)));
                } else {
                    self.put(&mut after, *answer);
                    next.push((action, after, found));
                }
            }
            if self.shape.prompt {
                next.push((action, after, found));
            }
        }
    }

    /// The real code's meaning of a request, and the answers that it may get.
    fn serve_on(&mut self, stored: u32, message: u32, time: u8) -> Done {
        if let Some(done) = self.served.get(&(stored, message, time)) {
            return done.clone();
        }
        let request = self.messages.value(message);
        let Message::Request(request) = &*request else {
            return Done {
                stored,
                answers: Rc::from([]),
                granted: None,
                passed: Rc::from([]),
                completed: None,
                breach: None,
            };
        };
        let Served {
            stored: after,
            outcome,
            granted,
            passed,
            completed,
            breach,
        } = self
            .stored
            .value(stored)
            .serve(&request.ask, request.author, &self.shape, time);
        let sight = after.sight();
        let stamps = self.shape.stamps_at(time);
        let answers = stamps.into_iter().map(|stamp| {
            self.message(Message::Answer(Answer {
                process: request.author.process,
                tag: request.tag,
                outcome: outcome.clone(),
                stamp,
                sight,
            }))
        });
        let answers: Vec<u32> = answers.collect();
        let done = Done {
            stored: self.stored.number(after).0,
            answers: answers.into(),
            granted,
            passed: passed.into(),
            completed,
            breach,
        };
        self.served.insert((stored, message, time), done.clone());
        done
    }

    fn is_signed_too_far_away(&self, message: u32, time: u8) -> bool {
        let Some(life) = self.shape.signature_life_ms else {
            return false;
        };
        match &*self.messages.value(message) {
            Message::Request(request) => {
                let now = self.shape.service_ms(time);
                now.abs_diff(request.signed_ms) > life.unsigned_abs()
            }
            Message::Answer(_) => false,
        }
    }
}
