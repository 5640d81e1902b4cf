//! The world: clients, network, service, time, and every possible step from a state.
//!
//! Parts are numbers (see `states`). A step of one part depends only on that part, the tick and one message. The
//! protocol code is pure, so the real code runs once for each such combination, and its result is kept.
//! Invariant: nothing else is an input of a step.
//!
//! These reductions keep the search small, and lose no run:
//!
//! - A lost request or answer is one that is never delivered. A crash without a restart is a client without further
//!   steps (its belief goes on, which is stricter).
//! - An answer or read that its client does not wait for is removed: it can change nothing.
//! - Equal clients begin in the order of their numbers: any other run only exchanges their names.
//! - A client that can never send or believe again is one value (`settle`), and so is a ledger.

use std::rc::Rc;

use super::client::Client;
use super::fsharp::Fsharp;
use super::ledger::Ledger;
use super::message::{Ask, Author, Message};
use super::phase::{Choice, Note, Phase};
use super::service::Stored;
use super::shape::{Breach, CLIENTS, Kind, Property, Shape};
use super::states::{Interner, Map, State};

/// No message, no client.
pub(super) const NONE: u32 = u32::MAX;

/// A client, ours or not.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Process {
    Ours(Box<Client>),
    Fsharp(Fsharp),
}

/// One step of the whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    /// The service carries out a request. `again`: it will do so once more.
    Serve {
        message: u32,
        again: bool,
    },
    /// A client takes an answer.
    Take {
        message: u32,
    },
    /// The network keeps a message for later.
    Delay {
        message: u32,
    },
    Choose {
        client: usize,
        choice: Choice,
    },
    /// A tick passes; the elapsed clock of one client may not count it.
    Tick {
        missed: Option<usize>,
    },
    /// The service deletes the record by its TTL.
    Delete,
}

/// A successor: how, what, and what was found wrong on the way.
pub(super) type Next = (Action, State, Option<Breach>);

/// What is known of a client by its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) choices: u16,
    /// The requests whose answers it waits for, by tag.
    pub(super) tags: u64,
    /// Ticks for which `believing` was worked out, and those at which it believes in its grant.
    pub(super) asked: u64,
    pub(super) believing: u64,
    /// When requests without an answer were sent last, by the number of the choice.
    pub(super) sent_at: [Option<u8>; Choice::ALL.len()],
    /// The call that waits for the key.
    pub(super) waits: Option<u8>,
    pub(super) started: bool,
    pub(super) finished: bool,
    pub(super) ours: bool,
}

/// The input of a step besides the client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Input {
    pub(super) time: u8,
    pub(super) event: Event,
}

/// What happens to a client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Event {
    /// With the place of its lease in the order of grants, for a write to the register.
    Choice(Choice, u8),
    Answer(u32),
    /// A tick has passed; whether its elapsed clock missed it.
    Tick(bool),
}

/// A step of one client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) process: u32,
    pub(super) message: u32,
    pub(super) note: Note,
    pub(super) breach: Option<Breach>,
}

/// The effect of a request on the service.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub(super) stored: u32,
    pub(super) answers: Rc<[u32]>,
    /// A grant of this call began, with this token.
    pub(super) granted: Option<(Author, u64)>,
    /// Calls whose place was passed over, which must not wait any more.
    pub(super) passed: Rc<[Author]>,
    /// The grant of this call was completed.
    pub(super) completed: Option<Author>,
    pub(super) breach: Option<Breach>,
}

/// What is known of a message by its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Envelope {
    pub(super) process: u8,
    pub(super) tag: u8,
    pub(super) answer: bool,
    pub(super) read: bool,
    /// It may show an old record.
    pub(super) stale: bool,
    pub(super) register: bool,
}

/// One configuration, and all that was worked out of it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) shape: Shape,
    pub(super) processes: Interner<Process>,
    pub(super) messages: Interner<Message>,
    pub(super) stored: Interner<Stored>,
    pub(super) ledgers: Interner<Ledger>,
    pub(super) known: Vec<Known>,
    pub(super) envelopes: Vec<Envelope>,
    pub(super) steps: Map<(u32, Input), Step>,
    pub(super) served: Map<(u32, u32, u8), Done>,
}

impl World {
    pub(super) fn new(shape: Shape) -> World {
        World {
            shape,
            processes: Interner::new(),
            messages: Interner::new(),
            stored: Interner::new(),
            ledgers: Interner::new(),
            known: Vec::new(),
            envelopes: Vec::new(),
            steps: Map::default(),
            served: Map::default(),
        }
    }

    /// Every combination of wall clocks, before anything has happened.
    pub(super) fn beginnings(&mut self) -> Vec<State> {
        let stored = self.stored.number(Stored::default()).0;
        let ledger = self.ledgers.number(Ledger::default()).0;
        let faults = &self.shape.faults;
        let faults = [
            faults.duplicates,
            faults.pauses,
            faults.crashes,
            faults.wall_steps,
            faults.late.unwrap_or(0),
        ];
        let mut beginnings = vec![State::new(faults, stored, ledger, [NONE; CLIENTS])];
        for (index, client) in self.shape.clients.clone().iter().enumerate() {
            let mut more = Vec::new();
            for wall in client.walls_ms {
                let process = match client.kind {
                    Kind::Ours => {
                        Process::Ours(Box::new(Client::new(index as u8, *wall, &self.shape)))
                    }
                    Kind::Fsharp => Process::Fsharp(Fsharp::new(index as u8, *wall)),
                };
                let number = self.process(process);
                more.extend(beginnings.iter().map(|state| {
                    let mut state = *state;
                    state.clients[index] = number;
                    state
                }));
            }
            beginnings = more;
        }
        beginnings
    }

    pub(super) fn message_of(&self, number: u32) -> Rc<Message> {
        self.messages.value(number)
    }

    pub(super) fn process_of(&self, state: &State, client: usize) -> Rc<Process> {
        self.processes.value(state.clients[client])
    }

    pub(super) fn clients(&self) -> usize {
        self.shape.clients.len()
    }

    pub(super) fn process(&mut self, process: Process) -> u32 {
        let (number, new) = self.processes.number(process);
        if new {
            let known = self.get_to_know(&self.processes.value(number));
            self.known.push(known);
        }
        number
    }

    fn get_to_know(&self, process: &Process) -> Known {
        let shape = &self.shape;
        let mut choices = 0;
        for choice in Choice::ALL {
            let may = match process {
                Process::Ours(client) => client.may(choice, shape),
                Process::Fsharp(client) => client.may(choice, shape),
            };
            choices |= u16::from(may) << choice as u8;
        }
        match process {
            Process::Ours(client) => {
                let limits = &shape.clients[usize::from(client.index)];
                let acquires = matches!(client.phase, Phase::Acquiring { .. });
                Known {
                    sent_at: Choice::ALL.map(|choice| client.last_sent(choice)),
                    waits: acquires.then_some(client.attempts),
                    choices,
                    tags: client.waiting.iter().fold(0, |tags, w| tags | 1 << w.tag),
                    asked: 0,
                    believing: 0,
                    started: client.attempts > 0,
                    finished: client.phase == Phase::Idle && client.attempts >= limits.attempts,
                    ours: true,
                }
            }
            Process::Fsharp(client) => Known {
                sent_at: [None; Choice::ALL.len()],
                waits: None,
                choices,
                tags: client.waiting.map_or(0, |tag| 1 << tag),
                asked: 0,
                believing: 0,
                started: client.attempts > 0,
                finished: false,
                ours: false,
            },
        }
    }

    pub(super) fn message(&mut self, message: Message) -> u32 {
        let envelope = match &message {
            Message::Request(request) => Envelope {
                process: request.author.process,
                tag: request.tag,
                answer: false,
                read: matches!(request.ask, Ask::Read { .. }),
                stale: request.ask == Ask::Read { strong: false },
                register: matches!(request.ask, Ask::Register { .. }),
            },
            Message::Answer(answer) => Envelope {
                process: answer.process,
                tag: answer.tag,
                answer: true,
                read: false,
                stale: false,
                register: false,
            },
        };
        let (number, new) = self.messages.number(message);
        if new {
            self.envelopes.push(envelope);
        }
        number
    }

    /// Whether a client believes in its grant.
    fn believes(&mut self, process: u32, time: u8) -> bool {
        let known = &self.known[process as usize];
        if known.asked >> time & 1 == 0 {
            let believes = match &*self.processes.value(process) {
                Process::Ours(client) => client.believes(&self.shape, time),
                Process::Fsharp(client) => client.believes(&self.shape, time),
            };
            let known = &mut self.known[process as usize];
            known.asked |= 1 << time;
            known.believing |= u64::from(believes) << time;
        }
        self.known[process as usize].believing >> time & 1 == 1
    }

    /// S1. Between two F# clients it is what their library gives.
    pub(super) fn judge(&mut self, state: &State) -> Option<Breach> {
        if !self.shape.s1 {
            return None;
        }
        let mut ours = 0;
        let mut all = 0;
        for client in 0..self.clients() {
            let process = state.clients[client];
            if self.believes(process, state.time) {
                all += 1;
                ours += u8::from(self.known[process as usize].ours);
            }
        }
        (ours > 0 && all > 1).then_some(Breach {
            property: Property::S1,
            how: "two clients believe in a grant at the same time",
        })
    }
}
