//! What an acquisition costs when more and more want the same key.
//!
//! Contenders hold the key for 20 ms and are clients of their own, as processes are; one line is
//! ours with all contenders in one process.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::choice::Choice;
use crate::driver::Job;
use crate::fleet::Fleet;
use crate::lineup::{Subject, defaults, tuned};
use crate::plot;
use crate::report::{Report, as_ms, counted, dollars, dollars_per_million, short_ms, who};
use crate::scenario::{REGION, ms, present, remarks, with_lineup};
use crate::who::Who;

const ROUNDS: u32 = 2;
const HOLD: Duration = ms(20);

pub(crate) fn run(choice: &Choice) -> Result<()> {
    let quick = choice.quick;
    with_lineup(choice, async |lineup| {
        let mut report = Report::new(
            "price",
            &[
                "contenders",
                "lock",
                "settings",
                "granted",
                "longest wait",
                "$ per million acquisitions",
                "remarks",
            ],
        );
        report.note(format!(
            "Contenders hold the key for 20 ms, twice each, 5 ms round trip; $0.625 per million write units \
             and $0.125 per million read units. Two raw requests cost ${:.2}.",
            2.0 * 0.625
        ));
        let sizes: &[u32] = if quick {
            &[1, 4, 16]
        } else {
            &[1, 2, 4, 8, 16, 32, 64]
        };
        let limit = if quick { ms(3_000) } else { ms(10_000) };
        let mut lines = Vec::new();
        for subject in present(&lineup, &mut report, subjects(), |one| one).await? {
            let mut line = Vec::new();
            let mut fleet = Fleet::start(&lineup, &subject, REGION, 1).await?;
            fleet.warm_up(1).await?;
            for contenders in sizes {
                let price = at(&mut fleet, &mut report, &subject, *contenders, limit).await?;
                line.extend(price.price.map(|price| (*contenders, price)));
                if !price.complete {
                    // It has not finished, and more contenders will not make it.
                    break;
                }
            }
            lines.push((subject.label(), subject.who, line));
        }
        plot::price::draw("price.svg", &lines)?;
        report.finish()?;
        Ok(lineup)
    })
}

fn subjects() -> Vec<Subject> {
    let ours = defaults()
        .into_iter()
        .filter(|subject| subject.who == Who::Ours);
    let mut subjects: Vec<Subject> = ours
        .map(|mut subject| {
            subject.variant = "defaults, one process";
            subject
        })
        .collect();
    let each = defaults()
        .into_iter()
        .filter(|subject| !subject.slow)
        .chain(tuned())
        // Its 100 ms are a variant; the 20 ms are what its README has.
        .filter(|subject| subject.variant != "100 ms");
    subjects.extend(each.map(Subject::each));
    subjects
}

struct Point {
    price: Option<f64>,
    complete: bool,
}

async fn at(
    fleet: &mut Fleet,
    report: &mut Report,
    subject: &Subject,
    contenders: u32,
    limit: Duration,
) -> Result<Point> {
    let key = format!("price/{}/{contenders}", subject.variant);
    let outcome = fleet
        .run(&Job::new(&key, contenders, ROUNDS, HOLD), limit)
        .await?;
    let price = dollars_per_million(&outcome.counts, outcome.turns.granted());
    let remark = remarks(&outcome, (contenders * ROUNDS) as usize, limit);
    let longest = outcome.turns.waits().quantile(1.0);
    report.add(
        vec![
            contenders.to_string(),
            subject.who.label().to_owned(),
            subject.variant.to_owned(),
            outcome.turns.granted().to_string(),
            short_ms(longest),
            dollars(price),
            remark.clone(),
        ],
        json!({
            "who": who(subject),
            "contenders": contenders,
            "granted": outcome.turns.granted(),
            "complete": outcome.complete,
            "longest_wait_ms": as_ms(longest),
            "counts": counted(&outcome.counts),
            "dollars_per_million": price,
            "remarks": remark,
        }),
    );
    Ok(Point {
        price,
        complete: outcome.complete,
    })
}
