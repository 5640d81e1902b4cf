//! Hurts of other lock libraries that no other file here reproduces. `docs/proof.md` has the whole track
//! record, a row for each of them.

use std::collections::HashSet;
use std::time::Duration;

use crate::support::Lab;
use leasehold::store::memory::MemoryStore;
use leasehold::{DropPolicy, LockClient, Policy};

/// Redisson#3580 and six more: a lock that only the thread that took it can release.
#[test]
fn a_lease_is_tied_to_no_thread() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let locks = LockClient::new(MemoryStore::new());
    for round in 0..10 {
        let lease = runtime.block_on(locks.acquire("k")).expect("free");
        let taken_on = std::thread::current().id();
        let (runtime, thread) = (runtime.handle().clone(), std::thread::spawn);
        let released = thread(move || {
            assert_ne!(std::thread::current().id(), taken_on);
            runtime.block_on(lease.renew()).expect("ours");
            runtime.block_on(lease.release()).expect("works")
        });
        let released = released.join().expect("no panic");
        assert!(released.is_released(), "round {round}: {released}");
    }
}

/// dynamolock#116: clients that share an identity let each other in.
#[tokio::test]
async fn every_acquisition_has_an_identity_of_its_own() {
    let store = MemoryStore::new();
    let policy = Policy::builder().label("all the same").build();
    let policy = policy.expect("adds up");
    let one = LockClient::builder(store.clone())
        .policy(policy.clone())
        .build();
    let other = LockClient::builder(store).policy(policy).build();
    let mut seen = HashSet::new();
    for locks in [&one, &other, &one.clone(), &other] {
        for key in ["a", "b"] {
            let lease = locks.acquire(key).await.expect("free");
            assert!(seen.insert(lease.id().attempt()), "seen before");
            assert!(lease.release().await.expect("works").is_released());
        }
    }
}

/// FSharp.DynamoDbLock: the expiry is fixed before the wait, so that the lock arrives expired.
#[tokio::test(start_paused = true)]
async fn a_lease_counts_from_the_request_that_won_and_not_from_the_call() {
    let lab = Lab::new();
    let left = Policy::builder().drop_policy(DropPolicy::LeaveToExpire);
    let dead = lab.client(left.build().expect("adds up"));
    drop(dead.acquire("k").await.expect("free"));
    let policy = Policy::builder()
        .lease_duration(Duration::from_secs(10))
        .wait(Duration::from_secs(60));
    let locks = lab.client(policy.build().expect("adds up"));
    let asked = lab.clock_now();
    let lease = locks.acquire("k").await.expect("free after a lease");
    // It waited for longer than its own lease is, and has all of it but the margin.
    let waited = lab.clock_now() - asked;
    assert!(waited > Duration::from_secs(15), "{waited:?}");
    assert!(lease.remaining() > Duration::from_millis(8_900));
    assert!(lease.release().await.expect("works").is_released());
}
