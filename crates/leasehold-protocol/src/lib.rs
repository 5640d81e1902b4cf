//! The lock protocol: pure decisions, no I/O, no async, no clock reads.
//!
//! Everything that decides *who may hold a lock* lives here and nowhere else. A caller hands in
//! clock readings, records and answers; this room says what to publish, when a grant ends, whether
//! a key may be taken and whether a refusal is in truth an earlier success of our own. Because
//! nothing here waits or reads a clock, a model checker and a simulator can drive exactly the code
//! that runs in production. It is a crate of its own, so that they rebuild in seconds; users reach
//! it as `leasehold::protocol`.
//!
//! | file | decides |
//! |---|---|
//! | [`time`] | bounds on the service's clock, from the stamps of its answers |
//! | [`record`] | what a stored record means, and when it is malformed |
//! | [`queue`] | the queue of a key, and who is next |
//! | [`mod@write`] | the conditional writes, and their exact meaning ([`write::apply`]) |
//! | [`deadline`] | which expiry to publish, and until when a holder may believe in its grant |
//! | [`takeover`] | when a contender may take a key |
//! | [`attempt`] | one acquisition: identity, "did my write land?", the token's seed |
//! | [`renewal`] | one grant that is being kept: renewals, loss, release |
//! | [`token`] | fencing tokens |
//!
//! The rules are numbered as in `docs/protocol.md`; `S1` to `S6` are its safety properties.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod attempt;
pub mod deadline;
mod ending;
pub mod id;
pub mod queue;
pub mod record;
pub mod renewal;
pub mod takeover;
pub mod time;
pub mod token;
pub mod write;
