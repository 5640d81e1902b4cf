//! Fifty processes of `leasehold once` that start at one instant: one runs, and all end alike.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use serde_json::json;
use tokio::process::Command;

use crate::report::{Report, short_ms};
use crate::scenario::ms;
use crate::stats::Times;
use crate::stopwatch::{Stopwatch, pause, within};
use crate::{dynamodb, place};

/// Of one round.
const LIMIT: std::time::Duration = ms(60_000);

pub(crate) fn run(quick: bool) -> Result<()> {
    let (processes, rounds) = if quick { (8, 2) } else { (50, 200) };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut report = Report::new(
            "herd",
            &["store", "rounds", "processes", "runs", "alike", "round, p50", "longest"],
        );
        report.note(
            "`leasehold once … --replay -c LINE`, started at one instant. Alike: all have printed the same and ended with 0. \
             A round ends with the last process.",
        );
        let scratch = place::Scratch::new("herd")?;
        let mut sqlite = OsString::from("sqlite:");
        sqlite.push(scratch.path().join("locks.db"));
        let table = dynamodb::table_name("herd");
        let client = dynamodb::client(&place::endpoint()?);
        dynamodb::create(&client, &table, "LockKey").await?;
        let address = place::endpoint()?;
        let url = format!("dynamodb://{table}?region=local&endpoint={address}");
        for (name, store) in [("SQLite", sqlite), ("DynamoDB Local", url.into())] {
            let herd = Herd {
                command: place::command()?,
                directory: scratch.path().to_owned(),
                store,
            };
            let (mut times, mut runs, mut alike) = (Times::default(), 0, 0);
            for round in 0..rounds {
                let (took, ran, same) = herd.round(name, round, processes).await?;
                times.add(took);
                runs += ran;
                alike += usize::from(same);
            }
            report.add(
                vec![
                    name.to_owned(),
                    rounds.to_string(),
                    processes.to_string(),
                    runs.to_string(),
                    format!("{alike} of {rounds}"),
                    short_ms(times.p50()),
                    short_ms(times.quantile(1.0)),
                ],
                json!({ "store": name, "rounds": rounds, "processes": processes, "runs": runs, "alike": alike }),
            );
        }
        dynamodb::delete(&client, &table).await?;
        report.finish()
    })
}

struct Herd {
    command: PathBuf,
    directory: PathBuf,
    store: OsString,
}

impl Herd {
    /// How long it took, how often the command ran, and whether all processes ended alike.
    async fn round(
        &self,
        store: &str,
        round: usize,
        processes: usize,
    ) -> Result<(std::time::Duration, usize, bool)> {
        let gate = self.directory.join("gate");
        let runs = self.directory.join("runs");
        let _ = fs::remove_file(&gate);
        let _ = fs::remove_file(&runs);
        let made = std::process::Command::new("mkfifo").arg(&gate).status();
        ensure!(made.context("cannot start mkfifo")?.success(), "no gate");
        // Open both ways, so that nobody waits for it to be opened, and no line is lost.
        let mut open = fs::OpenOptions::new().read(true).write(true).open(&gate)?;
        let all: Vec<_> = (0..processes)
            .map(|_| self.process(&gate, store, round))
            .collect::<Result<_>>()?;
        // Most of them wait at the gate by then; a late one finds its line.
        pause(ms(300)).await;
        open.write_all("\n".repeat(processes).as_bytes())?;
        let stopwatch = Stopwatch::start();
        let ends = all.into_iter().map(tokio::process::Child::wait_with_output);
        let ends = within(LIMIT, async {
            Ok::<_, std::io::Error>(join_all(ends).await)
        })
        .await?;
        let took = stopwatch.elapsed();
        let mut seen = BTreeSet::new();
        for end in ends? {
            let end = end?;
            seen.insert((end.status.code(), end.stdout));
        }
        let ran = fs::read_to_string(&runs)
            .unwrap_or_default()
            .lines()
            .count();
        let same = seen.len() == 1
            && seen
                .iter()
                .all(|(code, out)| *code == Some(0) && !out.is_empty());
        Ok((took, ran, same))
    }

    fn process(&self, gate: &Path, store: &str, round: usize) -> Result<tokio::process::Child> {
        let name = format!("{store}/{round}");
        let line = "echo run >> runs; echo did it with $LEASEHOLD_TOKEN; sleep 0.05";
        Command::new("sh")
            .arg("-c")
            .arg("read -r go < \"$1\"; shift; exec \"$@\"")
            .arg("sh")
            .arg(gate)
            .arg(&self.command)
            .args(["once", &name, "--keep", "1h", "--replay", "-q", "-c", line])
            .env("LEASEHOLD_STORE", &self.store)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a process")
    }
}
