//! A job on a schedule in every replica of a service: at each tick one of them runs it.
//!
//! `cargo run -p leasehold-examples --bin cron -- /tmp/locks.db 3`

use std::time::Duration;

use leasehold::store::sqlite::SqliteStore;
use leasehold::{LockClient, Once};
use tokio_cron_scheduler::{Job, JobScheduler};

/// Every second second.
const SCHEDULE: &str = "*/2 * * * * *";
/// The period less what the replicas' clocks may differ by, in all.
const KEEP: Duration = Duration::from_millis(1_500);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().unwrap_or_else(|| "locks.db".into());
    let seconds = args
        .next()
        .map_or(Ok(u64::MAX), |seconds| seconds.parse())?;
    let locks = LockClient::new(SqliteStore::open(path)?);
    let scheduler = JobScheduler::new().await?;
    let job = Job::new_async(SCHEDULE, move |_, _| {
        let locks = locks.clone();
        Box::pin(async move {
            match tick(&locks).await {
                Ok(Once::Ran(())) => println!("ran"),
                Ok(Once::Done(_)) => println!("left to another"),
                Err(error) => println!("failed: {error}"),
            }
        })
    })?;
    scheduler.add(job).await?;
    scheduler.start().await?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    Ok(())
}

async fn tick(locks: &LockClient) -> anyhow::Result<Once<()>> {
    let once = locks.once("cron/report")?.keep(KEEP).patient(true);
    let report = once.run(|scope| async move {
        // What the report writes carries the token.
        let _token = scope.token();
        Ok::<_, std::io::Error>(())
    });
    Ok(report.await?)
}
