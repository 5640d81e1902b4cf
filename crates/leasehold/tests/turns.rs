//! Processes that want one key leave it to each other, and make room where the table is slow
//! (`docs/protocol.md` section 10).

mod support;

use std::time::Duration;

use leasehold::store::testing::faulty::Fault;
use leasehold::{CheckDelay, LockClient, Policy};
use leasehold_protocol::write::Operation;
use support::Lab;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A process that polls every 5 ms.
fn process(lab: &Lab) -> LockClient {
    let policy = Policy::builder().check_delay(CheckDelay::Fixed(ms(5)));
    lab.client(policy.build().expect("adds up"))
}

/// Takes turns of 2 ms, without a pause between them.
async fn turns(lab: &Lab, locks: LockClient, count: usize) -> Vec<Duration> {
    let mut waits = Vec::new();
    for _ in 0..count {
        let asked = lab.clock_now();
        let lease = locks.acquire("k").await.expect("its turn");
        waits.push(lab.clock_now() - asked);
        lab.sleep(ms(2)).await;
        assert!(lease.release().await.is_ok());
    }
    waits
}

#[tokio::test(start_paused = true)]
async fn processes_without_a_pause_of_their_own_leave_the_key_to_each_other() {
    let lab = Lab::new();
    // Without it the second finds no time at all between the turns of the first.
    let (a, b) = tokio::join!(
        turns(&lab, process(&lab), 100),
        turns(&lab, process(&lab), 100)
    );
    // The first does not know of the second for ten check delays, and then each knows of the other.
    assert!(b[0] > ms(45) && b[0] <= ms(60), "{:?}", b[0]);
    for waits in [&a, &b[1..].to_vec()] {
        let longest = waits.iter().max().expect("some of them");
        assert!(*longest <= ms(15), "{longest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_courtesy_is_over_soon_after_the_others_are() {
    let lab = Lab::new();
    let (first, second) = (process(&lab), process(&lab));
    let lease = second.acquire("k").await.expect("free");
    let (_, released) = tokio::join!(turns(&lab, first.clone(), 1), async {
        lab.sleep(ms(7)).await;
        lease.release().await
    });
    assert!(released.is_ok());
    let waits = turns(&lab, first, 20).await;
    // Eight turns in all; one of them was taken above.
    assert!(waits[..8].iter().all(|wait| *wait == ms(6)), "{waits:?}");
    assert!(waits[8..].iter().all(Duration::is_zero), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn alone_a_process_pauses_for_a_moment_in_ten_check_delays() {
    let lab = Lab::new();
    let waits = turns(&lab, process(&lab), 60).await;
    assert!(waits[..25].iter().all(Duration::is_zero), "{waits:?}");
    let sat_out = waits.iter().filter(|wait| !wait.is_zero());
    assert!(sat_out.clone().all(|wait| *wait == ms(6)));
    assert_eq!(sat_out.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_process_with_pauses_of_its_own_never_pauses() {
    let lab = Lab::new();
    let locks = process(&lab);
    for _ in 0..60 {
        let waits = turns(&lab, locks.clone(), 1).await;
        assert_eq!(waits, [ms(0)]);
        lab.sleep(ms(6)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_long_ago_does_not_count() {
    let lab = Lab::new();
    let locks = process(&lab);
    assert_eq!(turns(&lab, locks.clone(), 1).await, [ms(0)]);
    lab.sleep(ms(1_000)).await;
    // It has not kept the key since: the next turns are handed off.
    let (first, second) =
        tokio::join!(turns(&lab, locks.clone(), 1), turns(&lab, locks.clone(), 1));
    assert_eq!((first, second), (vec![ms(0)], vec![ms(2)]));
}

#[tokio::test(start_paused = true)]
async fn a_grant_of_its_own_is_no_sign_of_others() {
    let lab = Lab::new();
    let policy = Policy::builder().check_delay(CheckDelay::Fixed(ms(5)));
    let locks = lab.client(policy.hand_off(false).build().expect("adds up"));
    let left = locks.acquire("k").await.expect("free");
    // It stays in the record, for whoever waits here to see.
    lab.faulty.plan(Operation::Release, [Fault::AccessDenied]);
    let (waits, released) = tokio::join!(turns(&lab, locks.clone(), 20), async {
        lab.sleep(ms(1)).await;
        left.release().await
    });
    assert!(released.is_err());
    assert!(waits[0] > ms(19_000), "{:?}", waits[0]);
    // It has kept the key for 20 s, and pauses once for that.
    assert_eq!(waits[1], ms(6));
    assert!(waits[2..].iter().all(Duration::is_zero), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn sitting_out_takes_half_of_a_wait_at_most() {
    let lab = Lab::new();
    let (first, second) = (process(&lab), process(&lab));
    let lease = second.acquire("k").await.expect("free");
    let (_, released) = tokio::join!(turns(&lab, first.clone(), 1), async {
        lab.sleep(ms(7)).await;
        lease.release().await
    });
    assert!(released.is_ok());
    let asked = lab.clock_now();
    let lease = first
        .request("k")
        .expect("a key")
        .wait(ms(4))
        .acquire()
        .await;
    assert_eq!(lab.clock_now() - asked, ms(2));
    assert!(lease.expect("free").release().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn whoever_may_wait_asks_a_throttled_table_less_and_less_often() {
    let lab = Lab::new();
    let throttle = vec![Fault::Throttle; 1_000];
    lab.faulty.plan(Operation::Acquire, throttle);
    let locks = process(&lab);
    let patient = locks.acquire("k").await.expect_err("throttled");
    let hasty = locks.try_acquire("k").await.expect_err("throttled");
    let (patient, hasty) = (patient.requests(), hasty.requests());
    // By the same backoff of up to a second; the one that waits has it stretched up to five.
    assert!(hasty >= 15 && patient <= 12, "{hasty} and {patient}");
}
