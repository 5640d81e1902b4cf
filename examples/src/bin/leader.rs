//! A leader among replicas: one works, the others wait for its end.
//!
//! Each term has a larger token than the one before. Every write of the leader carries it.
//! `cargo run -p leasehold-examples --bin leader -- /tmp/locks.db 3`

use std::time::Duration;

use leasehold::store::sqlite::SqliteStore;
use leasehold::{ErrorKind, LockClient, LockScope, Policy};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().unwrap_or_else(|| "locks.db".into());
    let terms: u32 = args.next().map_or(Ok(u32::MAX), |terms| terms.parse())?;

    let policy = Policy::builder().wait_forever().build()?;
    let store = SqliteStore::open(path)?;
    let locks = LockClient::builder(store).policy(policy).build();
    for _ in 0..terms {
        // The future of the work is dropped when the lease is lost.
        match locks.run("scheduler/leader", lead).await {
            Ok(()) => {}
            Err(error) => match error.kind() {
                // Another replica may lead already.
                ErrorKind::Lost | ErrorKind::TooLate => eprintln!("{error}"),
                ErrorKind::Unreachable | ErrorKind::Throttled => {
                    eprintln!("{error}");
                    tokio::time::sleep(Duration::from_secs(5)).await;
                }
                // A retry does not help.
                _ => return Err(error.into()),
            },
        }
    }
    Ok(())
}

/// One term.
async fn lead(scope: LockScope) {
    println!("leading with token {}", scope.token());
    tokio::time::sleep(Duration::from_millis(100)).await;
}
