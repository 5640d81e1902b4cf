//! A job on every replica, of which one runs it at each tick.
//!
//! The others find the key held and go on. The lock alone does not remember that the job is done: a replica that comes when
//! it is over runs it again. So the winner keeps the lock until all have come.
//! `cargo run -p leasehold-examples --bin cron -- /tmp/locks.db 1`

use std::time::Duration;

use leasehold::store::sqlite::SqliteStore;
use leasehold::{LockClient, TryAcquireOutcome};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().unwrap_or_else(|| "locks.db".into());
    // By how much the clocks of the replicas may differ.
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
