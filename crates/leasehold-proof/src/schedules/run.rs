//! One schedule.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use leasehold::clock::{Clock, ManualClock};
use leasehold::store::memory::MemoryStore;
use leasehold::store::{Consistency, Store};
use leasehold::{DropPolicy, LeaseWatch, LockClient, Policy};
use leasehold_protocol::time::Elapsed;
use tokio::task::AbortHandle;

use super::wire::Wire;
use crate::sim::host::Host;
use crate::sim::random::{ProcessRandom, Rng};

const MS: Duration = Duration::from_millis(1);
const LEASE: Duration = Duration::from_secs(3);
const KEY: &str = "k";
/// How long the key may be free while a waiter that runs waits for it.
const FREE: Duration = Duration::from_secs(8);
/// By then every running waiter has had the key.
const CALM: Duration = Duration::from_secs(90);

/// What schedules have shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    acquisitions: u64,
    hand_offs: u64,
    across: u64,
    ended: u64,
    stalls: u64,
    left: u64,
    late: u64,
    failures: u64,
    overdue: u64,
}

impl Shown {
    pub(super) fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("acquisitions", self.acquisitions),
            ("of them by hand-off", self.hand_offs),
            ("and to another runtime", self.across),
            ("runtimes that ended", self.ended),
            ("runtimes that stood still", self.stalls),
            ("waiters and guards that were dropped", self.left),
            ("polls by hand", self.late),
            ("requests that met an outage", self.failures),
            ("leases that ran out", self.overdue),
        ]
        .into_iter()
    }

    pub(super) fn add(&mut self, other: &Shown) {
        self.acquisitions += other.acquisitions;
        self.hand_offs += other.hand_offs;
        self.across += other.across;
        self.ended += other.ended;
        self.stalls += other.stalls;
        self.left += other.left;
        self.late += other.late;
        self.failures += other.failures;
        self.overdue += other.overdue;
    }
}

/// The events of the programs of a schedule.
#[derive(Debug, Default)]
struct Book {
    guards: Mutex<Vec<LeaseWatch>>,
    acquisitions: AtomicU64,
    hand_offs: AtomicU64,
    across: AtomicU64,
    overdue: AtomicU64,
    /// The runtime that had the guard of the last acquisition.
    last: Mutex<Option<usize>>,
}

struct Runtime {
    host: Option<Host>,
    /// It stands still until then.
    until: Elapsed,
}

/// A program that waits for the key, has it for a while, and gives it back.
struct Waiter {
    runtime: usize,
    /// It has the key.
    holds: Arc<AtomicBool>,
    done: Arc<AtomicBool>,
    how: How,
}

enum How {
    Task(AbortHandle),
    ByHand(Pin<Box<dyn Future<Output = ()> + Send>>),
    Gone,
}

struct Schedule {
    clock: ManualClock,
    wire: Arc<Wire>,
    clients: Vec<LockClient>,
    runtimes: Vec<Runtime>,
    waiters: Vec<Waiter>,
    book: Arc<Book>,
    rng: Rng,
}

/// Runs a seed; the inner error is a broken promise.
pub(super) fn run(seed: u64, shown: &mut Shown) -> anyhow::Result<Result<(), String>> {
    let mut schedule = Schedule::new(seed)?;
    let steps = schedule.rng.within(20, 120);
    let mut ended = Ok(());
    for _ in 0..steps {
        schedule.step(shown)?;
        ended = schedule.judge();
        if ended.is_err() {
            break;
        }
    }
    if ended.is_ok() {
        ended = schedule.calm();
    }
    let book = &schedule.book;
    shown.acquisitions += book.acquisitions.load(Ordering::Relaxed);
    shown.hand_offs += book.hand_offs.load(Ordering::Relaxed);
    shown.across += book.across.load(Ordering::Relaxed);
    shown.overdue += book.overdue.load(Ordering::Relaxed);
    shown.failures += schedule.wire.failures.load(Ordering::Relaxed);
    // Futures first: they may belong to a runtime.
    schedule.waiters.clear();
    Ok(ended)
}

impl Schedule {
    fn new(seed: u64) -> anyhow::Result<Schedule> {
        let mut rng = Rng::new(seed, 1);
        let clock = ManualClock::new(1_800_000_000_000);
        let memory = MemoryStore::with_clock(Arc::new(clock.clone()));
        let wire = Arc::new(Wire::new(memory, clock.clone(), Rng::new(seed, 2)));
        let policy = Policy::builder()
            .lease_duration(LEASE)
            .margin(MS * 200)
            .call_timeout(Duration::from_secs(5))
            .wait_forever()
            .build()?;
        let count = if rng.chance(70) { 1 } else { 2 };
        let clients = (0..count)
            .map(|n| {
                let ids = Rng::new(seed, 10 + n);
                let jitter = Rng::new(seed, 20 + n);
                LockClient::builder(wire.clone())
                    .policy(policy.clone())
                    .clock(Arc::new(clock.clone()))
                    .random(Arc::new(ProcessRandom::new(ids, jitter)))
                    .build()
            })
            .collect();
        let runtimes = (0..rng.within(1, 3))
            .map(|_| {
                Ok(Runtime {
                    host: Some(Host::new()?),
                    until: Elapsed::default(),
                })
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Schedule {
            clock,
            wire,
            clients,
            runtimes,
            waiters: Vec::new(),
            book: Arc::default(),
            rng,
        })
    }

    fn step(&mut self, shown: &mut Shown) -> anyhow::Result<()> {
        match self.rng.below(100) {
            0..16 if self.waiters.len() < 8 => self.begin(),
            0..40 => {
                let runtime = self.rng.below(self.runtimes.len() as u64) as usize;
                let polls = self.rng.pick(&[1, 2, 3, 5, 9, 50]);
                self.drive(runtime, polls);
            }
            40..50 => {
                let most = self.rng.pick(&[1, 10, 60, 300, 1_500, 4_000]);
                let time = MS * u32::try_from(self.rng.within(1, most))?;
                self.clock.advance(time);
            }
            50..62 => {
                // All that runs, for a moment.
                for _ in 0..self.rng.within(1, 8) {
                    self.clock.advance(MS * 25);
                    self.drive_all(20);
                }
            }
            62..82 => {
                let by_hand = self.waiters.iter_mut().enumerate();
                let by_hand: Vec<_> = by_hand
                    .filter(|(_, waiter)| matches!(waiter.how, How::ByHand(_)))
                    .map(|(n, _)| n)
                    .collect();
                if !by_hand.is_empty() {
                    let which = self.rng.pick(&by_hand);
                    shown.late += 1;
                    self.poll(which);
                }
            }
            82..88 => {
                if !self.waiters.is_empty() {
                    let which = self.rng.below(self.waiters.len() as u64) as usize;
                    shown.left += u64::from(!self.waiters[which].done.load(Ordering::Relaxed));
                    self.drop_waiter(which);
                }
            }
            88..93 => {
                let outage = self.rng.chance(50);
                self.wire.set_outage(outage);
            }
            93..98 => {
                let time = MS * u32::try_from(self.rng.within(500, 12_000))?;
                let until = self.clock.elapsed().plus(time);
                let which = self.rng.below(self.runtimes.len() as u64) as usize;
                self.runtimes[which].until = until;
                shown.stalls += 1;
            }
            _ => {
                let which = self.rng.below(self.runtimes.len() as u64) as usize;
                self.end(which);
                shown.ended += 1;
                // A server goes on with another one.
                self.runtimes[which].host = Some(Host::new()?);
            }
        }
        Ok(())
    }

    /// A waiter more.
    fn begin(&mut self) {
        let runtime = self.rng.below(self.runtimes.len() as u64) as usize;
        let Some(host) = &self.runtimes[runtime].host else {
            return;
        };
        let locks = self.rng.below(self.clients.len() as u64) as usize;
        let (done, holds) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let program = Program {
            locks: self.clients[locks].clone(),
            clock: self.clock.clone(),
            book: self.book.clone(),
            done: done.clone(),
            holds: holds.clone(),
            runtime,
            hold: MS * self.rng.pick(&[0, 1, 50, 400]),
            rounds: self.rng.within(1, 3),
            releases: self.rng.chance(70),
            other: self.rng.chance(15),
        };
        let how = if self.rng.chance(60) {
            How::Task(host.spawn_abortable(program.run()))
        } else {
            How::ByHand(Box::pin(program.run()))
        };
        self.waiters.push(Waiter {
            runtime,
            holds,
            done,
            how,
        });
    }

    fn drive(&self, which: usize, polls: u32) {
        let runtime = &self.runtimes[which];
        if let Some(host) = &runtime.host
            && self.clock.elapsed() >= runtime.until
        {
            host.run_some(polls);
        }
    }

    fn drive_all(&self, polls: u32) {
        (0..self.runtimes.len()).for_each(|which| self.drive(which, polls));
    }

    fn poll(&mut self, which: usize) {
        let waiter = &mut self.waiters[which];
        let Some(host) = &self.runtimes[waiter.runtime].host else {
            return;
        };
        let _entered = host.enter();
        if let How::ByHand(future) = &mut waiter.how
            && future
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_ready()
        {
            waiter.how = How::Gone;
        }
    }

    fn drop_waiter(&mut self, which: usize) {
        let waiter = self.waiters.swap_remove(which);
        let host = self.runtimes[waiter.runtime].host.as_ref();
        let _entered = host.map(Host::enter);
        match waiter.how {
            How::Task(task) => task.abort(),
            How::ByHand(future) => drop(future),
            How::Gone => {}
        }
    }

    /// A runtime ends, with every task on it; what was polled there by hand is dropped, too.
    fn end(&mut self, which: usize) {
        while let Some(gone) = self.waiters.iter().position(|w| w.runtime == which) {
            if self.rng.chance(50) {
                self.drop_waiter(gone);
            } else {
                self.waiters.swap_remove(gone);
            }
        }
        self.runtimes[which].host = None;
    }

    /// S1, at this moment.
    fn judge(&self) -> Result<(), String> {
        let mut guards = self
            .book
            .guards
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        guards.retain(|guard| !guard.remaining().is_zero());
        if guards.len() < 2 {
            return Ok(());
        }
        let tokens: Vec<_> = guards.iter().map(|guard| guard.id().token()).collect();
        Err(format!(
            "S1: guards with the tokens {tokens:?} hold the key"
        ))
    }

    /// Runs all runtimes fairly with a working store: every waiter there must get the key.
    fn calm(&mut self) -> Result<(), String> {
        self.wire.set_outage(false);
        let now = self.clock.elapsed();
        // One of several runtimes may stop for ever: no other depends on it.
        let still = self.runtimes.len() > 1 && self.rng.chance(30);
        for (n, runtime) in self.runtimes.iter_mut().enumerate() {
            runtime.until = if still && n == 0 { Elapsed::NEVER } else { now };
        }
        // And one by hand may never be polled again.
        let kept = self.rng.chance(30).then(|| self.rng.below(8) as usize);
        // Except for a runtime that has the key, which may keep it.
        let waits = |kept: &usize| {
            let waiter = self.waiters.get(*kept);
            waiter.is_some_and(|waiter| !waiter.holds.load(Ordering::Relaxed))
        };
        let kept = kept.filter(waits);
        let mut free_since = None;
        loop {
            self.clock.advance(MS * 50);
            self.drive_all(60);
            for which in 0..self.waiters.len() {
                let runs = self.clock.elapsed() >= self.runtimes[self.waiters[which].runtime].until;
                if kept != Some(which) && runs {
                    self.poll(which);
                }
            }
            self.judge()?;
            let now = self.clock.elapsed();
            let waits = |(n, waiter): (usize, &Waiter)| {
                let by_hand = matches!(waiter.how, How::ByHand(_));
                let left = kept == Some(n) && by_hand;
                !left
                    && now >= self.runtimes[waiter.runtime].until
                    && !waiter.done.load(Ordering::Relaxed)
            };
            if !self.waiters.iter().enumerate().any(waits) {
                return Ok(());
            }
            let reply = futures_block_on(self.wire.memory.read(KEY, Consistency::Strong));
            let free = reply.ok_or("the memory store does not answer")?;
            if free {
                let since = *free_since.get_or_insert(now);
                if now.since(since) > FREE {
                    let who = self.describe(still, kept);
                    return Err(format!(
                        "the key is free for {FREE:?}, and somebody waits for it: {who}"
                    ));
                }
            } else {
                free_since = None;
            }
            if now.since(Elapsed::default()) > CALM + Duration::from_secs(600) {
                let who = self.describe(still, kept);
                return Err(format!("somebody has waited for too long: {who}"));
            }
        }
    }
}

impl Schedule {
    fn describe(&self, still: bool, kept: Option<usize>) -> String {
        let waiters: Vec<_> = self
            .waiters
            .iter()
            .enumerate()
            .map(|(n, waiter)| {
                let how = match &waiter.how {
                    How::Task(_) => "task",
                    How::ByHand(_) if kept == Some(n) => "kept unpolled",
                    How::ByHand(_) => "by hand",
                    How::Gone => "gone",
                };
                let done = if waiter.done.load(Ordering::Relaxed) {
                    ", done"
                } else {
                    ""
                };
                format!("{how} on {}{done}", waiter.runtime)
            })
            .collect();
        let stands = if still { ", 0 stands still" } else { "" };
        format!(
            "{} clients, {} runtimes{stands}; {}",
            self.clients.len(),
            self.runtimes.len(),
            waiters.join("; ")
        )
    }
}

/// Whether the key is free by its record. A memory store answers at the first poll.
fn futures_block_on(
    read: impl Future<
        Output = Result<
            leasehold::store::Reply<Option<leasehold_protocol::record::Record>>,
            leasehold::store::StoreError,
        >,
    >,
) -> Option<bool> {
    let mut read = std::pin::pin!(read);
    match read.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        std::task::Poll::Ready(Ok(reply)) => {
            Some(reply.value.is_none_or(|record| record.owner.is_none()))
        }
        _ => None,
    }
}

/// The program of a waiter.
struct Program {
    locks: LockClient,
    clock: ManualClock,
    book: Arc<Book>,
    done: Arc<AtomicBool>,
    holds: Arc<AtomicBool>,
    runtime: usize,
    hold: Duration,
    rounds: u64,
    releases: bool,
    /// It asks for a grant of other terms, which is not handed on to it.
    other: bool,
}

impl Program {
    async fn run(self) {
        for _ in 0..self.rounds {
            self.round().await;
        }
        self.done.store(true, Ordering::Relaxed);
    }

    async fn round(&self) {
        let Ok(mut request) = self.locks.request(KEY) else {
            return;
        };
        if self.other {
            request = request
                .label("another")
                .drop_policy(DropPolicy::LeaveToExpire);
        }
        // A store that fails for the call time-out ends a wait, which is no violation.
        let Ok(lease) = request.acquire().await else {
            return;
        };
        self.note(&lease.watch());
        self.holds.store(true, Ordering::Relaxed);
        if !self.hold.is_zero() {
            let until = self.clock.elapsed().plus(self.hold);
            self.clock.sleep_until(until).await;
        }
        if !lease.is_held() {
            self.book.overdue.fetch_add(1, Ordering::Relaxed);
        }
        if self.releases || self.other {
            // Whether the store answered is no matter here.
            let _ = lease.release().await;
        } else {
            drop(lease);
        }
        self.holds.store(false, Ordering::Relaxed);
    }

    fn note(&self, signal: &LeaseWatch) {
        let book = &self.book;
        let mut guards = book.guards.lock().unwrap_or_else(PoisonError::into_inner);
        guards.push(signal.clone());
        book.acquisitions.fetch_add(1, Ordering::Relaxed);
        let mut last = book.last.lock().unwrap_or_else(PoisonError::into_inner);
        if signal.id().token().pass() > 0 {
            book.hand_offs.fetch_add(1, Ordering::Relaxed);
            let across = last.is_some_and(|last| last != self.runtime);
            book.across.fetch_add(u64::from(across), Ordering::Relaxed);
        }
        *last = Some(self.runtime);
    }
}
