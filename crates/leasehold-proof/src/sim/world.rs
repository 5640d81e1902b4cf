//! The world: one queue of events in true time, the clocks of its processes, and what happens to
//! them.
//!
//! Invariants: nothing happens but by an event of the queue, in the order of time and then of
//! entry; the lock of the world is never held while a process runs or a waker is called.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use leasehold::LeaseWatch;
use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::time::{ClockBounds, Elapsed, ServiceClock};

use super::coverage::{Coverage, Fault, IN_FLIGHT, PHASES, Phase};
use super::random::Rng;
use super::request::Request;
use super::service::{Granted, Service};
use super::shape::{MILLI, Nanos, SECOND, Shape};
use super::trace::Trace;

/// How late a timer can be after a suspend: the library reads its clock once a second.
const LONGEST_SLEEP: Nanos = SECOND;

/// Something that will happen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Event {
    /// A sleeper's time has come.
    Timer { slot: usize, generation: u64 },
    /// A request reaches the service.
    Arrive(usize),
    /// The service carries out a request once more.
    Again(usize),
    /// An answer reaches its process.
    Answer(usize),
    /// A holder's write reaches the fenced register.
    Register {
        index: usize,
        place: usize,
        token: u64,
    },
    /// Something happens to a process.
    Trouble(usize),
    /// A process runs again.
    Resume(usize),
    /// A process starts in the place of a dead one.
    Start(usize),
    /// The service may delete what is past its TTL.
    Sweep,
    /// An event for the driver alone, which then checks the world.
    Look,
}

/// How a process stands still.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Still {
    Running,
    Stopped,
    Suspended,
    MachinePaused { since: Nanos },
    Dead,
}

/// One process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) still: Still,
    drift_ppm: i64,
    elapsed_origin: Nanos,
    /// True time that the elapsed clock has not counted.
    uncounted: Nanos,
    pub(super) skew_ms: i64,
    /// Requests on their way, by phase.
    pub(super) in_flight: [u32; IN_FLIGHT],
    pub(super) holds: u32,
    /// Guards among them that were handed on.
    pub(super) handed_on: u32,
    /// Slots among them.
    pub(super) slots: u32,
    /// Tasks that wait in an `acquire` or `run`.
    pub(super) waits: u32,
    /// Goes up with everything that keeps it from running.
    pub(super) disturbances: u32,
    pub(super) disturbed_at: Nanos,
    pub(super) incarnation: u32,
    slept: Nanos,
    /// The expected bounds of the service's clock, by the answers of this process.
    pub(super) service_clock: ServiceClock,
}

/// A sleeping task.
#[derive(Debug, Default)]
struct Timer {
    process: usize,
    generation: u64,
    at: Elapsed,
    fired: bool,
    waker: Option<Waker>,
}

/// An event from a process to the driver. Tokens are the visible ones.
#[derive(Debug)]
pub(super) enum Notice {
    /// A caller was given a lease.
    Granted {
        process: usize,
        place: Option<usize>,
        grant: Option<Granted>,
        called: Nanos,
        left: Duration,
        signal: LeaseWatch,
    },
    /// `lost` has fired.
    Lost {
        attempt: AttemptId,
        token: u64,
        expired: bool,
        lead_ms: i64,
        process: usize,
    },
    /// An F# client believes in its lock, by its wall clock.
    ForeignHeld {
        process: usize,
        index: usize,
        owner: u64,
        until_ms: i64,
    },
    /// It has let go.
    ForeignDone { owner: u64 },
}

/// The reaction of the driver to an event.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) waker: Option<Waker>,
    pub(super) run: Option<usize>,
    pub(super) crash: Option<usize>,
    pub(super) start: Option<usize>,
    pub(super) look: bool,
}

/// All of it, under one lock.
#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Nanos,
    entries: u64,
    queue: BinaryHeap<Reverse<(Nanos, u64, Event)>>,
    timers: Vec<Timer>,
    free_timers: Vec<usize>,
    pub(super) requests: Vec<Request>,
    pub(super) processes: Vec<Process>,
    pub(super) service: Service,
    pub(super) shape: Shape,
    pub(super) rng: Rng,
    pub(super) trace: Trace,
    pub(super) coverage: Coverage,
    pub(super) notices: Vec<Notice>,
    /// Identities of detached leases, for processes that adopt or release them.
    pub(super) mail: Vec<String>,
    pub(super) acquisitions: u64,
    /// Guards that were handed on to a caller, and those of them that ran out.
    pub(super) hand_offs: u64,
    pub(super) hand_offs_lost: u64,
    /// Faults have stopped.
    pub(super) calm: bool,
    /// Keys that the new process at the end does not have yet.
    pub(super) finale_left: usize,
}

/// The world, shared by its processes.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<World>>);

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    pub(super) fn new(world: World) -> Shared {
        Shared(Arc::new(Mutex::new(world)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    pub(super) fn new(seed: u64, shape: Shape, verbose: bool) -> World {
        let mut rng = Rng::new(seed, 2);
        let service = Service::new(&shape, &mut rng);
        let mut world = World {
            now: 0,
            entries: 0,
            queue: BinaryHeap::with_capacity(256),
            timers: Vec::with_capacity(64),
            free_timers: Vec::new(),
            requests: Vec::with_capacity(1_024),
            processes: Vec::new(),
            service,
            shape,
            rng,
            trace: Trace::new(verbose),
            coverage: Coverage::default(),
            notices: Vec::new(),
            mail: Vec::new(),
            acquisitions: 0,
            hand_offs: 0,
            hand_offs_lost: 0,
            calm: false,
            finale_left: 0,
        };
        for number in 0..world.shape.processes.len() {
            world.add_process(number);
            world.plan_trouble(number);
        }
        if world.shape.expires_records {
            world.enter(SECOND, Event::Sweep);
        }
        world.enter(SECOND, Event::Look);
        world
    }

    /// Adds a process with the clocks of shape `number`.
    pub(super) fn add_process(&mut self, number: usize) {
        let shape = &self.shape.processes[number];
        self.processes.push(Process {
            still: Still::Running,
            drift_ppm: shape.drift_ppm,
            elapsed_origin: shape.elapsed_origin,
            uncounted: 0,
            skew_ms: shape.skew_ms,
            in_flight: [0; IN_FLIGHT],
            holds: 0,
            handed_on: 0,
            slots: 0,
            waits: 0,
            disturbances: 0,
            disturbed_at: 0,
            incarnation: 0,
            slept: 0,
            service_clock: ServiceClock::new(ClockBounds::default()),
        });
    }

    pub(super) fn enter(&mut self, at: Nanos, event: Event) {
        self.entries += 1;
        self.queue
            .push(Reverse((at.max(self.now), self.entries, event)));
    }

    /// Forgets everything that was going to happen.
    pub(super) fn still(&mut self) {
        self.queue.clear();
        self.calm = true;
    }

    /// When the next event is due.
    pub(super) fn next_at(&self) -> Option<Nanos> {
        self.queue.peek().map(|Reverse((at, _, _))| *at)
    }

    /// Lets the next event happen.
    pub(super) fn step(&mut self) -> Step {
        let mut step = Step::default();
        let Some(Reverse((at, _, event))) = self.queue.pop() else {
            return step;
        };
        self.now = at;
        match event {
            Event::Timer { slot, generation } => self.fire(slot, generation, &mut step),
            Event::Arrive(number) => self.arrive(number),
            Event::Again(number) => self.again(number),
            Event::Answer(number) => self.answer(number, &mut step),
            Event::Register {
                index,
                place,
                token,
            } => {
                let taken = self.service.register(index, place, token);
                let numbers = [index as u64, token, u64::from(taken)];
                self.trace.note(at, "register", numbers, || {
                    format!(
                        "k{index} grant {place}: {}",
                        if taken { "taken" } else { "refused" }
                    )
                });
            }
            Event::Trouble(process) => self.trouble(process, &mut step),
            Event::Resume(process) => self.resume(process, &mut step),
            Event::Start(process) => step.start = Some(process),
            Event::Sweep => self.sweep(),
            Event::Look => {
                self.enter(at + SECOND, Event::Look);
                self.judge_all_bounds();
                step.look = true;
            }
        }
        step
    }

    // --- clocks ---

    /// The elapsed clock of a process.
    pub(super) fn elapsed(&self, process: usize) -> Elapsed {
        let p = &self.processes[process];
        let true_time = match p.still {
            Still::MachinePaused { since } => since,
            _ => self.now,
        };
        let counted = true_time.saturating_sub(p.uncounted);
        let error = counted.cast_signed() * p.drift_ppm / 1_000_000;
        let shown = p.elapsed_origin + counted.saturating_add_signed(error);
        Elapsed(Duration::from_nanos(shown))
    }

    /// The wall clock of a process.
    pub(super) fn wall_ms(&self, process: usize) -> i64 {
        let p = &self.processes[process];
        let drift = (self.now / MILLI).cast_signed() * p.drift_ppm / 1_000_000;
        self.service.time_ms(self.now) + p.skew_ms + drift
    }

    /// The true time at which the elapsed clock of a process shows `at`.
    fn true_time_of(&self, process: usize, at: Elapsed) -> Option<Nanos> {
        let p = &self.processes[process];
        let shown = u64::try_from(at.0.as_nanos()).ok()?;
        let counted = u128::from(shown.saturating_sub(p.elapsed_origin));
        let rate = u128::try_from(1_000_000 + p.drift_ppm).ok()?;
        let counted = u64::try_from((counted * 1_000_000).div_ceil(rate)).ok()?;
        counted.checked_add(p.uncounted + 1)
    }

    // --- timers ---

    /// Adds a task that sleeps until `at`.
    pub(super) fn add_timer(&mut self, process: usize, at: Elapsed, waker: Waker) -> usize {
        let slot = self.free_timers.pop().unwrap_or_else(|| {
            self.timers.push(Timer::default());
            self.timers.len() - 1
        });
        let timer = &mut self.timers[slot];
        timer.process = process;
        timer.at = at;
        timer.fired = false;
        timer.waker = Some(waker);
        self.arm(slot);
        slot
    }

    fn arm(&mut self, slot: usize) {
        let timer = &self.timers[slot];
        let (generation, process) = (timer.generation, timer.process);
        if let Some(at) = self.true_time_of(process, timer.at) {
            self.enter(at, Event::Timer { slot, generation });
        }
    }

    /// Whether the sleeper's time has come; if not, who to wake.
    pub(super) fn timer_fired(&mut self, slot: usize, waker: &Waker) -> bool {
        let timer = &mut self.timers[slot];
        if !timer.fired
            && !timer
                .waker
                .as_ref()
                .is_some_and(|known| known.will_wake(waker))
        {
            timer.waker = Some(waker.clone());
        }
        timer.fired
    }

    /// The sleeper has gone; gives its waker, to be dropped outside of the lock.
    pub(super) fn remove_timer(&mut self, slot: usize) -> Option<Waker> {
        self.timers[slot].generation += 1;
        self.free_timers.push(slot);
        self.timers[slot].waker.take()
    }

    /// Orders the free slots after a crash: tokio drops the tasks of a runtime in an order that depends on a counter of the
    /// whole operating system process.
    pub(super) fn tidy_timers(&mut self) {
        self.free_timers.sort_unstable();
    }

    fn fire(&mut self, slot: usize, generation: u64, step: &mut Step) {
        let timer = &self.timers[slot];
        if timer.generation != generation || timer.fired {
            return;
        }
        let process = timer.process;
        match self.processes[process].still {
            // It is checked again when the process runs again.
            Still::Suspended | Still::MachinePaused { .. } => return,
            _ => {}
        }
        if self.elapsed(process) < self.timers[slot].at {
            self.arm(slot);
            return;
        }
        self.timers[slot].fired = true;
        step.waker = self.timers[slot].waker.take();
        self.run(process, step);
    }

    pub(super) fn run(&self, process: usize, step: &mut Step) {
        if self.processes[process].still == Still::Running {
            step.run = Some(process);
        }
    }

    // --- troubles of processes ---

    fn plan_trouble(&mut self, process: usize) {
        let every = self.shape.weather.process_every;
        if every > 0 {
            let after = self.rng.within(MILLI, 2 * every);
            self.enter(self.now + after, Event::Trouble(process));
        }
    }

    /// The phases that a process is in.
    pub(super) fn phases(&self, process: usize) -> impl Iterator<Item = Phase> + use<> {
        let p = &self.processes[process];
        let (in_flight, holds) = (p.in_flight, p.holds);
        let (in_line, handed_on) = (holds > 0 && p.waits > 0, p.handed_on > 0);
        let holds_slot = p.slots > 0;
        let busy = in_flight.iter().any(|n| *n > 0);
        PHASES.into_iter().filter(move |phase| match phase {
            Phase::Hold => holds > 0 && !busy,
            Phase::Rest => holds == 0 && !busy,
            Phase::Queue => in_line,
            Phase::HandedOff => handed_on,
            Phase::HoldSlot => holds_slot,
            other => in_flight[*other as usize] > 0,
        })
    }

    /// A fault has hit a process, in whatever it was doing.
    pub(super) fn met(&mut self, process: usize, fault: Fault) {
        for phase in self.phases(process) {
            self.coverage.met(fault, phase);
        }
    }

    fn trouble(&mut self, process: usize, step: &mut Step) {
        self.plan_trouble(process);
        if self.processes[process].still != Still::Running {
            return;
        }
        let machine = self.shape.machine_pauses;
        let fault = self.rng.pick(&[
            Fault::Stop,
            Fault::Stop,
            if machine {
                Fault::MachinePause
            } else {
                Fault::Suspend
            },
            Fault::Suspend,
            Fault::Crash,
            Fault::WallForward,
            // Where pauses show up in the wall clock only, it must not be set back.
            if machine {
                Fault::MachinePause
            } else {
                Fault::WallBack
            },
        ]);
        let lease = u64::try_from(self.shape.lease.as_nanos()).unwrap_or(SECOND);
        let length = match self.rng.below(3) {
            0 => self.rng.within(MILLI, lease / 4),
            1 => self.rng.within(lease / 4, lease * 3 / 2),
            _ => self.rng.within(lease, lease * 3),
        };
        self.met(process, fault);
        let now = self.now;
        self.trace.note(
            now,
            "trouble",
            [process as u64, fault as u64, length],
            || format!("p{process}: {fault:?} for {} ms", length / MILLI),
        );
        let foreign = self.shape.processes[process].foreign;
        let p = &mut self.processes[process];
        p.disturbances += 1;
        p.disturbed_at = now;
        p.slept = 0;
        match fault {
            Fault::Stop => p.still = Still::Stopped,
            Fault::Suspend => {
                p.still = Still::Suspended;
                p.slept = length;
            }
            Fault::MachinePause => p.still = Still::MachinePaused { since: now },
            Fault::Crash => {
                p.still = Still::Dead;
                p.incarnation += 1;
                p.in_flight = [0; IN_FLIGHT];
                p.holds = 0;
                p.handed_on = 0;
                p.slots = 0;
                p.waits = 0;
                step.crash = Some(process);
                self.enter(now + length, Event::Start(process));
                return;
            }
            // An F# client's clock is within S of the service's, or nothing is promised.
            _ if foreign => return,
            Fault::WallForward | Fault::WallBack => {
                let size = self.rng.pick(&[200, 1_100, 5_000, 70_000, 4_000_000]);
                let size = self.rng.within(1, size).cast_signed();
                let sign = if fault == Fault::WallBack { -1 } else { 1 };
                self.processes[process].skew_ms += sign * size;
                step.look = true;
                return;
            }
            _ => {}
        }
        self.enter(now + length, Event::Resume(process));
    }

    fn resume(&mut self, process: usize, step: &mut Step) {
        let now = self.now;
        let slept = self.processes[process].slept;
        let p = &mut self.processes[process];
        if let Still::MachinePaused { since } = p.still {
            p.uncounted += now - since;
        }
        if p.still == Still::Dead {
            return;
        }
        let was = std::mem::replace(&mut p.still, Still::Running);
        p.disturbed_at = now;
        self.trace.note(now, "resume", [process as u64, 0, 0], || {
            format!("p{process}")
        });
        if was != Still::Stopped {
            // Timers stopped in the suspend: they come late, by the rest of a sleep at most.
            for slot in 0..self.timers.len() {
                let timer = &self.timers[slot];
                if timer.process == process && timer.waker.is_some() && !timer.fired {
                    let late = match was {
                        Still::Suspended => self.rng.below(slept.min(LONGEST_SLEEP)),
                        _ => 0,
                    };
                    let due = self.true_time_of(process, self.timers[slot].at);
                    if let Some(due) = due
                        && due < now + late
                    {
                        let generation = self.timers[slot].generation;
                        self.enter(now + late, Event::Timer { slot, generation });
                    } else if matches!(was, Still::MachinePaused { .. }) {
                        self.arm(slot);
                    }
                }
            }
        }
        step.run = Some(process);
        step.look = true;
    }

    /// A process starts in the place of a dead one.
    pub(super) fn started(&mut self, process: usize) {
        self.processes[process].still = Still::Running;
        self.processes[process].service_clock = ServiceClock::new(ClockBounds::default());
        let now = self.now;
        self.trace.note(now, "start", [process as u64, 0, 0], || {
            format!("p{process}")
        });
    }

    fn sweep(&mut self) {
        let after = self.rng.within(100 * MILLI, 3 * SECOND);
        self.enter(self.now + after, Event::Sweep);
        let index = self.rng.below(self.shape.keys as u64) as usize;
        // Without a `Date` a host with a wrong clock has its records deleted too early; nothing is
        // promised about it.
        if self.shape.dateless || !self.service.expire(self.now, index) {
            return;
        }
        for process in 0..self.processes.len() {
            self.met(process, Fault::Deleted);
        }
        self.trace.note(self.now, "ttl", [index as u64, 0, 0], || {
            format!("k{index}")
        });
    }
}
