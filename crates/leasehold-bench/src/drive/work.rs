//! The work of a driver: jobs of a fleet of tasks that take turns under one lock.
//!
//! This crate's own locks and, by path, the workspace `peers/rust` use this file, so that all have the
//! same loop. The other drivers do the same. A driver is a separate program. It reads one
//! [`Job`] a line, as JSON, from standard input, and exits when that ends. It writes one event a line to
//! standard output:
//!
//! ```text
//! ready                                  the client is made
//! g TASK ROUND ASKED GRANTED             a task was granted the lock
//! r TASK ROUND LETTING RELEASED          it let go: when it began to, and when that was done
//! f TASK ROUND ASKED FAILED MESSAGE      it was refused, or its release failed
//! done                                   all tasks of the job have ended, or hold for ever
//! ```
//!
//! Times are nanoseconds of `CLOCK_MONOTONIC`, which all processes of a machine share. Events are
//! written a few times a second, so that writing them takes nothing from what is measured.

use std::future::Future;
use std::io::{BufRead, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

/// How long events are kept.
const FLUSH: Duration = Duration::from_millis(250);

/// A lock under test.
pub(crate) trait Locker: Send + Sync + 'static {
    /// Prepares a key once, before the measurement.
    fn prepare(&self, key: &str) -> impl Future<Output = Result<()>> + Send {
        let _ = key;
        async { Ok(()) }
    }

    /// Acquires `key`, waiting as long as it takes, stays [`inside`](Inside::stay), and releases it.
    /// Where it is to be held [for ever](Inside::is_for_ever), it may [enter](Inside::enter), keep
    /// the grant, and return: a task for each would be measured, too.
    fn turn(&self, key: &str, inside: &Arc<Inside>) -> impl Future<Output = Result<()>> + Send;
}

/// One job.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Job {
    key: String,
    /// Task `n` uses the key `KEY/(n % keys)`, or `KEY` if there is one.
    keys: u32,
    tasks: u32,
    rounds: u32,
    /// How long each holds the lock; below zero: for ever.
    hold_us: i64,
    /// How much longer each task holds it than the one before.
    hold_step_us: i64,
    /// When the first task asks; in the past: at once.
    start_ns: i64,
    /// How much later each task asks than the one before.
    start_step_us: i64,
    /// How many may ask at once; 0: all.
    at_once: usize,
}

impl Job {
    fn key_of(&self, task: u32) -> String {
        if self.keys <= 1 {
            self.key.clone()
        } else {
            format!("{}/{}", self.key, task % self.keys)
        }
    }
}

/// Where a task stands inside the lock.
#[derive(Debug)]
pub(crate) struct Inside {
    log: Arc<Log>,
    task: u32,
    round: u32,
    asked: i64,
    hold: Option<Duration>,
    place: Mutex<Option<tokio::sync::OwnedSemaphorePermit>>,
    letting: Mutex<Option<i64>>,
}

impl Inside {
    pub(crate) fn is_for_ever(&self) -> bool {
        self.hold.is_none()
    }

    /// To be called as soon as the lock is held.
    pub(crate) fn enter(&self) {
        let granted = monotonic_ns();
        let (task, round, asked) = (self.task, self.round, self.asked);
        self.log.add(format!("g {task} {round} {asked} {granted}"));
        // Others may ask now: a lock that is held for ever must not keep its place.
        drop(lock(&self.place).take());
    }

    /// To be awaited with the lock held.
    pub(crate) async fn stay(&self) {
        self.enter();
        match self.hold {
            Some(hold) => sleep(hold).await,
            None => std::future::pending().await,
        }
        *lock(&self.letting) = Some(monotonic_ns());
    }
}

#[derive(Debug, Default)]
struct Log(Mutex<Vec<String>>);

impl Log {
    fn add(&self, line: String) {
        lock(&self.0).push(line);
    }

    fn flush(&self) {
        let lines = std::mem::take(&mut *lock(&self.0));
        if !lines.is_empty() {
            say(&lines.join("\n"));
        }
    }
}

/// Serves jobs until standard input ends. `make` makes a client of its own each time; with
/// `"each": true` in the settings every task has one.
pub(crate) async fn serve<L, F>(settings: &Value, make: impl Fn() -> F) -> Result<()>
where
    L: Locker,
    F: Future<Output = Result<L>>,
{
    let each = settings.get("each").is_some_and(|each| each == true);
    let mut lockers = vec![Arc::new(make().await?)];
    let mut jobs = jobs();
    say("ready");
    while let Some(job) = jobs.recv().await {
        let job: Job = serde_json::from_str(&job).with_context(|| format!("not a job: {job}"))?;
        let wanted = if each { job.tasks as usize } else { 1 };
        while lockers.len() < wanted {
            lockers.push(Arc::new(make().await?));
        }
        run(&job, &lockers).await?;
    }
    Ok(())
}

/// Lines of standard input. Its end is the end of the parent: nothing must outlive that.
fn jobs() -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if send.blocking_send(line).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
    receive
}

async fn run<L: Locker>(job: &Job, lockers: &[Arc<L>]) -> Result<()> {
    let log = Arc::<Log>::default();
    let places = if job.at_once == 0 {
        job.tasks as usize
    } else {
        job.at_once
    };
    let places = Arc::new(Semaphore::new(places));
    for task in 0..job.tasks {
        let locker = &lockers[task as usize % lockers.len()];
        locker.prepare(&job.key_of(task)).await?;
    }
    let mut tasks = JoinSet::new();
    for task in 0..job.tasks {
        let locker = lockers[task as usize % lockers.len()].clone();
        let (job, log, places) = (job.clone(), log.clone(), places.clone());
        tasks.spawn(async move { work(&job, task, locker.as_ref(), &log, &places).await });
    }
    // One timer for all: made anew each time, it would not fire while tasks end.
    let mut flush = tokio::time::interval(FLUSH);
    loop {
        tokio::select! {
            ended = tasks.join_next() => match ended {
                Some(ended) => ended.context("a task panicked")?,
                None => break,
            },
            _ = flush.tick() => log.flush(),
        }
    }
    log.flush();
    say("done");
    Ok(())
}

async fn work<L: Locker>(
    job: &Job,
    task: u32,
    locker: &L,
    log: &Arc<Log>,
    places: &Arc<Semaphore>,
) {
    let key = job.key_of(task);
    let hold_us = job.hold_us + i64::from(task) * job.hold_step_us;
    let hold = (job.hold_us >= 0).then(|| Duration::from_micros(hold_us.unsigned_abs()));
    let start = job.start_ns + i64::from(task) * job.start_step_us * 1_000;
    if let Ok(ahead) = u64::try_from(start - monotonic_ns()) {
        sleep(Duration::from_nanos(ahead)).await;
    }
    for round in 0..job.rounds {
        // The semaphore is never closed.
        let place = places.clone().acquire_owned().await.ok();
        let inside = Arc::new(Inside {
            log: log.clone(),
            task,
            round,
            asked: monotonic_ns(),
            hold,
            place: Mutex::new(place),
            letting: Mutex::default(),
        });
        let outcome = locker.turn(&key, &inside).await;
        let ended = monotonic_ns();
        let letting = *lock(&inside.letting);
        match (outcome, letting) {
            (Ok(()), Some(letting)) => log.add(format!("r {task} {round} {letting} {ended}")),
            (Ok(()), None) if inside.is_for_ever() => {}
            (Ok(()), None) => log.add(format!(
                "f {task} {round} {} {ended} it never came inside",
                inside.asked
            )),
            (Err(error), _) => {
                let message = format!("{error:#}").replace('\n', " ");
                log.add(format!(
                    "f {task} {round} {} {ended} {message}",
                    inside.asked
                ));
            }
        }
    }
}

/// The executor's timer counts in whole milliseconds, which is too rough for short holds.
async fn sleep(by: Duration) {
    if by.is_zero() {
        return;
    }
    if by > Duration::from_millis(200) {
        #[expect(
            clippy::disallowed_methods,
            reason = "a benchmark holds locks in real time"
        )]
        tokio::time::sleep(by).await;
        return;
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark holds locks in real time, and exactly"
    )]
    let slept = tokio::task::spawn_blocking(move || std::thread::sleep(by)).await;
    // It does not panic, and when the runtime ends, so does this.
    drop(slept);
}

/// Nanoseconds of the clock that all processes of this machine share.
pub(crate) fn monotonic_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// Writes one line. A closed pipe is no error.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing under these locks can leave them half changed.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
