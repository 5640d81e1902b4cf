//! One key that all processes want, and one whose holder died.

use std::time::Duration;

use anyhow::Result;
use leasehold::clock::Clock;
use leasehold::{DropPolicy, Policy};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::crowd::{Load, Outcome, Stage, measure, release, virtually};
use super::figures::{SEED, grouped, monthly, rate, s, share, time};
use super::service::{Dice, Tally};
use crate::report::{Report, as_ms};
use crate::scenario::ms;

pub(super) fn run(quick: bool) -> Result<()> {
    let mut report = Report::new(
        "scale-hot",
        &[
            "processes",
            "hold",
            "settings",
            "grants/s",
            "wait p50",
            "p99",
            "failed/s: waits that ran out, gave up throttled",
            "polls/s asked (throttled)",
            "acquires/s asked (refused, throttled)",
            "releases throttled",
            "longest release",
            "lost",
            "write + read units/s",
            "a month",
        ],
    );
    report.note(
        "Every process wants one key, holds it, releases it, and comes back after 0 to 2 s, as it does after a \
         failed wait. They begin within 10 s; measured is a minute after 30 s, with 100,000 processes and the defaults \
         20 s after 30 s.",
    );
    report.note(
        "Where it bends: polls at the item's read units; writes at the herd that sees a key free before the next \
         grant, and at first requests, which are writes.",
    );
    for (load, settings, warm_up, window) in loads(quick) {
        let outcome = measure(&load, SEED, warm_up, window)?;
        add(&mut report, &load, settings, &outcome);
    }
    report.finish()?;
    orphaned(quick)
}

/// With the times before and in the window.
fn loads(quick: bool) -> Vec<(Load, &'static str, Duration, Duration)> {
    let spaced = |processes| {
        let load = Load::hot(processes, s(1)).polls(s(2), s(20));
        (load.wait(s(600)), "polls 2 to 20 s, wait 10 min")
    };
    let line = Load {
        tasks: 1_000,
        ..Load::hot(100, ms(20))
    };
    let plain = |processes, hold| (Load::hot(processes, hold), "defaults");
    let timed = |(load, settings), before, window| (load, settings, before, window);
    if quick {
        return vec![
            timed(plain(1_000, ms(20)), s(10), s(5)),
            timed(plain(1_000, s(1)), s(10), s(5)),
        ];
    }
    vec![
        timed(plain(1_000, ms(20)), s(30), s(60)),
        timed(plain(10_000, ms(20)), s(30), s(60)),
        timed((line, "defaults"), s(30), s(60)),
        timed(plain(1_000, s(1)), s(30), s(60)),
        timed(plain(10_000, s(1)), s(30), s(60)),
        timed(spaced(10_000), s(30), s(60)),
        timed(plain(100_000, ms(20)), s(30), s(20)),
        timed(plain(100_000, s(1)), s(30), s(20)),
    ]
}

/// A holder that dies while a crowd waits.
fn orphaned(quick: bool) -> Result<()> {
    let mut report = Report::new(
        "scale-orphaned",
        &[
            "waiting",
            "next grant after the holder's deadline",
            "polls in 5 s (throttled)",
            "acquires (refused, throttled)",
            "longest release afterwards",
        ],
    );
    report.note(
        "Everybody waits for ever, for 35 s already when the holder dies. Who gets the key then holds it for 1 s. \
         \
         Requests: from 1 s before the end of its lease to 4 s after it.",
    );
    let crowds: &[u32] = if quick { &[100] } else { &[1_000, 10_000] };
    for &waiting in crowds {
        let death = virtually(orphan(waiting))?;
        let (asked, late) = (death.tally, death.next);
        report.add(
            vec![
                grouped(f64::from(waiting)),
                late.map_or_else(|| "not within 4 s".to_owned(), time),
                format!(
                    "{} ({})",
                    grouped(asked.polls.all as f64),
                    share(asked.polls.throttled, asked.polls.all)
                ),
                format!(
                    "{} ({}, {})",
                    grouped(asked.acquires.all as f64),
                    share(asked.refused, asked.acquires.all),
                    share(asked.acquires.throttled, asked.acquires.all)
                ),
                death.release.map_or_else(|| "–".to_owned(), time),
            ],
            json!({
                "waiting": waiting,
                "next_ms": late.map(as_ms),
                "polls": asked.polls.all,
                "looks_throttled": asked.polls.throttled,
                "acquires": asked.acquires.all,
                "acquires_refused": asked.refused,
                "acquires_throttled": asked.acquires.throttled,
                "release_longest_ms": death.release.map(as_ms),
            }),
        );
    }
    report.finish()
}

/// What followed a death.
struct Death {
    next: Option<Duration>,
    tally: Tally,
    release: Option<Duration>,
}

async fn orphan(waiting: u32) -> Result<Death> {
    let stage = Stage::new(1, SEED);
    let dice = Dice::new(SEED);
    let policy = Policy::builder()
        .wait_forever()
        .drop_policy(DropPolicy::LeaveToExpire);
    let holder = stage.client(waiting, policy.clone(), dice.roll())?;
    let held = holder.acquire("hot").await?;
    let (granted, mut grants) = mpsc::unbounded_channel();
    let mut crowd = JoinSet::new();
    for number in 0..waiting {
        let locks = stage.client(number, policy.clone(), dice.roll())?;
        let begin = dice.below(s(10));
        let (stage, granted) = (stage.clone(), granted.clone());
        crowd.spawn(async move {
            stage.pause(begin).await;
            // One that gives up is one waiter less.
            if let Ok(lease) = locks.acquire("hot").await {
                // Nobody may listen any more.
                let _ = granted.send(stage.clock.elapsed());
                stage.pause(s(1)).await;
                release(&stage, lease).await;
            }
        });
    }
    stage.until(s(45)).await;
    // No other client may hold the key before the deadline of the holder. The published expiry is later, by
    // the uncertainty of the service's time.
    let ends = stage.clock.elapsed().plus(held.remaining()).0;
    drop(held);
    stage.until(ends.saturating_sub(s(1))).await;
    let before = stage.service.tally();
    stage.until(ends + s(4)).await;
    let tally = stage.service.tally().since(before);
    let next = grants.try_recv().ok();
    stage.pause(s(20)).await;
    let releases = stage.take().releases;
    Ok(Death {
        next: next.map(|at| at.0.saturating_sub(ends)),
        tally,
        release: (releases.len() > 0).then(|| releases.quantile(1.0)),
    })
}

fn add(report: &mut Report, load: &Load, settings: &str, outcome: &Outcome) {
    let Outcome {
        findings,
        tally,
        window,
        took,
    } = outcome;
    let per_second = |count: u64| rate(count as f64, *window);
    let longest = findings.releases.quantile(1.0);
    report.add(
        vec![
            match load.tasks {
                1 => grouped(f64::from(load.processes)),
                tasks => format!("{} of {} tasks", load.processes, grouped(f64::from(tasks))),
            },
            time(load.hold),
            settings.to_owned(),
            per_second(findings.waits.len() as u64),
            time(findings.waits.p50()),
            time(findings.waits.p99()),
            format!(
                "{}, {}",
                per_second(findings.expired),
                per_second(findings.throttled)
            ),
            format!(
                "{} ({})",
                per_second(tally.polls.all),
                share(tally.polls.throttled, tally.polls.all)
            ),
            format!(
                "{} ({}, {})",
                per_second(tally.acquires.all),
                share(tally.refused, tally.acquires.all),
                share(tally.acquires.throttled, tally.acquires.all)
            ),
            share(tally.releases.throttled, tally.releases.all),
            format!(
                "{}{}",
                time(longest),
                if findings.failed_releases > 0 {
                    format!(", {} failed", findings.failed_releases)
                } else {
                    String::new()
                }
            ),
            findings.lost.to_string(),
            format!(
                "{} + {}",
                rate(tally.write_units, *window),
                rate(tally.read_units, *window)
            ),
            monthly(tally.dollars_a_month(*window)),
        ],
        json!({
            "processes": load.processes,
            "tasks": load.tasks,
            "hold_ms": as_ms(load.hold),
            "settings": settings,
            "window_ms": as_ms(*window),
            "grants": findings.waits.len(),
            "wait_p50_ms": as_ms(findings.waits.p50()),
            "wait_p99_ms": as_ms(findings.waits.p99()),
            "expired": findings.expired,
            "failed_throttled": findings.throttled,
            "polls": { "asked": tally.polls.all, "throttled": tally.polls.throttled },
            "acquires": {
                "asked": tally.acquires.all,
                "refused": tally.refused,
                "throttled": tally.acquires.throttled,
            },
            "renewals": { "asked": tally.renewals.all, "throttled": tally.renewals.throttled },
            "releases": { "asked": tally.releases.all, "throttled": tally.releases.throttled },
            "release_p50_ms": as_ms(findings.releases.p50()),
            "release_longest_ms": as_ms(longest),
            "failed_releases": findings.failed_releases,
            "lost": findings.lost,
            "write_units": tally.write_units,
            "read_units": tally.read_units,
            "dollars_a_month": tally.dollars_a_month(*window),
            "took_ms": as_ms(*took),
        }),
    );
    eprintln!("      took {:.1} s", took.as_secs_f64());
}
