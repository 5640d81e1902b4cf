//! Runs one seed and judges it.
//!
//! After every step of a process the driver asks every live grant whether it is still believed in
//! at this instant, by its own process's clocks: belief rises only when a process runs, so that no
//! overlap can fall between two looks (S1). At the end faults stop, everybody dies, and a newcomer
//! must get every key within the bound of L2.

use std::time::Duration;

use leasehold::clock::Clock;
use leasehold::{LeaseWatch, LockClient};
use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::record::Record;

use super::clock::ProcessClock;
use super::coverage::Coverage;
use super::host::Host;
use super::random::{ProcessRandom, Rng};
use super::service::millis;
use super::shape::{CHECK_DELAY_MAX, MILLI, Nanos, SECOND, Shape};
use super::wire;
use super::workload::{ForeignScript, Script};
use super::world::{Notice, Shared, Step, Still, World};

/// What a seed has shown.
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
    pub(super) requests: u64,
    pub(super) simulated: Nanos,
    pub(super) coverage: Coverage,
    pub(super) lines: Vec<String>,
}

/// Whoever believes in a grant.
struct Believer {
    process: usize,
    incarnation: u32,
    index: usize,
    kind: Kind,
    /// Looks at which its time was over and `lost` had not fired.
    late: u32,
    /// Looks in a row at which its time was over.
    over: u32,
}

enum Kind {
    Ours {
        attempt: AttemptId,
        token: u64,
        place: usize,
        signal: LeaseWatch,
    },
    Foreign {
        owner: u64,
        until_ms: i64,
    },
}

struct Driver {
    seed: u64,
    world: Shared,
    hosts: Vec<Option<Host>>,
    believers: Vec<Believer>,
    violations: Vec<(&'static str, String)>,
    lawless_overlaps: u64,
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

    /// S6: where `lost` fires because time runs out, it leads the stored expiry by its lead.
    fn lost(&mut self, attempt: AttemptId, token: u64, process: usize, lead_ms: Option<i64>) {
        let found = self.believers.iter().position(|b| {
            b.process == process
                && matches!(&b.kind, Kind::Ours { attempt: a, token: t, .. } if *a == attempt && *t == token)
        });
        let Some(found) = found else { return };
        let believer = self.believers.swap_remove(found);
        let (Some(lead_ms), Kind::Ours { place, .. }) = (lead_ms, &believer.kind) else {
            return;
        };
        let world = self.world.lock();
        let grant = &world.service.slots[believer.index].grants[*place];
        // Without a `Date` the published expiry is a wall clock's; the lease bounds the belief.
        let expires_ms = if world.shape.dateless {
            grant.ends_ms
        } else {
            grant.ends_ms.min(grant.expires_ms)
        };
        let leads = world.service.time_ms(world.now) + lead_ms * 998 / 1_000 - 3 <= expires_ms;
        let promised = world.shape.promises().exclusion && !world.shape.machine_pauses;
        if !leads && promised && undisturbed(&world, process) {
            let text = format!(
                "p{process}: lost fired at {}, its grant's expiry is {expires_ms}, its lead {lead_ms} ms",
                world.service.time_ms(world.now)
            );
            drop(world);
            self.violations.push(("S6", text));
        }
    }

    /// S6 once a second: no live lease is over without its signal.
    fn look(&mut self) {
        for believer in &mut self.believers {
            let Kind::Ours { signal, .. } = &believer.kind else {
                continue;
            };
            // Rule 4: what is over stays over. One look may fall between two steps of a wall clock.
            let none_left = signal.remaining().is_zero();
            if believer.over > 1 && !none_left {
                let text = format!("p{}: {} is held again", believer.process, signal.id());
                self.violations.push(("rule 4", text));
            }
            believer.over = if none_left { believer.over + 1 } else { 0 };
            let over = none_left && undisturbed(&self.world.lock(), believer.process);
            believer.late = if over { believer.late + 1 } else { 0 };
            if believer.late == 4 {
                let text = format!(
                    "p{}: {} is over, and no signal",
                    believer.process,
                    signal.id()
                );
                self.violations.push(("S6", text));
            }
        }
    }

    /// What S1 rests on: nobody believes in a grant past its expiry less the expiry padding, at which others may
    /// act.
    fn judge_belief(&mut self) {
        for believer in &self.believers {
            let Kind::Ours { place, .. } = &believer.kind else {
                continue;
            };
            let (end_ms, time_ms, pad_ms) = {
                let world = self.world.lock();
                // Without a `Date` the lease bounds the belief, not the expiry.
                if !world.shape.promises().exclusion || world.shape.dateless {
                    return;
                }
                let grant = &world.service.slots[believer.index].grants[*place];
                let time_ms = world.service.time_ms(world.now);
                (
                    grant.expires_ms,
                    time_ms,
                    millis(world.shape.expiry_padding),
                )
            };
            if time_ms > end_ms - pad_ms && self.believes(believer) {
                let text = format!(
                    "{} believes at {time_ms} in an expiry of {end_ms}, expiry_padding {pad_ms} ms",
                    describe(believer)
                );
                self.violations.push(("S1", text));
                return;
            }
        }
    }

    /// S1: of each key, at most one grant is believed in.
    fn judge_exclusion(&mut self) {
        if self.believers.len() < 2 {
            return;
        }
        for first in 0..self.believers.len() {
            for second in first + 1..self.believers.len() {
                let (a, b) = (&self.believers[first], &self.believers[second]);
                if a.index != b.index || same_grant(a, b) || !self.believes(a) || !self.believes(b)
                {
                    continue;
                }
                let (promised, now) = {
                    let world = self.world.lock();
                    (world.shape.promises().exclusion, world.now)
                };
                if !promised {
                    self.lawless_overlaps += 1;
                    return;
                }
                // Not under the lock: describing a grant reads its clocks.
                let text = format!(
                    "k{} at {} ms: both {} and {} believe in it",
                    a.index,
                    now / MILLI,
                    describe(a),
                    describe(b)
                );
                self.violations.push(("S1", text));
                return;
            }
        }
    }

    fn believes(&self, believer: &Believer) -> bool {
        let world = self.world.lock();
        let process = &world.processes[believer.process];
        let steps = !matches!(process.still, Still::Dead | Still::MachinePaused { .. });
        if !steps || process.incarnation != believer.incarnation {
            return false;
        }
        match &believer.kind {
            Kind::Foreign { owner, until_ms } => {
                !world.service.deposed.contains(owner)
                    && world.wall_ms(believer.process) <= *until_ms
            }
            Kind::Ours { signal, .. } => {
                drop(world);
                !signal.remaining().is_zero()
            }
        }
    }

    /// Faults stop, everybody is dead: a newcomer gets every key in time (L1, L2).
    fn finale(&mut self, end: Nanos) -> anyhow::Result<()> {
        self.believers.clear();
        for host in &mut self.hosts {
            *host = None;
        }
        let (process, tasks) = {
            let mut world = self.world.lock();
            let world = &mut *world;
            world.now = world.now.max(end);
            world.still();
            world.service.judge_next_life(world.now);
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
            (process, tasks)
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
        let limit = end + 40 * SECOND;
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
            requests: world.requests.len() as u64,
            simulated: world.now,
            coverage: std::mem::take(&mut world.coverage),
            lines,
        }
    }
}

/// Nothing has kept a process from running lately.
fn undisturbed(world: &World, process: usize) -> bool {
    let p = &world.processes[process];
    p.still == Still::Running && (p.disturbances == 0 || p.disturbed_at + 4 * SECOND < world.now)
}

fn same_grant(a: &Believer, b: &Believer) -> bool {
    match (&a.kind, &b.kind) {
        // A detached grant and whoever took it up; not two guards of a grant that was handed on.
        (
            Kind::Ours {
                place: a, token: s, ..
            },
            Kind::Ours {
                place: b, token: t, ..
            },
        ) => a == b && s == t,
        // Between two of them it is what their library gives.
        (Kind::Foreign { .. }, Kind::Foreign { .. }) => true,
        _ => false,
    }
}

fn describe(believer: &Believer) -> String {
    match &believer.kind {
        Kind::Ours { place, signal, .. } => format!(
            "p{} (grant {place} pass {}, {:?} left)",
            believer.process,
            signal.id().token().pass(),
            signal.remaining()
        ),
        Kind::Foreign { until_ms, .. } => {
            format!("p{} (F#, until {until_ms})", believer.process)
        }
    }
}

/// L2: how long a newcomer may have to wait for a record whose holder is dead; `None` where it may
/// wait for ever.
fn longest_wait(shape: &Shape, record: Option<&Record>, time_ms: i64) -> Option<Duration> {
    // A poll, its backoff's certain part, some round trips, slow ones; and old reads: one that shows
    // the key as it was when it was free starts the observation again.
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
        Some(native) => Some(native.lease + shape.expiry_padding + Duration::from_secs(1) + poll),
        None if shape.strict => None,
        None => {
            let left = record.expires_at.0 + millis(shape.expiry_padding) - time_ms;
            let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
            Some(left + Duration::from_millis(1_500) + poll)
        }
    }
}
