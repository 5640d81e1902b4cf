//! The end of a client.

use crate::support::Lab;
use crate::support::gate::ms;
use leasehold::LockClient;
use leasehold::Policy;
use leasehold::store::Store;
use leasehold::store::memory::MemoryStore;
use leasehold::store::testing::counting::CountingStore;
use leasehold::store::testing::faulty::Fault;
use leasehold_protocol::write::Operation;
use std::sync::Arc;

// 12
#[tokio::test(start_paused = true)]
async fn no_new_orders_after_shutdown() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let id = lab.detached("k").await;
    assert!(locks.shutdown(ms(1_000)).await);
    let adopted = locks.adopt(&id).await;
    assert!(adopted.is_err(), "adopted after the shutdown");
}

/// Nothing of a client is left once its last handle is gone and its background has ended.
#[test]
fn a_client_leaves_nothing_behind() {
    let memory = Arc::new(MemoryStore::new());
    let policy = Policy::builder()
        .lease_duration(ms(600))
        .margin(ms(20))
        .build()
        .expect("adds up");
    for left_by in ["release", "drop"] {
        let store: Arc<dyn Store> = Arc::new(CountingStore::new(memory.clone()));
        let gone = Arc::downgrade(&store);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let locks = LockClient::builder(store).policy(policy.clone()).build();
        runtime.block_on(async {
            let lease = locks.acquire(left_by).await.expect("free");
            let held = locks.request(left_by).expect("a key").wait(ms(50));
            drop(held.acquire().await.expect_err("held"));
            lease.renew().await.expect("ours");
            match left_by {
                "release" => drop(lease.release().await.expect("works")),
                _ => drop(lease),
            }
            assert!(locks.shutdown(ms(5_000)).await);
        });
        drop(locks);
        drop(runtime);
        assert_eq!(gone.strong_count(), 0, "{left_by}");
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_drains_what_is_in_the_background() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let lease = locks.acquire("held").await.expect("free");
    lab.faulty
        .plan(Operation::Release, [Fault::DelayRequest(ms(500))]);
    drop(locks.acquire("dropped").await.expect("free"));
    assert!(!locks.shutdown(ms(1_000)).await, "one is held");
    lab.free_within("dropped", ms(1)).await;
    assert!(lease.is_held());
    let refused = locks.acquire("k").await.expect_err("shut down");
    assert_eq!(refused.kind(), leasehold::ErrorKind::ShutDown);
    drop(lease);
    assert!(locks.shutdown(ms(5_000)).await);
    lab.free_within("held", ms(1)).await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_waits() {
    let lab = Lab::new();
    let holder = lab.bystander().acquire("k").await.expect("free");
    let locks = lab.client(Policy::default());
    let (waited, drained) = tokio::join!(locks.acquire("k"), async {
        lab.sleep(ms(100)).await;
        locks.shutdown(ms(1_000)).await
    });
    assert_eq!(
        waited.expect_err("shut down").kind(),
        leasehold::ErrorKind::ShutDown
    );
    assert!(drained);
    drop(holder);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_was_shut_down_takes_no_grant_over_by_identity() {
    let lab = Lab::new();
    let id = lab.detached("k").await;
    let locks = lab.client(Policy::default());
    assert!(locks.shutdown(ms(1_000)).await, "nothing to wait for");
    let before = lab.counted.counts().requests();
    let refused = locks.adopt(&id).await.expect_err("shut down");
    assert_eq!(refused.kind(), leasehold::ErrorKind::ShutDown);
    let token = id.token();
    let refused = locks.force_release("k", token, "stuck").await;
    let refused = refused.expect_err("shut down");
    assert_eq!(refused.kind(), leasehold::ErrorKind::ShutDown);
    assert_eq!(lab.counted.counts().requests(), before, "nothing is sent");
}
