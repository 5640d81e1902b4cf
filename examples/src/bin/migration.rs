//! A migration at the start of a service: one replica runs it, the others wait for its end.
//!
//! A migration that fails is not recorded, and the next replica tries again. It must be repeatable: a replica that dies in
//! the middle is replaced.
//! `cargo run -p leasehold-examples --bin migration -- /tmp/locks.db`

use std::time::Duration;

use leasehold::store::sqlite::SqliteStore;
use leasehold::{LockClient, LockScope, Once};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "locks.db".into());
    let locks = LockClient::new(SqliteStore::open(path)?);
    let migration = locks
        .once("migration/0042-add-index")?
        // Until somebody makes the key forget it.
        .keep(Duration::MAX)
        .wait(Duration::from_secs(300));
    match migration.run(migrate).await? {
        Once::Ran(steps) => println!("migrated in {steps} steps"),
        Once::Done(done) => println!("migrated by {}", done.runner()),
    }
    println!("serving");
    Ok(())
}

async fn migrate(scope: LockScope) -> Result<String, std::io::Error> {
    // Each statement checks the token, as `fencing.rs` shows.
    println!("migrating with token {}", scope.token());
    tokio::time::sleep(Duration::from_millis(300)).await;
    Ok("3".to_owned())
}
