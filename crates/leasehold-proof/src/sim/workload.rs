//! The calls of the processes: the public calls of the library, in every order and with every outcome.
//!
//! A script checks that none of its calls takes longer than its bound; the driver judges S1 and S5. Calls during a stop of
//! the process are not measured.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leasehold::clock::Clock;
use leasehold::store::Reply;
use leasehold::{
    DropPolicy, Effect, EndReason, Lease, LeaseId, LeaseWatch, LockClient, Once, OnceError,
};

use super::clock::ProcessClock;
use super::coverage::Fault;
use super::random::Rng;
use super::request::{Body, Value};
use super::service::{ForeignWrite, foreign_owner};
use super::shape::{CALL_TIMEOUT, FAIR_HOLD, MILLI, Nanos, millis};
use super::wire::Wire;
use super::world::{Event, Notice, Shared};

/// More than any request time-out of the policies here.
const REQUEST: Duration = Duration::from_millis(1_600);
/// Clocks have a grain.
const GRAIN: Duration = Duration::from_millis(2);

/// One more, or one less.
fn count(number: &mut u32, more: bool) {
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
            let locks = self.locks.clone();
            let Ok(request) = locks.request("k0") else {
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
        let keys = self.world.lock().shape.keys as u64;
        format!("k{}", self.rng.below(keys))
    }

    async fn sleep(&self, by: Duration) {
        self.clock.sleep_until(self.clock.elapsed().plus(by)).await;
    }

    fn lease_ms(&self) -> u64 {
        millis(self.locks.policy().lease_duration()).unsigned_abs()
    }

    /// Runs a call and checks that it ends within its bound.
    async fn timed<T>(
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
    async fn perhaps<T>(
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

    fn patience(&mut self) -> Option<Duration> {
        match self.rng.below(10) {
            0 | 1 => Some(Duration::from_millis(self.rng.within(0, 60))),
            2 => Some(Duration::from_millis(self.rng.within(0, 4_000))),
            _ => None,
        }
    }

    async fn try_once(&mut self, key: &str) {
        let (called, patience) = (self.now(), self.patience());
        let locks = self.locks.clone();
        let call = self.timed("try_acquire", CALL_TIMEOUT, locks.try_acquire(key));
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
        let locks = self.locks.clone();
        let Ok(mut request) = locks.request(key) else {
            return;
        };
        if self.crowd {
            // Some want another grant than the one before them has.
            match self.rng.below(12) {
                0 => request = request.data("x"),
                1 => request = request.lease_duration(locks.policy().lease_duration() * 2),
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
        let locks = self.locks.clone();
        let Ok(request) = locks.request(key) else {
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
            let found = world.service.slots[index].runs.tell(token, result, own);
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

    /// Works under a lease, and lets go of it in one way or another.
    async fn hold(&mut self, lease: Lease) {
        let handed_on = lease.token().pass() > 0;
        self.holds(true, handed_on);
        self.work_under(&lease).await;
        let patience = self.patience();
        let settled = CALL_TIMEOUT + REQUEST * 2;
        // A crowd seldom detaches: nothing is handed on then.
        let way = if self.crowd && self.rng.chance(80) {
            self.rng.below(7)
        } else {
            self.rng.below(10)
        };
        match way {
            0..5 => {
                let call = self.timed("release", settled, lease.release());
                drop(self.perhaps(patience, call).await);
            }
            5..7 => drop(lease),
            _ => {
                let call = self.timed("detach", REQUEST * 4, lease.detach());
                if let Some(Ok(id)) = self.perhaps(patience, call).await {
                    self.world.lock().mail.push(id.to_string());
                }
            }
        }
        self.holds(false, handed_on);
    }

    async fn work_under(&mut self, lease: &Lease) {
        let longest = if self.crowd && self.rng.chance(85) {
            250
        } else {
            self.lease_ms() * 3
        };
        let end = self.rng.within(0, longest);
        let end = self.clock.elapsed().plus(Duration::from_millis(end));
        while self.clock.elapsed() < end {
            let step = Duration::from_millis(self.rng.within(10, 1_500));
            tokio::select! {
                biased;
                _ = lease.lost() => {
                    // Some writers do not check their lease; the register checks the token.
                    let delay = self.rng.below(4_000) * MILLI;
                    self.write_register(&lease.watch(), delay);
                    return;
                }
                () = self.sleep(step) => {}
            }
            if lease.is_held() || self.rng.chance(20) {
                let delay = self.rng.below(1 + self.lease_ms()) * MILLI;
                self.write_register(&lease.watch(), delay);
            }
            if self.rng.chance(25) {
                let (patience, bound) = (self.patience(), self.lease_bound());
                let call = self.timed("renew", bound, lease.renew());
                drop(self.perhaps(patience, call).await);
            }
        }
    }

    /// `renew` ends within the lease; an adopted lease may be longer than ours.
    fn lease_bound(&self) -> Duration {
        self.locks.policy().lease_duration() * 2
    }

    fn holds(&self, more: bool, handed_on: bool) {
        let process = &mut self.world.lock().processes[self.process];
        count(&mut process.holds, more);
        if handed_on {
            count(&mut process.handed_on, more);
        }
    }

    fn waits(&self, more: bool) {
        count(&mut self.world.lock().processes[self.process].waits, more);
    }

    fn now(&self) -> Nanos {
        self.world.lock().now
    }

    fn write_register(&self, signal: &LeaseWatch, delay: Nanos) {
        let id = signal.id();
        let token = id.token().stored();
        let mut world = self.world.lock();
        let index = world.service.index(id.key().as_str());
        let grants = &world.service.slots[index].grants;
        let place = grants
            .iter()
            .rposition(|g| g.attempt == Some(id.attempt()) && g.token == token);
        let token = id.token().get();
        if let Some(place) = place {
            let at = world.now + delay;
            world.enter(
                at,
                Event::Register {
                    index,
                    place,
                    token,
                },
            );
        }
    }

    /// Tells the driver of a grant, and watches for its loss.
    #[expect(
        clippy::disallowed_methods,
        reason = "a task of the simulated process, which ends with it"
    )]
    fn granted(&self, signal: &LeaseWatch, called: Nanos) {
        let id = signal.id().clone();
        let token = id.token().get();
        let left = signal.remaining();
        {
            let mut world = self.world.lock();
            world.acquisitions += 1;
            world.hand_offs += u64::from(id.token().pass() > 0);
            let place = world
                .service
                .show(id.key().as_str(), id.attempt(), id.token());
            let index = world.service.index(id.key().as_str());
            let grant = place.map(|place| world.service.slots[index].grants[place].clone());
            let now = world.now;
            let numbers = [self.process as u64, token, place.unwrap_or(0) as u64];
            world.trace.note(now, "granted", numbers, || {
                format!("p{} got {} token {token}", self.process, id.key())
            });
            world.notices.push(Notice::Granted {
                process: self.process,
                place,
                grant,
                called,
                left,
                signal: signal.clone(),
            });
        }
        let (world, process, signal) = (self.world.clone(), self.process, signal.clone());
        let lead_ms = millis(self.locks.policy().safety_margin());
        drop(tokio::spawn(async move {
            let loss = signal.ended().await;
            let expired = matches!(loss, EndReason::Expired { .. });
            let mut world = world.lock();
            let now = world.now;
            world.hand_offs_lost += u64::from(expired && signal.id().token().pass() > 0);
            let numbers = [process as u64, token, u64::from(expired)];
            world.trace.note(now, "lost", numbers, || {
                format!("p{process} {}: {loss}", signal.id().key())
            });
            world.notices.push(Notice::Lost {
                attempt: signal.id().attempt(),
                token,
                expired,
                lead_ms,
                process,
            });
        }));
    }
}

/// One client of FSharp.DynamoDbLock at work: PutItem, DeleteItem, its own wall clock, no renewal.
pub(super) struct ForeignScript {
    pub(super) wire: Wire,
    pub(super) clock: ProcessClock,
    pub(super) rng: Rng,
}

impl ForeignScript {
    /// Works until the world ends.
    pub(super) async fn work(mut self) {
        let (world, process) = (self.wire.world.clone(), self.wire.process);
        loop {
            self.sleep(200, 2_500).await;
            let (keys, lease) = {
                let world = world.lock();
                (world.shape.keys as u64, millis(world.shape.lease))
            };
            let key = format!("k{}", self.rng.below(keys));
            let owner = self.rng.bits();
            let now_ms = self.clock.wall_unix_ms();
            let until_ms = now_ms + lease;
            let put = ForeignWrite::Put {
                key: key.clone(),
                owner: foreign_owner(owner),
                expires_ms: until_ms,
                now_ms,
            };
            if !self.ask(put).await {
                continue;
            }
            {
                let mut world = world.lock();
                world.acquisitions += 1;
                let index = world.service.index(&key);
                world.notices.push(Notice::ForeignHeld {
                    process,
                    index,
                    owner,
                    until_ms,
                });
                world.processes[process].holds += 1;
            }
            self.sleep(0, lease.unsigned_abs() * 3 / 2).await;
            world.lock().notices.push(Notice::ForeignDone { owner });
            world.lock().processes[process].holds -= 1;
            if self.rng.chance(70) {
                let owner = foreign_owner(owner);
                self.ask(ForeignWrite::Delete { key, owner }).await;
            }
        }
    }

    async fn sleep(&mut self, least_ms: u64, most_ms: u64) {
        let by = Duration::from_millis(self.rng.within(least_ms, most_ms));
        self.clock.sleep_until(self.clock.elapsed().plus(by)).await;
    }

    async fn ask(&self, write: ForeignWrite) -> bool {
        let answer = self.wire.ask(Body::Foreign(write)).await;
        matches!(
            answer,
            Ok(Reply {
                value: Value::Foreign(true),
                ..
            })
        )
    }
}
