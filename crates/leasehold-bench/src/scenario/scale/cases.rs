//! Small fleets: a cron job on 500 hosts, one leader of five.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use leasehold::clock::Clock;
use leasehold::{DropPolicy, Policy, TryAcquireOutcome};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::crowd::{Stage, virtually};
use super::figures::{SEED, monthly, rate, s, share, time};
use super::service::{Dice, Tally};
use crate::report::{Report, as_ms};
use crate::scenario::ms;
use crate::stats::Times;

const HOSTS: u32 = 500;
const CANDIDATES: u32 = 5;
const MINUTE: Duration = s(60);

pub(super) fn run(quick: bool) -> Result<()> {
    crons(if quick { 2 } else { 30 })?;
    leaders(if quick { 3 } else { 50 })
}

/// A job that every host starts every minute, and one is to run.
#[derive(Clone, Copy, Debug)]
struct Cron {
    what: &'static str,
    job: Duration,
    /// As `--hold-at-least`.
    hold: Duration,
    key_per_run: bool,
    /// How far the hosts' starts are apart.
    skew: Duration,
}

fn crons(minutes: u32) -> Result<()> {
    let mut report = Report::new(
        "scale-cron",
        &[
            "500 hosts, once a minute",
            "starts within",
            "runs a minute",
            "refused tries a minute",
            "throttled requests",
            "write units a minute",
            "a month",
        ],
    );
    report.note("Every host makes one `try_acquire` (`leasehold run -n`); who gets it runs the job and releases.");
    let all = [
        Cron {
            what: "job of 30 s",
            job: s(30),
            hold: s(0),
            key_per_run: false,
            skew: s(1),
        },
        Cron {
            what: "job of 30 s",
            job: s(30),
            hold: s(0),
            key_per_run: false,
            skew: ms(50),
        },
        Cron {
            what: "job of 30 s, a key for each run",
            job: s(30),
            hold: s(0),
            key_per_run: true,
            skew: s(1),
        },
        Cron {
            what: "job of 100 ms",
            job: ms(100),
            hold: s(0),
            key_per_run: false,
            skew: s(1),
        },
        Cron {
            what: "job of 100 ms, held at least 5 s",
            job: ms(100),
            hold: s(5),
            key_per_run: false,
            skew: s(1),
        },
    ];
    for cron in all {
        let (runs, tally) = virtually(minutely(cron, minutes))?;
        let within = MINUTE * minutes;
        let throttled =
            tally.acquires.throttled + tally.renewals.throttled + tally.releases.throttled;
        report.add(
            vec![
                cron.what.to_owned(),
                time(cron.skew),
                format!("{:.1}", f64::from(runs) / f64::from(minutes)),
                format!("{:.0}", tally.refused as f64 / f64::from(minutes)),
                share(throttled, tally.requests()),
                format!("{:.0}", tally.write_units / f64::from(minutes)),
                monthly(tally.dollars_a_month(within)),
            ],
            json!({
                "what": cron.what,
                "skew_ms": as_ms(cron.skew),
                "minutes": minutes,
                "runs": runs,
                "refused": tally.refused,
                "requests": tally.requests(),
                "throttled": throttled,
                "write_units": tally.write_units,
                "read_units": tally.read_units,
                "dollars_a_month": tally.dollars_a_month(within),
            }),
        );
    }
    report.finish()
}

/// How often the job ran, and what was asked.
async fn minutely(cron: Cron, minutes: u32) -> Result<(u32, Tally)> {
    let stage = Stage::new(1, SEED);
    let dice = Dice::new(SEED);
    let hosts = (0..HOSTS)
        .map(|number| stage.client(number, Policy::builder(), dice.roll()))
        .collect::<Result<Vec<_>>>()?;
    let mut runs = 0;
    for minute in 0..minutes {
        let begin = MINUTE * minute;
        let mut tries = JoinSet::new();
        for locks in &hosts {
            let (stage, locks) = (stage.clone(), locks.clone());
            let at = begin + dice.below(cron.skew);
            tries.spawn(async move {
                stage.until(at).await;
                let key = if cron.key_per_run {
                    format!("job/{minute}")
                } else {
                    "job".to_owned()
                };
                let TryAcquireOutcome::Acquired(lease) = locks.try_acquire(&key).await? else {
                    return Ok::<_, leasehold::Error>(false);
                };
                stage.pause(cron.job.max(cron.hold)).await;
                Ok(lease.release().await?.is_released())
            });
        }
        while let Some(ran) = tries.join_next().await {
            runs += u32::from(ran??);
        }
        stage.until(begin + MINUTE).await;
    }
    Ok((runs, stage.service.tally()))
}

/// How a leader's time ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Exit {
    Killed,
    Released,
}

fn leaders(times: usize) -> Result<()> {
    let mut report = Report::new(
        "scale-leader",
        &[
            "one leader of 5",
            "lease",
            "next leader after, p50",
            "longest",
            "write + read units/s while it leads",
            "a month",
        ],
    );
    report.note(
        "Four wait for ever (`wait_forever`) while one leads; then it dies without a word, or releases. Each leads \
         for 60 to 120 s.",
    );
    for (exit, what, lease) in [
        (Exit::Killed, "killed", s(20)),
        (Exit::Killed, "killed", s(10)),
        (Exit::Released, "released", s(20)),
    ] {
        let (gaps, tally, within) = virtually(elections(exit, lease, times))?;
        report.add(
            vec![
                what.to_owned(),
                time(lease),
                time(gaps.p50()),
                time(gaps.quantile(1.0)),
                format!(
                    "{} + {}",
                    rate(tally.write_units, within),
                    rate(tally.read_units, within)
                ),
                monthly(tally.dollars_a_month(within)),
            ],
            json!({
                "exit": what,
                "lease_ms": as_ms(lease),
                "times": times,
                "next_p50_ms": as_ms(gaps.p50()),
                "next_longest_ms": as_ms(gaps.quantile(1.0)),
                "measured_ms": as_ms(within),
                "write_units": tally.write_units,
                "read_units": tally.read_units,
                "dollars_a_month": tally.dollars_a_month(within),
            }),
        );
    }
    report.finish()
}

/// Times without a leader, and what was asked over the first 30 s and more of each leader's time.
async fn elections(exit: Exit, lease: Duration, times: usize) -> Result<(Times, Tally, Duration)> {
    let stage = Stage::new(1, SEED);
    let dice = Dice::new(SEED);
    let (elected, mut leaders) = mpsc::channel(1);
    let mut candidates = JoinSet::new();
    for number in 0..CANDIDATES {
        let policy = Policy::builder()
            .lease_duration(lease)
            .wait_forever()
            .drop_policy(DropPolicy::LeaveToExpire);
        let dice = Dice::new(dice.roll());
        let (stage, elected) = (stage.clone(), elected.clone());
        candidates.spawn(async move {
            // Until nobody listens any more. After each term the process is started again.
            loop {
                let locks = stage.client(number, policy.clone(), dice.roll())?;
                let (over, is_over) = oneshot::channel::<()>();
                let lease = locks.acquire("leader").await?;
                if elected.send((lease, over)).await.is_err() {
                    return anyhow::Ok(());
                }
                // Nothing is ever sent: it is dropped at the end of the term.
                drop(is_over.await);
                stage.pause(s(10)).await;
            }
        });
    }
    drop(elected);
    let mut gaps = Times::default();
    let mut sum = Tally::default();
    let mut within = Duration::ZERO;
    let (mut leader, mut over) = leaders.recv().await.context("nobody leads")?;
    for _ in 0..times {
        // The backoff of the others has come to its end by then.
        stage.pause(s(30)).await;
        let (before, since) = (stage.service.tally(), stage.clock.elapsed());
        stage.pause(s(30) + dice.below(MINUTE)).await;
        sum = sum.plus(stage.service.tally().since(before));
        within += stage.clock.elapsed().since(since);
        let ended = stage.clock.elapsed();
        ensure!(leader.is_held(), "a leader lost its lease");
        match exit {
            Exit::Killed => drop(leader),
            Exit::Released => {
                let outcome = leader.release().await?;
                ensure!(outcome.is_released(), "a leader lost its lease: {outcome}");
            }
        }
        drop(over);
        (leader, over) = leaders.recv().await.context("nobody leads")?;
        gaps.add(stage.clock.elapsed().since(ended));
    }
    Ok((gaps, sum, within))
}
