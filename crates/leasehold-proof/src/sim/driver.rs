//! Runs one seed and judges it.
//!
//! After every step of a process the driver checks for every live grant whether its holder believes in it, by the
//! clocks of its process. Belief grows only when a process runs, so no overlap is missed between two checks (S1).
//! At the end faults stop, all processes die, and a new process must get every key within the bound of L2.

use leasehold::LockClient;
use leasehold_protocol::write::apply;

use super::believer::{Believer, Kind};
use super::clock::ProcessClock;
use super::coverage::Coverage;
use super::foreign::ForeignScript;
use super::host::Host;
use super::random::{ProcessRandom, Rng};
use super::service::Apply;
use super::shape::{Nanos, SECOND, Shape};
use super::wire;
use super::workload::Script;
use super::world::{Notice, Shared, Step, World};

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
    /// Grants of slots, and those that left no room.
    pub(super) slots: [u64; 2],
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
    run_with(apply, seed, seconds, verbose)
}

/// Runs a seed on a service that carries out writes in this way.
pub(super) fn run_with(
    apply: Apply,
    seed: u64,
    seconds: u64,
    verbose: bool,
) -> anyhow::Result<Report> {
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
    driver.world.lock().service.apply = apply;
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
    pub(super) fn next_at(&self) -> Nanos {
        self.world.lock().next_at().unwrap_or(Nanos::MAX)
    }

    pub(super) fn step(&mut self) -> anyhow::Result<()> {
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

    pub(super) fn run_process(&mut self, process: usize) {
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
                        limit: grant.limit,
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
            turns: world.service.items.iter().map(|item| item.line.turns).sum(),
            longest: world
                .service
                .items
                .iter()
                .map(|item| item.line.longest)
                .max()
                .unwrap_or(0),
            runs: self.runs,
            slots: [0, 1].map(|n| world.service.items.iter().map(|item| item.slots[n]).sum()),
            requests: world.requests.len() as u64,
            simulated: world.now,
            coverage: std::mem::take(&mut world.coverage),
            lines,
        }
    }
}
