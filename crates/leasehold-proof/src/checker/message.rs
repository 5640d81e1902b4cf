//! What is under way in the network: requests and answers, with what only the checker may know.

use leasehold_protocol::record::Record;
use leasehold_protocol::time::Stamp;
use leasehold_protocol::write::Write;

/// Which acquire call something belongs to, in truth. The protocol code never sees this.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Author {
    pub(super) process: u8,
    pub(super) attempt: u8,
}

/// What an answer showed, in truth.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Sight {
    /// The version of the grant.
    pub(super) version: u8,
    /// Who had a place: a bit for each call.
    pub(super) line: u16,
    /// Of a completion: the tick at which its run began.
    pub(super) began: u8,
}

/// The content of a request.
#[expect(clippy::large_enum_variant, reason = "each is kept once, and compared")]
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Ask {
    /// A conditional write of ours, and what a take-over saw.
    Write { write: Write, seen: Sight },
    /// A read, strongly consistent or not.
    Read { strong: bool },
    /// PutItem of the F# library: if there is no record, or `now` is past its expiry.
    Put {
        owner: String,
        now_ms: i64,
        expires_ms: i64,
    },
    /// DeleteItem of the F# library: if the record carries its client id.
    Delete { owner: String },
    /// A holder's write to the fenced register, with the place of its grant in the order of grants.
    Register { token: u64, place: u8 },
}

/// A request on its way to the service.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Request {
    pub(super) author: Author,
    pub(super) tag: u8,
    /// The sender's wall clock, by which it is signed; 0 if signatures are not checked.
    pub(super) signed_ms: i64,
    pub(super) ask: Ask,
}

/// The content of an answer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Outcome {
    Applied(Option<Record>),
    Refused(Option<Record>),
    Read(Option<Record>),
}

/// An answer on its way to a client.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Answer {
    pub(super) process: u8,
    pub(super) tag: u8,
    pub(super) outcome: Outcome,
    /// `None` from a service that shows no time.
    pub(super) stamp: Option<Stamp>,
    pub(super) sight: Sight,
}

/// Something in the network. It stays there for as long as it likes: what is lost is never delivered.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Message {
    Request(Request),
    Answer(Answer),
}
