//! One store, one fleet, for so many seconds: harm, and judgement while it goes on.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;

use super::event::{At, now};
use super::fault::Counts;
use super::fleet::{Deeds, Fleet, Programs};
use super::guardian::Guardian;
use super::history::{History, Totals};
use super::judge::judge;
use super::member::lock;
use super::place::Place;
use super::wall::pause;

/// How often the history is judged. What ended a whole window ago is then forgotten, so that every two
/// grants that end within a window of each other are compared.
const WINDOW: At = 30_000_000_000;
/// By then, the events of a process have arrived.
const SETTLED: At = 5_000_000_000;

/// With so many violations nothing more is to be learnt, and a soak need not pile them up.
const ENOUGH: usize = 50;

/// What came of it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) store: &'static str,
    pub(super) seconds: f64,
    pub(super) totals: Totals,
    pub(super) deeds: Deeds,
    pub(super) counts: Option<Arc<Counts>>,
    pub(super) violations: BTreeSet<String>,
    pub(super) clocks: &'static str,
    /// The most grants and writes that were remembered at once.
    pub(super) remembered: usize,
}

/// Errors of calls that chaos does not explain: the caller or the record is wrong, or the library.
const UNEXPLAINED: [&str; 7] = [
    "InvalidInput",
    "Configuration",
    "AccessDenied",
    "Credentials",
    "Malformed",
    "ShutDown",
    "Service",
];

/// Runs it.
pub(super) async fn run(
    place: Place,
    programs: &Programs,
    seed: u64,
    seconds: u64,
    guardian: &Guardian,
) -> Result<Outcome> {
    let sqlite = matches!(place, Place::Sqlite { .. });
    // On SQLite a dead process of the library may be replaced at once.
    let history = Arc::new(Mutex::new(History::new(sqlite)));
    let counts = Arc::<Counts>::default();
    let mut fleet = Fleet::new(&place, programs, seed, &counts, history.clone(), guardian).await?;
    let mut violations = BTreeSet::new();
    let mut remembered = 0;
    let begin = now();
    let end = begin + seconds * 1_000_000_000;
    let mut next_harm = begin + 1_000_000_000;
    let mut next_judgement = begin + WINDOW;
    while now() < end && violations.len() < ENOUGH {
        fleet.tend()?;
        if now() >= next_harm {
            fleet.harm()?;
            next_harm = fleet.next_harm();
        }
        if now() >= next_judgement {
            fleet.settle().await?;
            let mut history = lock(&history);
            remembered = remembered.max(history.grants.len() + history.writes.len());
            let time = now();
            violations.extend(judge(&history, time - SETTLED));
            history.forget(time - WINDOW);
            next_judgement = time + WINDOW;
        }
        pause(Duration::from_millis(20)).await;
    }
    fleet.end().await?;
    let history = lock(&history);
    violations.extend(judge(&history, At::MAX));
    remembered = remembered.max(history.grants.len() + history.writes.len());
    violations.extend(fleet.unexplained.drain(..));
    for kind in UNEXPLAINED {
        if let Some(times) = history.totals.errors.get(kind) {
            violations.insert(format!("{times} calls failed with {kind}"));
        }
    }
    Ok(Outcome {
        store: if sqlite { "SQLite" } else { "DynamoDB Local" },
        seconds: (now() - begin) as f64 / 1e9,
        totals: history.totals.clone(),
        deeds: fleet.deeds.clone(),
        counts: (!sqlite).then_some(counts),
        violations,
        clocks: fleet.clocks(),
        remembered,
    })
}
