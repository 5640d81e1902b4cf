//! An uncontended cycle of each subject, a round trip away, beside two raw requests.
//!
//! Every subject is a separate process. They take turns in blocks, so that other load of the machine affects
//! all alike. `cargo xtask bench cycle` measures our own cycle in more detail.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::choice::Choice;
use crate::driver::Job;
use crate::fleet::Fleet;
use crate::lineup::{Lineup, Subject, defaults};
use crate::report::{Report, as_ms, dollars, dollars_per_million, short_ms, who};
use crate::scenario::{ROUND_TRIPS, ms, present, with_lineup};
use crate::stats::{Times, ratio};
use crate::turns::Turns;
use crate::who::Who;

const BLOCKS: u32 = 4;
/// Compilers of a running program take their time.
const WARM_UP: u32 = 50;
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn run(choice: &Choice) -> Result<()> {
    let quick = choice.quick;
    with_lineup(choice, async |lineup| {
        let mut report = Report::new(
            "uncontended",
            &[
                "round trip",
                "lock",
                "cycles",
                "p50",
                "p99",
                "p50 / raw",
                "requests a cycle",
                "$ per million cycles",
                "remarks",
            ],
        );
        report.note(
            "Acquire and release of a free lock in one process, in blocks that take turns. \
             Settings for waiting do not matter here, so everybody has its defaults.",
        );
        // The yardstick is there whoever was chosen.
        let mut subjects = vec![Subject::new(Who::Raw, "nothing returned", json!({}))];
        subjects.extend(present(&lineup, &mut report, defaults(), |one| one).await?);
        for round_trip in ROUND_TRIPS {
            at(&lineup, &mut report, &subjects, round_trip, quick).await?;
        }
        report.finish()?;
        Ok(lineup)
    })
}

async fn at(
    lineup: &Lineup,
    report: &mut Report,
    subjects: &[Subject],
    round_trip: Duration,
    quick: bool,
) -> Result<()> {
    let per_block = match (quick, round_trip > ms(10)) {
        (true, _) => 15,
        (false, true) => 25,
        (false, false) => 75,
    };
    let mut fleets = Vec::new();
    for subject in subjects {
        fleets.push(Fleet::start(lineup, subject, round_trip, 1).await?);
    }
    let mut found: Vec<(Times, u32, f64)> = vec![Default::default(); subjects.len()];
    let key = format!("uncontended/{}", round_trip.as_millis());
    for block in 0..=BLOCKS {
        // The first block only warms up: connections, compilers.
        let rounds = if block == 0 { WARM_UP } else { per_block };
        for turn in 0..subjects.len() {
            let index = (turn + block as usize) % subjects.len();
            let job = Job::new(&key, 1, rounds, Duration::ZERO);
            let outcome = fleets[index].run(&job, LIMIT).await?;
            let (failures, first) = outcome.turns.failures();
            ensure!(
                failures == 0 && outcome.complete,
                "{} failed uncontended: {first:?}",
                subjects[index].label()
            );
            if block > 0 {
                let (times, requests, dollars) = &mut found[index];
                times.append(Turns::cycles(&outcome.turns));
                *requests += outcome.counts.requests();
                *dollars += dollars_per_million(&outcome.counts, 1).unwrap_or_default();
            }
        }
    }
    let floor = found[0].0.clone();
    for (subject, (times, requests, cost)) in subjects.iter().zip(&found) {
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let cycles = times.len() as f64;
        let a_cycle = f64::from(*requests) / cycles;
        let cost = cost / cycles;
        report.add(
            vec![
                short_round_trip(round_trip),
                subject.who.label().to_owned(),
                times.len().to_string(),
                short_ms(times.p50()),
                short_ms(times.p99()),
                ratio(times, &floor),
                format!("{a_cycle:.1}"),
                dollars(Some(cost)),
                String::new(),
            ],
            json!({
                "who": who(subject),
                "round_trip_ms": as_ms(round_trip),
                "cycles": times.len(),
                "p50_ms": as_ms(times.p50()),
                "p99_ms": as_ms(times.p99()),
                "requests_per_cycle": a_cycle,
                "dollars_per_million": cost,
            }),
        );
    }
    Ok(())
}

pub(crate) fn short_round_trip(round_trip: Duration) -> String {
    format!("{} ms", round_trip.as_millis())
}
