//! Simulated processes that want locks, each with its own client, in one thread and in virtual time.
//!
//! Invariants: the seed alone decides a run. The measurement begins after the warm-up and ends with the
//! window; events outside of it do not count.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use leasehold::clock::{Clock, TokioClock};
use leasehold::{CheckDelay, ErrorKind, Lease, LockClient, Policy, PolicyBuilder};
use leasehold_protocol::time::Elapsed;
use tokio::task::JoinSet;

use super::service::{Dice, Service, Tally};
use crate::stats::Times;
use crate::stopwatch::Stopwatch;

/// The wall clock at the start: a plausible one.
const START_MS: i64 = 1_800_000_000_000;

/// Which key a process wants next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Keys {
    /// All processes use the same key.
    One,
    /// Any of so many, each as often as the other.
    Even(u32),
    /// Any of so many, the n-th as often as 1/√n: of a million the first has a thousandth of all.
    Skewed(u32),
}

impl Keys {
    fn draw(self, dice: &Dice) -> String {
        let (count, share) = match self {
            Keys::One => return "hot".to_owned(),
            Keys::Even(count) => (count, dice.share()),
            Keys::Skewed(count) => (count, dice.share().powi(2)),
        };
        format!("customer/{}", (f64::from(count) * share) as u32)
    }
}

/// The loop of every process: acquire, hold, release, rest.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) processes: u32,
    /// Tasks of each process that do so, on one client.
    pub(super) tasks: u32,
    pub(super) keys: Keys,
    pub(super) hold: Duration,
    /// In the mean, after a release as after a failure; evenly spread from none to twice as long.
    pub(super) rest: Duration,
    /// They begin evenly spread over this time.
    pub(super) arrive: Duration,
    pub(super) policy: PolicyBuilder,
    pub(super) partitions: usize,
}

impl Load {
    /// One task a process on one key, with the defaults.
    pub(super) fn hot(processes: u32, hold: Duration) -> Load {
        Load {
            processes,
            tasks: 1,
            keys: Keys::One,
            hold,
            rest: Duration::from_secs(1),
            arrive: Duration::from_secs(10),
            policy: Policy::builder(),
            partitions: 1,
        }
    }

    pub(super) fn wait(mut self, wait: Duration) -> Load {
        self.policy = self.policy.wait(wait);
        self
    }

    pub(super) fn polls(mut self, first: Duration, max: Duration) -> Load {
        self.policy = self.policy.check_delay(CheckDelay::Backoff { first, max });
        self
    }
}

/// The events within the window.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// How long the grants took.
    pub(super) waits: Times,
    /// Grants that took one request.
    pub(super) at_once: u64,
    /// Waits that ran out, whatever the last answer was.
    pub(super) expired: u64,
    /// Acquisitions that gave up before, since everything was throttled for the call time-out.
    pub(super) throttled: u64,
    /// How long the releases took; those that failed are not among them.
    pub(super) releases: Times,
    pub(super) failed_releases: u64,
    /// Leases that were over before they were released.
    pub(super) lost: u64,
    /// Anything else, which would be a defect.
    pub(super) odd: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) findings: Findings,
    pub(super) tally: Tally,
    pub(super) window: Duration,
    /// Real time that it took.
    pub(super) took: Duration,
}

/// What all processes of a run share.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) clock: TokioClock,
    pub(super) service: Service,
    findings: Arc<Mutex<Findings>>,
}

impl Stage {
    pub(super) fn new(partitions: usize, seed: u64) -> Stage {
        let clock = TokioClock::new(START_MS);
        Stage {
            service: Service::new(&clock, partitions, seed),
            clock,
            findings: Arc::default(),
        }
    }

    /// A process: it shares nothing with the others but the service.
    pub(super) fn client(
        &self,
        number: u32,
        policy: PolicyBuilder,
        seed: u64,
    ) -> Result<LockClient> {
        let policy = policy.label(format!("process-{number}")).build()?;
        Ok(LockClient::builder(self.service.clone())
            .clock(Arc::new(self.clock.clone()))
            .random(Arc::new(Dice::new(seed)))
            .policy(policy)
            .build())
    }

    pub(super) async fn pause(&self, by: Duration) {
        self.clock.sleep_until(self.clock.elapsed().plus(by)).await;
    }

    pub(super) async fn until(&self, at: Duration) {
        self.clock.sleep_until(Elapsed(at)).await;
    }

    fn note(&self, f: impl FnOnce(&mut Findings)) {
        f(&mut self.findings.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn take(&self) -> Findings {
        std::mem::take(&mut self.findings.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs `work` in virtual time, to its end.
pub(super) fn virtually<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    runtime.block_on(work)
}

/// Lets the load go on for the warm-up and then for the window, which is measured.
pub(super) fn measure(
    load: &Load,
    seed: u64,
    warm_up: Duration,
    window: Duration,
) -> Result<Outcome> {
    let stopwatch = Stopwatch::start();
    let (findings, tally) = virtually(async {
        let stage = Stage::new(load.partitions, seed);
        let dice = Dice::new(seed ^ 0x5ca1e);
        let mut crowd = JoinSet::new();
        for number in 0..load.processes {
            let locks = stage.client(number, load.policy.clone(), dice.roll())?;
            for _ in 0..load.tasks {
                let begin = dice.below(load.arrive);
                let member = member(
                    stage.clone(),
                    locks.clone(),
                    load.clone(),
                    Dice::new(dice.roll()),
                );
                let stage = stage.clone();
                crowd.spawn(async move {
                    stage.until(begin).await;
                    member.await;
                });
            }
        }
        stage.until(warm_up).await;
        let before = stage.service.tally();
        stage.take();
        stage.until(warm_up + window).await;
        Ok((stage.take(), stage.service.tally().since(before)))
    })?;
    if let Some(first) = findings.odd.first() {
        bail!(
            "{} calls failed as they should not; the first: {first}",
            findings.odd.len()
        );
    }
    Ok(Outcome {
        findings,
        tally,
        window,
        took: stopwatch.elapsed(),
    })
}

async fn member(stage: Stage, locks: LockClient, load: Load, dice: Dice) {
    let wait = locks.policy().wait();
    // Until the run is over: the runtime ends it.
    loop {
        let key = load.keys.draw(&dice);
        let asked = stage.clock.elapsed();
        match locks.acquire(&key).await {
            Ok(lease) => {
                let waited = stage.clock.elapsed().since(asked);
                let at_once = lease.usage().requests == 1;
                stage.note(|findings| {
                    findings.waits.add(waited);
                    findings.at_once += u64::from(at_once);
                });
                stage.pause(load.hold).await;
                release(&stage, lease).await;
            }
            Err(error) => stage.note(|findings| {
                let ran_out = wait.is_some_and(|wait| error.elapsed() >= wait);
                match error.kind() {
                    ErrorKind::WaitExpired => findings.expired += 1,
                    ErrorKind::Throttled if ran_out => findings.expired += 1,
                    // The error of a waiter whose own process had the key all the time.
                    ErrorKind::Unreachable if ran_out => findings.expired += 1,
                    ErrorKind::Throttled => findings.throttled += 1,
                    _ => findings.odd.push(error.to_string()),
                }
            }),
        }
        stage.pause(dice.below(load.rest * 2)).await;
    }
}

pub(super) async fn release(stage: &Stage, lease: Lease) {
    let began = stage.clock.elapsed();
    let held = lease.is_held();
    let outcome = lease.release().await;
    let took = stage.clock.elapsed().since(began);
    stage.note(|findings| {
        findings.lost += u64::from(!held);
        match outcome {
            Ok(_) => findings.releases.add(took),
            Err(_) => findings.failed_releases += 1,
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_everything() {
        let run = |seed| {
            let load = Load::hot(200, Duration::from_millis(20));
            let second = Duration::from_secs(1);
            let outcome = measure(&load, seed, second * 5, second * 5).expect("runs");
            (outcome.tally, outcome.findings.waits.sorted())
        };
        let first = run(1);
        assert!(
            first.0.requests() > 1_000 && first.1.len() > 50,
            "{first:?}"
        );
        assert_eq!(first, run(1));
        assert_ne!(first, run(2));
    }

    #[test]
    fn a_skewed_draw_is_skewed() {
        let dice = Dice::new(1);
        let first = (0..1_000_000)
            .filter(|_| Keys::Skewed(10_000).draw(&dice) == "customer/0")
            .count();
        // 1/√10000 of all.
        assert!((9_700..=10_300).contains(&first), "{first}");
    }
}
