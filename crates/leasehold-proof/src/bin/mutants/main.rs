//! `leasehold-mutants`: breaks the protocol on purpose, one rule at a time, and asks the rest of the
//! proof whether it sees it.
//!
//! Production code carries no switch for this. A mutant is a change of text ([`list`]) on a scratch
//! copy of the workspace under `target/mutants/` ([`scratch`]); the copy is built and handed to the
//! parts of the proof in the order of their cost ([`killers`]) until one of them reports a
//! violation. What killed which mutant is measured, and printed as a table ([`report`]).
//!
//! Invariants: the copy without a change passes every killer (else a "kill" proves nothing); a text
//! to be changed occurs exactly once (else the list has not kept up with the code); what does not
//! compile, does not end in time, or ends without saying what is wrong is not a kill. Each of these
//! fails the run, and so does a survivor.
//!
//! `leasehold-mutants [--only WORD] [--jobs N] [--table FILE]`; the contract suite needs
//! `LEASEHOLD_TEST_DYNAMODB`, as the tests do.

mod killers;
mod list;
mod program;
mod report;
mod scratch;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};

use self::killers::{KILLERS, Killer, Verdict};
use self::list::Mutant;
use self::program::Stopwatch;
use self::report::{End, Fate};
use self::scratch::Lane;

/// What is asked for.
struct Order {
    only: Option<String>,
    jobs: usize,
    table: Option<PathBuf>,
}

fn main() -> Result<()> {
    let order = parse(std::env::args().skip(1))?;
    ensure!(
        std::env::var_os("LEASEHOLD_TEST_DYNAMODB").is_some(),
        "LEASEHOLD_TEST_DYNAMODB is not set: `cargo xtask dynamodb` starts a server and prints it"
    );
    let wanted = |mutant: &&Mutant| {
        let only = order.only.as_deref();
        only.is_none_or(|word| mutant.name.contains(word))
    };
    let mutants: Vec<&Mutant> = list::all().into_iter().filter(wanted).collect();
    ensure!(!mutants.is_empty(), "no mutant has such a name");
    list::check(&mutants, &workspace())?;

    let whole = Stopwatch::start();
    let lanes = prepare(order.jobs)?;
    let prepared = whole.seconds();
    eprintln!("== the copy without a change passes every killer ({prepared:.0} s)");
    let fates = run(&lanes, &mutants)?;
    let table = report::table(&fates, prepared, whole.seconds());
    print!("{table}");
    if let Some(file) = &order.table {
        std::fs::write(file, &table).with_context(|| file.display().to_string())?;
    }
    let alive = fates.iter().filter(|fate| !fate.is_killed());
    let names: Vec<_> = alive.map(|fate| fate.mutant.name).collect();
    ensure!(names.is_empty(), "not killed: {}", names.join(", "));
    Ok(())
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Order> {
    let mut order = Order {
        only: None,
        jobs: 2,
        table: None,
    };
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} what?"))?;
        match word.as_str() {
            "--only" => order.only = Some(value),
            "--jobs" => order.jobs = value.parse().context("--jobs N")?,
            "--table" => order.table = Some(value.into()),
            _ => bail!("no such setting: {word}; there are --only, --jobs, --table"),
        }
    }
    ensure!(order.jobs > 0, "--jobs 0 does nothing");
    Ok(order)
}

/// The workspace's root directory: where cargo says it is now, or where it was built.
fn workspace() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest
        .ancestors()
        .nth(2)
        .map(PathBuf::from)
        .unwrap_or(manifest)
}

/// One scratch copy for each job, everything built; the first is asked of every killer.
fn prepare(jobs: usize) -> Result<Vec<Lane>> {
    let root = workspace();
    let lanes: Result<Vec<_>> = (0..jobs).map(|number| Lane::new(&root, number)).collect();
    let lanes = lanes?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = lanes
            .iter()
            .enumerate()
            .map(|(number, lane)| scope.spawn(move || baseline(lane, number == 0)))
            .collect();
        threads.into_iter().try_for_each(joined)
    })?;
    Ok(lanes)
}

fn baseline(lane: &Lane, ask: bool) -> Result<()> {
    for killer in KILLERS {
        let name = killer.name;
        killer.build(lane)?;
        let verdict = if ask {
            killer.ask(lane)?
        } else {
            Verdict::Passed
        };
        if let Verdict::Violation(text) = verdict {
            bail!("without any change, `{name}` fails: {text}");
        }
    }
    Ok(())
}

/// Every mutant, on as many lanes as there are.
fn run(lanes: &[Lane], mutants: &[&'static Mutant]) -> Result<Vec<Fate>> {
    let next = AtomicUsize::new(0);
    let fates = Mutex::new(Vec::new());
    let work = |lane: &Lane| -> Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(mutant) = mutants.get(number) else {
                return Ok(());
            };
            let watch = Stopwatch::start();
            let end = end_of(mutant, lane).unwrap_or_else(End::Undecided);
            let fate = Fate {
                mutant,
                end,
                seconds: watch.seconds(),
            };
            eprintln!("{fate}");
            let mut fates = fates.lock().unwrap_or_else(PoisonError::into_inner);
            fates.push((number, fate));
        }
    };
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = lanes
            .iter()
            .map(|lane| scope.spawn(move || work(lane)))
            .collect();
        threads.into_iter().try_for_each(joined)
    })?;
    let mut fates = fates.into_inner().unwrap_or_else(PoisonError::into_inner);
    fates.sort_by_key(|(number, _)| *number);
    Ok(fates.into_iter().map(|(_, fate)| fate).collect())
}

fn joined(thread: std::thread::ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    match thread.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn end_of(mutant: &'static Mutant, lane: &Lane) -> Result<End> {
    let _changed = lane.change(mutant.edits)?;
    let sees = |killer: &&Killer| mutant.edits.iter().any(|edit| (killer.sees)(edit.file));
    for killer in KILLERS.iter().filter(sees) {
        killer.build(lane)?;
        if let Verdict::Violation(how) = killer.ask(lane)? {
            return Ok(End::Killed {
                by: killer.name,
                how,
            });
        }
    }
    Ok(End::Survived)
}
