//! The command: which seeds to run, on which threads, and what to say about them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::bail;
use clap::Parser;
use leasehold::clock::{Clock, SystemClock};

use super::coverage::{Coverage, FAULTS, PHASES};
use super::driver::{Report, run};
use super::regressions;
use super::shape::SECOND;

/// One seed in so many is run a second time.
const AGAIN: u64 = 50;
/// Fewer seeds than this cannot be expected to meet everything.
const COVERAGE_FROM: u64 = 50_000;
/// The last events of a failed seed.
const LAST: usize = 60;

/// The library in simulated worlds.
#[derive(Debug, Parser)]
#[command(name = "leasehold-sim", disable_version_flag = true)]
struct Order {
    /// So many worlds
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// From this seed on
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only every such seed: 10 from 2 are worlds with slots
    #[arg(long, default_value_t = 1)]
    step: u64,
    /// The length of a world, in simulated seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Stop after so many seconds of real time
    #[arg(long, default_value_t = 86_400)]
    within: u64,
    /// Stop after so many violations
    #[arg(long, default_value_t = 20)]
    failures: u64,
    /// One world, in words
    #[arg(long = "seed")]
    one: Option<u64>,
    /// All of its words
    #[arg(long)]
    verbose: bool,
    #[arg(long, default_value_t = 2)]
    threads: u64,
}

/// The sum of many seeds.
#[derive(Default)]
struct Totals {
    seeds: u64,
    again: u64,
    simulated: u128,
    acquisitions: u64,
    hand_offs: u64,
    hand_offs_lost: u64,
    turns: u64,
    longest: u128,
    runs: [u64; 3],
    slots: [u64; 2],
    requests: u64,
    lawless_overlaps: u64,
    hash: u64,
    coverage: Coverage,
    failed: Vec<(u64, &'static str, String)>,
}

impl Totals {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.simulated += u128::from(report.simulated);
        self.acquisitions += report.acquisitions;
        self.hand_offs += report.hand_offs;
        self.hand_offs_lost += report.hand_offs_lost;
        self.turns += report.turns;
        self.longest = self.longest.max(report.longest);
        self.requests += report.requests;
        for (mine, theirs) in self.runs.iter_mut().zip(report.runs) {
            *mine += theirs;
        }
        for (mine, theirs) in self.slots.iter_mut().zip(report.slots) {
            *mine += theirs;
        }
        self.lawless_overlaps += report.lawless_overlaps;
        // Order must not matter: threads finish as they like.
        self.hash ^= report.hash;
        self.coverage.add(&report.coverage);
        for (rule, text) in &report.violations {
            self.failed.push((report.seed, rule, text.clone()));
        }
    }
}

/// Entry: `leasehold-sim [--seeds N] [--from K] [--step J] [--seconds S] [--within REAL_SECONDS]
/// [--failures N] [--threads N] [--seed X] [--verbose]`.
///
/// # Errors
///
/// A violation, a fault that never met a phase, or an argument that is not understood.
pub fn main() -> anyhow::Result<()> {
    let order = Order::parse();
    if let Some(seed) = order.one {
        return one(seed, &order);
    }
    let started = SystemClock.elapsed();
    let limit = started.plus(std::time::Duration::from_secs(order.within));
    let totals = Mutex::new(Totals::default());
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let named = regressions::SEEDS.len() as u64;
    let work = || -> anyhow::Result<()> {
        while !stop.load(Ordering::Relaxed) && SystemClock.elapsed() < limit {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= order.seeds + named {
                return Ok(());
            }
            let seed = match regressions::SEEDS.get(usize::try_from(number)?) {
                Some((seed, _)) => *seed,
                None => order.from + (number - named) * order.step,
            };
            let report = run(seed, order.seconds, false)?;
            let again = seed % AGAIN == 0 || number < named;
            let second = if again {
                Some(run(seed, order.seconds, false)?.hash)
            } else {
                None
            };
            let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
            totals.add(&report);
            totals.again += u64::from(again);
            if second.is_some_and(|hash| hash != report.hash) {
                let text = "two runs of it differ".to_owned();
                totals.failed.push((seed, "determinism", text));
            }
            if totals.failed.len() as u64 >= order.failures {
                stop.store(true, Ordering::Relaxed);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let threads: Vec<_> = (0..order.threads).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            match thread.join() {
                Ok(result) => result?,
                Err(_) => bail!("a simulated world panicked"),
            }
        }
        Ok(())
    })?;
    let took = SystemClock.elapsed().since(started).as_secs_f64();
    let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    say(&totals, took, &order)
}

/// One seed, in words.
fn one(seed: u64, order: &Order) -> anyhow::Result<()> {
    let report = run(seed, order.seconds, true)?;
    let skip = if order.verbose {
        0
    } else {
        report.lines.len().saturating_sub(LAST)
    };
    if let Some(first) = report.lines.first().filter(|_| skip > 0) {
        println!("{first}\n  …");
    }
    for line in &report.lines[skip..] {
        println!("{line}");
    }
    println!("seed {seed}: trace {:016x}", report.hash);
    let second = run(seed, order.seconds, true)?;
    if second.hash != report.hash {
        let differ = report.lines.iter().zip(&second.lines).find(|(a, b)| a != b);
        if let Some((first, second)) = differ {
            println!("first:  {first}\nsecond: {second}");
        }
        bail!("two runs of seed {seed} differ");
    }
    for (rule, text) in &report.violations {
        println!("VIOLATION of {rule}: {text}");
    }
    if report.violations.is_empty() {
        return Ok(());
    }
    // The violations above are the message; a backtrace of this place says nothing.
    std::process::exit(1)
}

fn say(totals: &Totals, took: f64, order: &Order) -> anyhow::Result<()> {
    let days = totals.simulated as f64 / SECOND as f64 / 86_400.0;
    let per_second = (totals.seeds + totals.again) as f64 / took;
    println!("| simulation | |\n|---|---|");
    let row = |name: &str, value: String| println!("| {name} | {value} |");
    row("seeds", totals.seeds.to_string());
    row("run twice, and identical", totals.again.to_string());
    row("simulated days", format!("{days:.1}"));
    row("acquisitions", totals.acquisitions.to_string());
    row(
        "of them handed on inside a process, and lost there",
        format!("{}, {}", totals.hand_offs, totals.hand_offs_lost),
    );
    row(
        "of them by a place in the queue of the record",
        totals.turns.to_string(),
    );
    row(
        "the longest wait with a place, as a part of L3",
        format!("{:.1} %", totals.longest as f64 / 10.0),
    );
    let [completed, told, own] = totals.runs;
    row(
        "runs completed once; callers told of their own, and of another's",
        format!("{completed}; {own}, {told}"),
    );
    let [slots, last] = totals.slots;
    row(
        "grants of slots, and of the last free one",
        format!("{slots}, {last}"),
    );
    row("requests", totals.requests.to_string());
    row("faults x phases met", totals.coverage.total().to_string());
    row(
        "overlaps in worlds whose clocks keep no bounds (expected above 0)",
        totals.lawless_overlaps.to_string(),
    );
    row("violations", totals.failed.len().to_string());
    row("trace of all seeds", format!("{:016x}", totals.hash));
    row(
        "wall time",
        format!("{took:.1} s, {per_second:.0} worlds/s"),
    );
    print!("\n| fault |");
    for phase in PHASES {
        print!(" {phase:?} |");
    }
    println!("\n|---|{}", "---:|".repeat(PHASES.len()));
    for fault in FAULTS {
        print!("| {fault:?} |");
        for phase in PHASES {
            if fault.applies(phase) || totals.coverage.count(fault, phase) > 0 {
                print!(" {} |", totals.coverage.count(fault, phase));
            } else {
                print!(" |");
            }
        }
        println!();
    }
    println!();
    for (seed, rule, text) in &totals.failed {
        println!("VIOLATION of {rule}, seed {seed}: {text}");
        if let Some((_, found)) = regressions::SEEDS.iter().find(|(named, _)| named == seed) {
            println!("  a named seed; it once found: {found}");
        }
    }
    if let Some((seed, ..)) = totals.failed.first() {
        println!(
            "\nthe last events of seed {seed}; all of them: leasehold-sim --seed {seed} --verbose"
        );
        let quiet = Order {
            one: Some(*seed),
            verbose: false,
            ..*order
        };
        return one(*seed, &quiet);
    }
    let missing = totals.coverage.missing();
    if totals.seeds >= COVERAGE_FROM {
        if !missing.is_empty() {
            bail!("faults that never met a phase: {missing:?}");
        }
        if totals.hand_offs_lost == 0 {
            bail!("no lease was lost that had been handed on: the simulation is blind");
        }
        if totals.turns == 0 || totals.longest == 0 {
            bail!(
                "no grant to a place in a queue, or none in a fair world: the simulation is blind"
            );
        }
        if totals.slots.contains(&0) {
            bail!("no slot was granted, or never the last one: the simulation is blind");
        }
        if totals.lawless_overlaps == 0 {
            bail!("no overlap even where the clocks keep no bounds: the simulation is blind");
        }
    } else if !missing.is_empty() {
        println!("not met by so few seeds: {missing:?}");
    }
    Ok(())
}
