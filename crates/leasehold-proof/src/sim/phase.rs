//! The phase of the protocol that a request is part of.

use leasehold::store::Consistency;
use leasehold_protocol::slot_write::{Entry, Next, SlotWrite};
use leasehold_protocol::write::Write;

use super::coverage::Phase;
use super::request::Body;
use super::service::ForeignWrite;
use super::world::World;

impl World {
    /// The phase of the protocol that a request is part of.
    pub(super) fn phase_of(&self, body: &Body) -> Phase {
        match body {
            Body::Write(write) => self.phase_of_write(write),
            Body::Foreign(ForeignWrite::Put { .. }) => Phase::Acquire,
            Body::Foreign(ForeignWrite::Delete { .. }) => Phase::Release,
            Body::Read(_, Consistency::Eventual) => Phase::Poll,
            Body::Read(..) => Phase::Read,
            Body::List => Phase::List,
        }
    }

    fn phase_of_write(&self, write: &Write) -> Phase {
        match write {
            Write::Acquire(_) => Phase::Acquire,
            Write::TakeOver(..) => Phase::TakeOver,
            Write::Renew {
                bound_to_process: false,
                ..
            } => Phase::Detach,
            Write::Renew { .. } => Phase::Renew,
            Write::Release { key, attempt, .. } | Write::HandOver { key, attempt, .. }
                if !self.service.was_shown(key, *attempt) =>
            {
                Phase::GiveBack
            }
            Write::Leave { .. } => Phase::GiveBack,
            Write::Join { .. } => Phase::Join,
            Write::Slot(write) => self.phase_of_slot(write),
            Write::HandOver { .. } => Phase::HandOver,
            Write::Complete(_) => Phase::Complete,
            Write::Release { .. } => Phase::Release,
            Write::Withdraw { .. } => Phase::Withdraw,
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
