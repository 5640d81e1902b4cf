//! The embedded store beside what locks files on one machine: `flock(1)` and the crate `fd-lock`.
//!
//! `flock(1)` is a program; its fair counterpart is the command `leasehold run`, and both are here.
//! Neither of the two others has a lease, a token, or a word about who holds the lock.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::json;
use tokio::process::Command;

use crate::command::leasehold;
use crate::drive::monotonic_ns;
use crate::driver::{Driver, Job};
use crate::place::{self, Scratch};
use crate::report::{Report, as_ms, short_ms};
use crate::scenario::ms;
use crate::stats::{Times, ms as exact_ms, ratio};
use crate::stopwatch::{Stopwatch, pause};
use crate::turns::{Turns, between};

const PROCESSES: usize = 8;

/// Who takes part: as the driver knows it, its label, and its file.
const LOCKS: [(&str, &str, &str); 3] = [
    ("flock", "flock(1)", "flock"),
    ("fd-lock", "fd-lock 4.0", "fd-lock"),
    ("sqlite", "leasehold, embedded", "locks.db"),
];

pub(crate) fn run(quick: bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let scratch = Scratch::new("local")?;
        println!(
            "File system: {}; SQLite with `synchronous=FULL`.\n",
            place::file_system(scratch.path())
        );
        uncontended(&scratch, quick).await?;
        contended(&scratch, quick).await?;
        killed(&scratch, quick).await
    })
}

async fn start(lock: (&str, &str, &str), scratch: &Scratch) -> Result<Driver> {
    let mut command = Command::new(std::env::current_exe()?);
    let path = scratch.path().join(lock.2);
    command
        .arg("drive")
        .arg(lock.0)
        .arg(path)
        .arg("-")
        .arg("{}");
    Driver::start(lock.1, command).await
}

async fn uncontended(scratch: &Scratch, quick: bool) -> Result<()> {
    let mut report = Report::new(
        "local-uncontended",
        &["what", "cycles", "p50", "p99", "p50 / flock(1)"],
    );
    report.note("A free lock acquired and released; in blocks that take turns.");
    let rounds = if quick { 30 } else { 100 };
    let mut drivers = Vec::new();
    for lock in LOCKS {
        drivers.push((lock, start(lock, scratch).await?, Times::default()));
    }
    let command = place::command()?;
    let mut spawned = [Times::default(), Times::default()];
    for block in 0..5 {
        for (_, driver, times) in &mut drivers {
            let job = Job::new("uncontended", 1, rounds, Duration::ZERO);
            driver.begin(&job).await?;
            ensure!(driver.finish(ms(60_000)).await?, "too slow");
            // The first block warms up.
            if block > 0 {
                times.append(Turns(driver.turns().collect()).cycles());
            }
        }
        for turn in 0..rounds {
            for (which, times) in spawned.iter_mut().enumerate() {
                let time = spawn(which == 1, &command, scratch).await?;
                if block > 0 && turn > 0 {
                    times.add(time);
                }
            }
        }
    }
    let [flock, run] = spawned;
    let mut rows: Vec<(&str, &Times)> = vec![
        ("flock FILE true", &flock),
        ("leasehold run KEY -- true", &run),
    ];
    for ((id, label, _), _, times) in &drivers {
        // Its driver spawns `flock` too, and talks to it: `flock FILE true` above is its best.
        if *id != "flock" {
            rows.push((label, times));
        }
    }
    for (what, times) in rows {
        report.add(
            vec![
                what.to_owned(),
                times.len().to_string(),
                exact_ms(times.p50()),
                exact_ms(times.p99()),
                ratio(times, &flock),
            ],
            json!({
                "what": what,
                "cycles": times.len(),
                "p50_ms": as_ms(times.p50()),
                "p99_ms": as_ms(times.p99()),
            }),
        );
    }
    report.finish()
}

/// One program under a free lock.
async fn spawn(ours: bool, command: &Path, scratch: &Scratch) -> Result<Duration> {
    let mut program: Command = if ours {
        leasehold(command, scratch).into()
    } else {
        let mut flock = Command::new("flock");
        flock.arg(scratch.path().join("flock-true")).arg("true");
        flock
    };
    program.stdin(Stdio::null()).stdout(Stdio::null());
    let stopwatch = Stopwatch::start();
    let status = program.status().await.context("cannot start it")?;
    let time = stopwatch.elapsed();
    ensure!(status.success(), "{program:?} failed ({status})");
    Ok(time)
}

async fn contended(scratch: &Scratch, quick: bool) -> Result<()> {
    let mut report = Report::new(
        "local-contended",
        &[
            "what",
            "hold",
            "turns",
            "a second",
            "mean wait",
            "p99 wait",
            "longest wait",
            "overlaps",
        ],
    );
    report.note(format!(
        "{PROCESSES} processes that take turns without a pause between them."
    ));
    for hold in [Duration::ZERO, ms(2)] {
        let rounds = match (quick, hold.is_zero()) {
            (true, _) => 25,
            (false, true) => 200,
            (false, false) => 100,
        };
        for lock in LOCKS {
            let starting = (0..PROCESSES).map(|_| start(lock, scratch));
            let mut drivers = try_join_all(starting).await?;
            let mut job = Job::new("contended", 1, rounds, hold);
            job.start_ns = monotonic_ns() + 100_000_000;
            for driver in &mut drivers {
                driver.begin(&job).await?;
            }
            let finishing = drivers.iter_mut().map(|driver| driver.finish(ms(60_000)));
            let done = try_join_all(finishing).await?;
            ensure!(done.into_iter().all(|done| done), "{} is too slow", lock.1);
            let turns = Turns(drivers.iter().flat_map(|driver| driver.turns()).collect());
            let (failures, first) = turns.failures();
            ensure!(failures == 0, "{}: {first:?}", lock.1);
            let waits = turns.waits();
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let rate = turns.granted() as f64 / turns.wall().as_secs_f64();
            report.add(
                vec![
                    lock.1.to_owned(),
                    short_ms(hold),
                    turns.granted().to_string(),
                    format!("{rate:.0}"),
                    short_ms(waits.mean()),
                    short_ms(waits.p99()),
                    short_ms(waits.quantile(1.0)),
                    turns.overlaps().to_string(),
                ],
                json!({
                    "what": lock.1,
                    "hold_ms": as_ms(hold),
                    "turns": turns.granted(),
                    "per_second": rate,
                    "mean_wait_ms": as_ms(waits.mean()),
                    "p99_wait_ms": as_ms(waits.p99()),
                    "longest_wait_ms": as_ms(waits.quantile(1.0)),
                    "overlaps": turns.overlaps(),
                }),
            );
        }
    }
    report.finish()
}

async fn killed(scratch: &Scratch, quick: bool) -> Result<()> {
    let mut report = Report::new(
        "local-killed",
        &["what", "kills", "p50 after the kill", "longest"],
    );
    report.note(
        "The holder is killed with -9 while another process waits; its lease would have had 20 s.",
    );
    let rounds = if quick { 3 } else { 15 };
    for lock in LOCKS {
        let mut times = Times::default();
        for _ in 0..rounds {
            let mut holder = start(lock, scratch).await?;
            let mut waiter = start(lock, scratch).await?;
            let mut job = Job::new("killed", 1, 1, Duration::ZERO);
            waiter_waits(&mut holder, &mut waiter, &mut job).await?;
            let kill = monotonic_ns();
            holder.kill().await?;
            ensure!(
                waiter.finish(ms(30_000)).await?,
                "{}: a dead holder blocks for ever",
                lock.1
            );
            let granted = waiter.turns().find_map(|turn| turn.granted);
            times.add(between(kill, granted.context("no grant")?));
        }
        report.add(
            vec![
                lock.1.to_owned(),
                times.len().to_string(),
                short_ms(times.p50()),
                short_ms(times.quantile(1.0)),
            ],
            json!({
                "what": lock.1,
                "after_kill_ms": times.sorted().into_iter().map(as_ms).collect::<Vec<_>>(),
            }),
        );
    }
    report.finish()
}

async fn waiter_waits(holder: &mut Driver, waiter: &mut Driver, job: &mut Job) -> Result<()> {
    job.hold = None;
    holder.begin(job).await?;
    ensure!(holder.grants(1, ms(10_000)).await?, "it is free");
    job.hold = Some(Duration::ZERO);
    waiter.begin(job).await?;
    pause(ms(300)).await;
    Ok(())
}
