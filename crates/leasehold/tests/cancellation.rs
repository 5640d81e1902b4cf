//! A future or a guard that is dropped strands nothing. `leasehold-proof/src/cancel` drops every public future at every await.

use std::time::Duration;

use crate::support::Lab;
use leasehold::{DropPolicy, Policy};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_gives_up_takes_nothing() {
    let lab = Lab::new();
    let holder = lab.bystander().acquire("k").await.expect("free");
    let locks = lab.client(Policy::default());
    for wait in [0, 1, 10, 100, 1_000] {
        tokio::select! {
            biased;
            _ = locks.acquire("k") => panic!("held"),
            () = lab.sleep(ms(wait)) => {}
        }
    }
    assert!(holder.is_held());
    assert!(holder.release().await.expect("works").is_released());
    lab.sleep(ms(60_000)).await;
    lab.free_within("k", ms(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_lease_is_released_in_the_background() {
    // Async drop releases nothing.
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    drop(locks.acquire("k").await.expect("free"));
    lab.free_within("k", ms(10)).await;

    let policy = Policy::builder().drop_policy(DropPolicy::LeaveToExpire);
    let locks = lab.client(policy.build().expect("adds up"));
    drop(locks.acquire("k").await.expect("free"));
    let passed = lab.free_or_expired_within("k", ms(21_000)).await;
    assert!(passed > ms(19_000), "{passed:?}");
}
