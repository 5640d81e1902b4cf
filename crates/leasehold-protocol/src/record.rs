//! What a stored lock record means.
//!
//! [`Record`] is the typed form, [`Record::parse`] makes it from a table's attributes, and
//! [`Record::state`] interprets it. An unclear record is [`Malformed`] and is never taken:
//! a guess could give a key to two holders.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::done::{Done, LARGEST_INPUT};
use super::id::AttemptId;
use super::queue::{PLACES, Place};
use super::slots::{Slot, Slots};
use super::time::ServiceTime;
use super::token::PASS_BITS;

/// The version that this library writes. Records of the F# library carry none.
pub const RECORD_VERSION: u64 = 3;

/// What is wrong with a record of a newer version. Its rules are not known here, so that it is never taken.
const NEWER: &str = "is of a newer leasehold: update this one";

/// The attribute names of a record, those of FSharp.DynamoDbLock first.
pub mod attribute {
    /// The key.
    pub const KEY: &str = "LockKey";
    /// Attempt id of the current grant; absent when released.
    pub const CLIENT_ID: &str = "ClientId";
    /// Published expiry; 0 when released.
    pub const EXPIRES_MS: &str = "ExpireInUnixMs";
    /// DynamoDB's TTL.
    pub const TTL_SECONDS: &str = "ExpireInUnixSeconds";
    /// The stored fencing token.
    pub const TOKEN: &str = "FencingToken";
    /// The lease in milliseconds.
    pub const LEASE_MS: &str = "LeaseMs";
    /// Bumped by every acquire and every renewal.
    pub const RENEW_COUNT: &str = "RenewCount";
    /// Record version.
    pub const VERSION: &str = "V";
    /// Label of the holder, for people.
    pub const HOLDER: &str = "Holder";
    /// When the grant began, for people.
    pub const ACQUIRED_MS: &str = "AcquiredAtUnixMs";
    /// The holder's payload.
    pub const DATA: &str = "Data";
    /// Who ended a grant by force last, and why, for people.
    pub const LAST_FORCE: &str = "LastForce";
    /// How long the last grant was held, in milliseconds.
    pub const HELD_MS: &str = "HeldMs";
    /// The queue: a list of places.
    pub const QUEUE: &str = "Queue";
    /// The slots that are held: a map from the digits of an attempt id to its entry.
    pub const SLOTS: &str = "Slots";
    /// How many slots may be held.
    pub const LIMIT: &str = "Limit";
    /// What is remembered of a run: when it was recorded, 1 if it failed or else 0, and the fingerprint of
    /// its input if there is one.
    pub const DONE: &str = "Done";
}

/// An attribute's value, by the types that a lock record uses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// A string.
    Text(String),
    /// A number, in its decimal form.
    Number(String),
    /// Bytes.
    Binary(Vec<u8>),
    /// A list.
    List(Vec<Value>),
    /// A map.
    Map(Vec<(String, Value)>),
    /// Any other type.
    Other,
}

/// One lock record.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Record {
    /// The key it locks.
    pub key: String,
    /// Attempt id of the current grant; `None` when released.
    pub owner: Option<String>,
    /// P: the published expiry, in service time; 0 when released.
    pub expires_at: ServiceTime,
    /// The attributes that only this library writes; `None` on records of the F# library.
    pub native: Option<Native>,
    /// When the table's TTL may delete the record, Unix seconds.
    pub ttl_seconds: Option<i64>,
    /// Label of the holder, for people.
    pub holder: Option<String>,
    /// When the grant began, for people.
    pub acquired_at: Option<ServiceTime>,
    /// The holder's payload, or what the last holder left; of a done record, the result.
    pub data: Option<Vec<u8>>,
    /// Who ended a grant by force last, and why, for people. Every write keeps it.
    pub last_force: Option<String>,
    /// How long the last grant was held, which tells waiters when to poll. It decides nothing.
    pub last_hold: Option<Duration>,
    /// Who waits for the key, in the order of joining.
    pub queue: Vec<Place>,
    /// Its slots; `None` where none was ever taken.
    pub slots: Option<Slots>,
    /// The work of the key is done until P, and L is for how long it was to be remembered.
    pub done: Option<Done>,
    /// Set by a store that can see that the process that holds the whole key is dead.
    pub holder_is_dead: bool,
}

/// The attributes that only records of this library have.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Native {
    /// The stored fencing token.
    pub token: u64,
    /// L, the lease duration of the current grant.
    pub lease: Duration,
    /// Bumped by every acquire and every renewal.
    pub renew_count: u64,
}

/// The state of a key, as its record shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// Released by a client of this library: the next acquire may take it at once.
    Released,
    /// Granted. [`super::takeover`] decides whether that grant has ended.
    Granted(Seen),
}

/// The grant that a contender saw; a take-over is a compare-and-set on it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Seen {
    /// A record of this library.
    Native {
        /// Attempt id.
        owner: String,
        /// Stored token.
        token: u64,
        /// Renew count, as in [`Native::renew_count`].
        renew_count: u64,
    },
    /// A record of the F# library.
    Foreign {
        /// Its client id.
        owner: String,
        /// Its expiry, by the wall clock of the host that wrote it.
        expires_at: ServiceTime,
    },
}

impl Seen {
    /// Whether it is no grant, but what a completed run has left: its payload is the result.
    pub fn is_done(&self) -> bool {
        match self {
            Seen::Native { owner, .. } => owner.parse().is_ok_and(AttemptId::is_done),
            Seen::Foreign { .. } => false,
        }
    }
}

/// The error of [`Record::parse`]: the record is no lock record, or its meaning is unclear.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Malformed {
    /// The key of the record.
    pub key: String,
    /// The attribute that is wrong.
    pub attribute: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the record of key `{}` is malformed: attribute `{}` {}",
            self.key, self.attribute, self.problem
        )
    }
}

impl std::error::Error for Malformed {}

impl Record {
    /// Reads a record from a table's attributes. Unknown attributes are ignored.
    ///
    /// # Errors
    ///
    /// [`Malformed`] names the attribute that is missing or of the wrong type.
    pub fn parse(attributes: &BTreeMap<&str, Value>) -> Result<Record, Malformed> {
        let key = match attributes.get(attribute::KEY) {
            Some(Value::Text(key)) => key.clone(),
            _ => String::new(),
        };
        let reader = Reader { attributes, key };
        if reader.key.is_empty() {
            return Err(reader.malformed(attribute::KEY, "is missing or not a string"));
        }
        let owner = reader.text(attribute::CLIENT_ID)?;
        let expires_at = reader
            .number(attribute::EXPIRES_MS)?
            .ok_or_else(|| reader.malformed(attribute::EXPIRES_MS, "is missing"))?;
        let version = reader.number(attribute::VERSION)?;
        let native = match version.map(|version| version.cmp(&RECORD_VERSION.cast_signed())) {
            Some(Ordering::Equal) => {
                let required = |name| {
                    let value = reader
                        .number(name)?
                        .ok_or_else(|| reader.malformed(name, "is missing"))?;
                    u64::try_from(value).map_err(|_| reader.malformed(name, "is negative"))
                };
                let token = required(attribute::TOKEN)?;
                if token >= 1 << (63 - PASS_BITS) {
                    // No clock reaches it, and the visible tokens would overflow.
                    return Err(reader.malformed(attribute::TOKEN, "is too large"));
                }
                Some(Native {
                    token,
                    lease: Duration::from_millis(required(attribute::LEASE_MS)?),
                    renew_count: required(attribute::RENEW_COUNT)?,
                })
            }
            Some(Ordering::Greater) => return Err(reader.malformed(attribute::VERSION, NEWER)),
            Some(Ordering::Less) => {
                return Err(reader.malformed(attribute::VERSION, "is not a known version"));
            }
            None if owner.is_none() => {
                // No known lock client wrote this record, so it is never taken.
                return Err(
                    reader.malformed(attribute::VERSION, "is missing, and so is `ClientId`")
                );
            }
            None => None,
        };
        Ok(Record {
            owner,
            expires_at: ServiceTime(expires_at),
            native,
            // Only the service and people use the rest, so a wrong type there is no error.
            ttl_seconds: reader.number(attribute::TTL_SECONDS).unwrap_or(None),
            holder: reader.text(attribute::HOLDER).unwrap_or(None),
            acquired_at: reader
                .number(attribute::ACQUIRED_MS)
                .unwrap_or(None)
                .map(ServiceTime),
            data: match attributes.get(attribute::DATA) {
                Some(Value::Binary(bytes)) => Some(bytes.clone()),
                Some(Value::Text(text)) => Some(text.clone().into_bytes()),
                _ => None,
            },
            last_force: reader.text(attribute::LAST_FORCE).unwrap_or(None),
            last_hold: match reader.number(attribute::HELD_MS) {
                Ok(Some(ms)) => u64::try_from(ms).ok().map(Duration::from_millis),
                _ => None,
            },
            queue: reader.queue()?,
            slots: reader.slots()?,
            done: reader.done()?,
            key: reader.key,
            holder_is_dead: false,
        })
    }

    /// The record of a key that nobody has used.
    pub fn unused(key: &str) -> Record {
        Record {
            key: key.to_owned(),
            owner: None,
            expires_at: ServiceTime(0),
            native: Some(Native {
                token: 0,
                lease: Duration::ZERO,
                renew_count: 0,
            }),
            ttl_seconds: None,
            holder: None,
            acquired_at: None,
            data: None,
            last_force: None,
            last_hold: None,
            queue: Vec::new(),
            slots: None,
            done: None,
            holder_is_dead: false,
        }
    }

    /// What the record says about its key.
    pub fn state(&self) -> State {
        match (&self.owner, self.native) {
            (None, _) => State::Released,
            (Some(owner), Some(native)) => State::Granted(Seen::Native {
                owner: owner.clone(),
                token: native.token,
                renew_count: native.renew_count,
            }),
            (Some(owner), None) => State::Granted(Seen::Foreign {
                owner: owner.clone(),
                expires_at: self.expires_at,
            }),
        }
    }

    /// The stored token, if the record has one.
    pub fn token(&self) -> Option<u64> {
        self.native.map(|n| n.token)
    }
}

impl Record {
    /// The index of the place of this attempt, if it waits.
    pub fn place_of(&self, attempt: AttemptId) -> Option<usize> {
        self.queue
            .iter()
            .position(|place| place.attempt() == attempt)
    }

    /// Whether the F# library wrote it.
    pub fn is_foreign(&self) -> bool {
        self.native.is_none()
    }

    /// Whether a slot is held.
    pub fn has_slots(&self) -> bool {
        self.slots
            .as_ref()
            .is_some_and(|slots| !slots.held.is_empty())
    }

    /// The slot of this attempt.
    pub fn slot_of(&self, attempt: AttemptId) -> Option<&Slot> {
        self.slots.as_ref()?.of(attempt)
    }

    /// How many places its queue has, for a contender that knows this limit of slots.
    pub fn places(&self, limit: Option<u32>) -> usize {
        let limit = limit.or(self.slots.as_ref().map(|slots| slots.limit));
        limit.map_or(PLACES, Slots::places)
    }

    /// For a take-over by this attempt: the first places of the queue, up to its own, or all without one. Also, how
    /// long the others among them have to take the key first.
    pub fn before(
        &self,
        attempt: AttemptId,
        earliest: Option<ServiceTime>,
    ) -> (&[Place], Duration) {
        let removed = match self.place_of(attempt) {
            Some(index) => &self.queue[..=index],
            None => &self.queue,
        };
        let waits = |place: &&Place| place.attempt() != attempt && !place.has_ended(earliest);
        (
            removed,
            removed.iter().filter(waits).map(Place::claim).sum(),
        )
    }
}

impl AttemptId {
    /// Whether a record is held under this id.
    pub fn owns(&self, record: &Record) -> bool {
        record.owner.as_deref().and_then(|s| s.parse().ok()) == Some(*self)
    }
}

struct Reader<'a> {
    attributes: &'a BTreeMap<&'a str, Value>,
    key: String,
}

impl Reader<'_> {
    fn malformed(&self, attribute: &'static str, problem: &'static str) -> Malformed {
        Malformed {
            key: self.key.clone(),
            attribute,
            problem,
        }
    }

    fn text(&self, name: &'static str) -> Result<Option<String>, Malformed> {
        match self.attributes.get(name) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text.clone())),
            Some(_) => Err(self.malformed(name, "is not a string")),
        }
    }

    fn queue(&self) -> Result<Vec<Place>, Malformed> {
        let odd = || self.malformed(attribute::QUEUE, "is not a list of places");
        let places = match self.attributes.get(attribute::QUEUE) {
            None => return Ok(Vec::new()),
            Some(Value::List(places)) => places.iter(),
            Some(_) => return Err(odd()),
        };
        let place = |value: &Value| match value {
            Value::Binary(bytes) => Place::from_bytes(bytes),
            _ => None,
        };
        places.map(|value| place(value).ok_or_else(odd)).collect()
    }

    fn slots(&self) -> Result<Option<Slots>, Malformed> {
        let odd = || self.malformed(attribute::SLOTS, "is not a map of slots");
        let entries = match self.attributes.get(attribute::SLOTS) {
            None => return Ok(None),
            Some(Value::Map(entries)) => entries.iter(),
            Some(_) => return Err(odd()),
        };
        let slot = |(name, value): &(String, Value)| match value {
            Value::Binary(bytes) => Slot::from_bytes(AttemptId::from_digits(name)?, bytes),
            _ => None,
        };
        let held = entries.map(|entry| slot(entry).ok_or_else(odd));
        let mut held = held.collect::<Result<Vec<Slot>, Malformed>>()?;
        held.sort_by_key(|slot| slot.token);
        let limit = self.number(attribute::LIMIT)?;
        let limit = limit.and_then(|limit| u32::try_from(limit).ok());
        Ok(Some(Slots {
            limit: limit
                .ok_or_else(|| self.malformed(attribute::LIMIT, "is not a number of slots"))?,
            held,
        }))
    }

    fn done(&self) -> Result<Option<Done>, Malformed> {
        let odd = || self.malformed(attribute::DONE, "is not what a completed run leaves");
        let (at, failed, input) = match self.attributes.get(attribute::DONE) {
            None => return Ok(None),
            Some(Value::List(parts)) => match parts.as_slice() {
                [Value::Number(at), Value::Number(failed)] => (at, failed, None),
                [
                    Value::Number(at),
                    Value::Number(failed),
                    Value::Binary(input),
                ] => (at, failed, Some(input)),
                _ => return Err(odd()),
            },
            Some(_) => return Err(odd()),
        };
        if input.is_some_and(|input| input.len() > LARGEST_INPUT) {
            return Err(odd());
        }
        Ok(Some(Done {
            at: ServiceTime(at.parse().map_err(|_| odd())?),
            failed: match failed.as_str() {
                "0" => false,
                "1" => true,
                _ => return Err(odd()),
            },
            input: input.map(|input| input.as_slice().into()),
        }))
    }

    fn number(&self, name: &'static str) -> Result<Option<i64>, Malformed> {
        match self.attributes.get(name) {
            None => Ok(None),
            Some(Value::Number(digits)) => digits
                .parse()
                .map(Some)
                .map_err(|_| self.malformed(name, "is not a whole number of 64 bits")),
            Some(_) => Err(self.malformed(name, "is not a number")),
        }
    }
}

#[cfg(test)]
mod tests;
