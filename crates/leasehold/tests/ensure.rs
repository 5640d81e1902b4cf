//! The time that is certainly left of a lease. In virtual time, except on real stores.

use std::time::Duration;

use crate::support::waiters::{ms, poll, released};
use crate::support::{Kit, Lab};
use leasehold::store::testing::faulty::Fault;
use leasehold::{Effect, ErrorKind, Lease, LockClient, Policy, PolicyBuilder};
use leasehold_protocol::write::Operation;

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A lease of 20 s, which nobody renews unless it is asked to.
async fn lease(lab: &Lab, change: fn(PolicyBuilder) -> PolicyBuilder) -> Lease {
    let policy = change(Policy::builder().manual_renewal(true));
    let locks = lab.client(policy.build().expect("adds up"));
    locks.acquire("k").await.expect("free")
}

fn same(policy: PolicyBuilder) -> PolicyBuilder {
    policy
}

fn renewals(lab: &Lab) -> u64 {
    lab.counted.counts().of(Operation::Renew)
}

async fn on(kit: Kit) {
    let locks = LockClient::builder(kit.store.clone()).clock(kit.clock.clone());
    let locks = locks.build();
    let lease = locks.acquire("k").await.expect("free");
    let usage = || lease.usage().renewals;
    lease.ensure(seconds(10)).await.expect("much is left");
    assert_eq!(usage(), 0, "{}", kit.name);
    let before = lease.remaining();
    // More than is left of it after a while.
    kit.clock
        .sleep_until(kit.clock.elapsed().plus(ms(500)))
        .await;
    lease.ensure(seconds(18) + ms(700)).await.expect("renewed");
    assert_eq!(usage(), 1, "{}", kit.name);
    assert!(lease.remaining() > seconds(18) && before < seconds(19));
    let error = lease.ensure(seconds(19)).await.expect_err("impossible");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(usage(), 1, "{}", kit.name);
    released(lease).await;
}

#[tokio::test(start_paused = true)]
async fn time_is_made_on_memory() {
    on(Kit::memory()).await;
}

#[tokio::test]
async fn time_is_made_on_sqlite() {
    on(Kit::sqlite()).await;
}

#[tokio::test]
async fn time_is_made_on_dynamodb() {
    on(Kit::dynamodb().await).await;
}

#[tokio::test(start_paused = true)]
async fn only_a_lease_with_too_little_left_is_renewed() {
    let lab = Lab::new();
    let lease = lease(&lab, same).await;
    lab.sleep(seconds(8)).await;
    // 20 s, less the drift, the margin of 1 s, and what has passed.
    let left = lease.remaining();
    assert_eq!(left, ms(10_980));
    lease.ensure(left).await.expect("exactly so much is left");
    assert_eq!(renewals(&lab), 0);
    lease.ensure(left + ms(1)).await.expect("renewed");
    assert_eq!(renewals(&lab), 1);
    assert_eq!(lease.remaining(), ms(18_980));
    // Nothing is asked for, and the lease is held.
    lease.ensure(Duration::ZERO).await.expect("held");
    assert_eq!(renewals(&lab), 1);
}

#[tokio::test(start_paused = true)]
async fn what_no_renewal_can_give_is_refused_and_names_the_largest_value() {
    for (change, largest, setting) in [
        (
            same as fn(PolicyBuilder) -> PolicyBuilder,
            "18.98s",
            "lease_duration",
        ),
        (|p| p.grace(seconds(5)), "13.98s", "lease_duration"),
        (|p| p.max_hold(seconds(12)), "12s", "max_hold"),
        (|p| p.max_hold(seconds(60)), "18.98s", "lease_duration"),
    ] {
        let lab = Lab::new();
        let lease = lease(&lab, change).await;
        let error = lease.ensure(seconds(19)).await.expect_err("too much");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.effect(), Effect::NotApplied);
        assert_eq!(error.setting(), Some(setting));
        assert_eq!(error.key(), Some("k"));
        let message = error.to_string();
        assert!(
            message.contains(largest) && message.contains(setting),
            "{message}"
        );
        assert_eq!(renewals(&lab), 0);
        assert!(lease.is_held());
    }
}

#[tokio::test(start_paused = true)]
async fn the_largest_value_is_given_by_a_renewal_without_delay() {
    let lab = Lab::new();
    let lease = lease(&lab, same).await;
    lab.sleep(seconds(3)).await;
    lease
        .ensure(ms(18_980))
        .await
        .expect("the store answers at once");
    let error = lease.ensure(ms(18_981)).await.expect_err("too much");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test(start_paused = true)]
async fn a_slow_renewal_is_too_late_and_the_lease_goes_on() {
    let lab = Lab::new();
    let lease = lease(&lab, same).await;
    lab.sleep(seconds(5)).await;
    lab.faulty
        .plan(Operation::Renew, [Fault::DelayAnswer(ms(1_500))]);
    let error = lease
        .ensure(seconds(18))
        .await
        .expect_err("17.5 s are left");
    assert_eq!(error.kind(), ErrorKind::TooLate);
    assert_eq!(error.effect(), Effect::Unknown, "it was renewed");
    assert!(error.to_string().contains("17.5s"), "{error}");
    assert!(lease.is_held());
    lease.ensure(seconds(18)).await.expect("a fast one");
}

#[tokio::test(start_paused = true)]
async fn a_bound_of_the_hold_counts() {
    let lab = Lab::new();
    let lease = lease(&lab, |p| p.max_hold(seconds(15))).await;
    lab.sleep(seconds(6)).await;
    let error = lease.ensure(seconds(10)).await.expect_err("9 s are left");
    assert_eq!(error.kind(), ErrorKind::TooLate);
    lease.ensure(seconds(9)).await.expect("so much is left");
}

#[tokio::test(start_paused = true)]
async fn a_call_is_bounded_by_its_time_out_and_by_the_lease() {
    for (lease_s, passed, kind) in [
        (300, 10_000, ErrorKind::Unreachable),
        (20, 8_980, ErrorKind::Lost),
    ] {
        let lab = Lab::new();
        let policy = Policy::builder().lease_duration(seconds(lease_s));
        let policy = policy.margin(seconds(1)).manual_renewal(true);
        let locks = lab.client(policy.build().expect("adds up"));
        let lease = locks.acquire("k").await.expect("free");
        lab.sleep(seconds(10)).await;
        lab.faulty.start_outage(Fault::LoseRequest);
        let before = lab.clock_now();
        let error = lease.ensure(seconds(lease_s - 2)).await;
        let error = error.expect_err("no answer");
        let took = lab.clock_now() - before;
        assert!(took >= ms(passed) && took < ms(passed + 100), "{took:?}");
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(lease.is_held(), kind == ErrorKind::Unreachable);
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_lost_lease_nothing_is_left() {
    let lab = Lab::new();
    let lease = lease(&lab, same).await;
    lab.sleep(seconds(30)).await;
    for time in [Duration::ZERO, seconds(1)] {
        let error = lease.ensure(time).await.expect_err("lost");
        assert_eq!(error.kind(), ErrorKind::Lost);
    }
    assert_eq!(renewals(&lab), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_leaves_the_renewal() {
    let lab = Lab::new();
    let lease = lease(&lab, same).await;
    lab.sleep(seconds(10)).await;
    let mut call = Box::pin(lease.ensure(seconds(15)));
    assert!(poll(&mut call).is_pending());
    drop(call);
    lab.sleep(ms(10)).await;
    assert_eq!(renewals(&lab), 1);
    assert!(lease.remaining() > seconds(18));
}
