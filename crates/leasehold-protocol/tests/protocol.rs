//! The rules of the protocol, by topic, in one program: each one more is one more to link for every mutant.

mod attempt;
mod clock;
mod data;
mod done;
mod queue;
mod receiver;
mod record;
mod renewal;
mod slot_holders;
mod slots;
mod support;
mod write;
