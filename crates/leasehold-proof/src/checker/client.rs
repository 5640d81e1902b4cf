//! One client: the steps of the async client between calls of the protocol code.
//!
//! It follows `leasehold/src/acquire/` and `renewal/`. Choices of timers, chance and the caller may come at any
//! moment or never. So a stalled process, a time-out, a back-off, a cancelled call and a late renewal are all the
//! same here: ticks pass. The protocol crate makes the decisions; a removed rule ([`Broken`]) only changes its
//! input. Invariant: a client is a value. Every step gives a new one, and equal clients behave equally.

use std::sync::Arc;

use leasehold_protocol::attempt::{Attempt, AttemptId, Wish};
use leasehold_protocol::takeover::Observation;
use leasehold_protocol::time::{Reading, ServiceClock, ServiceTime};
use leasehold_protocol::write::Write;

use super::broken::Broken;
use super::message::{Ask, Sight};
use super::phase::{Choice, Lost, Next, Note, Output, Phase, Purpose, Waiting};
use super::shape::Shape;

/// A client of ours.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Client {
    pub(super) index: u8,
    pub(super) wall_offset_ms: i64,
    /// Ticks that the elapsed clock has missed.
    pub(super) missed: u8,
    pub(super) clock: ServiceClock,
    pub(super) observation: Observation,
    pub(super) attempts: u8,
    pub(super) requests: u8,
    pub(super) waiting: Vec<Waiting>,
    pub(super) phase: Phase,
}

impl Client {
    pub(super) fn new(index: u8, wall_offset_ms: i64, shape: &Shape) -> Client {
        Client {
            index,
            wall_offset_ms,
            missed: 0,
            clock: ServiceClock::new(shape.terms.bounds),
            observation: Observation::default(),
            attempts: 0,
            requests: 0,
            waiting: Vec::new(),
            phase: Phase::Idle,
        }
    }

    pub(super) fn reading(&self, shape: &Shape, time: u8) -> Reading {
        let mut reading = shape.reading(self.index, time, self.missed, self.wall_offset_ms);
        if shape.lacks(Broken::PauseUnseen) {
            let missed = i64::from(self.missed) * i64::from(shape.tick_ms);
            reading.wall_ms -= missed;
        }
        reading
    }

    /// Whether the holder believes in its grant now, margin included, even if `lost` has fired. S1 is about this.
    pub(super) fn believes(&self, shape: &Shape, time: u8) -> bool {
        match &self.phase {
            Phase::Holding { kept, .. } => {
                let now = self.reading(shape, time);
                !kept
                    .deadline()
                    .remaining(now, std::time::Duration::ZERO, &self.clock)
                    .is_zero()
            }
            _ => false,
        }
    }

    pub(super) fn unanswered(&self, purpose: impl Fn(&Purpose) -> bool) -> u8 {
        let count = self.waiting.iter().filter(|w| purpose(&w.purpose)).count();
        u8::try_from(count).unwrap_or(u8::MAX)
    }

    /// The tick of the last send of a request of this kind that is unanswered. Before the next one a
    /// time-out passes.
    pub(super) fn last_sent(&self, choice: Choice) -> Option<u8> {
        let same = |w: &&Waiting| match choice {
            Choice::Send => matches!(w.purpose, Purpose::Acquire { .. }),
            Choice::Renew => matches!(w.purpose, Purpose::Renew(_)),
            Choice::Poll | Choice::PollStrong => matches!(w.purpose, Purpose::Read { .. }),
            Choice::Join => w.purpose == Purpose::Join,
            Choice::Release => w.purpose == Purpose::Release,
            Choice::Complete => w.purpose == Purpose::Complete,
            _ => false,
        };
        self.waiting.iter().filter(same).map(|w| w.tick).max()
    }

    pub(super) fn unanswered_acquires(&self) -> u8 {
        self.unanswered(|p| matches!(p, Purpose::Acquire { .. }))
    }

    /// Whether a choice is open. Crashes and steps of the wall clock are the world's to allow.
    pub(super) fn may(&self, choice: Choice, shape: &Shape) -> bool {
        let limits = &shape.clients[usize::from(self.index)];
        let may_send = self.requests < limits.requests;
        let may_start = may_send && self.attempts < limits.attempts;
        let none = |purpose: fn(&Purpose) -> bool| self.unanswered(purpose) == 0;
        match choice {
            Choice::Start => may_start && matches!(self.phase, Phase::Idle | Phase::Over { .. }),
            Choice::Send => match &self.phase {
                Phase::Acquiring { next, .. } => {
                    let polls = matches!(next, Next::Poll | Next::Join);
                    may_send && !polls && self.unanswered_acquires() < shape.open
                }
                Phase::Withdrawing { .. } => may_send && none(|p| matches!(p, Purpose::Withdraw)),
                _ => false,
            },
            Choice::Poll | Choice::PollStrong | Choice::Join => {
                may_send && self.may_queue(choice, shape)
            }
            Choice::GiveUp if !shape.gives_up => false,
            Choice::GiveUp => match &self.phase {
                Phase::Acquiring { attempt, .. } => {
                    may_start || attempt.has_joined() || self.unanswered_acquires() > 0
                }
                Phase::Withdrawing { .. } | Phase::HandingOver { .. } => true,
                _ => false,
            },
            Choice::GiveBack => match &self.phase {
                Phase::Holding { late, .. } | Phase::Releasing { late, .. } => {
                    may_send && late.is_some() && none(|p| matches!(p, Purpose::GiveBack))
                }
                Phase::Over { .. } => {
                    may_send && self.has_to_give_back() && none(|p| matches!(p, Purpose::GiveBack))
                }
                _ => false,
            },
            Choice::Renew => {
                let open = self.unanswered(|p| matches!(p, Purpose::Renew(_)));
                match &self.phase {
                    Phase::HandingOver { .. } => may_send && open == 0,
                    Phase::Holding { lost, .. } => {
                        may_send && *lost == Lost::No && open < shape.open
                    }
                    _ => false,
                }
            }
            Choice::Release => match &self.phase {
                Phase::Holding { lost, .. } => may_send && *lost != Lost::Ended,
                Phase::Releasing { completes, .. } => may_send && completes.is_none(),
                _ => false,
            },
            Choice::Complete => may_send && self.may_complete(shape),
            Choice::Work => {
                shape.register && matches!(self.phase, Phase::Holding { worked: false, .. })
            }
            Choice::Crash | Choice::WallForward | Choice::WallBack => {
                self.phase != Phase::Idle || self.attempts < limits.attempts
            }
        }
    }

    /// Makes a choice that is open.
    pub(super) fn choose(&mut self, choice: Choice, shape: &Shape, time: u8) -> Output {
        let now = self.reading(shape, time);
        let phase = std::mem::replace(&mut self.phase, Phase::Idle);
        let output = match (choice, phase) {
            (Choice::Start, _) => {
                self.attempts += 1;
                self.waiting.clear();
                let attempt = self.new_attempt(shape);
                let mut output = self.ask_for_it((attempt, None), Next::Acquire, (now, time));
                output.note = Note::Over {
                    attempt: self.attempts,
                };
                output
            }
            (
                Choice::Send,
                Phase::Acquiring {
                    attempt,
                    next,
                    place,
                    ..
                },
            ) => self.ask_for_it((attempt, place), next, (now, time)),
            (Choice::Join, phase) => self.join(phase, (now, time), shape),
            (Choice::Send, Phase::Withdrawing { attempt, granted }) => {
                let write = attempt.withdraw(&granted);
                self.phase = Phase::Withdrawing { attempt, granted };
                self.write(Purpose::Withdraw, (now, time), write)
            }
            (Choice::Poll | Choice::PollStrong, phase) => {
                self.phase = phase;
                if shape.queueing.reads == 1 {
                    // A new read: the answer to an older one is ignored.
                    self.waiting
                        .retain(|w| !matches!(w.purpose, Purpose::Read { .. }));
                }
                let strong = choice == Choice::PollStrong;
                self.send(Purpose::Read { strong }, (now, time), Ask::Read { strong })
            }
            (Choice::GiveUp, phase) => {
                self.give_up(phase);
                Output::NOTHING
            }
            (Choice::GiveBack, phase) => {
                let write = self.what_to_give_back(&phase, now);
                self.phase = phase;
                match write {
                    Some(write) => self.write(Purpose::GiveBack, (now, time), write),
                    None => Output::NOTHING,
                }
            }
            (Choice::Renew, mut phase) => {
                let renewal = match &mut phase {
                    Phase::Holding { kept, .. } | Phase::HandingOver { kept, .. } => {
                        Some(kept.renew(&self.clock, now, false))
                    }
                    _ => None,
                };
                self.phase = phase;
                match renewal {
                    Some((sent, write)) => self.write(Purpose::Renew(sent), (now, time), write),
                    None => Output::NOTHING,
                }
            }
            (
                Choice::Release,
                Phase::Holding {
                    attempt,
                    kept,
                    token,
                    late,
                    ..
                }
                | Phase::Releasing {
                    attempt,
                    kept,
                    token,
                    late,
                    ..
                },
            ) => {
                let write = self.release(&attempt, &kept, now, shape);
                self.phase = Phase::Releasing {
                    attempt,
                    kept,
                    token,
                    completes: None,
                    late,
                };
                self.waiting.retain(|w| w.purpose != Purpose::Release);
                self.write(Purpose::Release, (now, time), write)
            }
            (Choice::Complete, phase) => self.complete(phase, (now, time), shape),
            (Choice::Work, mut phase) => {
                let mut output = Output::NOTHING;
                if let Phase::Holding { worked, token, .. } = &mut phase {
                    *worked = true;
                    // The world fills in the place.
                    let (token, place) = (*token, 0);
                    output = Output::asks(u8::MAX, self.attempts, Ask::Register { token, place });
                }
                self.phase = phase;
                output
            }
            (Choice::Crash, _) => {
                let (attempts, requests) = (self.attempts, self.requests);
                *self = Client {
                    attempts,
                    requests,
                    missed: self.missed,
                    ..Client::new(self.index, self.wall_offset_ms, shape)
                };
                Output {
                    note: Note::Over {
                        attempt: attempts + 1,
                    },
                    ..Output::NOTHING
                }
            }
            (Choice::WallForward, phase) => {
                self.phase = phase;
                self.wall_offset_ms += shape.faults.wall_step_ms;
                Output::NOTHING
            }
            (Choice::WallBack, phase) => {
                self.phase = phase;
                self.wall_offset_ms -= shape.faults.wall_step_ms;
                Output::NOTHING
            }
            (_, phase) => {
                self.phase = phase;
                Output::NOTHING
            }
        };
        self.settle(shape, time);
        output
    }

    pub(super) fn new_attempt(&self, shape: &Shape) -> Attempt {
        let mut bits = [0; 16];
        bits[0] = self.index + 1;
        if !shape.lacks(Broken::OneIdPerProcess) {
            bits[1] = self.attempts;
        }
        let wish = Wish {
            key: Arc::from("k"),
            holder: Arc::from("h"),
            data: None,
            adopts: false,
            force: None,
            bound_to_process: false,
            shared_with_fsharp: shape.has_fsharp(),
            want: leasehold_protocol::lens::Want::Whole,
        };
        Attempt::new(
            AttemptId::from_random(bits),
            wish,
            shape.terms,
            shape.rules,
            self.observation.clone(),
        )
    }

    fn ask_for_it(
        &mut self,
        (mut attempt, place): (Attempt, Option<u8>),
        next: Next,
        now: (Reading, u8),
    ) -> Output {
        let (take_over, seen) = match &next {
            Next::TakeOver(what, places, seen) => (Some((what.clone(), places.clone())), *seen),
            Next::Acquire | Next::Poll | Next::Join => (None, Sight::default()),
        };
        let (request, write) = attempt.request(take_over, &self.clock, now.0);
        let published = match &write {
            Write::Acquire(grant) | Write::TakeOver(grant, ..) => grant.expires_at,
            _ => ServiceTime(0),
        };
        self.phase = Phase::Acquiring {
            attempt,
            next,
            place,
            counts: None,
        };
        let purpose = Purpose::Acquire { request, published };
        self.send(purpose, now, Ask::Write { write, seen })
    }

    pub(super) fn send(
        &mut self,
        purpose: Purpose,
        (sent, tick): (Reading, u8),
        ask: Ask,
    ) -> Output {
        let tag = self.requests;
        self.requests += 1;
        self.waiting.push(Waiting {
            tag,
            tick,
            sent,
            purpose,
        });
        Output::asks(tag, self.attempts, ask)
    }

    pub(super) fn write(&mut self, purpose: Purpose, sent: (Reading, u8), write: Write) -> Output {
        let seen = Sight::default();
        self.send(purpose, sent, Ask::Write { write, seen })
    }
}
