//! One process waits for a key that another holds for a minute: the cost of the wait, and the time from the
//! release to the next grant.
//!
//! Several keys are used at the same time, and their holders release at different moments, so that the time is a
//! median. The holders do not use the counting proxy.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use serde_json::json;

use crate::choice::Choice;
use crate::count::Counts;
use crate::driver::{Driver, Job, Turn};
use crate::fleet::{Fleet, Outcome};
use crate::lineup::{Lineup, Subject, defaults, tuned};
use crate::report::{Report, as_ms, counted, dollars, dollars_per_million, short_ms, who};
use crate::scenario::{REGION, ms, present, remarks, with_lineup};
use crate::stats::Times;
use crate::turns::between;
use crate::who::Who;

/// A prime number of milliseconds, against steps that fit into somebody's polls.
const APART: Duration = ms(137);

#[derive(Clone, Debug)]
struct Entry {
    subject: Subject,
    keys: u32,
    /// The key was held as long once before.
    again: bool,
}

pub(crate) fn run(choice: &Choice) -> Result<()> {
    let quick = choice.quick;
    with_lineup(choice, async |lineup| {
        let hold = if quick { ms(6_000) } else { ms(60_000) };
        let mut report = Report::new(
            "waiter",
            &[
                "lock",
                "settings",
                "waiters",
                "requests each",
                "write units each",
                "read units each",
                "$ per million waits",
                "price / F# README",
                "hand-over p50",
                "longest",
                "remarks",
            ],
        );
        report.note(format!(
            "One waiter a key, each a client of its own, 5 ms round trip, for {} s; its own acquisition and \
             release are in the count. Hand-over: from the holder's call of release to the waiter's grant.",
            hold.as_secs()
        ));
        let mut found = Vec::new();
        // In two groups: all at once would keep the service busier than it can bear on two cores.
        for group in groups() {
            let group = present(&lineup, &mut report, group, |entry| &entry.subject).await?;
            let waiting = group.into_iter().map(|entry| measure(&lineup, entry, hold));
            found.extend(try_join_all(waiting).await?);
        }
        found.sort_by_key(|(entry, _, _)| entry.subject.who);
        let yardstick = found
            .iter()
            .find(|(entry, ..)| {
                entry.subject.who == Who::FSharp && entry.subject.settings["poll_ms"] == 20
            })
            .map_or(f64::NAN, |(entry, outcome, _)| {
                each(&outcome.counts, entry.keys)
            });
        for (entry, outcome, delays) in &found {
            add(&mut report, entry, outcome, delays, yardstick, hold);
        }
        report.finish()?;
        Ok(lineup)
    })
}

/// The cheap ones on many keys; those that ask all the time on as few as will do.
fn groups() -> [Vec<Entry>; 2] {
    let entry = |subject: Subject| {
        let keys = match subject.who {
            Who::Ours => 9,
            Who::FSharp if subject.settings["poll_ms"] == 20 => 9,
            Who::DLock if subject.settings == json!({}) => 1,
            _ => 3,
        };
        let mut subject = subject;
        if subject.who == Who::FSharp {
            // It does not renew: its README says to set what the work needs.
            subject.settings["lease_ms"] = 180_000.into();
        }
        Entry {
            subject,
            keys,
            again: false,
        }
    };
    // What a fixed poll with reads can do against one with writes: the same hand-over, and the twentieth of
    // its price.
    let again = defaults()
        .into_iter()
        .filter(|subject| subject.who == Who::Ours)
        .map(|mut subject| {
            subject.variant = "defaults, held as long before";
            Entry {
                again: true,
                ..entry(subject)
            }
        });
    let fixed = [
        ("fixed, 20 ms", json!({ "poll_ms": 20 })),
        ("fixed, 50 ms", json!({ "poll_ms": 50 })),
    ]
    .map(|(variant, settings)| Subject::new(Who::Ours, variant, settings));
    defaults()
        .into_iter()
        .chain(tuned())
        .chain(fixed)
        .map(entry)
        .chain(again)
        .partition(|entry: &Entry| {
            entry.subject.slow
                || entry.subject.who == Who::Ours
                || entry.subject.settings["poll_ms"] == 20 && entry.subject.who == Who::FSharp
        })
        .into()
}

async fn measure(lineup: &Lineup, entry: Entry, hold: Duration) -> Result<(Entry, Outcome, Times)> {
    let label = entry.subject.label();
    let waiter = entry.subject.clone().each();
    let mut job = Job::new(
        &format!("waiter/{}", entry.subject.variant),
        entry.keys,
        1,
        hold,
    );
    job.keys = entry.keys;
    job.hold_step = APART;
    let command = lineup.command(&entry.subject, &lineup.endpoint).await?;
    let mut holder = Driver::start(&label, command).await?;
    let mut fleet = Fleet::start(lineup, &waiter, REGION, 1).await?;
    fleet.warm_up(entry.keys).await?;
    if entry.again {
        holder.begin(&job).await?;
        let limit = hold + APART * entry.keys + ms(5_000);
        ensure!(holder.finish(limit).await?, "{label} did not release");
    }
    holder.begin(&job).await?;
    ensure!(
        holder.grants(entry.keys as usize, ms(10_000)).await?,
        "{label} could not acquire free locks"
    );
    let limit = hold + APART * entry.keys + ms(15_000);
    job.hold = Some(Duration::ZERO);
    job.hold_step = Duration::ZERO;
    let outcome = fleet.run(&job, limit).await?;
    holder.finish(ms(5_000)).await?;
    let letting: Vec<Turn> = holder.turns().collect();
    let mut delays = Times::default();
    for turn in &outcome.turns.0 {
        let held = letting.iter().find(|held| held.task == turn.task);
        if let (Some(granted), Some(let_go)) = (turn.granted, held.and_then(|held| held.letting)) {
            delays.add(between(let_go, granted));
        }
    }
    Ok((entry, outcome, delays))
}

fn each(counts: &Counts, keys: u32) -> f64 {
    dollars_per_million(counts, keys as usize).unwrap_or(f64::NAN)
}

fn add(
    report: &mut Report,
    entry: &Entry,
    outcome: &Outcome,
    delays: &Times,
    yardstick: f64,
    hold: Duration,
) {
    let keys = f64::from(entry.keys);
    let price = each(&outcome.counts, entry.keys);
    let mut remark = remarks_by_key(outcome, entry.keys, hold);
    if delays.len() == 0 {
        remark = format!("no hand-over: {remark}");
    }
    let dash = |text: String| {
        if delays.len() > 0 {
            text
        } else {
            "–".to_owned()
        }
    };
    report.add(
        vec![
            entry.subject.who.label().to_owned(),
            entry.subject.variant.to_owned(),
            entry.keys.to_string(),
            format!("{:.1}", f64::from(outcome.counts.requests()) / keys),
            format!("{:.1}", outcome.counts.write_units() / keys),
            format!("{:.1}", outcome.counts.read_units() / keys),
            dollars(Some(price)),
            if yardstick.is_nan() {
                "–".to_owned()
            } else {
                format!("1 / {:.1}", yardstick / price)
            },
            dash(short_ms(delays.p50())),
            dash(short_ms(delays.quantile(1.0))),
            remark.clone(),
        ],
        json!({
            "who": who(&entry.subject),
            "waiters": entry.keys,
            "hold_ms": as_ms(hold),
            "counts": counted(&outcome.counts),
            "dollars_per_million": price,
            "hand_overs_ms": delays.sorted().into_iter().map(as_ms).collect::<Vec<_>>(),
            "remarks": remark,
        }),
    );
}

/// Overlaps are of one key; here each turn has its own.
fn remarks_by_key(outcome: &Outcome, keys: u32, hold: Duration) -> String {
    let mut one = outcome.clone();
    for turn in &mut one.turns.0 {
        turn.letting = turn.granted;
    }
    remarks(&one, keys as usize, hold + ms(15_000))
}
