//! Ten thousand held leases and ten thousand waiters in one process: memory, processor time at rest.
//!
//! `cargo run --release -p leasehold-bench --example scale` (Linux: it reads `/proc/self`). On the memory
//! store, in real time. Memory is the growth of the resident set divided by their number, tasks of the
//! caller included.

use std::time::Duration;

use leasehold::clock::{Clock, SystemClock};
use leasehold::store::memory::MemoryStore;
use leasehold::{Lease, LockClient, Policy};

const COUNT: usize = 10_000;

/// Resident bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = text.split(' ').nth(1).and_then(|n| n.parse::<usize>().ok());
    pages.expect("a number") * 4_096
}

/// Processor time so far, in hundredths of a second.
fn ticks() -> u64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let after = text.rsplit(')').next().expect("a name in brackets");
    let mut fields = after.split_whitespace().skip(11).take(2);
    let mut next = || fields.next().and_then(|n| n.parse::<u64>().ok());
    next()
        .zip(next())
        .map(|(user, system)| user + system)
        .expect("numbers")
}

async fn pause(by: Duration) {
    SystemClock
        .sleep_until(SystemClock.elapsed().plus(by))
        .await;
}

async fn at_rest(what: &str) {
    // What is still being settled is not rest.
    pause(Duration::from_secs(2)).await;
    let before = ticks();
    pause(Duration::from_secs(10)).await;
    let used = ticks() - before;
    println!("{what}: {used} hundredths of a second of processor time in 10 s");
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::disallowed_methods, reason = "tasks of a caller")]
async fn main() {
    // Renewals 200 s apart: at rest there are none.
    let policy = Policy::builder()
        .lease_duration(Duration::from_secs(600))
        .wait_forever();
    let policy = policy.build().expect("adds up");
    let locks = LockClient::builder(MemoryStore::new())
        .policy(policy)
        .build();
    at_rest("nothing").await;

    // Their records are the store's memory, not ours.
    for n in 0..COUNT {
        drop(
            locks
                .acquire(&format!("k{n}"))
                .await
                .expect("free")
                .release()
                .await,
        );
    }
    let before = resident();
    let mut leases: Vec<Lease> = Vec::with_capacity(COUNT);
    for n in 0..COUNT {
        leases.push(locks.acquire(&format!("k{n}")).await.expect("free"));
    }
    println!("a held lease: {} bytes", (resident() - before) / COUNT);
    at_rest("10,000 leases").await;

    let before = resident();
    let waiters: Vec<_> = (0..COUNT)
        .map(|_| {
            let locks = locks.clone();
            tokio::spawn(async move { locks.acquire("k0").await })
        })
        .collect();
    pause(Duration::from_millis(100)).await;
    println!("a waiter: {} bytes", (resident() - before) / COUNT);
    let future = locks.acquire("k0");
    println!("its future: {} bytes of them", size_of_val(&future));
    drop(future);
    at_rest("10,000 leases and 10,000 waiters").await;
    for waiter in waiters {
        waiter.abort();
    }
}
