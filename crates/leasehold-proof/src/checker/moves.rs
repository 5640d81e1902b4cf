//! Every step from a state: the other half of [`World`].

use super::message::{Ask, Author, Message, Request};
use super::phase::{Choice, Note, Output};
use super::shape::Breach;
use super::states::State;
use super::world::{Action, Event, Input, NONE, Next, Process, Step, World};

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
    pub(super) fn put(&self, state: &mut State, message: u32) {
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
            | Choice::Release
            | Choice::Complete => {
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
    pub(super) fn step(
        &mut self,
        state: &State,
        client: usize,
        event: Event,
    ) -> (State, Option<Breach>) {
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
                Note::Remembered { attempt } => {
                    let author = Author { process, attempt };
                    breach = breach.or(ledger.remembered(author));
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
        let breach = stored.runs.judge_deletion(state.time, &self.shape);
        let mut after = *state;
        after.stored = self.stored.number(stored.deleted()).0;
        if self.shape.stale_reads {
            after.previous = state.stored;
        }
        Some((Action::Delete, after, breach))
    }
}
