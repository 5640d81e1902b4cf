//! The heap of a held lease, and of a waiter with its task, as the allocator counts it.

use allocation_counter::measure;
use leasehold::LockClient;
use leasehold::store::memory::MemoryStore;

const MANY: usize = 5_000;
const LEASE: i64 = 2_400;
const WAITER: i64 = 1_050;

#[test]
#[expect(clippy::disallowed_methods, reason = "tasks of a caller")]
fn a_held_lease_and_a_waiter_take_little_memory() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let locks = LockClient::new(MemoryStore::new());
    let of_each = |run: &mut dyn FnMut()| measure(run).bytes_current / MANY as i64;
    // Their records are the store's memory.
    runtime.block_on(async {
        for n in 0..MANY {
            let lease = locks.acquire(&format!("{n:04}")).await.expect("free");
            lease.release().await.expect("held");
        }
    });
    let mut leases = Vec::with_capacity(MANY);
    let lease = of_each(&mut || {
        runtime.block_on(async {
            for n in 0..MANY {
                leases.push(locks.acquire(&format!("{n:04}")).await.expect("free"));
            }
        });
    });
    let mut waiters = Vec::with_capacity(MANY);
    let waiter = of_each(&mut || {
        runtime.block_on(async {
            for _ in 0..MANY {
                let locks = locks.clone();
                waiters.push(tokio::spawn(async move { locks.acquire("0000").await }));
            }
            for _ in 0..MANY {
                tokio::task::yield_now().await;
            }
        });
    });
    assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
    println!("a lease {lease} bytes, a waiter {waiter} bytes");
    assert!(lease <= LEASE, "{lease} bytes");
    assert!(waiter <= WAITER, "{waiter} bytes");
}
