//! The identity of a grant, for callers that release or adopt it elsewhere.
//!
//! It corresponds to `LockId { LockKey; ClientId }` of FSharp.DynamoDbLock. Its text can be stored,
//! sent to another process, and turned into a guard there. Anyone who has it can end the grant.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::{Error, ErrorKind};
use crate::key::Key;
use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::record::Record;
use leasehold_protocol::token::{FencingToken, PASS_BITS};

/// The identity of one grant: key, attempt and token.
///
/// As text (`Display`, `FromStr`): `1:ATTEMPT:STORED:PASS:KEY`, with `b` after PASS if the token
/// is best effort only, and `s` if it is a slot.
#[derive(Clone)]
pub struct LeaseId {
    key: Key,
    attempt: AttemptId,
    token: FencingToken,
    slot: bool,
    /// The state of the guard, shared by all clones. Not part of the identity.
    mark: Arc<Mark>,
}

/// One of: none, pinned, handed off. It changes once, so a hand-off and a use of the guard's
/// identity exclude each other.
#[derive(Debug, Default)]
struct Mark(AtomicU8);

const PINNED: u8 = 1;
const HANDED_OFF: u8 = 2;

impl Mark {
    fn set(&self, mark: u8) -> bool {
        let changed = self
            .0
            .compare_exchange(0, mark, Ordering::AcqRel, Ordering::Acquire);
        changed.is_ok() || changed == Err(mark)
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseId({self})")
    }
}

impl PartialEq for LeaseId {
    fn eq(&self, other: &Self) -> bool {
        (&self.key, self.attempt, self.token) == (&other.key, other.attempt, other.token)
    }
}

impl Eq for LeaseId {}

impl Hash for LeaseId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.key, self.attempt, self.token).hash(state);
    }
}

impl LeaseId {
    pub(crate) fn new(key: Key, attempt: AttemptId, token: FencingToken) -> Self {
        LeaseId {
            key,
            attempt,
            token,
            slot: false,
            mark: Arc::default(),
        }
    }

    /// The same of a slot.
    pub(crate) fn of_slot(self, slot: bool) -> Self {
        LeaseId { slot, ..self }
    }

    /// A record as the holder of this grant sees it.
    pub(crate) fn view<'a>(&self, record: &'a Record) -> Cow<'a, Record> {
        record.seen_by_holder(self.attempt, self.slot)
    }

    /// Whether it is a slot, and not the whole key.
    pub(crate) fn is_slot(&self) -> bool {
        self.slot
    }

    /// The next guard of the same grant: the token's pass goes up by one.
    pub(crate) fn next_pass(&self) -> LeaseId {
        let token = self.token;
        let token = FencingToken::new(token.stored(), token.pass() + 1, token.is_best_effort());
        LeaseId::new(self.key.clone(), self.attempt, token).of_slot(self.slot)
    }

    /// Excludes a hand-off from now on: a condition check or a release uses this identity. False if
    /// the grant was handed off already.
    pub(crate) fn pin(&self) -> bool {
        self.mark.set(PINNED)
    }

    /// Marks that the grant goes on under another guard. False if it is pinned.
    pub(crate) fn mark_handed_off(&self) -> bool {
        self.mark.set(HANDED_OFF)
    }

    /// Whether `other` is a guard of the same grant.
    pub(crate) fn same_grant(&self, other: &LeaseId) -> bool {
        self.attempt == other.attempt && self.token.stored() == other.token.stored()
    }

    /// The error of a call for a lease that has ended.
    pub(crate) fn lost_error(&self, why: &str) -> Error {
        let message = format!("the lease of `{}` is lost: {why}", self.key);
        Error::new(ErrorKind::Lost, message).with_key(self.key.as_str())
    }

    /// The key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The attempt id, which is the record's `ClientId`.
    pub fn attempt(&self) -> AttemptId {
        self.attempt
    }

    /// The fencing token.
    pub fn token(&self) -> FencingToken {
        self.token
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token;
        write!(
            f,
            "1:{}:{}:{}{}{}:{}",
            self.attempt,
            token.stored(),
            token.pass(),
            if token.is_best_effort() { "b" } else { "" },
            if self.slot { "s" } else { "" },
            self.key
        )
    }
}

impl FromStr for LeaseId {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        parse(s).unwrap_or_else(|| {
            Err(Error::new(
                ErrorKind::InvalidInput,
                format!("not the identity of a lease: `{s}`"),
            )
            .with_hint("pass the text of `LeaseId::to_string` unchanged"))
        })
    }
}

/// `None` if the form is wrong, an error if only the key is invalid.
fn parse(s: &str) -> Option<Result<LeaseId, Error>> {
    // The key comes last because it may contain anything.
    let mut parts = s.splitn(5, ':');
    if parts.next()? != "1" {
        return None;
    }
    let attempt = parts.next()?.parse().ok()?;
    let stored = parts.next()?.parse().ok()?;
    let pass = parts.next()?;
    let (pass, slot) = match pass.strip_suffix('s') {
        Some(pass) => (pass, true),
        None => (pass, false),
    };
    let (pass, best_effort) = match pass.strip_suffix('b') {
        Some(pass) => (pass.parse().ok()?, true),
        None => (pass.parse().ok()?, false),
    };
    let token = FencingToken::new(stored, pass, best_effort);
    // Larger numbers than any grant has would name another one.
    if token.pass() != pass || token.get() >> PASS_BITS != stored {
        return None;
    }
    let key = Key::new(parts.next()?);
    Some(key.map(|key| LeaseId::new(key, attempt, token).of_slot(slot)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_and_a_hand_off_exclude_each_other() {
        let id = || {
            let token = FencingToken::new(7, 0, false);
            LeaseId::new(
                Key::new("k").expect("valid"),
                AttemptId::from_random([9; 16]),
                token,
            )
        };
        let (fenced, passed) = (id(), id());
        assert!(fenced.clone().pin());
        assert!(!fenced.mark_handed_off() && fenced.pin());
        assert!(passed.clone().mark_handed_off());
        assert!(!passed.pin());
        let next = passed.next_pass();
        assert!(next.pin() && next.same_grant(&passed));
        assert!(next.token() > passed.token());
        assert_eq!(fenced, passed);
    }

    #[test]
    fn only_the_text_of_an_identity_is_read() {
        let id = AttemptId::from_random([9; 16]);
        let read = |token: &str| format!("1:{id}:{token}:k").parse::<LeaseId>();
        for token in ["5:3", "5:3b", "5:1023b", "18014398509481983:0"] {
            let text = read(token).expect("an identity").to_string();
            assert_eq!(text, format!("1:{id}:{token}:k"));
        }
        for token in ["5:3bb", "5:b", "5:1024", "18014398509481984:0", "5:-1", "5"] {
            assert!(read(token).is_err(), "{token}");
        }
    }

    #[test]
    fn each_part_tells_identities_apart() {
        use std::hash::BuildHasher;
        let id = |key, attempt, token| {
            LeaseId::new(
                Key::new(key).expect("valid"),
                AttemptId::from_random([attempt; 16]),
                FencingToken::new(token, 0, false),
            )
        };
        let hasher = std::hash::RandomState::new();
        let one = id("k", 1, 1);
        let hash = hasher.hash_one(&one);
        assert_eq!(
            (&one, hash),
            (&id("k", 1, 1), hasher.hash_one(id("k", 1, 1)))
        );
        for other in [id("l", 1, 1), id("k", 2, 1), id("k", 1, 2)] {
            assert_ne!(one, other);
            assert_ne!(hash, hasher.hash_one(&other));
        }
    }

    #[test]
    fn text_and_back() {
        for (key, best_effort) in [("k", false), ("a:b:1:c", true)] {
            let id = LeaseId::new(
                Key::new(key).expect("valid"),
                AttemptId::from_random([9; 16]),
                FencingToken::new(1_800_000_000_000, 3, best_effort),
            );
            assert_eq!(id.to_string().parse::<LeaseId>().expect("its own text"), id);
        }
    }

    #[test]
    fn anything_else_is_refused_with_a_hint() {
        for text in [
            "",
            "1",
            "2:x",
            "1:x:1:0:k",
            "1:00000000-0000-0000-0000-000000000000:1:0",
        ] {
            let error = text.parse::<LeaseId>().expect_err("not an identity");
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.hint().is_some());
        }
    }
}
