//! Readers and writers of one key: whether either kind starves, and whether anybody is passed.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::choice::Choice;
use crate::driver::{Job, Turn};
use crate::fleet::Fleet;
use crate::lineup::{Lineup, Subject};
use crate::report::{Report, as_ms, dollars, dollars_per_million, short_ms};
use crate::scenario::uncontended::short_round_trip;
use crate::scenario::{REGION, ms, with_lineup};
use crate::turns::{Turns, between};
use crate::who::Who;

const HOLD: Duration = ms(20);
const LIMIT: Duration = ms(120_000);
/// Who asks this much later has certainly not asked before: three round trips, for an answer, a place, and the way there.
const LATER: Duration = ms(3 * 5);

/// So many processes of each kind.
#[derive(Clone, Copy, Debug)]
struct Mix {
    readers: usize,
    writers: usize,
}

const MIXES: [Mix; 3] = [
    Mix {
        readers: 8,
        writers: 2,
    },
    Mix {
        readers: 2,
        writers: 8,
    },
    Mix {
        readers: 12,
        writers: 1,
    },
];

pub(crate) fn run(choice: &Choice) -> Result<()> {
    let rounds = if choice.quick { 2 } else { 20 };
    with_lineup(choice, async |lineup| {
        let mut report = Report::new(
            "shared",
            &[
                "processes",
                "round trip",
                "kind",
                "granted",
                "mean wait",
                "longest wait",
                "longest / mean",
                "most at once",
                "passed by later ones",
                "longest gap before",
                "$ per million acquisitions",
            ],
        );
        report.note(format!(
            "Processes that read and write under one key, 20 ms each, {rounds} times each, and come back at once. \
             \"Passed\": a grant of the other kind that was asked for {} ms later or more. \"Gap before\": from the end \
             of the last grant of the other kind.",
            LATER.as_millis()
        ));
        for mix in MIXES {
            if lineup.includes(Who::Ours) && !(choice.quick && mix.readers != 8) {
                measure(&lineup, &mut report, mix, rounds).await?;
            }
        }
        report.finish()?;
        Ok(lineup)
    })
}

async fn measure(lineup: &Lineup, report: &mut Report, mix: Mix, rounds: u32) -> Result<()> {
    let reader = Subject::new(Who::Ours, "shared", json!({ "slots": 1_000 }));
    let writer = Subject::new(Who::Ours, "exclusive", json!({}));
    let mut readers = Fleet::start(lineup, &reader, REGION, mix.readers).await?;
    let mut writers = Fleet::start(lineup, &writer, REGION, mix.writers).await?;
    readers.warm_up(1).await?;
    writers.warm_up(1).await?;
    let key = format!("shared/{}/{}", mix.readers, mix.writers);
    let job = Job::new(&key, 1, rounds, HOLD);
    let (read, written) = tokio::join!(readers.run(&job, LIMIT), writers.run(&job, LIMIT));
    let (read, written) = (read?, written?);
    ensure!(read.complete && written.complete, "they did not finish");
    for (kind, own, other) in [
        ("readers", &read, &written.turns),
        ("writers", &written, &read.turns),
    ] {
        let waits = own.turns.waits();
        let (mean, longest) = (waits.mean(), waits.quantile(1.0));
        let unfair = longest.as_secs_f64() / mean.as_secs_f64();
        let (passed, gap) = (passed(&own.turns, other), gap(&own.turns, other));
        let price = dollars_per_million(&own.counts, own.turns.granted());
        let most = own.turns.most_at_once();
        report.add(
            vec![
                format!("{} + {}", mix.readers, mix.writers),
                short_round_trip(REGION),
                kind.to_owned(),
                own.turns.granted().to_string(),
                short_ms(mean),
                short_ms(longest),
                format!("{unfair:.1}"),
                most.to_string(),
                passed.to_string(),
                short_ms(gap),
                dollars(price),
            ],
            json!({
                "readers": mix.readers,
                "writers": mix.writers,
                "kind": kind,
                "granted": own.turns.granted(),
                "mean_ms": as_ms(mean),
                "longest_ms": as_ms(longest),
                "most_at_once": most,
                "passed": passed,
                "gap_ms": as_ms(gap),
                "dollars_per_million": price,
            }),
        );
        ensure!(kind == "readers" || most == 1, "{most} writers at once");
    }
    let beside = beside(&read.turns, &written.turns);
    ensure!(beside == 0, "{beside} times a reader beside a writer");
    Ok(())
}

/// How often somebody of the other kind has passed.
fn passed(own: &Turns, other: &Turns) -> usize {
    let passes = |one: &Turn, other: &Turn| {
        let later = between(one.asked, other.asked) >= LATER;
        later && other.granted < one.granted
    };
    let passed = own.0.iter().map(|one| {
        let others = other.0.iter();
        others.filter(|other| passes(one, other)).count()
    });
    passed.sum()
}

/// The longest time from the end of the last grant of the other kind to one of these that was asked for before that.
fn gap(own: &Turns, other: &Turns) -> Duration {
    let gaps = own.0.iter().filter_map(|one| {
        let granted = one.granted?;
        let ends = other.0.iter().filter_map(|other| other.letting);
        let last = ends
            .filter(|end| *end <= granted && *end >= one.asked)
            .max()?;
        // Those of its own kind in between are before it.
        let own_ends = own.0.iter().filter_map(|own| own.letting);
        let last = own_ends
            .filter(|end| *end <= granted)
            .max()
            .max(Some(last))?;
        Some(between(last, granted))
    });
    gaps.max().unwrap_or_default()
}

/// How many readers held the key together with a writer.
fn beside(readers: &Turns, writers: &Turns) -> usize {
    let overlaps = |reader: &Turn, writer: &Turn| match (reader.granted, writer.granted) {
        (Some(reads), Some(writes)) => {
            let until = |turn: &Turn| turn.letting.unwrap_or(i64::MAX);
            reads < until(writer) && writes < until(reader)
        }
        _ => false,
    };
    let readers = readers.0.iter();
    let beside = readers.filter(|reader| writers.0.iter().any(|writer| overlaps(reader, writer)));
    beside.count()
}
