//! The lock protocol: pure decisions, no I/O, no async, no clock reads.
//!
//! Every decision about *who may hold a lock* is made in this crate. The caller passes clock
//! readings, records and answers of the store. The crate decides what to publish, when a grant
//! ends, whether a key may be taken, and whether a refusal shows an earlier success of the caller.
//! Nothing here waits or reads a clock, so a model checker and a simulator drive the code that runs
//! in production. Authors of stores reach their part of it as `leasehold::store::protocol`.
//!
//! | file | decides |
//! |---|---|
//! | [`time`] | bounds on the service's clock, from the stamps of its answers |
//! | [`record`] | what a stored record means, and when it is malformed |
//! | [`queue`] | the queue of a key, and who is next |
//! | [`lens`] | what one client sees of a record with several holders |
//! | [`slots`], [`slot_write`] | several holders of one key, up to a limit |
//! | [`mod@write`] | the conditional writes, and their exact meaning ([`write::apply`]) |
//! | [`deadline`] | which expiry to publish, and until when a holder may believe in its grant |
//! | [`takeover`] | when a contender may take a key |
//! | [`attempt`] | one acquisition: identity, "did my write land?", the token's seed |
//! | [`renewal`] | one held grant: renewals, loss, release |
//! | [`done`] | what a record remembers of work that is done, and until when |
//! | [`token`] | fencing tokens |
//!
//! The rules are numbered as in `docs/protocol.md`; `S1` to `S7` are its safety properties.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod attempt;
pub mod deadline;
pub mod done;
mod ending;
mod grant;
pub mod id;
pub mod lens;
pub mod queue;
pub mod record;
pub mod renewal;
pub mod slot_write;
pub mod slots;
pub mod takeover;
pub mod time;
pub mod token;
pub mod write;
