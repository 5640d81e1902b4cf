//! Every step from a state: the other half of [`World`].

use std::rc::Rc;

use super::message::{Answer, Ask, Author, Message, Request};
use super::order::PASSED;
use super::phase::{Choice, Note, Output};
use super::service::Served;
use super::shape::Breach;
use super::states::State;
use super::world::{Action, Done, Envelope, Event, Input, NONE, Next, Process, Step, World};

impl World {
    /// Every step from a state, into `next`.
    pub(super) fn successors(&mut self, state: &State, next: &mut Vec<Next>) {
        next.clear();
        if let Some(message) = state.fresh() {
            let mut from = *state;
            from.set_fresh(None);
            self.deliver(&from, message, next);
            if let Some(left) = from.faults[4].checked_sub(1) {
                from.faults[4] = left;
                next.push((Action::Delay { message }, from, None));
            }
            return;
        }
        for message in state.bag() {
            self.deliver(state, *message, next);
        }
        for client in 0..self.clients() {
            let known = self.known[state.clients[client] as usize];
            for choice in Choice::ALL {
                if known.choices >> choice as u8 & 1 == 1 && self.allows(state, client, choice) {
                    let (after, breach) = self.choose(state, client, choice);
                    next.push((Action::Choose { client, choice }, after, breach));
                }
            }
        }
        if state.time < self.shape.horizon {
            next.push(self.tick(state, None));
            for client in 0..self.clients() {
                let known = self.known[state.clients[client] as usize];
                if state.faults[1] > 0 && known.started && !known.finished && known.ours {
                    next.push(self.tick(state, Some(client)));
                }
            }
        }
        next.extend(self.delete(state));
    }

    fn deliver(&mut self, state: &State, message: u32, next: &mut Vec<Next>) {
        let envelope = self.envelopes[message as usize];
        if envelope.answer {
            let client = usize::from(envelope.process);
            let (after, breach) = self.step(state, client, Event::Answer(message));
            next.push((Action::Take { message }, after, breach));
        } else {
            self.serve(state, message, envelope, next);
        }
    }

    /// A message gets into the network.
    fn put(&self, state: &mut State, message: u32) {
        state.put(message);
        if self.shape.faults.late.is_some() {
            state.set_fresh(Some(message));
        }
    }

    /// Whether the world allows a choice: faults may be used up, and equal clients begin in a fixed order.
    fn allows(&self, state: &State, client: usize, choice: Choice) -> bool {
        let known = &self.known[state.clients[client] as usize];
        let [_, _, crashes, steps, _] = state.faults;
        match choice {
            Choice::Start if !known.started && client > 0 => {
                let shapes = &self.shape.clients;
                shapes[client] != shapes[client - 1]
                    || self.known[state.clients[client - 1] as usize].started
            }
            Choice::Crash => crashes > 0 && known.started,
            Choice::WallForward | Choice::WallBack => steps > 0 && known.started,
            Choice::Poll | Choice::PollStrong if self.shape.queueing.reads > 1 => true,
            Choice::Send
            | Choice::Renew
            | Choice::Poll
            | Choice::PollStrong
            | Choice::Join
            | Choice::Release => {
                self.shape.eager || known.sent_at[choice as usize].is_none_or(|at| at < state.time)
            }
            _ => true,
        }
    }

    fn choose(&mut self, state: &State, client: usize, choice: Choice) -> (State, Option<Breach>) {
        let mut from = *state;
        let mut place = 0;
        match choice {
            Choice::Crash => from.faults[2] -= 1,
            Choice::WallForward | Choice::WallBack => from.faults[3] -= 1,
            Choice::Work => place = self.ledgers.value(state.ledger).place(client as u8),
            _ => {}
        }
        self.step(&from, client, Event::Choice(choice, place))
    }

    /// One step of one client.
    fn step(&mut self, state: &State, client: usize, event: Event) -> (State, Option<Breach>) {
        let input = Input {
            time: state.time,
            event,
        };
        let key = (state.clients[client], input);
        let step = match self.steps.get(&key) {
            Some(step) => *step,
            None => {
                let step = self.work_out(key.0, client, input);
                self.steps.insert(key, step);
                step
            }
        };
        let mut after = *state;
        after.clients[client] = step.process;
        if let Event::Answer(message) = event {
            after.remove(message);
        }
        self.forget_void(&mut after, client);
        if step.message != NONE {
            self.put(&mut after, step.message);
        }
        let mut breach = step.breach;
        let finished = |process: u32| self.known[process as usize].finished;
        let over = finished(step.process) && !finished(key.0);
        if step.note != Note::Nothing || over {
            let mut ledger = (*self.ledgers.value(state.ledger)).clone();
            let process = client as u8;
            match step.note {
                Note::Nothing => {}
                Note::Over { attempt } => ledger.forget(process, attempt),
                Note::Shown { attempt, token } => {
                    let author = Author { process, attempt };
                    breach = breach.or(ledger.show(author, token, self.shape.s2));
                }
            }
            if over {
                ledger.forget(process, u8::MAX);
            }
            after.ledger = self.ledgers.number(ledger).0;
        }
        (after, breach)
    }

    /// Removes answers and reads that their client does not wait for.
    fn forget_void(&self, state: &mut State, client: usize) {
        let tags = self.known[state.clients[client] as usize].tags;
        let void = |message: u32| {
            let envelope = &self.envelopes[message as usize];
            usize::from(envelope.process) == client
                && (envelope.answer || envelope.read)
                && tags >> envelope.tag & 1 == 0
        };
        if state.bag().iter().any(|message| void(*message)) {
            state.retain(|message| !void(message));
        }
    }

    /// Runs the real code for a step of a client.
    fn work_out(&mut self, process: u32, client: usize, input: Input) -> Step {
        let time = input.time;
        let mut after = (*self.processes.value(process)).clone();
        let output = match (&mut after, input.event) {
            (Process::Ours(client), Event::Choice(choice, _)) => {
                client.choose(choice, &self.shape, time)
            }
            (Process::Fsharp(client), Event::Choice(choice, _)) => {
                client.choose(choice, &self.shape, time)
            }
            (process, Event::Answer(message)) => match (&*self.messages.value(message), process) {
                (Message::Answer(answer), Process::Ours(client)) => {
                    client.take(answer, &self.shape, time)
                }
                (Message::Answer(answer), Process::Fsharp(client)) => {
                    client.take(answer, &self.shape)
                }
                (Message::Request(_), _) => Output::NOTHING,
            },
            (Process::Ours(client), Event::Tick(missed)) => Output {
                breach: client.tick(&self.shape, time, missed),
                ..Output::NOTHING
            },
            (Process::Fsharp(client), Event::Tick(_)) => {
                client.tick(&self.shape, time);
                Output::NOTHING
            }
        };
        let place = match input.event {
            Event::Choice(_, place) => place,
            _ => 0,
        };
        let message = output.ask.map_or(NONE, |(tag, attempt, mut ask)| {
            if let Ask::Register { place: at, .. } = &mut ask {
                *at = place;
            }
            let author = Author {
                process: client as u8,
                attempt,
            };
            let signed_ms = self.signed_ms(&after, time);
            self.message(Message::Request(Request {
                author,
                tag,
                signed_ms,
                ask,
            }))
        });
        Step {
            process: self.process(after),
            message,
            note: output.note,
            breach: output.breach,
        }
    }

    fn signed_ms(&self, process: &Process, time: u8) -> i64 {
        match (process, self.shape.signature_life_ms) {
            (Process::Ours(client), Some(_)) => client.reading(&self.shape, time).wall_ms,
            _ => 0,
        }
    }

    /// The service carries out a request.
    fn serve(&mut self, state: &State, message: u32, envelope: Envelope, next: &mut Vec<Next>) {
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
                breach: None,
            };
        };
        let Served {
            stored: after,
            outcome,
            granted,
            passed,
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

    fn tick(&mut self, state: &State, missed: Option<usize>) -> Next {
        let mut after = *state;
        after.time += 1;
        if missed.is_some() {
            after.faults[1] -= 1;
        }
        let mut breach = None;
        for client in 0..self.clients() {
            let event = Event::Tick(missed == Some(client));
            let (next, found) = self.step(&after, client, event);
            after = next;
            breach = breach.or(found);
        }
        (Action::Tick { missed }, after, breach)
    }

    fn delete(&mut self, state: &State) -> Option<Next> {
        if !self.shape.ttl {
            return None;
        }
        let stored = self.stored.value(state.stored);
        let ttl = stored.record.as_ref()?.ttl_seconds?;
        if !self.shape.may_delete(ttl, state.time) {
            return None;
        }
        let mut after = *state;
        after.stored = self.stored.number(stored.deleted()).0;
        if self.shape.stale_reads {
            after.previous = state.stored;
        }
        Some((Action::Delete, after, None))
    }
}
