//! A job that one of several replicas runs at each tick.
//!
//! The other replicas find the key held and skip the job. The lock does not record that the job is done: a replica that
//! comes later would run it again. So the winner keeps the lock until all replicas have tried.
//! `cargo run -p leasehold-examples --bin cron -- /tmp/locks.db 1`

use std::time::Duration;

use leasehold::store::sqlite::SqliteStore;
use leasehold::{LockClient, TryAcquireOutcome};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().unwrap_or_else(|| "locks.db".into());
    // How much the clocks of the replicas may differ, in seconds.
    let spread = Duration::from_secs(args.next().map_or(Ok(1), |seconds| seconds.parse())?);
    let locks = LockClient::new(SqliteStore::open(path)?);
    match locks.try_acquire("cron/report").await? {
        TryAcquireOutcome::Acquired(lease) => {
            println!("running with token {}", lease.token());
            tokio::time::sleep(spread).await;
            lease.release().await?;
        }
        TryAcquireOutcome::Held(holder) => println!("left to {}", holder.label()),
    }
    Ok(())
}
