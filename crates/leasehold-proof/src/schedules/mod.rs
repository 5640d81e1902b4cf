//! One client on several runtimes, in virtual time, by random schedules.
//!
//! In the simulation each process has one runtime, which runs until all its tasks wait. Here one client has several
//! runtimes, which run for a few polls at a time, stop, or end. Futures are polled by hand, late or never. Waiters
//! leave at any moment, also with a guard in their place. The store fails, hangs and recovers. After each step at
//! most one guard believes in its lease (S1). At the end the store works, and all running runtimes are scheduled
//! fairly. Every waiter there must get the key and release it.
//!
//! A schedule is a function of its seed: `leasehold-schedules --seed N` repeats one.

mod run;
mod wire;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::bail;
use clap::Parser;
use leasehold::clock::{Clock, SystemClock};

use self::run::{Shown, run};

/// From this number of schedules on, each expected event must have happened.
const EXPECTED_FROM: u64 = 10_000;

#[derive(Default)]
struct Totals {
    shown: Shown,
    failed: Vec<(u64, String)>,
}

/// One client on several runtimes.
#[derive(Debug, Parser)]
#[command(name = "leasehold-schedules", disable_version_flag = true)]
struct Order {
    /// So many schedules
    #[arg(long, default_value_t = 200_000)]
    seeds: u64,
    /// From this seed on
    #[arg(long, default_value_t = 0)]
    from: u64,
    #[arg(long, default_value_t = 2)]
    threads: u64,
    /// This schedule alone
    #[arg(long)]
    seed: Option<u64>,
}

/// Entry. The first argument is the program's name.
///
/// # Errors
///
/// A violation, or something that never happened.
pub fn main(arguments: impl IntoIterator<Item = String>) -> anyhow::Result<()> {
    let Order {
        seeds,
        from,
        threads,
        seed,
    } = Order::parse_from(arguments);
    let (from, seeds, threads) = match seed {
        Some(seed) => (seed, 1, 1),
        None => (from, seeds, threads),
    };
    let started = SystemClock.elapsed();
    let totals = all(from, seeds, threads.max(1))?;
    let took = SystemClock.elapsed().since(started).as_secs_f64();
    let shown = &totals.shown;
    println!("| random schedules of one client on several runtimes | |\n|---|---:|");
    for (what, number) in [("schedules", seeds)].into_iter().chain(shown.rows()) {
        println!("| {what} | {number} |");
    }
    println!(
        "| violations | {} |\n| seconds | {took:.0} |",
        totals.failed.len()
    );
    println!("\nseeds {from} to {}", from + seeds - 1);
    for (seed, violation) in totals.failed.iter().take(20) {
        println!("seed {seed}: {violation}");
    }
    if !totals.failed.is_empty() {
        bail!("{} schedules broke a promise", totals.failed.len());
    }
    if seeds >= EXPECTED_FROM
        && let Some((what, _)) = shown.rows().find(|(_, number)| *number == 0)
    {
        bail!("it never came to this: {what}");
    }
    Ok(())
}

fn all(from: u64, seeds: u64, threads: u64) -> anyhow::Result<Totals> {
    let next = AtomicU64::new(from);
    let stop = AtomicBool::new(false);
    let totals = Mutex::new(Totals::default());
    let work = || -> anyhow::Result<()> {
        let mut shown = Shown::default();
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + seeds {
                break;
            }
            if let Err(violation) = run(seed, &mut shown)? {
                let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
                totals.failed.push((seed, violation));
                stop.fetch_or(totals.failed.len() >= 20, Ordering::Relaxed);
            }
        }
        let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
        totals.shown.add(&shown);
        Ok(())
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in running {
            match thread.join() {
                Ok(done) => done?,
                Err(_) => bail!("a schedule panicked"),
            }
        }
        Ok(())
    })?;
    let mut totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    totals.failed.sort_unstable();
    Ok(totals)
}
