//! One request, as the world keeps it.

use std::task::Waker;

use leasehold::store::{Consistency, Outcome, Reply, StoreError};
use leasehold_protocol::record::Record;
use leasehold_protocol::time::Reading;
use leasehold_protocol::write::Write;

use super::coverage::{Fault, Phase};
use super::service::ForeignWrite;
use super::shape::Nanos;

/// What is asked.
#[derive(Debug)]
pub(super) enum Body {
    Write(Box<Write>),
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
