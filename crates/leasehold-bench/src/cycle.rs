//! An uncontended acquire and release on DynamoDB Local, beside the same two requests made raw.
//!
//! Five subjects take turns in every round, each with its own key, client and connection. Their order
//! changes from round to round, so that other load of the machine affects all alike. Both kinds of
//! tokio runtime take turns in blocks. In a multi-threaded one the rounds run in a task, as in a service.
//!
//! Three more subjects split the time. The difference between bare and full requests is the larger
//! answer. The difference to the store alone is the store (its interceptor, its records). The
//! difference to the library is its client (the task of the lease). The client on the memory store
//! shows its own computing; the rest is threads that wake each other.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use leasehold::clock::{Clock, OsRandom, Random, SystemClock};
use leasehold::store::dynamodb::DynamoDbStore;
use leasehold::store::memory::MemoryStore;
use leasehold::store::{Outcome, Store};
use leasehold::{LockClient, TryAcquireOutcome};
use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::write::{Grant, Left, Write};
use tokio::runtime::{Builder, Runtime};

use crate::floor::{Answers, Floor};
use crate::stats::{Times, ms, ratio};
use crate::stopwatch::Stopwatch;
use crate::{dynamodb, place, table};

const BLOCKS: usize = 5;
const ROUNDS_PER_BLOCK: usize = 300;
/// Not counted, at the start of each block.
const WARM_UP: usize = 60;
/// Rounds before everything: the server compiles its code while it runs.
const FIRST_WARM_UP: usize = 1_000;
const SUBJECTS: usize = 5;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Subject {
    Bare,
    Full,
    Store,
    Library,
    Memory,
}

impl Subject {
    const ALL: [Subject; SUBJECTS] = [
        Subject::Bare,
        Subject::Full,
        Subject::Store,
        Subject::Library,
        Subject::Memory,
    ];

    fn label(self) -> &'static str {
        match self {
            Subject::Bare => "floor: two raw UpdateItem, nothing returned",
            Subject::Full => "floor: the library's two requests, made raw",
            Subject::Store => "leasehold's store alone, without its client",
            Subject::Library => "leasehold try_acquire + release",
            Subject::Memory => "the same on the memory store: the client alone",
        }
    }
}

pub(crate) fn run() -> Result<()> {
    let endpoint = place::endpoint()?;
    let table = dynamodb::table_name("cycle");
    let runtimes = [
        (
            "current_thread",
            Builder::new_current_thread().enable_all().build()?,
        ),
        (
            "multi_thread",
            Builder::new_multi_thread().enable_all().build()?,
        ),
    ];
    let [(_, first), _] = &runtimes;
    first
        .block_on(DynamoDbStore::new(dynamodb::client(&endpoint), table.as_str()).create_table())?;
    // A connection belongs to the runtime that made it.
    let labs: Vec<Lab> = runtimes
        .iter()
        .map(|(name, _)| Lab::new(&endpoint, &table, name))
        .collect();
    let mut times = [const { [const { Vec::new() }; SUBJECTS] }; 2];
    for block in 0..=BLOCKS {
        for (((_, runtime), lab), times) in runtimes.iter().zip(&labs).zip(&mut times) {
            let warm_up = if block == 0 { FIRST_WARM_UP } else { WARM_UP };
            measure(runtime, lab.clone(), warm_up)?;
            if block == 0 {
                continue;
            }
            let measured = measure(runtime, lab.clone(), ROUNDS_PER_BLOCK)?;
            for (all, more) in times.iter_mut().zip(measured) {
                all.push(more);
            }
        }
    }
    let mut rows = Vec::new();
    for ((name, _), times) in runtimes.iter().zip(times) {
        let times = times.map(merged);
        let [bare, full, ..] = &times;
        for (subject, of) in Subject::ALL.iter().zip(&times) {
            rows.push(vec![
                (*name).to_owned(),
                subject.label().to_owned(),
                of.len().to_string(),
                ms(of.p50()),
                ms(of.p99()),
                ratio(of, bare),
                ratio(of, full),
            ]);
        }
    }
    table::print(
        &[
            "runtime",
            "what",
            "cycles",
            "p50",
            "p99",
            "p50 / bare floor",
            "p50 / same requests",
        ],
        &rows,
    );
    first.block_on(dynamodb::delete(&dynamodb::client(&endpoint), &table))
}

fn merged(blocks: Vec<Times>) -> Times {
    let mut all = Times::default();
    blocks.into_iter().for_each(|block| all.append(block));
    all
}

fn measure(runtime: &Runtime, lab: Lab, rounds: usize) -> Result<[Times; SUBJECTS]> {
    // In a task on both, so that the two differ in nothing but their threads.
    runtime
        .block_on(runtime.spawn(async move { lab.rounds(rounds).await }))
        .context("the rounds panicked")?
}

/// The subjects on one runtime.
#[derive(Clone, Debug)]
struct Lab {
    bare: Floor,
    full: Floor,
    store: DynamoDbStore,
    library: LockClient,
    memory: LockClient,
    key: String,
}

impl Lab {
    fn new(endpoint: &str, table: &str, name: &str) -> Lab {
        let store = || DynamoDbStore::new(dynamodb::client(endpoint), table);
        Lab {
            bare: Floor::new(endpoint, table, &format!("bare/{name}"), Answers::Bare),
            full: Floor::new(endpoint, table, &format!("full/{name}"), Answers::Full),
            store: store(),
            library: LockClient::new(store()),
            memory: LockClient::new(MemoryStore::new()),
            key: name.to_owned(),
        }
    }

    async fn rounds(&self, rounds: usize) -> Result<[Times; SUBJECTS]> {
        let mut times = [const { None }; SUBJECTS].map(|_: Option<()>| Times::default());
        for round in 0..rounds {
            for turn in 0..Subject::ALL.len() {
                let index = turn_of(round, turn);
                let stopwatch = Stopwatch::start();
                self.once(Subject::ALL[index]).await?;
                times[index].add(stopwatch.elapsed());
            }
        }
        Ok(times)
    }

    async fn once(&self, subject: Subject) -> Result<()> {
        match subject {
            Subject::Bare => self.bare.cycle().await,
            Subject::Full => self.full.cycle().await,
            Subject::Store => store_cycle(&self.store, &format!("store/{}", self.key)).await,
            Subject::Library => cycle(&self.library, &format!("library/{}", self.key)).await,
            Subject::Memory => cycle(&self.memory, &self.key).await,
        }
    }
}

/// Whose turn it is: every subject follows every other one equally often or nearly so.
fn turn_of(round: usize, turn: usize) -> usize {
    let count = Subject::ALL.len();
    let turn = if (round / count).is_multiple_of(2) {
        turn
    } else {
        count - 1 - turn
    };
    (turn + round) % count
}

/// One acquire and release through the library's face.
pub(crate) async fn cycle(locks: &LockClient, key: &str) -> Result<()> {
    match locks.try_acquire(key).await? {
        TryAcquireOutcome::Acquired(lease) => {
            let outcome = lease.release().await?;
            if !outcome.is_released() {
                bail!("`{key}` was not ours to release: {outcome}");
            }
            Ok(())
        }
        TryAcquireOutcome::Held(held) => bail!("{held}"),
    }
}

/// The same two writes through the store, with nothing around them.
pub(crate) async fn store_cycle(store: &dyn Store, key: &str) -> Result<()> {
    let attempt = AttemptId::from_random(OsRandom.attempt_bits());
    let now = ServiceTime(SystemClock.wall_unix_ms());
    let lease = Duration::from_secs(20);
    let ttl_seconds = 4_000_000_000;
    let grant = Grant {
        key: key.into(),
        attempt,
        expires_at: now.plus(lease),
        ttl_seconds,
        ttl_is_guess: false,
        lease,
        seed: now,
        acquired_at: now,
        holder: "host leasehold-bench[1234]".into(),
        data: None,
        force: None,
        bound_to_process: true,
    };
    let Outcome::Applied(record) = store.write(Write::Acquire(grant)).await?.value else {
        bail!("`{key}` is held");
    };
    let release = Write::Release {
        left: Left::Nothing,
        held: None,
        key: key.into(),
        attempt,
        token: record.and_then(|record| record.native.map(|native| native.token)),
        ttl_seconds: Some(ttl_seconds),
        passed: Vec::new(),
    };
    match store.write(release).await?.value {
        Outcome::Applied(_) => Ok(()),
        Outcome::Refused(_) => bail!("`{key}` was not ours to release"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_has_one_turn_in_each_round_and_all_places_in_time() {
        let everyone: Vec<usize> = (0..SUBJECTS).collect();
        for round in 0..4 * SUBJECTS {
            let mut seen: Vec<usize> = (0..SUBJECTS).map(|turn| turn_of(round, turn)).collect();
            seen.sort_unstable();
            assert_eq!(seen, everyone);
        }
        for turn in 0..SUBJECTS {
            let mut seen: Vec<usize> = (0..SUBJECTS).map(|round| turn_of(round, turn)).collect();
            seen.sort_unstable();
            assert_eq!(seen, everyone);
        }
    }
}
