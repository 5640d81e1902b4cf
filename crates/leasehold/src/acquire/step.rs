//! The state of an acquisition between two answers, and what it does next.

use leasehold_protocol::attempt::{Granted, Request};
use leasehold_protocol::queue::Place;
use leasehold_protocol::record::Seen;
use leasehold_protocol::time::Elapsed;
use leasehold_protocol::write::Operation;

/// What the last answer has shown of the queue of the record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Seat {
    /// The key is free, or has no queue for this waiter.
    #[default]
    None,
    /// The queue has room.
    Room,
    /// All places are taken.
    Full,
    /// It has a place behind so many others.
    Taken(usize),
}

/// The state of a wait.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) seat: Seat,
    /// How many turns come before that of its place.
    pub(super) turns: usize,
    /// Whether the next hand-over may be to it.
    pub(super) may_be_next: bool,
    /// How many places the queue has.
    pub(super) places: usize,
    /// When the grant that was seen can end at the latest.
    pub(super) ends: Option<Elapsed>,
    /// When the last request was sent.
    pub(super) last: Elapsed,
    /// When the next poll is due, if that does not follow from what was seen.
    pub(super) at: Option<Elapsed>,
    /// The next poll has its turn among the polls of the client then.
    pub(super) reserved: Option<Elapsed>,
    /// After a failure.
    pub(super) not_before: Elapsed,
    /// Whether it has had a place.
    pub(super) placed: bool,
    /// The last answer may have been old, so the next poll is strongly consistent.
    pub(super) unsure: bool,
    /// How many answers in a row have shown a full queue.
    pub(super) full: u32,
}

/// A write of the acquisition that was sent.
#[derive(Debug)]
pub(super) enum Asked {
    Acquire(Request),
    /// For a place, or the end of a slot whose holder is dead: it grants nothing.
    Other,
}

/// What an acquisition does next.
pub(super) enum Turn {
    /// Nothing: the key was granted.
    Ours(Granted),
    Ask(Ask),
}

/// The next write of an acquisition.
#[derive(Clone)]
pub(super) enum Ask {
    /// Request the key, or take over what was seen.
    Acquire(Option<(Seen, Vec<Place>)>),
    /// Request a place in the queue.
    Join,
}

impl Ask {
    pub(super) fn operation(&self) -> Operation {
        match self {
            Ask::Join => Operation::Join,
            Ask::Acquire(_) => Operation::Acquire,
        }
    }
}
