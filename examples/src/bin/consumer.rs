//! A consumer of a queue that may deliver a message twice, as SQS does.
//!
//! A message is handled once. Its delivery is acknowledged when the handling is recorded, by this consumer or another.
//! `cargo run -p leasehold-examples --bin consumer -- /tmp/locks.db 1 2 2 3 1`

use std::time::Duration;

use leasehold::store::sqlite::SqliteStore;
use leasehold::{LockClient, Once, OnceError};

/// Longer than the queue keeps a message, so that no delivery comes after it.
const KEEP: Duration = Duration::from_secs(14 * 86_400);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().unwrap_or_else(|| "locks.db".into());
    let locks = LockClient::new(SqliteStore::open(path)?);
    // In place of `ReceiveMessage`.
    for message in args {
        // Less than the message's visibility time-out: it is delivered again while another handles it.
        let once = locks.once(&format!("message/{message}"))?;
        let once = once.keep(KEEP).wait(Duration::from_secs(5));
        match once
            .run(|scope| handle(message.clone(), scope.token().get()))
            .await
        {
            Ok(Once::Ran(())) => println!("{message}: handled, deleted from the queue"),
            Ok(Once::Done(done)) => {
                println!(
                    "{message}: handled before by {}, deleted from the queue",
                    done.runner()
                );
            }
            // Not deleted: it is delivered again.
            Err(OnceError::Work(error)) => println!("{message}: {error}"),
            Err(error) => println!("{message}: not handled: {error}"),
        }
    }
    Ok(())
}

async fn handle(message: String, token: u64) -> Result<(), String> {
    // What this writes carries the token.
    println!("{message}: handling with token {token}");
    match message.as_str() {
        "bad" => Err("a message that cannot be handled".into()),
        _ => Ok(()),
    }
}
