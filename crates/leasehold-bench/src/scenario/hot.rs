//! A hundred and a thousand tasks of one process that all want one key and hold it for no time.

use std::time::Duration;

use anyhow::Result;
use futures_util::future::try_join_all;
use serde_json::json;

use crate::choice::Choice;
use crate::driver::Job;
use crate::fleet::{Fleet, Outcome};
use crate::lineup::{Lineup, Subject, defaults, tuned};
use crate::report::{Report, as_ms, counted, dollars, dollars_per_million, short_ms, who};
use crate::scenario::uncontended::short_round_trip;
use crate::scenario::{REGION, ms, present, remarks, with_lineup};
use crate::who::Who;

pub(crate) fn run(choice: &Choice) -> Result<()> {
    let quick = choice.quick;
    with_lineup(choice, async |lineup| {
        let mut report = Report::new(
            "hot",
            &[
                "round trip",
                "tasks",
                "lock",
                "settings",
                "granted",
                "a second",
                "longest wait",
                "longest / mean wait",
                "$ per million acquisitions",
                "remarks",
            ],
        );
        let limit = if quick { ms(3_000) } else { ms(8_000) };
        report.note(format!(
            "Every task acquires once and releases at once. Stopped after {} s; the rate is then that of \
             those who were granted it, and their longest wait says little. In a fair line the longest \
             wait is twice the mean.",
            limit.as_secs()
        ));
        let all = defaults().into_iter().chain(tuned());
        let subjects = present(&lineup, &mut report, all, |one| one).await?;
        for round_trip in [Duration::ZERO, REGION] {
            for tasks in [100, 1_000] {
                at(&lineup, &mut report, &subjects, round_trip, tasks, limit).await?;
            }
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
    tasks: u32,
    limit: Duration,
) -> Result<()> {
    let (slow, fast): (Vec<Subject>, Vec<Subject>) =
        subjects.iter().cloned().partition(|subject| subject.slow);
    let measure = async |subject: Subject| {
        let mut fleet = Fleet::start(lineup, &subject, round_trip, 1).await?;
        let key = format!("hot/{}/{tasks}/{}", round_trip.as_millis(), subject.variant);
        fleet.warm_up(1).await?;
        let outcome = fleet
            .run(&Job::new(&key, tasks, 1, Duration::ZERO), limit)
            .await?;
        anyhow::Ok((subject, outcome))
    };
    let mut found = Vec::new();
    for subject in fast {
        found.push(measure(subject).await?);
    }
    found.extend(try_join_all(slow.into_iter().map(measure)).await?);
    found.sort_by_key(|(subject, _)| subject.who);
    let rate = |outcome: &Outcome| {
        let wall = if outcome.complete {
            outcome.turns.wall()
        } else {
            limit
        };
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let rate = outcome.turns.granted() as f64 / wall.as_secs_f64().max(1e-9);
        rate
    };
    let best = |ours: bool| {
        found
            .iter()
            .filter(|(subject, _)| (subject.who == Who::Ours) == ours)
            .map(|(_, outcome)| rate(outcome))
            .fold(0.0, f64::max)
    };
    if best(true) > 0.0 && best(false) > 0.0 {
        report.note(format!(
            "At {} ms and {tasks} tasks the best of ours has {:.1} x the throughput of the best peer.",
            round_trip.as_millis(),
            best(true) / best(false)
        ));
    }
    for (subject, outcome) in &found {
        let waits = outcome.turns.waits();
        let longest = waits.quantile(1.0);
        let fairness = longest.as_secs_f64() / waits.mean().as_secs_f64().max(1e-9);
        let price = dollars_per_million(&outcome.counts, outcome.turns.granted());
        let remark = remarks(outcome, tasks as usize, limit);
        report.add(
            vec![
                short_round_trip(round_trip),
                tasks.to_string(),
                subject.who.label().to_owned(),
                subject.variant.to_owned(),
                outcome.turns.granted().to_string(),
                format!("{:.0}", rate(outcome)),
                short_ms(longest),
                format!("{fairness:.1} x"),
                dollars(price),
                remark.clone(),
            ],
            json!({
                "who": who(subject),
                "round_trip_ms": as_ms(round_trip),
                "tasks": tasks,
                "granted": outcome.turns.granted(),
                "complete": outcome.complete,
                "per_second": rate(outcome),
                "longest_wait_ms": as_ms(longest),
                "mean_wait_ms": as_ms(waits.mean()),
                "p50_wait_ms": as_ms(waits.p50()),
                "counts": counted(&outcome.counts),
                "dollars_per_million": price,
                "remarks": remark,
            }),
        );
    }
    Ok(())
}
