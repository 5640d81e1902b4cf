//! The answer to a write is lost, with its connection, after the service has applied it: to the acquire, or to the
//! release.
//!
//! A client that asks again must see that the record is its own. One that does not takes itself for another, and
//! waits for its own lease to end. The same client acquires the key once more, so that a release that was not seen
//! to be applied shows, too.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use serde_json::json;

use crate::choice::Choice;
use crate::driver::{Job, Turn};
use crate::fleet::Fleet;
use crate::lineup::{Lineup, Subject};
use crate::report::{Report, as_ms, short_ms, who};
use crate::scenario::killed::subjects_with_leases;
use crate::scenario::{REGION, ms, present, with_lineup};
use crate::stats::Times;
use crate::turns::between;

/// Longer than the longest lease among them.
const LIMIT: Duration = ms(75_000);

/// Whose answer is lost, as a number among the writes of a cycle.
const LOST: [(&str, u32); 2] = [("to the acquire", 1), ("to the release", 2)];

pub(crate) fn run(choice: &Choice) -> Result<()> {
    let repeats = if choice.quick { 1 } else { 3 };
    with_lineup(choice, async |lineup| {
        let mut report = Report::new(
            "lost",
            &[
                "lock",
                "settings",
                "answer lost",
                "granted after",
                "released after",
                "next granted after",
                "remarks",
            ],
        );
        report.note(format!(
            "A free lock, 5 ms round trip, a cycle that loses one answer, and a cycle after it. Medians of {repeats}."
        ));
        let all = subjects_with_leases(choice.quick);
        let subjects = present(&lineup, &mut report, all, |one| one).await?;
        for (answer, nth) in LOST {
            let measuring = subjects
                .iter()
                .map(|subject| measure(&lineup, subject, nth, repeats));
            let found = try_join_all(measuring).await?;
            for (subject, found) in subjects.iter().zip(&found) {
                add(&mut report, subject, answer, found);
            }
        }
        report.finish()?;
        Ok(lineup)
    })
}

/// Of all repeats.
#[derive(Debug, Default)]
struct Found {
    granted: Times,
    released: Times,
    next: Times,
    remark: String,
}

async fn measure(lineup: &Lineup, subject: &Subject, nth: u32, repeats: u32) -> Result<Found> {
    let mut fleet = Fleet::start(lineup, subject, REGION, 1).await?;
    fleet.warm_up(1).await?;
    let mut found = Found::default();
    for repeat in 0..repeats {
        fleet.proxy.loss().arm(nth);
        let key = format!("lost/{}/{nth}/{repeat}", subject.variant);
        let outcome = fleet
            .run(&Job::new(&key, 1, 2, Duration::ZERO), LIMIT)
            .await?;
        ensure!(
            !fleet.proxy.loss().disarm(),
            "{} made fewer than {nth} writes",
            subject.label()
        );
        let mut turns = outcome.turns.0.iter();
        if let Some(first) = turns.next() {
            found
                .granted
                .extend(first.granted.map(|at| between(first.asked, at)));
            found.released.extend(released_in(first));
        }
        if let Some(next) = turns.next() {
            found
                .next
                .extend(next.granted.map(|at| between(next.asked, at)));
        }
        if let (_, Some(failure)) = outcome.turns.failures() {
            found.remark = format!("failed: {}", failure.chars().take(80).collect::<String>());
        }
        if !outcome.complete {
            found.remark = format!("still hung after {} s", LIMIT.as_secs());
            break;
        }
    }
    Ok(found)
}

fn released_in(turn: &Turn) -> Option<Duration> {
    Some(between(turn.letting?, turn.released?))
}

fn add(report: &mut Report, subject: &Subject, answer: &str, found: &Found) {
    let text = |times: &Times| {
        if times.len() > 0 {
            short_ms(times.p50())
        } else {
            "–".to_owned()
        }
    };
    let all = |times: &Times| times.sorted().into_iter().map(as_ms).collect::<Vec<_>>();
    report.add(
        vec![
            subject.who.label().to_owned(),
            subject.variant.to_owned(),
            answer.to_owned(),
            text(&found.granted),
            text(&found.released),
            text(&found.next),
            found.remark.clone(),
        ],
        json!({
            "who": who(subject),
            "answer_lost": answer,
            "granted_after_ms": all(&found.granted),
            "released_after_ms": all(&found.released),
            "next_granted_after_ms": all(&found.next),
            "remarks": found.remark,
        }),
    );
}
