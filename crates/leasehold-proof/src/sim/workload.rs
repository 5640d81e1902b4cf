//! The calls of the processes: the public calls of the library, in every order and with every outcome.
//!
//! A script checks that none of its calls takes longer than its bound; the driver judges S1 and S5. Calls during a stop of
//! the process are not measured.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leasehold::clock::Clock;
use leasehold::{DropPolicy, Effect, Error, LeaseId, LockClient, LockRequest, Once, OnceError};

use super::clock::ProcessClock;
use super::coverage::Fault;
use super::random::Rng;
use super::shape::{CALL_TIMEOUT, FAIR_HOLD, MILLI, Nanos, millis};
use super::world::Shared;

/// More than any request time-out of the policies here.
pub(super) const REQUEST: Duration = Duration::from_millis(1_600);
/// Clocks have a grain.
const GRAIN: Duration = Duration::from_millis(2);

/// One more, or one less.
pub(super) fn count(number: &mut u32, more: bool) {
    *number = if more {
        *number + 1
    } else {
        number.saturating_sub(1)
    };
}

/// One process of ours at work.
pub(super) struct Script {
    pub(super) world: Shared,
    pub(super) process: usize,
    pub(super) clock: ProcessClock,
    pub(super) locks: LockClient,
    pub(super) rng: Rng,
    /// One of many tasks of its process: in a hurry, and mostly waiting.
    pub(super) crowd: bool,
}

impl Script {
    /// Works until the world ends.
    pub(super) async fn work(mut self) {
        if self.world.lock().shape.fair {
            return self.take_turns().await;
        }
        while self.crowd {
            let idle = self.rng.within(0, 300);
            self.sleep(Duration::from_millis(idle)).await;
            let key = self.key();
            match self.rng.below(10) {
                0 => self.try_once(&key).await,
                1..8 => self.wait_for(&key).await,
                _ => self.run_under(&key).await,
            }
        }
        let keep = self.world.lock().shape.keep;
        loop {
            let idle = self.rng.within(0, 2_000);
            self.sleep(Duration::from_millis(idle)).await;
            if let Some(keep) = keep
                && self.rng.chance(70)
            {
                self.once(keep).await;
                continue;
            }
            let key = self.key();
            match self.rng.below(100) {
                0..25 => self.try_once(&key).await,
                25..62 => self.wait_for(&key).await,
                62..78 => self.run_under(&key).await,
                78..92 => self.take_up().await,
                92..96 => {
                    let bound = CALL_TIMEOUT + REQUEST;
                    let locks = self.locks.clone();
                    drop(self.timed("inspect", bound, locks.inspect(&key)).await);
                }
                _ => {
                    let mut lister = self.locks.list();
                    drop(
                        self.timed("list", CALL_TIMEOUT * 2, lister.next_page())
                            .await,
                    );
                }
            }
        }
    }

    /// Waits for its turn, holds the key for a moment, and hands it over.
    async fn take_turns(mut self) {
        loop {
            let idle = self.rng.within(0, 500);
            self.sleep(Duration::from_millis(idle)).await;
            let called = self.now();
            let Ok(request) = self.request("k0") else {
                return;
            };
            if let Ok(lease) = request.wait(Duration::from_secs(3_600)).acquire().await {
                self.granted(&lease.watch(), called);
                let hold = self.rng.within(0, millis(FAIR_HOLD).unsigned_abs());
                self.sleep(Duration::from_millis(hold)).await;
                drop(lease.release().await);
            }
        }
    }

    fn key(&mut self) -> String {
        let (keys, slots) = {
            let shape = &self.world.lock().shape;
            (shape.keys as u64, shape.slots)
        };
        let last = slots.is_some() && self.rng.chance(70);
        let number = if last { keys - 1 } else { self.rng.below(keys) };
        format!("k{number}")
    }

    /// A request for a key, or for a slot of it.
    fn request(&mut self, key: &str) -> Result<LockRequest, Error> {
        let wants = {
            let world = self.world.lock();
            let last = world.service.index(key) + 1 == world.shape.keys;
            world.shape.slots.filter(|_| last)
        };
        match wants {
            Some(wants) => wants.request(key, &self.locks, &mut self.rng),
            None => self.locks.request(key),
        }
    }

    pub(super) async fn sleep(&self, by: Duration) {
        self.clock.sleep_until(self.clock.elapsed().plus(by)).await;
    }

    pub(super) fn lease_ms(&self) -> u64 {
        millis(self.locks.policy().lease_duration()).unsigned_abs()
    }

    /// Runs a call and checks that it ends within its bound.
    pub(super) async fn timed<T>(
        &self,
        name: &'static str,
        bound: Duration,
        call: impl Future<Output = T>,
    ) -> T {
        let disturbances = || self.world.lock().processes[self.process].disturbances;
        let (before, started) = (disturbances(), self.clock.elapsed());
        let value = call.await;
        let took = self.clock.elapsed().since(started);
        if took > bound + GRAIN && disturbances() == before {
            let mut world = self.world.lock();
            let text = format!(
                "p{}: {name} took {took:?}, its bound is {bound:?}",
                self.process
            );
            world.service.violations.push(("bound", text));
        }
        value
    }

    /// Runs a call, or, in some of the cases, a part of it: then its future is dropped.
    pub(super) async fn perhaps<T>(
        &self,
        drop_after: Option<Duration>,
        call: impl Future<Output = T>,
    ) -> Option<T> {
        let Some(after) = drop_after else {
            return Some(call.await);
        };
        tokio::select! {
            biased;
            value = call => Some(value),
            () = self.sleep(after) => {
                let mut world = self.world.lock();
                world.met(self.process, Fault::Cancel);
                let now = world.now;
                world.trace.note(now, "cancel", [self.process as u64, 0, 0], || format!("p{}", self.process));
                None
            }
        }
    }

    pub(super) fn patience(&mut self) -> Option<Duration> {
        match self.rng.below(10) {
            0 | 1 => Some(Duration::from_millis(self.rng.within(0, 60))),
            2 => Some(Duration::from_millis(self.rng.within(0, 4_000))),
            _ => None,
        }
    }

    async fn try_once(&mut self, key: &str) {
        let (called, patience) = (self.now(), self.patience());
        let Ok(request) = self.request(key) else {
            return;
        };
        let call = self.timed("try_acquire", CALL_TIMEOUT, request.try_acquire());
        if let Some(Ok(answer)) = self.perhaps(patience, call).await
            && let Some(lease) = answer.into_lease()
        {
            self.granted(&lease.watch(), called);
            self.hold(lease).await;
        }
    }

    async fn wait_for(&mut self, key: &str) {
        let (called, patience) = (self.now(), self.patience());
        let wait = Duration::from_millis(self.rng.within(200, 15_000));
        let Ok(mut request) = self.request(key) else {
            return;
        };
        if self.crowd {
            let usual = self.locks.policy().lease_duration();
            // Some want another grant than the one before them has.
            match self.rng.below(12) {
                0 => request = request.data("x"),
                1 => request = request.lease_duration(usual * 2),
                2 => request = request.drop_policy(DropPolicy::LeaveToExpire),
                _ => {}
            }
        }
        let call = self.timed("acquire", wait, request.wait(wait).acquire());
        self.waits(true);
        let answer = self.perhaps(patience, call).await;
        self.waits(false);
        if let Some(Ok(lease)) = answer {
            self.granted(&lease.watch(), called);
            self.hold(lease).await;
        }
    }

    async fn run_under(&mut self, key: &str) {
        let (called, patience) = (self.now(), self.patience());
        let longest = if self.crowd { 300 } else { self.lease_ms() * 2 };
        let work = Duration::from_millis(self.rng.within(1, longest));
        let delay = self.rng.below(3_000) * MILLI;
        let wait = Duration::from_secs(4);
        let Ok(request) = self.request(key) else {
            return;
        };
        let this = &*self;
        let call = request.wait(wait).run(|scope| {
            let signal = scope.watch();
            this.granted(&signal, called);
            async move {
                this.sleep(work / 2).await;
                this.write_register(&signal, delay);
                this.sleep(work / 2).await;
            }
        });
        // The work, the release of it; or what is left when the lease is lost.
        let bound = wait + work + CALL_TIMEOUT + REQUEST * 2;
        let call = this.timed("run", bound, call);
        drop(this.perhaps(patience, call).await);
    }

    /// Work that runs once and is remembered, on the last key of the world.
    async fn once(&mut self, keep: Duration) {
        let (called, patience) = (self.now(), self.patience());
        let key = format!("k{}", self.world.lock().shape.keys - 1);
        let most = if self.rng.chance(60) {
            300
        } else {
            self.lease_ms() * 3 / 2
        };
        let work = Duration::from_millis(self.rng.within(1, most));
        let wait = Duration::from_millis(self.rng.within(0, 9_000));
        let (fails, for_good) = (self.rng.chance(15), self.rng.chance(30));
        let first = self.rng.chance(30);
        let result = self.rng.bits().to_be_bytes().to_vec();
        let locks = self.locks.clone();
        let Ok(request) = locks.once(&key) else {
            return;
        };
        let request = request.keep(keep).remember_failures(for_good);
        let request = request.acquires_first(first).wait(wait);
        let token = AtomicU64::new(0);
        let this = &*self;
        let (own, said) = (&token, &result);
        let call = request.run(|scope| {
            own.store(scope.token().stored(), Ordering::Relaxed);
            this.granted(&scope.watch(), called);
            async move {
                this.sleep(work).await;
                match fails {
                    true => Err("failed"),
                    false => Ok(said.clone()),
                }
            }
        });
        // The way to the grant, the work, its completion; or what is left when the lease is lost.
        let bound = wait + work + CALL_TIMEOUT * 3 + REQUEST * 2;
        let call = this.timed("once", bound, call);
        let answer = this.perhaps(patience, call).await;
        let own = token.load(Ordering::Relaxed);
        let told = |token: u64, result: Option<&[u8]>, own: bool| {
            let mut world = this.world.lock();
            let index = world.service.index(&key);
            let found = world.service.items[index].runs.tell(token, result, own);
            let text = found.map(|text| format!("p{}: {text}", this.process));
            world
                .service
                .violations
                .extend(text.map(|text| ("S7", text)));
        };
        match answer {
            Some(Ok(Once::Ran(value))) => told(own, Some(&value), true),
            Some(Ok(Once::Done(done)) | Err(OnceError::FailedBefore(done))) => {
                let token = done.token().map_or(0, |token| token.stored());
                told(token, done.result(), false);
            }
            Some(Err(OnceError::NotRecorded { error, .. }))
                if error.effect() == Effect::NotApplied =>
            {
                self.world.lock().service.deny(&key, own);
            }
            _ => {}
        }
    }

    /// Adopts or releases a detached lease.
    async fn take_up(&mut self) {
        let mail = self.world.lock().mail.pop();
        let Some(Ok(id)) = mail.map(|text| text.parse::<LeaseId>()) else {
            return;
        };
        let (called, patience) = (self.now(), self.patience());
        let locks = self.locks.clone();
        if self.rng.chance(30) {
            let call = self.timed("release by id", CALL_TIMEOUT + REQUEST, locks.release(&id));
            drop(self.perhaps(patience, call).await);
            return;
        }
        let attempt = id.attempt().to_string();
        self.world.lock().service.adopted.insert(attempt);
        let call = self.timed("adopt", (CALL_TIMEOUT + REQUEST) * 2, locks.adopt(&id));
        if let Some(Ok(lease)) = self.perhaps(patience, call).await {
            self.granted(&lease.watch(), called);
            self.hold(lease).await;
        }
    }

    fn waits(&self, more: bool) {
        count(&mut self.world.lock().processes[self.process].waits, more);
    }

    fn now(&self) -> Nanos {
        self.world.lock().now
    }
}
