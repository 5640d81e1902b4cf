//! `once` beside what people use for it on DynamoDB: Powertools' idempotency and idemkit, for Python.
//!
//! Each call is a process. What happened is read from the file that the work appends to, and from what the calls
//! print.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::json;
use tokio::process::{Child, Command};

use crate::count::{Counted, Counts};
use crate::dynamodb;
use crate::peers::Peer;
use crate::place::{self, Scratch};
use crate::report::{Report, short_ms};
use crate::scenario::ms;
use crate::stopwatch::{Stopwatch, pause, within};

/// Of leases, and of what Powertools takes for the time-out of the invocation.
const LEASE_S: u32 = 10;
const KEEP_S: u32 = 1_800;
const HOUR_S: u32 = 3_600;
/// How long a dead run is waited for.
const PATIENCE: Duration = ms(60_000);

struct Subject {
    label: &'static str,
    program: PathBuf,
    args: Vec<OsString>,
    table: String,
}

/// What a call prints.
#[derive(Deserialize, Debug)]
struct Answer {
    result: Option<String>,
    error: Option<String>,
    /// Whether it is the result of its own work.
    own: bool,
    ms: u64,
}

impl Answer {
    fn short(&self) -> String {
        match (&self.error, self.own) {
            (Some(error), _) => {
                let kind = error.split(':').next().unwrap_or("an error");
                format!("{kind}, {}", short_ms(ms(self.ms)))
            }
            (None, true) => format!("ran, {}", short_ms(ms(self.ms))),
            (None, false) => format!("the result, {}", short_ms(ms(self.ms))),
        }
    }
}

struct Stand<'a> {
    subject: &'a Subject,
    proxy: Counted,
    effects: PathBuf,
}

/// One call, with these differences.
#[derive(Clone, Copy)]
struct Call<'a> {
    key: &'a str,
    work: Duration,
    ahead_s: u32,
}

impl<'a> Call<'a> {
    fn of(key: &'a str, work_ms: u64) -> Self {
        Call {
            key,
            work: ms(work_ms),
            ahead_s: 0,
        }
    }

    fn ahead(self) -> Self {
        Call {
            ahead_s: HOUR_S,
            ..self
        }
    }
}

impl Stand<'_> {
    fn start(&self, call: Call<'_>) -> Result<Child> {
        let subject = self.subject;
        Command::new(&subject.program)
            .args(&subject.args)
            .args([self.proxy.url(), &subject.table, call.key])
            .arg(call.work.as_millis().to_string())
            .arg(&self.effects)
            .args([call.ahead_s, KEEP_S, LEASE_S].map(|s| s.to_string()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a call")
    }

    async fn end(&self, call: Child) -> Result<Answer> {
        let output = within(PATIENCE, async {
            Ok::<_, std::io::Error>(call.wait_with_output().await)
        });
        let output = output.await???;
        serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))
    }

    async fn call(&self, call: Call<'_>) -> Result<Answer> {
        self.end(self.start(call)?).await
    }

    /// How often the work has run since the last time this was asked.
    fn runs(&self) -> usize {
        let runs = fs::read_to_string(&self.effects).unwrap_or_default();
        let _ = fs::remove_file(&self.effects);
        runs.lines().count()
    }

    /// Waits until the work has begun.
    async fn begun(&self) {
        while fs::metadata(&self.effects).is_err() {
            pause(ms(10)).await;
        }
    }
}

pub(crate) fn run(quick: bool) -> Result<()> {
    if quick {
        // It would install two more clients.
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let endpoint = place::endpoint()?;
        let scratch = Scratch::new("once")?;
        let client = dynamodb::client(&endpoint);
        let python = Peer::idempotency().await?;
        let own = std::env::current_exe().context("cannot find this program's own file")?;
        let mut subjects = vec![(
            Subject {
                label: "leasehold",
                program: own,
                args: ["drive", "once"].map(OsString::from).to_vec(),
                table: dynamodb::table_name("once"),
            },
            "LockKey",
        )];
        for (label, who, key) in [
            ("Powertools 3.37.0", "powertools", "id"),
            ("idemkit 1.0.2", "idemkit", "effective_key"),
        ] {
            let command = python.command();
            let command = command.as_std();
            let mut args: Vec<OsString> = command.get_args().map(Into::into).collect();
            args.push(who.into());
            subjects.push((
                Subject {
                    label,
                    program: command.get_program().into(),
                    args,
                    table: dynamodb::table_name(who),
                },
                key,
            ));
        }
        let mut report = Report::new(
            "beside",
            &[
                "",
                "first: requests, W, R",
                "duplicate",
                "concurrent duplicate gets",
                "runner killed: next run",
                "a clock an hour ahead: beside, after",
                "answer lost to the claim; completion: calls, runs",
            ],
        );
        report.note(format!(
            "Each call a process, one table server. Leases and the Lambda time-out that Powertools goes by: {LEASE_S} s; results kept for \
             30 min. Concurrent: work of 1.5 s. Killed: seconds from kill -9 until the work runs again, called anew after each error. Ahead: runs \
             of one key beside another's run, and after its end. Lost: the first call gets no answer; a second call follows."
        ));
        for (subject, key) in &subjects {
            dynamodb::create(&client, &subject.table, key).await?;
            let stand = Stand {
                subject,
                proxy: Counted::start(&endpoint).await?,
                effects: scratch.path().join("effects"),
            };
            let row = measure(&stand).await.with_context(|| subject.label.to_owned())?;
            let data = json!({ "client": subject.label, "cells": row });
            report.add([vec![subject.label.to_owned()], row].concat(), data);
            dynamodb::delete(&client, &subject.table).await?;
        }
        report.finish()
    })
}

fn asked(counts: &Counts) -> String {
    format!(
        "{}, {:.1}, {:.1}",
        counts.requests(),
        counts.write_units(),
        counts.read_units()
    )
}

async fn measure(stand: &Stand<'_>) -> Result<Vec<String>> {
    // Not counted: what a client asks once in its life.
    stand.call(Call::of("warm", 0)).await?;
    stand.proxy.take()?;
    stand.call(Call::of("plain", 0)).await?;
    let first = asked(&stand.proxy.take()?);
    stand.call(Call::of("plain", 0)).await?;
    let duplicate = asked(&stand.proxy.take()?);
    stand.runs();

    let runner = stand.start(Call::of("both", 1_500))?;
    stand.begun().await;
    let second = stand.call(Call::of("both", 1_500)).await?;
    stand.end(runner).await?;
    let concurrent = format!("{}; {} ran", second.short(), stand.runs());

    let mut runner = stand.start(Call::of("killed", 60_000))?;
    stand.begun().await;
    runner.kill().await?;
    stand.runs();
    let since = Stopwatch::start();
    let mut calls = 0;
    let killed = loop {
        calls += 1;
        let answer = stand.call(Call::of("killed", 0)).await?;
        if answer.result.is_some() {
            break format!("{:.1} s, {calls} calls", since.elapsed().as_secs_f64());
        }
        if since.elapsed() > PATIENCE {
            break "not within a minute".to_owned();
        }
        pause(ms(250)).await;
    };
    stand.runs();

    let runner = stand.start(Call::of("ahead", 3_000))?;
    stand.begun().await;
    let beside = stand.call(Call::of("ahead", 0).ahead()).await?;
    stand.end(runner).await?;
    let runs = stand.runs();
    let after = stand.call(Call::of("ahead", 0).ahead()).await?;
    let ahead = format!(
        "{runs} ran ({}); {}",
        beside.short(),
        if after.own {
            "runs again"
        } else {
            "the result"
        }
    );
    stand.runs();

    let mut lost = Vec::new();
    for nth in [1, 2] {
        let key = format!("lost/{nth}");
        stand.proxy.loss().arm(nth);
        let one = stand.call(Call::of(&key, 0)).await?;
        stand.proxy.loss().disarm();
        let two = stand.call(Call::of(&key, 0)).await?;
        lost.push(format!(
            "{}, {}, {} ran",
            one.short(),
            two.short(),
            stand.runs()
        ));
    }
    Ok(vec![
        first,
        duplicate,
        concurrent,
        killed,
        ahead,
        lost.join("; "),
    ])
}
