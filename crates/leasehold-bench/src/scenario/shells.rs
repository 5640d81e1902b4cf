//! Thirty shells that run a command under one lock at the same time, and a first waiter that is killed.
//!
//! Every shell is a process `leasehold run`, which reads its settings and makes its connections first: that is in its wait.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::count::Counted;
use crate::dynamodb;
use crate::place;
use crate::report::{Report, as_ms, counted, short_ms};
use crate::scenario::{REGION, ms};
use crate::stats::Times;
use crate::stopwatch::{Stopwatch, pause, within};

const SHELLS: usize = 30;
const LIMIT: Duration = ms(60_000);

pub(crate) fn run(quick: bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let endpoint = place::endpoint()?;
        let table = dynamodb::table_name("shells");
        let client = dynamodb::client(&endpoint);
        dynamodb::create(&client, &table, "LockKey").await?;
        let proxy = Counted::at(&endpoint, REGION).await?;
        let shells = Shells { proxy, table };
        let rounds = if quick { 1 } else { 5 };
        let outcome = async {
            thirty(&shells, rounds).await?;
            first_killed(&shells, rounds).await
        };
        let outcome = outcome.await;
        dynamodb::delete(&client, &shells.table).await?;
        outcome
    })
}

/// Where all of them lock.
struct Shells {
    proxy: Counted,
    table: String,
}

/// A running `leasehold run`, and what its command prints.
struct Shell {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Shells {
    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(place::command()?);
        let (table, url) = (&self.table, self.proxy.url());
        command
            .args(arguments)
            .env(
                "LEASEHOLD_STORE",
                format!("dynamodb://{table}?endpoint={url}&region=eu-west-1"),
            )
            .envs([
                ("AWS_ACCESS_KEY_ID", "test"),
                ("AWS_SECRET_ACCESS_KEY", "test"),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        Ok(command)
    }

    fn start(&self, key: &str, script: &str) -> Result<Shell> {
        let mut command = self.command(&["run", "-w", "60s", key, "--", "sh", "-c", script])?;
        let mut child = command.spawn().context("cannot start the command")?;
        let stdout = child.stdout.take().context("it has no output")?;
        let lines = BufReader::new(stdout).lines();
        Ok(Shell { child, lines })
    }

    /// Waits until so many wait for the key.
    async fn waiting(&self, key: &str, count: u64) -> Result<()> {
        let waiting = async {
            loop {
                let output = self.command(&["show", key, "--json"])?.output().await?;
                let shown: serde_json::Value = serde_json::from_slice(&output.stdout)?;
                if shown["waiting"] == count {
                    return anyhow::Ok(());
                }
                pause(ms(20)).await;
            }
        };
        within(LIMIT, waiting).await?
    }
}

impl Shell {
    /// Waits until its command has begun, which prints a line then.
    async fn begun(&mut self) -> Result<()> {
        let line = within(LIMIT, self.lines.next_line()).await??;
        ensure!(line.is_some(), "its command did not run");
        Ok(())
    }

    async fn ended(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = within(LIMIT, self.child.wait()).await??;
        ensure!(status.success(), "it failed ({status})");
        Ok(())
    }
}

async fn thirty(shells: &Shells, rounds: u32) -> Result<()> {
    let head = [
        "run",
        "write units",
        "read units",
        "mean wait",
        "longest",
        "longest / mean",
    ];
    let mut report = Report::new("shells", &head);
    report.note(format!(
        "{SHELLS} processes `leasehold run` start at the same time, 5 ms away, and hold a new key for 20 ms. A wait \
         lasts from the start of the process to that of its command."
    ));
    for round in 0..rounds {
        let key = format!("shells/{round}");
        shells.proxy.take()?;
        let waits = try_join_all((0..SHELLS).map(async |_| {
            let stopwatch = Stopwatch::start();
            let mut shell = shells.start(&key, "echo; exec sleep 0.02")?;
            shell.begun().await?;
            let wait = stopwatch.elapsed();
            shell.ended().await?;
            anyhow::Ok(wait)
        }));
        let waits = waits.await?;
        let counts = shells.proxy.take()?;
        let mut times = Times::default();
        waits.into_iter().for_each(|wait| times.add(wait));
        let (mean, longest) = (times.mean(), times.quantile(1.0));
        let ratio = longest.as_secs_f64() / mean.as_secs_f64();
        report.add(
            vec![
                (round + 1).to_string(),
                format!("{:.0}", counts.write_units()),
                format!("{:.0}", counts.read_units()),
                short_ms(mean),
                short_ms(longest),
                format!("{ratio:.2}"),
            ],
            json!({
                "counts": counted(&counts),
                "mean_ms": as_ms(mean),
                "longest_ms": as_ms(longest),
            }),
        );
    }
    report.finish()
}

async fn first_killed(shells: &Shells, rounds: u32) -> Result<()> {
    let head = ["run", "killed alone", "with its other process"];
    let mut report = Report::new("first-killed", &head);
    report.note(
        "A process holds the key, and two wait. The first of them is killed (`kill -9`), alone or with the process that \
         watches it, then the holder ends: from there to the next command.",
    );
    for round in 0..rounds {
        let key = |what| format!("killed/{what}/{round}");
        let alone = killed(shells, &key("alone"), false).await?;
        let both = killed(shells, &key("both"), true).await?;
        report.add(
            vec![(round + 1).to_string(), short_ms(alone), short_ms(both)],
            json!({ "alone_ms": as_ms(alone), "both_ms": as_ms(both) }),
        );
    }
    report.finish()
}

/// From the end of the holder to the second waiter's command.
async fn killed(shells: &Shells, key: &str, both: bool) -> Result<Duration> {
    let mut holder = shells.start(key, "echo; exec cat")?;
    holder.begun().await?;
    let mut first = shells.start(key, "echo")?;
    shells.waiting(key, 1).await?;
    let mut second = shells.start(key, "echo")?;
    shells.waiting(key, 2).await?;
    if both {
        let id = first.child.id().context("it has ended")?;
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        ensure!(!children.is_empty(), "it has no other process");
        // Stopped first, so that it does not see the end of the other.
        signal(&id.to_string(), Signal::STOP)?;
        for pid in children.split_whitespace() {
            signal(pid, Signal::KILL)?;
        }
    }
    first.child.kill().await?;
    let stopwatch = Stopwatch::start();
    holder.ended().await?;
    second.begun().await?;
    let after = stopwatch.elapsed();
    second.ended().await?;
    Ok(after)
}

fn signal(pid: &str, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid.parse()?).context("not a process")?;
    kill_process(pid, signal).with_context(|| format!("cannot send {signal:?} to {pid:?}"))
}
