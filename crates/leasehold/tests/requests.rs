//! What calls cost: requests and units, on DynamoDB as the service reports them.

use crate::support;
use std::sync::Arc;
use std::time::Duration;

use crate::support::Lab;
use leasehold::store::testing::counting::CountingStore;
use leasehold::{DropPolicy, LockClient, Policy, TryAcquireOutcome};
use leasehold_protocol::write::Operation;

#[tokio::test]
async fn an_uncontended_cycle_is_two_requests_and_two_units() {
    let counted = CountingStore::new(Arc::new(support::dynamodb().await));
    let locks = LockClient::new(counted.clone());
    for _ in 0..5 {
        counted.reset();
        let lease = locks.try_acquire("k").await.expect("works");
        let lease = lease.into_lease().expect("free");
        assert!(lease.release().await.expect("works").is_released());
        let counts = counted.counts();
        assert_eq!(counts.requests(), 2);
        assert_eq!(counts.of(Operation::Acquire), 1);
        assert_eq!(counts.of(Operation::Release), 1);
        assert_eq!(counts.units().write, 2.0);
        assert_eq!(counts.units().read, 0.0);
    }
}

#[tokio::test]
async fn a_refused_try_is_one_request() {
    let counted = CountingStore::new(Arc::new(support::dynamodb().await));
    let lease = LockClient::new(counted.clone()).acquire("k").await;
    let lease = lease.expect("free");
    let other = LockClient::new(counted.clone());
    counted.reset();
    let refused = other.try_acquire("k").await.expect("works");
    assert!(matches!(refused, TryAcquireOutcome::Held(_)));
    assert_eq!(counted.counts().requests(), 1);
    assert!(lease.release().await.expect("works").is_released());
}

#[tokio::test]
async fn a_lease_shows_what_the_client_used() {
    let locks = LockClient::new(support::dynamodb().await);
    let lease = locks.acquire("k").await.expect("free");
    lease.renew().await.expect("works");
    assert!(lease.release().await.expect("works").is_released());
    let usage = locks.usage();
    assert_eq!((usage.requests, usage.renewals), (3, 1));
    assert_eq!((usage.write_units, usage.read_units), (3.0, 0.0));
}

#[tokio::test(start_paused = true)]
async fn a_take_over_is_a_second_request() {
    let lab = Lab::new();
    let policy = Policy::builder().drop_policy(DropPolicy::LeaveToExpire);
    let locks = lab.client(policy.build().expect("adds up"));
    drop(locks.acquire("k").await.expect("free"));
    lab.sleep(Duration::from_secs(21)).await;
    lab.counted.reset();
    let lease = locks.try_acquire("k").await.expect("works").into_lease();
    assert!(lease.is_some());
    assert_eq!(lab.counted.counts().requests(), 2);
    assert_eq!(lab.counted.counts().of(Operation::TakeOver), 1);
}

#[tokio::test(start_paused = true)]
async fn renewals_are_a_third_of_the_lease_apart() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let lease = locks.acquire("k").await.expect("free");
    lab.sleep(Duration::from_secs(100)).await;
    assert!(lease.is_held());
    // A third less up to a fifth: 5.33 to 6.67 s apart.
    let renewals = lab.counted.counts().of(Operation::Renew);
    assert!((14..=19).contains(&renewals), "{renewals} renewals");
}

#[tokio::test(start_paused = true)]
async fn waiting_costs_two_writes_and_reads() {
    let lab = Lab::new();
    let holder = lab.bystander().acquire("k").await.expect("free");
    let locks = lab.client(Policy::default());
    locks.acquire("k").await.expect_err("held for longer");
    let counts = lab.counted.counts();
    // A refused request, and a place in the queue.
    assert_eq!(counts.of(Operation::Acquire), 1);
    assert_eq!(counts.of(Operation::Join), 1);
    assert_eq!(counts.units().write, 2.0);
    assert_eq!(counts.of(Operation::Read) + 2, counts.requests());
    // With the longest delay, every fourth is strongly consistent.
    let reads = counts.of(Operation::Read) as f64;
    assert!(counts.units().read < reads * 0.7, "{reads}");
    drop(holder);
}
