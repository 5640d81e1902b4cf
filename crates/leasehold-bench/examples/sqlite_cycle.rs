//! How long acquire and release take on a SQLite file: `cargo run --release -p leasehold-bench --example sqlite_cycle`.
//! Times are of the store alone, each write synced to the disk; pass a path to choose the disk.

use std::time::Duration;

use leasehold::clock::{Clock, OsRandom, Random, SystemClock};
use leasehold::store::sqlite::SqliteStore;
use leasehold::store::{Consistency, Outcome, Store};
use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::write::{Grant, Left, Write};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let path = std::env::args_os()
        .nth(1)
        .map_or_else(|| directory.path().join("locks.db"), Into::into);
    let mut opens = Vec::new();
    for _ in 0..50 {
        let begun = SystemClock.elapsed();
        let store = SqliteStore::open(&path)?;
        opens.push(SystemClock.elapsed().since(begun));
        drop(store);
    }
    report("open", opens);
    let store = SqliteStore::open(&path)?;
    let (mut cycles, mut refusals, mut reads) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..2_000 {
        let begun = SystemClock.elapsed();
        let me = cycle(&store, true).await?;
        refusals.push({
            let begun = SystemClock.elapsed();
            cycle(&store, false).await?;
            SystemClock.elapsed().since(begun)
        });
        let refused = refusals.last().copied().unwrap_or_default();
        let release = Write::Release {
            left: Left::Nothing,
            held: None,
            key: "cycle".into(),
            attempt: me,
            token: None,
            ttl_seconds: Some(4_000_000_000),
            passed: Vec::new(),
        };
        store.write(release).await?;
        cycles.push(SystemClock.elapsed().since(begun).saturating_sub(refused));
        let begun = SystemClock.elapsed();
        store.read("cycle", Consistency::Strong).await?;
        reads.push(SystemClock.elapsed().since(begun));
    }
    report("acquire + release", cycles);
    report("refused acquire", refusals);
    report("read", reads);
    Ok(())
}

async fn cycle(store: &SqliteStore, free: bool) -> Result<AttemptId, Box<dyn std::error::Error>> {
    let me = AttemptId::from_random(OsRandom.attempt_bits());
    let now = ServiceTime(SystemClock.wall_unix_ms());
    let grant = Grant {
        key: "cycle".into(),
        attempt: me,
        expires_at: now.plus(Duration::from_secs(20)),
        ttl_seconds: 4_000_000_000,
        ttl_is_guess: false,
        lease: Duration::from_secs(20),
        seed: now,
        acquired_at: now,
        holder: "example".into(),
        data: None,
        force: None,
        bound_to_process: true,
    };
    match store.write(Write::Acquire(grant)).await?.value {
        Outcome::Applied(_) if free => Ok(me),
        Outcome::Refused(_) if !free => Ok(me),
        other => Err(format!("unexpected: {other:?}").into()),
    }
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "{what:<20} p50 {:>10.1?}  p99 {:>10.1?}  max {:>10.1?}",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
