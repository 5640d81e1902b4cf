//! Elections: terms that follow each other, and their observers.
//!
//! A term is a grant like any other, and a candidate is a call that waits for one. `candidate` stands again after
//! each term, `term` is the time of a leader, and `observe` shows the leader to others.

mod candidate;
mod observe;
mod term;

pub use self::candidate::Election;
pub use self::observe::Leaders;
pub use self::term::{Term, TermEnd};
