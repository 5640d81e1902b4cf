//! Runs one seed and judges it.
//!
//! After every step of a process the driver checks for every live grant whether its holder believes in it, by the
//! clocks of its process. Belief grows only when a process runs, so no overlap is missed between two checks (S1).
//! At the end faults stop, all processes die, and a new process must get every key within the bound of L2.

use std::time::Duration;

use leasehold::LockClient;
use leasehold::clock::Clock;
use leasehold_protocol::queue::{PLACES, Place};
use leasehold_protocol::record::Record;

use super::believer::{Believer, Kind};
use super::clock::ProcessClock;
use super::coverage::Coverage;
use super::host::Host;
use super::random::{ProcessRandom, Rng};
use super::shape::{CHECK_DELAY_MAX, Nanos, SECOND, Shape, millis};
use super::wire;
use super::workload::{ForeignScript, Script};
use super::world::{Notice, Shared, Step, Still, World};

/// The result of a seed.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) seed: u64,
    pub(super) hash: u64,
    /// The rule and the words; empty where everything holds.
    pub(super) violations: Vec<(&'static str, String)>,
    /// Overlaps in a world whose clocks keep no bounds, where nothing is promised.
    pub(super) lawless_overlaps: u64,
    pub(super) acquisitions: u64,
    pub(super) hand_offs: u64,
    pub(super) hand_offs_lost: u64,
    /// Grants to a place, and the longest wait for one, in thousandths of L3.
    pub(super) turns: u64,
    pub(super) longest: u128,
    /// As in the driver.
    pub(super) runs: [u64; 3],
    pub(super) requests: u64,
    pub(super) simulated: Nanos,
    pub(super) coverage: Coverage,
    pub(super) lines: Vec<String>,
}

pub(super) struct Driver {
    pub(super) seed: u64,
    pub(super) world: Shared,
    pub(super) hosts: Vec<Option<Host>>,
    pub(super) believers: Vec<Believer>,
    pub(super) violations: Vec<(&'static str, String)>,
    pub(super) lawless_overlaps: u64,
    /// Runs that were completed, and callers that were told of another's and of their own.
    pub(super) runs: [u64; 3],
}

/// Runs a seed.
pub(super) fn run(seed: u64, seconds: u64, verbose: bool) -> anyhow::Result<Report> {
    let shape = Shape::of(seed)?;
    let described = if verbose {
        shape.describe()
    } else {
        String::new()
    };
    let count = shape.processes.len();
    let mut driver = Driver {
        seed,
        world: Shared::new(World::new(seed, shape, verbose)),
        hosts: (0..count).map(|_| None).collect(),
        believers: Vec::new(),
        violations: Vec::new(),
        lawless_overlaps: 0,
        runs: [0; 3],
    };
    for process in 0..count {
        driver.start(process)?;
    }
    let end = seconds * SECOND;
    while driver.violations.is_empty() && driver.next_at() <= end {
        driver.step()?;
    }
    if driver.violations.is_empty() {
        driver.finale(end)?;
    }
    Ok(driver.report(described))
}

impl Driver {
    fn next_at(&self) -> Nanos {
        self.world.lock().next_at().unwrap_or(Nanos::MAX)
    }

    fn step(&mut self) -> anyhow::Result<()> {
        let step: Step = self.world.lock().step();
        if let Some(waker) = step.waker {
            waker.wake();
        }
        if let Some(process) = step.crash {
            // Its memory goes, and whatever it had sent goes on.
            self.hosts[process] = None;
            self.world.lock().tidy_timers();
            self.believers.retain(|b| b.process != process);
        }
        if let Some(process) = step.start {
            self.world.lock().started(process);
            self.start(process)?;
        }
        if let Some(process) = step.run {
            self.run_process(process);
        }
        if step.look {
            self.look();
            self.judge_belief();
        }
        if step.run.is_some() || step.look {
            self.judge_exclusion();
        }
        let found = std::mem::take(&mut self.world.lock().service.violations);
        self.violations.extend(found);
        Ok(())
    }

    /// Starts a process's program.
    fn start(&mut self, process: usize) -> anyhow::Result<()> {
        let host = Host::new()?;
        let clock = ProcessClock {
            world: self.world.clone(),
            process,
        };
        let (shape, incarnation, crowd) = {
            let world = self.world.lock();
            let shape = world.shape.processes[process].clone();
            let incarnation = u64::from(world.processes[process].incarnation);
            (shape, incarnation, world.shape.crowd)
        };
        let stream = 100 + 100 * incarnation + process as u64;
        let rng = Rng::new(self.seed, stream * 4);
        let wire = wire::store(&self.world, process);
        if shape.foreign {
            let wire = (*wire).clone();
            host.spawn(ForeignScript { wire, clock, rng }.work());
        } else {
            let jitter = 100 + shape.jitter_of as u64;
            let random = ProcessRandom::new(
                Rng::new(self.seed, stream * 4 + 1),
                Rng::new(self.seed, jitter * 4 + 2),
            );
            let locks = LockClient::builder(wire)
                .policy(shape.policy)
                .clock(std::sync::Arc::new(clock.clone()))
                .random(std::sync::Arc::new(random))
                .build();
            let script = |rng, crowd| Script {
                world: self.world.clone(),
                process,
                clock: clock.clone(),
                locks: locks.clone(),
                rng,
                crowd,
            };
            host.spawn(script(rng, false).work());
            for member in 0..crowd {
                let rng = Rng::new(self.seed.rotate_left(17) ^ member, stream * 4 + 3);
                host.spawn(script(rng, true).work());
            }
        }
        self.hosts[process] = Some(host);
        self.run_process(process);
        Ok(())
    }

    fn run_process(&mut self, process: usize) {
        if let Some(host) = &self.hosts[process] {
            host.run_until_idle();
        }
        let notices = std::mem::take(&mut self.world.lock().notices);
        for notice in notices {
            self.take(notice);
        }
    }

    fn take(&mut self, notice: Notice) {
        match notice {
            Notice::Granted {
                process,
                place,
                grant,
                called,
                left,
                signal,
            } => {
                let id = signal.id().clone();
                let (Some(place), Some(grant)) = (place, grant) else {
                    let text = format!("p{process} was given {id}, which was never granted");
                    self.violations.push(("S5", text));
                    return;
                };
                let index = self.world.lock().service.index(id.key().as_str());
                if id.token().pass() > 0 {
                    // Handed on: the grant is older than the call, and the record still carries it.
                    let world = self.world.lock();
                    let token = id.token().stored();
                    let promised = world.shape.promises().exclusion && !world.shape.mixed;
                    if promised
                        && !left.is_zero()
                        && !world.service.carries(index, id.attempt(), token)
                    {
                        let text =
                            format!("p{process} was handed {id}, and the record is another's");
                        self.violations.push(("S5", text));
                    }
                } else if grant.at < called {
                    let text = format!("p{process} was given {id}, granted before it had called");
                    self.violations.push(("S5", text));
                }
                if left.is_zero() {
                    let text = format!("p{process} was given {id} without any time left");
                    self.violations.push(("S5", text));
                }
                let world = self.world.lock();
                self.believers.push(Believer {
                    process,
                    incarnation: world.processes[process].incarnation,
                    index,
                    kind: Kind::Ours {
                        attempt: id.attempt(),
                        token: id.token().get(),
                        place,
                        signal,
                    },
                    late: 0,
                    over: 0,
                });
            }
            Notice::Lost {
                attempt,
                token,
                expired,
                lead_ms,
                process,
            } => self.lost(attempt, token, process, expired.then_some(lead_ms)),
            Notice::ForeignHeld {
                process,
                index,
                owner,
                until_ms,
            } => {
                let incarnation = self.world.lock().processes[process].incarnation;
                self.believers.push(Believer {
                    process,
                    incarnation,
                    index,
                    kind: Kind::Foreign { owner, until_ms },
                    late: 0,
                    over: 0,
                });
            }
            Notice::ForeignDone { owner } => self
                .believers
                .retain(|b| !matches!(b.kind, Kind::Foreign { owner: o, .. } if o == owner)),
        }
    }

    /// Faults stop, and all processes are dead: a new process must get every key in time (L1, L2).
    fn finale(&mut self, end: Nanos) -> anyhow::Result<()> {
        self.believers.clear();
        for host in &mut self.hosts {
            *host = None;
        }
        let (process, tasks, longest) = {
            let mut world = self.world.lock();
            let world = &mut *world;
            world.now = world.now.max(end);
            world.still();
            world.service.judge_next_life(world.now);
            self.runs = world.service.forget(world.now);
            world.service.turn = None;
            for process in &mut world.processes {
                process.still = Still::Dead;
                process.incarnation += 1;
            }
            // A process of ours, with sane clocks and no hurry.
            let mut newcomer = world.shape.processes[0].clone();
            newcomer.skew_ms = world.rng.around(500);
            newcomer.drift_ppm = world.rng.around(1_000);
            newcomer.foreign = false;
            world.shape.processes.push(newcomer);
            let process = world.processes.len();
            world.add_process(process);
            let shape = &world.shape;
            let tasks: Vec<(String, Duration)> = (0..shape.keys)
                .filter_map(|index| {
                    let record = world.service.slots[index].record.as_ref();
                    let time_ms = world.service.time_ms(world.now);
                    let bound = longest_wait(shape, record, time_ms)?;
                    Some((format!("k{index}"), bound))
                })
                .collect();
            // Where the service's hosts contradict each other by seconds, nothing is promised.
            let tasks = if world.shape.lawless {
                Vec::new()
            } else {
                tasks
            };
            world.finale_left = tasks.len();
            let bounds = tasks.iter().map(|(_, bound)| *bound);
            let longest = bounds.max().unwrap_or_default();
            (process, tasks, longest.as_nanos() as Nanos)
        };
        let host = Host::new()?;
        let clock = ProcessClock {
            world: self.world.clone(),
            process,
        };
        let policy = self.world.lock().shape.processes[process].policy.clone();
        let ids = Rng::new(self.seed, 9);
        let locks = LockClient::builder(wire::store(&self.world, process))
            .policy(policy)
            .clock(std::sync::Arc::new(clock.clone()))
            .random(std::sync::Arc::new(ProcessRandom::new(
                ids.clone(),
                Rng::new(self.seed, 10),
            )))
            .build();
        for (key, bound) in tasks {
            let (world, clock, locks) = (self.world.clone(), clock.clone(), locks.clone());
            host.spawn(async move {
                let started = clock.elapsed();
                let call = locks.request(&key).map(|request| request.wait(bound));
                let answer = match call {
                    Ok(request) => request.acquire().await,
                    Err(error) => Err(error),
                };
                world.lock().finale_left -= 1;
                match answer {
                    // It stays as it is: the world ends.
                    Ok(lease) => {
                        let passed = clock.elapsed().since(started);
                        let mut world = world.lock();
                        let numbers = [lease.token().stored(), 0, 0];
                        let now = world.now;
                        world
                            .trace
                            .note(now, "finale", numbers, || format!("{key} after {passed:?}"));
                        let (id, token) = (lease.id().attempt(), lease.token());
                        world.service.show(&key, id, token);
                        world.acquisitions += 1;
                    }
                    Err(error) => {
                        let text = format!("nobody could acquire {key} within {bound:?}: {error}");
                        world.lock().service.violations.push(("L2", text));
                    }
                }
            });
        }
        self.hosts.push(Some(host));
        self.run_process(process);
        let limit = end + 40 * SECOND + longest;
        while self.next_at() <= limit
            && self.violations.is_empty()
            && self.world.lock().finale_left > 0
        {
            self.step()?;
        }
        Ok(())
    }

    fn report(mut self, described: String) -> Report {
        self.believers.clear();
        self.hosts.clear();
        let mut world = self.world.lock();
        self.violations
            .extend(std::mem::take(&mut world.service.violations));
        let trace = std::mem::replace(&mut world.trace, super::trace::Trace::new(false));
        let hash = trace.hash();
        let mut lines = trace.into_lines();
        if !described.is_empty() {
            lines.insert(0, described);
        }
        Report {
            seed: self.seed,
            hash,
            violations: self.violations,
            lawless_overlaps: self.lawless_overlaps,
            acquisitions: world.acquisitions,
            hand_offs: world.hand_offs,
            hand_offs_lost: world.hand_offs_lost,
            turns: world.service.slots.iter().map(|slot| slot.line.turns).sum(),
            longest: world
                .service
                .slots
                .iter()
                .map(|slot| slot.line.longest)
                .max()
                .unwrap_or(0),
            runs: self.runs,
            requests: world.requests.len() as u64,
            simulated: world.now,
            coverage: std::mem::take(&mut world.coverage),
            lines,
        }
    }
}

/// L2: how long a new process may have to wait for a record whose holder is dead; `None`: for ever.
fn longest_wait(shape: &Shape, record: Option<&Record>, time_ms: i64) -> Option<Duration> {
    // A poll, the certain part of its backoff, some slow round trips, and old reads: a read that shows
    // the key free starts the observation again.
    let poll = CHECK_DELAY_MAX
        + CHECK_DELAY_MAX / 8
        + Duration::from_nanos(shape.latency) * 60
        + Duration::from_nanos(shape.staleness);
    let record = match record {
        Some(record) if record.owner.is_some() => record,
        _ => return Some(poll),
    };
    match record.native {
        // By observation at the latest: the stored expiry may be far ahead.
        // Each place of its queue has its time first.
        Some(native) => {
            let claims: Duration = record.queue.iter().map(Place::claim).sum();
            // Without a place its delays are eight times as long, and the last poll may have to be repeated.
            let full = match record.queue.len() < PLACES {
                true => Duration::ZERO,
                false => CHECK_DELAY_MAX * 9,
            };
            Some(
                native.lease + claims + full + shape.expiry_padding + Duration::from_secs(1) + poll,
            )
        }
        None if shape.strict => None,
        None => {
            let left = record.expires_at.0 + millis(shape.expiry_padding) - time_ms;
            let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
            Some(left + Duration::from_millis(1_500) + poll)
        }
    }
}
