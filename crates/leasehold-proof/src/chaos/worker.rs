//! A process of the library: some tasks that acquire one lock after the other, and write to the register under
//! it.
//!
//! It checks its lease, works for a while, and writes **without** another check: a process that is stopped in
//! between writes with an old token, like every real program. It reports each check of its lease with a clock
//! reading from before the check.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use leasehold::clock::Clock;
use leasehold::store::Store;
use leasehold::{Lease, LockClient, Policy, ReleaseOutcome};
use tokio::task::JoinSet;

use super::dice::Dice;
use super::event::{At, Event, now};
use super::history::SLOTS;
use super::place::Place;
use super::register::Client;
use super::wall::{Shifted, pause};

/// Fewer locks than there are tasks that want them.
pub(super) const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// How many slots it has.
pub(super) const LIMIT: u32 = 2;

/// Longer than any stop.
const OPEN_TRIES: u32 = 60;

/// Tasks of one process, which share a client.
const TASKS: u64 = 5;

/// The lease of the library's processes.
pub(super) const LEASE: Duration = Duration::from_secs(2);
const MARGIN: Duration = Duration::from_millis(200);

/// The settings of a worker.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) place: Place,
    pub(super) register: String,
    pub(super) seed: u64,
    pub(super) strict: bool,
    /// How far the wall clock is ahead, in seconds, where libfaketime does not see to that.
    pub(super) ahead: i64,
}

impl Job {
    /// As arguments.
    pub(super) fn arguments(&self) -> Vec<String> {
        vec![
            self.place.to_string(),
            self.register.clone(),
            self.seed.to_string(),
            self.strict.to_string(),
            self.ahead.to_string(),
        ]
    }

    fn parse(arguments: &[String]) -> Result<Job> {
        let [place, register, seed, strict, ahead] = arguments else {
            anyhow::bail!("a worker is started by `run`, not by people");
        };
        Ok(Job {
            place: Place::parse(place)?,
            register: register.clone(),
            seed: seed.parse()?,
            strict: strict.parse()?,
            ahead: ahead.parse()?,
        })
    }
}

/// The worker's process. Ends only by being killed, or by a failure.
pub(super) fn main(arguments: &[String]) -> Result<()> {
    let job = Job::parse(arguments)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(work(job))
}

async fn work(job: Job) -> Result<()> {
    let clock = Arc::new(Shifted { ahead: job.ahead });
    Event::Hello {
        pid: std::process::id(),
        wall_ms: clock.wall_unix_ms(),
        at: now(),
    }
    .tell()?;
    let policy = Policy::builder()
        .lease_duration(LEASE)
        .margin(MARGIN)
        .call_timeout(Duration::from_secs(3))
        .wait(Duration::from_secs(8))
        .strict(job.strict)
        .build()?;
    let locks = LockClient::builder(open(&job.place).await?)
        .clock(clock)
        .policy(policy)
        .build();
    let mut tasks = JoinSet::new();
    for n in 0..TASKS {
        let register = Client::connect(&job.register).await?;
        tasks.spawn(take_turns(locks.clone(), register, Dice::new(job.seed, n)));
    }
    match tasks.join_next().await {
        // They go on for ever, unless they fail.
        Some(ended) => ended?,
        None => Ok(()),
    }
}

/// Retries for a while: a process that is stopped within a transaction keeps the file locked.
async fn open(place: &Place) -> Result<Arc<dyn Store>> {
    let mut tries = 0;
    loop {
        match place.open() {
            Err(error) if tries == OPEN_TRIES => return Err(error),
            Err(_) => {
                let kind = "Open".to_owned();
                Event::Failed { kind }.tell()?;
                pause(Duration::from_millis(250)).await;
                tries += 1;
            }
            opened => return opened,
        }
    }
}

async fn take_turns(locks: LockClient, mut register: Client, mut dice: Dice) -> Result<()> {
    loop {
        let key = match dice.permille(250) {
            true => SLOTS,
            false => *dice.pick(&KEYS),
        };
        let request = match key {
            SLOTS => locks.slots(key, LIMIT)?,
            _ => locks.request(key)?,
        };
        let asked = now();
        match request.acquire().await {
            Ok(lease) => hold(lease, key, asked, &locks, &mut register, &mut dice).await?,
            Err(error) => {
                let kind = format!("{:?}", error.kind());
                Event::Failed { kind }.tell()?;
                pause(dice.millis(0, 100)).await;
            }
        }
    }
}

async fn hold(
    lease: Lease,
    key: &str,
    asked: At,
    locks: &LockClient,
    register: &mut Client,
    dice: &mut Dice,
) -> Result<()> {
    let key = key.to_owned();
    let token = lease.token().get();
    let lead = locks.policy().safety_margin();
    // Believed in until then at least; nothing, once it is lost.
    let until = |from: At| {
        let left = lease.remaining();
        let left = if left.is_zero() { left } else { left + lead };
        from.saturating_add(u64::try_from(left.as_nanos()).unwrap_or(At::MAX))
    };
    let from = now();
    Event::Grant {
        key: key.clone(),
        token,
        asked,
        from,
        until: until(from),
    }
    .tell()?;
    for _ in 0..1 + dice.below(20) {
        let looked = now();
        let until = until(looked);
        if until <= looked {
            break;
        }
        Event::Held {
            key: key.clone(),
            token,
            until,
        }
        .tell()?;
        pause(dice.millis(5, 80)).await;
        // The register would refuse the older of two slots.
        if key != SLOTS {
            // No check here: see the module.
            let written = register.write(&key, token).await;
            written.context("the register must always answer")?;
        }
    }
    let at = now();
    Event::Ending {
        key: key.clone(),
        token,
        at,
    }
    .tell()?;
    let how = if dice.permille(150) {
        drop(lease);
        "dropped".to_owned()
    } else {
        how(lease.release().await)
    };
    Event::Ended { key, token, how }.tell()
}

fn how(outcome: Result<ReleaseOutcome, leasehold::Error>) -> String {
    match outcome {
        Ok(ReleaseOutcome::Released) => "released".to_owned(),
        Ok(ReleaseOutcome::ReleasedLate) => "released-late".to_owned(),
        Ok(ReleaseOutcome::HandedOff) => "handed-on".to_owned(),
        Ok(ReleaseOutcome::Superseded) => "superseded".to_owned(),
        Ok(ReleaseOutcome::AlreadyReleased) => "already-released".to_owned(),
        Ok(ReleaseOutcome::TakenOver(_)) => "taken-over".to_owned(),
        Ok(other) if other != ReleaseOutcome::NoRecord => format!("{other}"),
        Ok(_) => "no-record".to_owned(),
        Err(error) => format!("{:?}", error.kind()),
    }
}
