//! The protocol checker: every run of a small world, on the production decision code.
//!
//! Two or three clients share one record. The checker explores, breadth first, every order of requests, answers,
//! clocks, faults and choices of clients within the bounds of a configuration. It judges S1 to S7 of
//! `docs/protocol.md`, and S9, in every state and on every step. Then it removes one rule after the other, and requires a
//! counterexample.
//!
//! # What runs for real
//!
//! The code of `leasehold-protocol` itself runs: `Attempt`, `Kept`, `Observation::judge`, `ServiceClock`,
//! `Deadline`, `Terms` and `apply`, with real durations and times in milliseconds. A step of one client depends on
//! that client, the tick and one message. The real code runs once for each such combination, and its result is
//! remembered. A state is the numbers of its parts. States are kept and compared in full, so no state is lost to
//! a hash collision.
//!
//! # What is modelled
//!
//! - *The network*: a bag. Any message may be delivered at any later moment or never, in any order. So delays,
//!   reordering and losses need no budget. The service may carry out a write twice (`duplicates`), with either
//!   answer. In *prompt* configurations an answer is taken at once or never. In those with a queue, so many messages
//!   are *late or lost*, and all others are delivered at once. Both allow more requests.
//! - *Time*: ticks. A step takes no time. Elapsed clocks start anywhere and run at a fixed rate. Wall clocks are
//!   off by one of a set of offsets, and may be set. A machine pause is a tick that only the wall clock counts.
//!   Stamps are exact, floored `Date`s of hosts that are behind, right, or ahead by the whole bound, or missing.
//! - *Clients*: `acquire/` and `renewal/` of the library with open timers: each step may come at any moment or
//!   never. This covers late renewals, stalled processes, crashes without a restart, and retries after lost
//!   answers.
//! - *The queue*: as in `acquire/turn.rs` and `renewal/release.rs`. A client of a queue joins once it sees the key held,
//!   joins again where an answer shows no place of its own, and polls. Polls are consistent, or may be old, and
//!   overtake each other. A call that ends gives its place or its grant back. The others are newcomers.
//! - *Work that runs once*: as in `renewal/complete.rs`. A holder completes its grant, again without an answer, or
//!   releases it. A contender that sees work done polls on. The calls that come later are in it.
//! - *F# clients*: their two requests, with the wall clock.
//! - *TTL*: the record may be deleted at any moment after the first at which a host may find it due.
//! - *The truth*: whose grant the record is, how often it changed, the order of grants, the tokens of callers.
//!   The protocol code never sees it. It judges S2 to S5 without attempt ids.
//!
//! # What is judged
//!
//! | property | how | where |
//! |---|---|---|
//! | S1 | no two of our clients, nor one of them and an F# client, hold leases before their deadlines (margin included, `lost` or not) | every state, except *any clocks* |
//! | S2 | tokens of callers grow in the order of grants | each returned lease, except beside F# |
//! | S3 | the register accepts no write of an older grant after a newer one's | *any clocks* |
//! | S4 | a write changes its own grant's record, a free one, or, as a take-over, exactly the version it saw | every write |
//! | S5 | the grant landed for this call, and more than the margin is left | each returned lease |
//! | S6 | before `lost` fires, more than the margin is left; a lost lease stays lost | every step of a holder |
//! | S7 | a completion ends its own call's grant, outside the keep of every completed run; what is done changes by a take-over of exactly that, after its keep; TTL deletes it after its keep; a caller is told of a completion that landed | every write (keeps: not in *any clocks*) |
//! | S9 | a grant goes to the first place whose call still waits, and uses it up; a call has one place; places go by a grant, a leave, the end of their wait or a claim that has passed | every write |
//!
//! S9 counts a claim from the end of the grant before, which is P or a lease after its last write, whichever is
//! earlier. A take-over without a place is measured by the queue that its sender saw, even by an old read. Places
//! that it did not see stay behind it.
//!
//! # What is not modelled
//!
//! - A full queue; a queue beside F# clients, or in a record that TTL deletes. A record that is withdrawn takes its queue
//!   with it, unjudged. Holders do not look at the queue by reads, which could only show it older.
//! - More than one key; the dead-process rule (SQLite); `detach` and leases known by their id.
//! - Results of work, `forget`, and how long a caller has waited when its worthless grant is renewed: a run begins
//!   when its process sees its grant.
//! - The first read of a host with an impossible wall clock.
//! - Samples older than ten minutes beside younger ones, except in *next life*.
//! - Events between two ticks, and processes that read an answer later than it came.
//! - A host that dies or stalls with a wrong seed while records are deleted. `docs/protocol.md` section 14 names that
//!   case; without a check of signatures it breaks S2.
//!
//! Bounds are small: a violation that needs more requests, ticks or faults than the table states is not found. The
//! simulation has none of these limits, and is not exhaustive.

mod after;
mod answers;
mod broken;
mod client;
mod completes;
mod configs;
mod delivery;
mod fsharp;
mod ledger;
mod message;
mod moves;
mod once;
mod once_variants;
mod order;
mod phase;
mod queue_variants;
mod queues;
mod report;
mod runs;
mod search;
mod service;
mod shape;
mod slots;
mod states;
mod turn;
mod variants;
mod watch;
mod words;
mod world;

pub use self::report::main;

#[cfg(test)]
mod tests {
    use super::configs::{Size, ours};
    use super::search::{Trouble, explore};
    use super::shape::{Property, Shape};
    use super::variants;

    const LIMIT: usize = 1_000_000;

    #[test]
    fn a_small_configuration_is_explored_to_its_end_and_holds() {
        let shape = Shape::new("small", "small", vec![ours(1, 2), ours(1, 2)], 2);
        let found = explore(shape, LIMIT);
        assert!(found.result.is_ok(), "{:?}", found.result);
        // Fewer, and a take-over at the last tick would not be reached.
        assert!(found.states > 10_000 && found.depth > 10, "{found:?}");
    }

    #[test]
    fn a_removed_rule_yields_its_shortest_counterexample_in_words() {
        let variants = variants::all(Size::Quick);
        let rule = "a release leaves ClientId in the record";
        let variant = variants.iter().find(|variant| variant.rule == rule);
        let found = explore(variant.expect("listed").shape.clone(), LIMIT);
        let Err(Trouble::Breach { breach, trace }) = found.result else {
            panic!("no counterexample: {found:?}");
        };
        assert_eq!(breach.property, Property::S4);
        let end = trace.last().expect("steps");
        assert!(
            end.starts_with("the service carries out a renewal"),
            "{end}"
        );
    }

    #[test]
    fn too_many_states_are_not_a_result() {
        let shape = Shape::new("small", "small", vec![ours(1, 2), ours(1, 2)], 2);
        assert!(matches!(
            explore(shape, 1_000).result,
            Err(Trouble::TooMany)
        ));
    }
}
