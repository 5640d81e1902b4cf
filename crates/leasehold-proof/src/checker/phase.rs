//! The phases and choices of a client.

use leasehold_protocol::attempt::{Attempt, Granted, Request};
use leasehold_protocol::deadline::Sent;
use leasehold_protocol::queue::Place;
use leasehold_protocol::record::{Record, Seen};
use leasehold_protocol::renewal::Kept;
use leasehold_protocol::time::{Reading, ServiceTime};

use super::message::{Ask, Sight};
use super::shape::Breach;

/// A choice of a client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub(super) enum Choice {
    /// A new acquire call, and its first request.
    Start,
    /// The next request of the acquire call: acquire, take over, or withdraw.
    Send,
    /// An eventually consistent read, while another holds the key.
    Poll,
    /// A strongly consistent one.
    PollStrong,
    /// A request for a place in the queue.
    Join,
    /// The caller drops the call, or its bound is reached.
    GiveUp,
    /// Gives back what landed or may have landed: a grant, or a place.
    GiveBack,
    Renew,
    Release,
    /// The work is done: the grant is completed.
    Complete,
    /// The work writes to the fenced register.
    Work,
    Crash,
    WallForward,
    WallBack,
}

impl Choice {
    pub(super) const ALL: [Choice; 14] = [
        Choice::Start,
        Choice::Send,
        Choice::Poll,
        Choice::PollStrong,
        Choice::Join,
        Choice::GiveUp,
        Choice::GiveBack,
        Choice::Renew,
        Choice::Release,
        Choice::Complete,
        Choice::Work,
        Choice::Crash,
        Choice::WallForward,
        Choice::WallBack,
    ];
}

/// The part of a step that the ledger records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Note {
    Nothing,
    /// Attempts before this one are over.
    Over {
        attempt: u8,
    },
    /// A lease was given to the caller.
    Shown {
        attempt: u8,
        token: u64,
    },
    /// The caller was told that its run is remembered.
    Remembered {
        attempt: u8,
    },
}

/// The result of a step besides the client itself.
#[derive(Debug)]
pub(super) struct Output {
    /// Its tag, its attempt, and its content.
    pub(super) ask: Option<(u8, u8, Ask)>,
    pub(super) note: Note,
    pub(super) breach: Option<Breach>,
}

impl Output {
    pub(super) const NOTHING: Output = Output {
        ask: None,
        note: Note::Nothing,
        breach: None,
    };

    pub(super) fn asks(tag: u8, attempt: u8, ask: Ask) -> Output {
        Output {
            ask: Some((tag, attempt, ask)),
            ..Output::NOTHING
        }
    }
}

/// A request without an answer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Waiting {
    pub(super) tag: u8,
    /// The true time of the send, which only the checker knows.
    pub(super) tick: u8,
    pub(super) sent: Reading,
    pub(super) purpose: Purpose,
}

/// What it was for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Purpose {
    Acquire {
        request: Request,
        published: ServiceTime,
    },
    Read {
        strong: bool,
    },
    Join,
    Renew(Sent),
    Release,
    Complete,
    GiveBack,
    Withdraw,
}

/// What an acquisition does next.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Next {
    Acquire,
    /// With what the answer showed in truth.
    TakeOver(Seen, Vec<Place>, Sight),
    Poll,
    Join,
}

/// Why a lease is lost.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Lost {
    No,
    Expired,
    Ended,
}

/// Where a client is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Phase {
    Idle,
    Acquiring {
        attempt: Attempt,
        next: Next,
        /// Where its place in the queue was seen.
        place: Option<u8>,
        /// From when a broken receiver counts a grant; `None` without such a rule.
        counts: Option<Reading>,
    },
    /// It was granted a token that cannot be right.
    Withdrawing {
        attempt: Attempt,
        granted: Granted,
    },
    /// The grant was worthless already; it is renewed once before it is handed over.
    HandingOver {
        attempt: Attempt,
        kept: Kept,
        token: u64,
        /// As in `Holding`.
        began: u8,
    },
    Holding {
        attempt: Attempt,
        kept: Kept,
        token: u64,
        lost: Lost,
        worked: bool,
        /// The tick at which it was seen, which only the checker knows. 0 where no work is remembered.
        began: u8,
        late: Option<Box<Record>>,
    },
    /// The guard has let go.
    Releasing {
        attempt: Attempt,
        kept: Kept,
        token: u64,
        /// When the run began, if the grant is completed and not released.
        completes: Option<u8>,
        late: Option<Box<Record>>,
    },
    /// The call is over; what lands late is given back.
    Over {
        attempt: Attempt,
        /// The token of the lease that the call had given.
        leased: Option<u64>,
        owed: Owed,
    },
}

/// What a call that is over has to give back.
#[expect(clippy::large_enum_variant, reason = "each is kept once, and compared")]
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Owed {
    Nothing,
    /// A request may have landed.
    Perhaps,
    /// A place that was seen at this index.
    Place(u8),
    /// A grant with an impossible token.
    Spoiled(Granted),
    /// The grant or the place in this record.
    Shown(Box<Record>),
}
