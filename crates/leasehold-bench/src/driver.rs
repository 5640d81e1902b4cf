//! Drivers: programs that take turns under one lock, ours or a peer's, and report the times.
//!
//! [`drive::work`](crate::drive) has their input and output. A driver ends with its standard input, so
//! none outlives this program. A driver that does not finish in time is killed, and its events count.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::stopwatch::within;

/// Interpreters start slowly on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How many bytes of a driver's standard error are kept.
const KEPT_ERROR_BYTES: usize = 4_000;

/// The input of a driver.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) key: String,
    pub(crate) keys: u32,
    pub(crate) tasks: u32,
    pub(crate) rounds: u32,
    /// `None`: for ever.
    pub(crate) hold: Option<Duration>,
    pub(crate) hold_step: Duration,
    pub(crate) start_ns: i64,
    pub(crate) start_step: Duration,
    /// 0: all.
    pub(crate) at_once: u32,
}

impl Job {
    /// Tasks that take turns on one key, at once.
    pub(crate) fn new(key: &str, tasks: u32, rounds: u32, hold: Duration) -> Job {
        Job {
            key: key.to_owned(),
            keys: 1,
            tasks,
            rounds,
            hold: Some(hold),
            hold_step: Duration::ZERO,
            start_ns: 0,
            start_step: Duration::ZERO,
            at_once: 0,
        }
    }

    fn line(&self) -> String {
        let micros = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
        let job = json!({
            "key": self.key,
            "keys": self.keys,
            "tasks": self.tasks,
            "rounds": self.rounds,
            "hold_us": self.hold.map_or(-1, micros),
            "hold_step_us": micros(self.hold_step),
            "start_ns": self.start_ns,
            "start_step_us": micros(self.start_step),
            "at_once": self.at_once,
        });
        format!("{job}\n")
    }
}

/// One turn of a task under a lock. Nanoseconds of the monotonic clock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Turn {
    pub(crate) process: usize,
    pub(crate) task: u32,
    pub(crate) asked: i64,
    pub(crate) granted: Option<i64>,
    pub(crate) letting: Option<i64>,
    pub(crate) released: Option<i64>,
    pub(crate) failure: Option<String>,
}

/// A running driver.
#[derive(Debug)]
pub(crate) struct Driver {
    name: String,
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    complaints: Arc<Mutex<String>>,
    turns: BTreeMap<(u32, u32), Turn>,
}

impl Driver {
    /// Starts it and waits until it is ready.
    pub(crate) async fn start(name: &str, mut command: Command) -> Result<Driver> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let input = child.stdin.take().context("no standard input")?;
        let output = child.stdout.take().context("no standard output")?;
        let errors = child.stderr.take().context("no standard error")?;
        let complaints = Arc::<Mutex<String>>::default();
        let kept = complaints.clone();
        tokio::runtime::Handle::current().spawn(async move {
            let mut lines = BufReader::new(errors).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() < KEPT_ERROR_BYTES {
                    kept.push_str(&line);
                    kept.push('\n');
                }
            }
        });
        let mut driver = Driver {
            name: name.to_owned(),
            child,
            input,
            output: BufReader::new(output).lines(),
            complaints,
            turns: BTreeMap::new(),
        };
        let first = within(START_LIMIT, driver.output.next_line()).await??;
        if first.as_deref() != Some("ready") {
            return Err(driver.broken(&format!("said {first:?} instead of `ready`")));
        }
        Ok(driver)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Gives it a job, whose turns [`finish`](Driver::finish) or [`grants`](Driver::grants) read.
    pub(crate) async fn begin(&mut self, job: &Job) -> Result<()> {
        self.turns.clear();
        self.input
            .write_all(job.line().as_bytes())
            .await
            .with_context(|| format!("{} is gone", self.name))
    }

    /// Waits until its job is done; whether it was within `limit`.
    pub(crate) async fn finish(&mut self, limit: Duration) -> Result<bool> {
        self.read_until(limit, |_, done| done).await
    }

    /// Waits until this many turns of its job have been granted or have failed; whether they were
    /// within `limit`.
    pub(crate) async fn grants(&mut self, count: usize, limit: Duration) -> Result<bool> {
        self.read_until(limit, |turns, done| {
            let there = |turn: &&Turn| turn.granted.is_some() || turn.failure.is_some();
            done || turns.values().filter(there).count() >= count
        })
        .await
    }

    /// The turns of its job so far.
    pub(crate) fn turns(&self) -> impl Iterator<Item = Turn> {
        self.turns.values().cloned()
    }

    /// Kills it, as `kill -9` does.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("cannot kill a driver")
    }

    async fn read_until(
        &mut self,
        limit: Duration,
        enough: impl Fn(&BTreeMap<(u32, u32), Turn>, bool) -> bool + Send + Sync,
    ) -> Result<bool> {
        let reading = async {
            while let Some(line) = self.output.next_line().await? {
                let done = line == "done";
                if !done {
                    note(&mut self.turns, &line)
                        .with_context(|| format!("{} said {line:?}", self.name))?;
                }
                if enough(&self.turns, done) {
                    return anyhow::Ok(true);
                }
            }
            Ok(false)
        };
        match within(limit, reading).await {
            Ok(Ok(true)) => Ok(true),
            Ok(Ok(false)) => Err(self.broken("ended before its job was done")),
            Ok(Err(error)) => Err(error),
            Err(_) => Ok(false),
        }
    }

    fn broken(&self, what: &str) -> anyhow::Error {
        let complaints = self
            .complaints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        anyhow::anyhow!("{} {what}\n{complaints}", self.name)
    }
}

/// Reads one event.
fn note(turns: &mut BTreeMap<(u32, u32), Turn>, line: &str) -> Result<()> {
    let mut words = line.splitn(6, ' ');
    let mut word = || words.next().context("too short");
    let kind = word()?;
    let at = (word()?.parse()?, word()?.parse()?);
    let (one, two): (i64, i64) = (word()?.parse()?, word()?.parse()?);
    let turn = turns.entry(at).or_insert_with(|| Turn {
        process: 0,
        task: at.0,
        asked: one,
        granted: None,
        letting: None,
        released: None,
        failure: None,
    });
    match kind {
        "g" => (turn.asked, turn.granted) = (one, Some(two)),
        "r" => (turn.letting, turn.released) = (Some(one), Some(two)),
        "f" => turn.failure = Some(words.next().unwrap_or_default().to_owned()),
        _ => bail!("unknown kind of event"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_make_turns() {
        let mut turns = BTreeMap::new();
        for line in [
            "g 3 0 10 20",
            "f 1 0 5 9 it is held by another",
            "r 3 0 30 40",
        ] {
            note(&mut turns, line).expect("an event");
        }
        let turn = &turns[&(3, 0)];
        assert_eq!(
            (turn.asked, turn.granted, turn.letting, turn.released),
            (10, Some(20), Some(30), Some(40))
        );
        let failed = &turns[&(1, 0)];
        assert_eq!(failed.failure.as_deref(), Some("it is held by another"));
        assert_eq!(failed.granted, None);
        for bad in ["", "g 1 0 10", "x 1 0 10 20", "g a 0 10 20"] {
            note(&mut turns, bad).expect_err(bad);
        }
    }
}
