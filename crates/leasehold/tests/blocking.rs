//! The blocking client, from plain threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use leasehold::blocking::{LockClient, Tried};
use leasehold::clock::{Clock, SystemClock};
use leasehold::store::Store;
use leasehold::store::memory::MemoryStore;
use leasehold::store::sqlite::SqliteStore;
use leasehold::store::testing::faulty::{Fault, FaultyStore};
use leasehold::{ErrorKind, Policy};
use leasehold_protocol::write::Operation;

#[test]
fn threads_take_turns_and_lose_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("locks.db");
    let inside = AtomicU32::new(0);
    let mut total = 0;
    let counter = std::sync::Mutex::new(&mut total);
    thread::scope(|scope| {
        for _ in 0..2 {
            // Two clients: two processes, as far as the store knows.
            let locks =
                LockClient::new(SqliteStore::open(&path).expect("opens")).expect("a client");
            for _ in 0..4 {
                let (locks, inside, counter) = (locks.clone(), &inside, &counter);
                scope.spawn(move || {
                    for _ in 0..5 {
                        let lease = locks.acquire("k").expect("acquired");
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
                        **counter.lock().expect("no panic") += 1;
                        inside.fetch_sub(1, Ordering::SeqCst);
                        assert!(lease.release().expect("released").is_released());
                    }
                });
            }
        }
    });
    assert_eq!(total, 40);
}

#[test]
fn the_payload_and_the_time_that_is_left() {
    let locks = LockClient::new(MemoryStore::new()).expect("a client");
    let lease = locks.acquire("k").expect("free");
    let error = lease.ensure(Duration::from_secs(60)).expect_err("too much");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    lease.ensure(Duration::from_secs(1)).expect("much is left");
    lease.set_data("a").expect("held");
    assert!(lease.release_keeping_data().expect("held").is_released());
    let lease = locks.acquire("k").expect("free");
    assert_eq!(lease.previous_data(), Some(&b"a"[..]));
    lease.release().expect("held");
}

#[test]
fn a_try_says_who_holds_the_key_and_a_dropped_guard_frees_it() {
    let store = MemoryStore::new();
    let locks = LockClient::new(store.clone()).expect("a client");
    let other = LockClient::new(store).expect("a client");
    let lease = locks.acquire("k").expect("free");
    lease.renew().expect("renewed");
    assert!(lease.is_held() && locks.inspect("k").expect("read").holder().is_some());
    match other.try_acquire("k").expect("an answer") {
        Tried::Held(held) => assert_eq!(held.token(), Some(lease.token())),
        Tried::Acquired(_) => panic!("it is held"),
    }
    drop(lease);
    // The drop of the last handle waits for the release.
    drop(locks);
    assert!(
        other
            .try_acquire("k")
            .expect("an answer")
            .into_lease()
            .is_some()
    );
}

#[test]
fn run_gives_the_value_and_releases_after_a_panic() {
    let locks = LockClient::new(MemoryStore::new()).expect("a client");
    assert!(locks.run("k", |lease| lease.token().get()).expect("ran") > 0);
    let panicked = thread::scope(|scope| {
        let work = || locks.run("k", |_| panic!("the work"));
        scope.spawn(work).join().is_err()
    });
    assert!(panicked);
    assert!(
        locks
            .try_acquire("k")
            .expect("an answer")
            .into_lease()
            .is_some()
    );
}

#[test]
fn work_that_outlives_its_lease_is_told() {
    let policy = Policy::builder()
        .max_hold(Duration::from_millis(50))
        .build();
    let locks = LockClient::with_policy(MemoryStore::new(), policy.expect("adds up"));
    let lost = locks.expect("a client").run("k", |lease| {
        while lease.is_held() {
            thread::yield_now();
        }
    });
    assert_eq!(lost.expect_err("lost").kind(), ErrorKind::Lost);
}

#[tokio::test]
async fn within_async_code_it_is_refused() {
    let locks = LockClient::new(MemoryStore::new()).expect("a client");
    let error = locks.acquire("k").expect_err("would block the runtime");
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("leasehold::LockClient"))
    );
}

#[test]
fn work_that_asks_for_its_own_lock_is_refused() {
    let locks = LockClient::new(MemoryStore::new()).expect("a client");
    let inner = locks.run("k", |_| locks.run("k", |_| ()));
    let error = inner
        .expect("the outer one ran")
        .expect_err("would wait for itself");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_client_in_a_thread_local_ends_with_its_thread() {
    thread_local! {
        static LOCKS: std::cell::RefCell<Option<LockClient>> = const { std::cell::RefCell::new(None) };
    }
    let store = MemoryStore::new();
    let other = LockClient::new(store.clone()).expect("a client");
    let thread = thread::spawn(move || {
        let locks = LockClient::new(store).expect("a client");
        drop(locks.acquire("k").expect("free"));
        LOCKS.set(Some(locks));
    });
    thread.join().expect("no panic");
    assert!(other.acquire("k").is_ok());
}

#[test]
fn the_drop_of_the_last_handle_waits_for_a_slow_release() {
    let store = MemoryStore::new();
    let slow = FaultyStore::new(Arc::new(store.clone()), Arc::new(SystemClock));
    let locks = LockClient::new(slow.clone()).expect("a client");
    let lease = locks.acquire("k").expect("free");
    let delay = Fault::DelayRequest(Duration::from_millis(300));
    slow.plan(Operation::Release, [delay]);
    drop(lease);
    drop(locks);
    let other = LockClient::new(store).expect("a client");
    let tried = other.try_acquire("k").expect("an answer");
    assert!(tried.into_lease().is_some());
}

#[tokio::test]
async fn in_async_code_the_drop_of_the_last_handle_does_not_wait() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let silent = FaultyStore::new(store, Arc::new(SystemClock));
    silent.plan(Operation::Release, [Fault::BlackHole; 100]);
    let lease = thread::spawn(move || {
        let locks = LockClient::new(silent).expect("a client");
        locks.acquire("k").expect("free")
    });
    let lease = lease.join().expect("no panic");
    let begun = SystemClock.elapsed();
    drop(lease);
    // The call time-out is ten seconds.
    assert!(SystemClock.elapsed().since(begun) < Duration::from_secs(5));
}

#[test]
fn a_renewal_of_what_is_lost_fails() {
    let policy = Policy::builder()
        .max_hold(Duration::from_millis(50))
        .build();
    let locks = LockClient::with_policy(MemoryStore::new(), policy.expect("adds up"));
    let lease = locks.expect("a client").acquire("k").expect("free");
    while lease.is_held() {
        thread::yield_now();
    }
    assert_eq!(lease.renew().expect_err("lost").kind(), ErrorKind::Lost);
}

#[tokio::test]
async fn a_guard_that_is_dropped_in_async_code_is_released() {
    let store = MemoryStore::new();
    let there = store.clone();
    let lease = thread::spawn(move || {
        LockClient::new(there)
            .expect("a client")
            .acquire("k")
            .expect("free")
    });
    // The last handle of its client.
    drop(lease.join().expect("no panic"));
    let locks = leasehold::LockClient::new(store);
    assert!(locks.acquire("k").await.is_ok());
}

#[test]
fn slots_are_shared_up_to_their_limit() {
    let store = MemoryStore::new();
    let client = || LockClient::new(store.clone()).expect("a client");
    let (locks, other) = (client(), client());
    let two = |locks: &LockClient| locks.slots("k", 2).expect("valid");
    let first = two(&locks).acquire().expect("free");
    let second = two(&other).with(|request| request.label("the second"));
    let second = second.acquire().expect("free");
    match two(&other).try_acquire().expect("answered") {
        Tried::Held(held) => assert_eq!(held.slots(), Some((2, 2))),
        Tried::Acquired(_) => panic!("a third of two"),
    }
    first.release().expect("held");
    let during = two(&locks).run(|lease| {
        assert!(lease.is_held());
        two(&other).try_acquire().expect("answered").into_lease()
    });
    assert!(during.expect("ran").is_none(), "the work had a slot");
    second.release().expect("held");
}

#[test]
fn a_writer_waits_for_readers() {
    let store = MemoryStore::new();
    let locks = LockClient::new(store.clone()).expect("a client");
    let other = LockClient::new(store).expect("a client");
    let reader = locks.shared("k").expect("valid").acquire().expect("free");
    let second = other.shared("k").expect("valid").acquire().expect("free");
    let soon = |request: leasehold::LockRequest| request.wait(Duration::from_millis(50));
    let writer = || other.exclusive("k").expect("valid").with(soon).acquire();
    let error = writer().expect_err("two read");
    assert_eq!(error.kind(), ErrorKind::WaitExpired);
    reader.release().expect("held");
    second.release().expect("held");
    writer().expect("free").release().expect("held");
}
