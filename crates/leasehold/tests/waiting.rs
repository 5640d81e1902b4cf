//! What waiting may cost: a bound for all waits of a client, room for others when the table throttles,
//! and quick polls where a key changes hands often (`docs/protocol.md` section 10). In virtual time.

use std::time::Duration;

use crate::support::Lab;
use leasehold::store::testing::faulty::Fault;
use leasehold::{CheckDelay, LockClient, Policy};
use leasehold_protocol::write::Operation;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn policy(first: u64, max: u64) -> Policy {
    let delay = CheckDelay::Backoff {
        first: ms(first),
        max: ms(max),
    };
    let policy = Policy::builder().check_delay(delay).wait_forever();
    policy.build().expect("adds up")
}

fn bounded_client(lab: &Lab, policy: Policy, max_polls_per_second: u32) -> LockClient {
    LockClient::builder(lab.faulty.clone())
        .clock(lab.clock.clone())
        .policy(policy)
        .max_polls_per_second(max_polls_per_second)
        .build()
}

/// Waits for `keys` held keys for as long, and gives the polls that it took.
#[expect(clippy::disallowed_methods, reason = "tasks of a caller")]
async fn polls(lab: &Lab, locks: &LockClient, keys: usize, wait: Duration) -> u64 {
    let (mut held, mut tasks) = (Vec::new(), Vec::new());
    for key in (0..keys).map(|n| format!("k{n}")) {
        held.push(lab.bystander().acquire(&key).await.expect("free"));
        let locks = locks.clone();
        tasks.push(tokio::spawn(async move { drop(locks.acquire(&key).await) }));
    }
    lab.sleep(wait).await;
    for task in tasks {
        task.abort();
    }
    lab.counted.counts().of(Operation::Read)
}

#[tokio::test(start_paused = true)]
async fn all_waits_of_a_client_share_one_bound() {
    let lab = Lab::new();
    let locks = bounded_client(&lab, policy(20, 20), 10);
    let bounded = polls(&lab, &locks, 50, ms(20_000)).await;
    // A second's worth at once, then the rate.
    assert!((195..=211).contains(&bounded), "{bounded} polls");
    // The same without a bound, as a check of the check: every 12 ms and a half in the mean.
    let lab = Lab::new();
    let locks = bounded_client(&lab, policy(20, 20), u32::MAX);
    let unbounded = polls(&lab, &locks, 50, ms(2_000)).await;
    assert!(unbounded > 5_000, "{unbounded} polls");
    // Unless it is set, the store's own, which is wide where nobody bills a look.
    let lab = Lab::new();
    let default = polls(&lab, &lab.client(policy(20, 20)), 50, ms(2_000)).await;
    assert!((5_900..=6_001).contains(&default), "{default} polls");
}

#[tokio::test(start_paused = true)]
async fn checks_by_writing_ask_and_never_look() {
    // A holder that lets go.
    let lab = Lab::new();
    let holder = lab.bystander().acquire("k").await.expect("free");
    let locks = lab.client(by_writing(20));
    let (lease, ()) = tokio::join!(locks.acquire("k"), async {
        lab.sleep(ms(1_010)).await;
        assert!(holder.release().await.expect("works").is_released());
    });
    // At once, 50 times in vain, and the one that is granted.
    assert_eq!(lease.expect("its turn").usage().requests, 52);
    assert_eq!(lab.counted.counts().of(Operation::Read), 0);
    // One that dies: in vain, again as its lease ends, and the take-over.
    let lab = Lab::new();
    let holder = lab.bystander().acquire("k").await.expect("free");
    drop(holder.detach().await.expect("held"));
    let wait = lab.client(by_writing(600_000));
    let wait = wait.request("k").expect("valid").wait(ms(60_000));
    let lease = wait.acquire().await.expect("taken over");
    assert_eq!(lease.usage().requests, 3);
    // It is bounded as polls are.
    let lab = Lab::new();
    let locks = bounded_client(&lab, by_writing(20), 10);
    assert_eq!(polls(&lab, &locks, 50, ms(20_000)).await, 0);
    let asked = lab.counted.counts().of(Operation::Acquire);
    assert!((50 + 195..=50 + 211).contains(&asked), "{asked} requests");
}

fn by_writing(delay: u64) -> Policy {
    let policy = Policy::builder().check_delay(CheckDelay::ByAcquire(ms(delay)));
    policy.wait_forever().build().expect("adds up")
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_does_not_make_every_later_check_late() {
    let lab = Lab::new();
    let holder = lab.bystander().acquire("k").await.expect("free");
    // Beyond the request time-out of 2 s once, and then a network of 5 ms.
    let usual = std::iter::repeat_n(Fault::DelayAnswer(ms(5)), 100);
    let plan = std::iter::once(Fault::DelayAnswer(ms(2_150))).chain(usual);
    lab.faulty.plan(Operation::Acquire, plan);
    let locks = lab.client(by_writing(100));
    let (remaining, ()) = tokio::join!(
        async {
            let lease = locks.acquire("k").await.expect("its turn");
            lease.remaining()
        },
        async {
            lab.sleep(ms(5_000)).await;
            assert!(holder.release().await.expect("works").is_released());
        }
    );
    // The grant is as old as its answer, not older by a check.
    let fresh = lab.bystander().acquire("free").await.expect("free");
    let age = fresh.remaining().saturating_sub(remaining);
    assert!(age <= ms(6), "{age:?}");
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_comes_late_is_seen_between_two_looks() {
    for delay in [CheckDelay::Fixed, CheckDelay::ByAcquire] {
        let lab = Lab::new();
        let holder = lab.bystander().acquire("k").await.expect("free");
        // The first request lands when the holder is gone; the second one has been refused meanwhile.
        lab.faulty
            .plan(Operation::Acquire, [Fault::DelayRequest(ms(5_000))]);
        let policy = Policy::builder().check_delay(delay(ms(600_000)));
        let locks = lab.client(policy.wait_forever().build().expect("adds up"));
        let started = lab.clock_now();
        let (lease, ()) = tokio::join!(locks.acquire("k"), async {
            lab.sleep(ms(3_000)).await;
            assert!(holder.release().await.expect("works").is_released());
        });
        let passed = lab.clock_now() - started;
        assert!(lease.expect("granted").is_held());
        assert!(passed <= ms(5_100), "{passed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn throttled_looks_make_room() {
    let lab = Lab::new();
    let locks = lab.client(policy(20, 20));
    let before = polls(&lab, &locks, 1, ms(5_000)).await;
    let lab = Lab::new();
    let locks = lab.client(policy(20, 20));
    lab.faulty.plan(Operation::Read, [Fault::Throttle; 5]);
    let throttled = polls(&lab, &locks, 1, ms(5_000)).await;
    assert_eq!(lab.faulty.unused(), 0);
    // 32 times slower, and 5 % faster again with every answer.
    assert!(throttled * 3 < before, "{throttled} and {before} polls");
    // Long after, as before.
    lab.sleep(ms(1)).await;
    let lab_again = polls(&lab, &locks, 1, ms(20_000)).await - throttled;
    assert!(lab_again > before * 2, "{lab_again} and {before} polls");
}

#[tokio::test(start_paused = true)]
async fn answered_requests_speed_waits_up_again_as_answered_looks_do() {
    let mut counts = Vec::new();
    // Five throttles in a row are put up with, whatever the delays between them.
    let policy = policy(20, 20).to_builder().call_timeout(ms(600_000));
    let policy = policy.build().expect("adds up");
    for throttles in [0, 5] {
        let lab = Lab::new();
        let locks = lab.client(policy.clone());
        lab.faulty
            .plan(Operation::Acquire, vec![Fault::Throttle; throttles]);
        // Never a look: every key is free, and asked for by a call that might wait.
        for n in 0..100 {
            let lease = locks.acquire(&format!("free{n}")).await.expect("free");
            assert!(lease.release().await.is_ok());
        }
        assert_eq!(lab.faulty.unused(), 0);
        // So long that jitter is 1 %; those who begin 32 times slower lose 8 s of it.
        counts.push(polls(&lab, &locks, 1, ms(20_000)).await);
    }
    assert!(counts[1] * 10 > counts[0] * 9, "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn where_a_key_changes_hands_looks_stay_quick() {
    let mut counts = Vec::new();
    for moving in [false, true] {
        let lab = Lab::new();
        // With F# clients on the table there is no queue.
        let delay = policy(50, 5_000).to_builder().shared_with_fsharp(true);
        let locks = lab.client(delay.build().expect("adds up"));
        let mut holder = lab.bystander().acquire("k").await.expect("free");
        let waiter = locks.acquire("k");
        tokio::select! {
            biased;
            _ = waiter => panic!("held at every look"),
            () = async {
                for _ in 0..200 {
                    lab.sleep(ms(100)).await;
                    if moving {
                        // In one instant, so that the waiter never sees it free; by another process, as
                        // one that comes back pauses now and then.
                        drop(holder.release().await);
                        holder = lab.bystander().acquire("k").await.expect("free");
                    }
                }
            } => {}
        }
        counts.push(lab.counted.counts().of(Operation::Read));
    }
    assert!(counts[1] > counts[0] * 4, "still and moving: {counts:?}");
}
