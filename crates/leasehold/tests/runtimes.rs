//! One client on several runtimes: blocked, ended, or driven only now and then. A guard is kept by the
//! runtime that has it, and no waiter depends on another's.

use crate::support;
use crate::support::gate::ms;
use leasehold::clock::SystemClock;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use leasehold::clock::{Clock, ManualClock};
use leasehold::store::memory::MemoryStore;
use leasehold::store::testing::faulty::{Fault, FaultyStore};
use leasehold::{EndReason, Error, ErrorKind, Lease, LockClient, Policy, ReleaseOutcome};
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, yield_now};

const LEASE: Duration = Duration::from_secs(20);
const SECOND: Duration = Duration::from_secs(1);

/// A memory store in time that the test moves, for runtimes that the test drives.
struct Site {
    clock: ManualClock,
    faulty: FaultyStore,
}

type Waiting = JoinHandle<Result<Lease, Error>>;

impl Site {
    fn new() -> Site {
        let clock = ManualClock::new(support::VIRTUAL_START_MS);
        let memory = MemoryStore::with_clock(Arc::new(clock.clone()));
        let faulty = FaultyStore::new(Arc::new(memory), Arc::new(clock.clone()));
        Site { clock, faulty }
    }

    fn client(&self) -> LockClient {
        let policy = Policy::builder().lease_duration(LEASE).wait_forever();
        LockClient::builder(self.faulty.clone())
            .clock(Arc::new(self.clock.clone()))
            .policy(policy.build().expect("adds up"))
            .build()
    }

    /// Lets time pass, and drives these runtimes meanwhile.
    fn pass(&self, time: Duration, runtimes: &[&Runtime]) {
        let end = self.clock.elapsed().plus(time);
        loop {
            runtimes.iter().for_each(|runtime| drive(runtime));
            let now = self.clock.elapsed();
            if now >= end {
                return;
            }
            self.clock
                .advance(end.since(now).min(Duration::from_millis(50)));
        }
    }

    /// How long it takes until a waiter has the lease, while these runtimes are driven.
    fn until_acquired(&self, waiter: &mut Waiting, runtimes: &[&Runtime]) -> (Lease, Duration) {
        let started = self.clock.elapsed();
        loop {
            runtimes.iter().for_each(|runtime| drive(runtime));
            if let Some(lease) = taken(waiter) {
                return (lease, self.clock.elapsed().since(started));
            }
            let passed = self.clock.elapsed().since(started);
            assert!(passed < LEASE * 10, "still waiting after {passed:?}");
            self.clock.advance(Duration::from_millis(50));
        }
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
}

/// Lets what is ready on a runtime run.
fn drive(runtime: &Runtime) {
    runtime.block_on(async {
        for _ in 0..50 {
            yield_now().await;
        }
    });
}

fn waiter(runtime: &Runtime, locks: &LockClient) -> Waiting {
    let locks = locks.clone();
    let waiter = runtime.spawn(async move { locks.acquire("k").await });
    drive(runtime);
    waiter
}

/// What a waiter has been given, if it has.
fn taken(waiter: &mut Waiting) -> Option<Lease> {
    match Pin::new(waiter).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Pending => None,
        Poll::Ready(lease) => Some(lease.expect("not cancelled").expect("acquired")),
    }
}

#[test]
fn b1_a_guard_that_was_handed_on_is_kept_by_the_runtime_that_has_it() {
    let (site, a, b) = (Site::new(), runtime(), runtime());
    let locks = site.client();
    let first = a.block_on(locks.acquire("k")).expect("free");
    let mut second = waiter(&b, &locks);
    let outcome = a.block_on(first.release()).expect("works");
    assert_eq!(outcome, ReleaseOutcome::HandedOff);
    // The first runtime stands still from here on.
    let (second, _) = site.until_acquired(&mut second, &[&b]);
    site.pass(LEASE * 3, &[&b]);
    assert!(second.is_held(), "renewed on its own runtime");
    // And ends.
    drop(a);
    site.pass(LEASE * 3, &[&b]);
    assert!(second.is_held());
    assert!(b.block_on(second.release()).expect("works").is_released());
}

#[test]
fn b1_the_loss_of_a_guard_is_told_while_its_renewal_task_stands_still() {
    let (site, a, b) = (Site::new(), runtime(), runtime());
    let lease = a.block_on(site.client().acquire("k")).expect("free");
    let signal = lease.watch();
    let told = b.spawn(async move { signal.ended().await });
    site.pass(LEASE - SECOND * 2, &[&b]);
    assert!(!told.is_finished());
    site.pass(SECOND * 2, &[&b]);
    assert!(told.is_finished(), "told before the lease ends");
    let loss = b.block_on(told).expect("no panic");
    assert_eq!(loss, EndReason::Expired { cause: None });
    assert!(!lease.is_held());
}

#[test]
fn b2_behind_a_guard_that_is_not_driven_a_waiter_asks_once_its_lease_is_over() {
    let (site, a, b) = (Site::new(), runtime(), runtime());
    let locks = site.client();
    let lease = a.block_on(locks.acquire("k")).expect("free");
    let mut next = waiter(&b, &locks);
    let mut last = waiter(&b, &locks);
    let (next, waited) = site.until_acquired(&mut next, &[&b]);
    assert!(waited <= LEASE + SECOND, "{waited:?}");
    assert!(!lease.is_held());
    assert!(b.block_on(next.release()).expect("works").is_released());
    let (last, waited) = site.until_acquired(&mut last, &[&b]);
    assert!(waited <= SECOND, "{waited:?}");
    drop((lease, last));
}

#[test]
fn b13_a_waiter_whose_guard_died_in_its_place_goes_on_waiting() {
    let (site, a, b) = (Site::new(), runtime(), runtime());
    let locks = site.client();
    let first = a.block_on(locks.acquire("k")).expect("free");
    // Polled by hand, so that the guard lies there while its renewal task runs.
    let entered = b.enter();
    let mut slow = Box::pin(locks.acquire("k"));
    let mut poll = || Pin::new(&mut slow).poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll().is_pending());
    let outcome = a.block_on(first.release()).expect("works");
    assert_eq!(outcome, ReleaseOutcome::HandedOff);
    site.faulty.start_outage(Fault::ServerError);
    site.pass(LEASE * 2, &[&b]);
    site.faulty.end_outage();
    let mut acquired = None;
    for _ in 0..1_000 {
        if let Poll::Ready(lease) = poll() {
            acquired = Some(lease.expect("the key is free"));
            break;
        }
        site.pass(Duration::from_millis(50), &[&b]);
    }
    assert!(acquired.expect("acquired in the end").is_held());
    drop(entered);
}

#[test]
fn b14_waiters_survive_the_end_of_the_runtime_that_handed_on_to_them() {
    for round in 0..30 {
        let (site, b) = (Site::new(), runtime());
        let locks = site.client();
        let a = runtime();
        let first = a.block_on(locks.acquire("k")).expect("free");
        let mut waiters: Vec<_> = (0..24).map(|_| waiter(&b, &locks)).collect();
        let released = a.spawn(first.release());
        // The runtime ends somewhere in the hand-off, or right after it.
        a.block_on(async {
            for _ in 0..round % 6 {
                yield_now().await;
            }
        });
        drop((released, a));
        let mut longest = Duration::ZERO;
        for waiter in &mut waiters {
            let (lease, waited) = site.until_acquired(waiter, &[&b]);
            longest = longest.max(waited);
            site.pass(Duration::from_millis(20), &[&b]);
            assert!(lease.is_held(), "kept on its own runtime");
            assert!(b.block_on(lease.release()).expect("works").is_released());
        }
        // At the worst the release was lost with its runtime, and the lease ran out.
        assert!(
            longest <= LEASE + SECOND * 2,
            "{longest:?} in round {round}"
        );
    }
}

#[test]
fn b13_a_leader_that_does_not_run_holds_nobody_up() {
    let (site, a, b) = (Site::new(), runtime(), runtime());
    let (locks, other) = (site.client(), site.client());
    let held = b.block_on(other.acquire("k")).expect("free");
    // The leader polls the store for all of its client, until its runtime stands still.
    let _leader = waiter(&a, &locks);
    let mut next = waiter(&b, &locks);
    let mut last = waiter(&b, &locks);
    site.pass(SECOND * 10, &[&b]);
    assert!(b.block_on(held.release()).expect("works").is_released());
    let (next, waited) = site.until_acquired(&mut next, &[&b]);
    // The key is handed to the place of the first, which has its claim.
    assert!(waited <= SECOND * 5, "{waited:?}");
    assert!(b.block_on(next.release()).expect("works").is_released());
    let (_last, waited) = site.until_acquired(&mut last, &[&b]);
    assert!(waited <= SECOND, "{waited:?}");
}

#[test]
fn b13_a_future_that_is_kept_without_being_polled_holds_nobody_up() {
    let (site, b) = (Site::new(), runtime());
    let locks = site.client();
    let first = b.block_on(locks.acquire("k")).expect("free");
    let entered = b.enter();
    let mut kept = Box::pin(locks.acquire("k"));
    let polled = Pin::new(&mut kept).poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    let mut next = Box::pin(locks.acquire("k"));
    let mut poll = || Pin::new(&mut next).poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll().is_pending());
    drop(first);
    let started = site.clock.elapsed();
    let lease = loop {
        site.pass(Duration::from_millis(50), &[&b]);
        if let Poll::Ready(lease) = poll() {
            break lease.expect("acquired");
        }
        let waited = site.clock.elapsed().since(started);
        assert!(waited < SECOND * 4, "{waited:?}");
    };
    drop((lease, kept));
    drop(entered);
}

#[test]
fn b3_a_runtime_without_timers_is_refused_at_the_first_call() {
    let bare = tokio::runtime::Builder::new_current_thread().build();
    let locks = LockClient::new(MemoryStore::new());
    let error = bare
        .expect("a runtime")
        .block_on(async { locks.acquire("k").await })
        .expect_err("its waits would panic");
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert_eq!(error.key(), Some("k"));
    assert!(error.hint().expect("a hint").contains("enable_time"));
}

#[test]
fn f7_where_no_runtime_has_timers_every_call_is_refused_and_none_panics() {
    let mut with_timers = tokio::runtime::Builder::new_current_thread();
    let with_timers = with_timers.enable_time().build().expect("a runtime");
    let locks = LockClient::new(MemoryStore::new());
    let id = with_timers.block_on(async {
        let lease = locks.acquire("held").await.expect("free");
        lease.detach().await.expect("works")
    });
    let calls = async || {
        [
            locks.acquire("k").await.map(drop).expect_err("acquire"),
            locks.try_acquire("k").await.map(drop).expect_err("try"),
            locks.run("k", async |_| ()).await.expect_err("run"),
            locks.release(&id).await.map(drop).expect_err("release"),
            locks.adopt(&id).await.map(drop).expect_err("adopt"),
            locks.inspect("k").await.map(drop).expect_err("inspect"),
            locks.list().next_page().await.map(drop).expect_err("list"),
            locks.list().read_all().await.map(drop).expect_err("all"),
        ]
    };
    let without = tokio::runtime::Builder::new_current_thread().build();
    let without = without.expect("a runtime without timers");
    for (errors, what, to_do) in [
        (poll_once(calls()), "outside of a tokio runtime", "block_on"),
        (without.block_on(calls()), "no timers", "enable_time"),
    ] {
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
            assert!(error.message().contains(what), "{error}");
            assert!(error.hint().is_some_and(|hint| hint.contains(to_do)));
        }
    }
    // Something in the background that nothing here can wait for.
    let lease = with_timers.block_on(locks.acquire("k")).expect("free");
    assert!(!poll_once(locks.shutdown(SECOND)));
    let shut = without.block_on(locks.shutdown(SECOND));
    assert!(!shut);
    let released = with_timers.block_on(lease.release()).expect("works");
    assert!(released.is_released());
    assert!(with_timers.block_on(locks.shutdown(SECOND)));
}

/// The value of a future that needs no runtime.
fn poll_once<T>(future: impl Future<Output = T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits for something"),
    }
}

#[test]
fn f7_a_runtime_that_runs_only_during_calls_loses_the_lease() {
    let (site, a, b) = (Site::new(), runtime(), runtime());
    let lease = a.block_on(site.client().acquire("k")).expect("free");
    // The program does something else: nothing drives the runtime that is to renew.
    site.pass(LEASE, &[&b]);
    assert!(!lease.is_held());
    assert!(b.block_on(site.client().try_acquire("k")).is_ok());
    let lease = a.block_on(lease.release()).expect("the store works");
    assert!(!matches!(lease, ReleaseOutcome::Released), "{lease}");
    // One that is driven keeps it.
    let lease = a.block_on(site.client().acquire("other")).expect("free");
    site.pass(LEASE * 2, &[&a, &b]);
    assert!(lease.is_held());
}

#[test]
fn u5_a_release_is_lost_with_the_runtime_unless_it_is_waited_for() {
    let site = Site::new();
    let is_free = |key: &str| {
        let look = runtime();
        let status = look.block_on(site.client().inspect(key)).expect("works");
        status.holder().is_none()
    };
    let dropped = runtime();
    drop(dropped.block_on(site.client().acquire("dropped")));
    drop(dropped);
    assert!(!is_free("dropped"), "its lease has to run out");

    let awaited = runtime();
    awaited.block_on(async {
        let lease = site.client().acquire("awaited").await.expect("free");
        lease.release().await.expect("works");
    });
    drop(awaited);
    assert!(is_free("awaited"));

    let shut = runtime();
    shut.block_on(async {
        let locks = site.client();
        drop(locks.acquire("shut").await.expect("free"));
        assert!(locks.shutdown(SECOND).await);
    });
    drop(shut);
    assert!(is_free("shut"));
}

/// A client may be shared by runtimes, as the workers of a web server share it: one that stands still
/// holds up nobody else's lease.
#[test]
fn a_runtime_that_stands_still_silences_no_lease_of_another() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
    };
    let policy = Policy::builder()
        .lease_duration(ms(400))
        .margin(ms(20))
        .build()
        .expect("adds up");
    let locks = LockClient::builder(MemoryStore::new())
        .policy(policy)
        .build();
    let (still, busy) = (runtime(), runtime());
    // It has a lease to keep, and is not driven any more.
    let _kept = still.block_on(async {
        let lease = locks.acquire("a").await.expect("free");
        tokio::task::yield_now().await;
        lease
    });
    busy.block_on(async {
        let lease = locks.acquire("b").await.expect("free");
        let signal = lease.watch();
        // Longer than a lease: only renewals keep it.
        tokio::select! { biased;
            loss = signal.ended() => panic!("{loss}"),
            () = SystemClock.sleep_until(SystemClock.elapsed().plus(ms(1_500))) => {}
        }
        assert!(lease.is_held(), "nobody renewed it");
        assert!(lease.release().await.expect("works").is_released());
    });
}

// H: guards and runtimes.
#[test]
fn guards_outside_of_runtimes() {
    let store = MemoryStore::new();
    let rt = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let locks = LockClient::new(store.clone());
    let a = rt.block_on(locks.acquire("a")).unwrap();
    let b = rt.block_on(locks.acquire("b")).unwrap();
    let c = rt.block_on(locks.acquire("c")).unwrap();
    drop(a); // outside
    // Released in the background: a waiting acquire gets it long before the lease is over.
    let request = locks.request("a").unwrap().wait(ms(5_000));
    drop(rt.block_on(request.acquire()).unwrap());
    let signal = b.watch();
    drop(rt);
    assert!(!b.is_held());
    let rt2 = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    assert_eq!(
        rt2.block_on(signal.ended()),
        leasehold::EndReason::TaskEnded
    );
    assert!(rt2.block_on(b.renew()).is_err());
    assert!(rt2.block_on(b.release()).is_err());
    drop(c);
    let drained = rt2.block_on(locks.shutdown(ms(200)));
    assert!(drained);
}
