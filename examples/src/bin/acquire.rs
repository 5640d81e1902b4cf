//! A lock on one machine, in a SQLite file.
//!
//! `cargo run -p leasehold-examples --bin acquire -- /tmp/locks.db`

use leasehold::LockClient;
use leasehold::store::sqlite::SqliteStore;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "locks.db".into());
    let locks = LockClient::new(SqliteStore::open(path)?);

    // Waits for at most 30 s. The lease is renewed in the background, and always released afterwards.
    let work = async |scope: leasehold::LockScope| {
        println!("writing the report with token {}", scope.token());
        anyhow::Ok(())
    };
    locks.run("nightly-report", work).await?
}
