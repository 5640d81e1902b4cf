//! A leader among replicas, as Kubernetes has them: one works, the others stand for the next term.
//!
//! Each term has a larger token than the one before. Every write of the leader carries it.
//! `cargo run -p leasehold-examples --bin leader -- /tmp/locks.db 3`

use std::time::Duration;

use leasehold::store::sqlite::SqliteStore;
use leasehold::{LockClient, LockScope, TermEnd};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().unwrap_or_else(|| "locks.db".into());
    let terms: usize = args.next().map_or(Ok(usize::MAX), |terms| terms.parse())?;

    let locks = LockClient::new(SqliteStore::open(path)?);
    // The data is for those who `observe` the leader.
    let mut election = locks.elect("scheduler/leader")?.data("10.0.0.1:8080");
    for _ in 0..terms {
        // Stands again by itself after an outage; ends when the client is shut down.
        let Some(term) = election.next_term().await? else {
            break;
        };
        // The work is dropped when the term is lost, and the term is released after the work.
        if let TermEnd::Lost(why) = term.lead(lead).await {
            eprintln!("the term is lost: {why}");
        }
    }
    Ok(())
}

/// One term.
async fn lead(scope: LockScope) {
    println!("leading with token {}", scope.token());
    tokio::time::sleep(Duration::from_millis(100)).await;
}
