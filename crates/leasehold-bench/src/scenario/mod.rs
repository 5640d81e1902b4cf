//! The scenarios: all subjects under the same load, on one service, a round trip away.

pub(crate) mod commands;
pub(crate) mod contend;
pub(crate) mod hot;
pub(crate) mod killed;
pub(crate) mod local;
pub(crate) mod lost;
pub(crate) mod many;
pub(crate) mod once;
pub(crate) mod price;
pub(crate) mod scale;
pub(crate) mod shared;
pub(crate) mod shells;
pub(crate) mod slots;
pub(crate) mod uncontended;
pub(crate) mod waiter;

use std::time::Duration;

use anyhow::Result;
use tokio::runtime::Runtime;

use crate::choice::Choice;
use crate::fleet::Outcome;
use crate::lineup::{Lineup, Subject};
use crate::place;
use crate::report::Report;

/// How far away the service is.
pub(crate) const ROUND_TRIPS: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(5),
    Duration::from_millis(20),
];

/// The distance within a Region.
pub(crate) const REGION: Duration = Duration::from_millis(5);

pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Runs a scenario with the subjects that were chosen.
pub(crate) fn with_lineup<F>(choice: &Choice, scenario: impl FnOnce(Lineup) -> F) -> Result<()>
where
    F: Future<Output = Result<Lineup>>,
{
    let runtime: Runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let lineup = scenario(Lineup::new(place::endpoint()?, choice).await?).await?;
        lineup.tidy().await
    })
}

/// Those that were chosen and can take part. Who was chosen and cannot has a row that says why.
pub(crate) async fn present<T>(
    lineup: &Lineup,
    report: &mut Report,
    all: impl IntoIterator<Item = T>,
    subject: impl Fn(&T) -> &Subject,
) -> Result<Vec<T>> {
    let mut present = Vec::new();
    for one in all {
        let subject = subject(&one);
        if !lineup.includes(subject.who) {
            continue;
        }
        match lineup.absence(subject.who).await? {
            Some(why) => report.absent(subject, &why),
            None => present.push(one),
        }
    }
    Ok(present)
}

/// What is to be said of a run beyond its figures.
pub(crate) fn remarks(outcome: &Outcome, wanted: usize, limit: Duration) -> String {
    let mut remarks = Vec::new();
    let granted = outcome.turns.granted();
    if !outcome.complete {
        remarks.push(format!(
            "stopped after {:.0} s with {granted} of {wanted} granted",
            limit.as_secs_f64()
        ));
    }
    let (failures, first) = outcome.turns.failures();
    if let Some(first) = first {
        let first: String = first.chars().take(80).collect();
        remarks.push(format!("{failures} failed: {first}"));
    }
    let overlaps = outcome.turns.overlaps();
    if overlaps > 0 {
        remarks.push(format!("{overlaps} overlapped: two holders at once"));
    }
    remarks.join("; ")
}
