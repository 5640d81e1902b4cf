//! An acquire and release on a SQLite file, which syncs each of its two writes to the disk.
//!
//! The floor is what the disk takes for that: two pages written over and synced, without SQLite.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use leasehold::LockClient;
use leasehold::store::sqlite::SqliteStore;
use tokio::runtime::{Builder, Runtime};

use crate::cycle::{cycle, store_cycle};
use crate::place::{self, Scratch};
use crate::stats::{Times, ms, ratio};
use crate::stopwatch::Stopwatch;
use crate::table;

const ROUNDS: usize = 1_500;
/// Not counted.
const WARM_UP: usize = 150;
const PAGE_BYTES: usize = 4096;

pub(crate) fn run() -> Result<()> {
    let scratch = Scratch::new("sqlite")?;
    println!(
        "File system: {}; SQLite with `synchronous=FULL`.\n",
        place::file_system(scratch.path())
    );
    let mut rows = Vec::new();
    for (name, runtime) in [
        (
            "current_thread",
            Builder::new_current_thread().enable_all().build()?,
        ),
        (
            "multi_thread",
            Builder::new_multi_thread().enable_all().build()?,
        ),
    ] {
        let [floor, store, library] = measure(&runtime, &scratch, name)?;
        for (what, times) in [
            ("floor: two 4 KiB writes, each fdatasync'd", &floor),
            ("leasehold's store alone, without its client", &store),
            ("leasehold try_acquire + release", &library),
        ] {
            rows.push(vec![
                name.to_owned(),
                what.to_owned(),
                times.len().to_string(),
                ms(times.p50()),
                ms(times.p99()),
                ratio(times, &floor),
            ]);
        }
    }
    table::print(
        &["runtime", "what", "cycles", "p50", "p99", "p50 / floor"],
        &rows,
    );
    Ok(())
}

fn measure(runtime: &Runtime, scratch: &Scratch, name: &str) -> Result<[Times; 3]> {
    let path = scratch.path().join(format!("page-{name}"));
    let page = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    page.write_all_at(&[1; PAGE_BYTES], 0)?;
    page.sync_all()?;
    let store = SqliteStore::open(scratch.path().join(format!("store-{name}.db")))?;
    let locks = LockClient::new(SqliteStore::open(
        scratch.path().join(format!("locks-{name}.db")),
    )?);
    let rounds = async move {
        let mut times = [const { None }; 3].map(|_: Option<()>| Times::default());
        for round in 0..WARM_UP + ROUNDS {
            for turn in 0..times.len() {
                let index = (turn + round) % times.len();
                let stopwatch = Stopwatch::start();
                match index {
                    0 => sync_twice(&page)?,
                    1 => store_cycle(&store, "bench").await?,
                    _ => cycle(&locks, "bench").await?,
                }
                if round >= WARM_UP {
                    times[index].add(stopwatch.elapsed());
                }
            }
        }
        anyhow::Ok(times)
    };
    runtime
        .block_on(runtime.spawn(rounds))
        .context("the rounds panicked")?
}

fn sync_twice(page: &File) -> Result<()> {
    for byte in [2, 3] {
        page.write_all_at(&[byte; PAGE_BYTES], 0)?;
        page.sync_data()?;
    }
    Ok(())
}
