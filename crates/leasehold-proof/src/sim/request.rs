//! One request, as the world keeps it.

use std::task::Waker;

use leasehold::store::{Consistency, Outcome, Reply, StoreError};
use leasehold_protocol::record::Record;
use leasehold_protocol::slot_write::{Entry, Next, SlotWrite};
use leasehold_protocol::time::Reading;
use leasehold_protocol::write::Write;

use super::coverage::{Fault, Phase};
use super::service::ForeignWrite;
use super::shape::Nanos;
use super::world::World;

/// What is asked.
#[derive(Debug)]
pub(super) enum Body {
    Write(Write),
    Read(String, Consistency),
    List,
    Foreign(ForeignWrite),
}

/// What is answered.
#[derive(Debug)]
pub(super) enum Value {
    Write(Outcome),
    Read(Option<Record>),
    List(Vec<Record>),
    Foreign(bool),
}

pub(super) type Answer = Result<Reply<Value>, StoreError>;

/// One request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) process: usize,
    pub(super) incarnation: u32,
    pub(super) body: Body,
    pub(super) phase: Phase,
    pub(super) fault: Option<Fault>,
    /// When the store gives up on it.
    pub(super) bound: Nanos,
    pub(super) back: Nanos,
    /// Age of the record that a read shows.
    pub(super) age: Nanos,
    pub(super) answer: Option<Answer>,
    pub(super) answered: bool,
    pub(super) waker: Option<Waker>,
    /// The clocks of its process when it was sent.
    pub(super) sent: Reading,
}

impl World {
    /// The phase of the protocol that a request is part of.
    pub(super) fn phase_of(&self, body: &Body) -> Phase {
        match body {
            Body::Write(Write::Acquire(_)) | Body::Foreign(ForeignWrite::Put { .. }) => {
                Phase::Acquire
            }
            Body::Write(Write::TakeOver(..)) => Phase::TakeOver,
            Body::Write(Write::Renew {
                bound_to_process: false,
                ..
            }) => Phase::Detach,
            Body::Write(Write::Renew { .. }) => Phase::Renew,
            Body::Write(
                Write::Release { key, attempt, .. } | Write::HandOver { key, attempt, .. },
            ) if !self.service.was_shown(key, *attempt) => Phase::GiveBack,
            Body::Write(Write::Leave { .. }) => Phase::GiveBack,
            Body::Write(Write::Join { .. }) => Phase::Join,
            Body::Write(Write::Slot(write)) => self.phase_of_slot(write),
            Body::Write(Write::HandOver { .. }) => Phase::HandOver,
            Body::Write(Write::Complete(_)) => Phase::Complete,
            Body::Write(Write::Release { .. }) | Body::Foreign(ForeignWrite::Delete { .. }) => {
                Phase::Release
            }
            Body::Write(Write::Withdraw { .. }) => Phase::Withdraw,
            Body::Read(_, Consistency::Eventual) => Phase::Poll,
            Body::Read(..) => Phase::Read,
            Body::List => Phase::List,
        }
    }

    fn phase_of_slot(&self, write: &SlotWrite) -> Phase {
        match write {
            SlotWrite::Enter(Entry { over: None, .. }) => Phase::Enter,
            SlotWrite::Enter(_) | SlotWrite::Evict { .. } => Phase::Evict,
            SlotWrite::Extend {
                bound_to_process: false,
                ..
            } => Phase::Detach,
            SlotWrite::Extend { .. } => Phase::Extend,
            SlotWrite::Exit { key, attempt, .. } | SlotWrite::Open { key, attempt, .. }
                if !self.service.was_shown(key, *attempt) =>
            {
                Phase::GiveBack
            }
            SlotWrite::Exit {
                next: Next::Nobody(_) | Next::Others,
                ..
            } => Phase::Exit,
            SlotWrite::Exit { .. } | SlotWrite::Open { .. } => Phase::GiveSlots,
            SlotWrite::Claim(..) => Phase::Claim,
        }
    }
}
