//! Deterministic simulation of the real library, end to end.
//!
//! One seed is one world in virtual time: three to eight processes with their own clocks, a simulated DynamoDB, and
//! faults between them. In a *fair* world there are 2 to 64 processes, one key and no faults. The processes run the
//! library's own [`LockClient`](leasehold::LockClient) through its `Store`, `Clock` and `Random`.
//!
//! - `shape`: the configuration of a world, and its guarantees;
//! - `world`, `host`, `clock`: events, executors and clocks;
//! - `wire`, `words`, `service`: requests, faults, records, and the ledger that judges S2, S3 and S4;
//! - `workload`, `holding`, `foreign`: the calls of the processes;
//! - `bounds`: the bounds of the service's clock, compared with the truth;
//! - `order`: S9 and L3; `runs`: S7; `slots`: S8;
//! - `driver`, `judge`, `finale`: run a seed, judge S1, S5, S6, L1, L2 and the bounds of calls;
//! - `coverage`, `report`: the faults that happened, and the output.

//! # Determinism
//!
//! The runtimes have no timers and no threads, every `select!` of the library is `biased`, no code here iterates over a
//! hash map, and labels are set (the default has a pid). One global input is handled in `World::tidy_timers`: tokio
//! drops the tasks of a crashed runtime in an order that depends on a global counter. Some seeds run twice in every
//! run, and any difference fails it.
//!
//! # What is not simulated
//!
//! The wire format (the contract suite compares DynamoDB's expressions with `apply`), tables with many pages, credentials,
//! panics in the work of `run`, `shutdown`, and `forget`. Wall clocks that go back within a machine pause: there is no guarantee
//! then.

mod believer;
mod bounds;
mod clock;
mod coverage;
mod driver;
mod finale;
mod foreign;
mod holding;
pub(crate) mod host;
mod judge;
mod order;
mod phase;
pub(crate) mod random;
mod regressions;
mod report;
mod request;
mod runs;
mod service;
mod shape;
mod slots;
mod trace;
mod wire;
mod words;
mod workload;
mod world;

pub use self::report::main;

#[cfg(test)]
mod tests {
    use super::driver::run;

    #[test]
    fn a_seed_replays_identically_also_beside_others() {
        let hash = |seed| run(seed, 10, false).expect("runs").hash;
        let alone: Vec<u64> = (0..12).map(hash).collect();
        let threads: Vec<_> = (0..12)
            .map(|seed| std::thread::spawn(move || hash(seed)))
            .collect();
        for (seed, thread) in threads.into_iter().enumerate() {
            assert_eq!(thread.join().expect("runs"), alone[seed], "seed {seed}");
        }
        assert_ne!(alone[0], alone[1]);
    }
}
