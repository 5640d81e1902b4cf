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

use std::collections::VecDeque;
use std::path::PathBuf;
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

/// One scratch copy for each job, everything built. Each killer is asked once, without any change: what
/// shares a target directory by the last lane, which also has the mutants of those parts, the rest by
/// the first.
fn prepare(jobs: usize) -> Result<Vec<Lane>> {
    let root = workspace();
    let lanes: Result<Vec<_>> = (0..jobs).map(|number| Lane::new(&root, number)).collect();
    let lanes = lanes?;
    let last = jobs - 1;
    std::thread::scope(|scope| {
        let threads: Vec<_> = lanes
            .iter()
            .enumerate()
            .map(|(number, lane)| {
                scope.spawn(move || {
                    for killer in KILLERS {
                        let asked = number == if killer.shares_target() { last } else { 0 };
                        baseline(lane, killer, asked)?;
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(joined)
    })?;
    Ok(lanes)
}

fn baseline(lane: &Lane, killer: &Killer, asked: bool) -> Result<()> {
    if !asked && killer.shares_target() {
        // Built by whoever needs it: the lanes would wait for each other.
        return Ok(());
    }
    let program = killer.build(lane)?;
    if asked && let Verdict::Violation(text) = killer.ask(lane, &program)? {
        bail!("without any change, `{}` fails: {text}", killer.name);
    }
    Ok(())
}

/// Every mutant, on as many lanes as there are. The last lane begins at the end of the list, where the
/// mutants are whose killers share a target directory: lanes that build there wait for each other.
fn run(lanes: &[Lane], mutants: &[&'static Mutant]) -> Result<Vec<Fate>> {
    let left: VecDeque<_> = mutants.iter().copied().enumerate().collect();
    let left = Mutex::new(left);
    let fates = Mutex::new(Vec::new());
    let work = |lane: &Lane, last: bool| -> Result<()> {
        loop {
            let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
            let next = if last {
                left.pop_back()
            } else {
                left.pop_front()
            };
            drop(left);
            let Some((number, mutant)) = next else {
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
            .enumerate()
            .map(|(number, lane)| {
                let last = number > 0 && number + 1 == lanes.len();
                scope.spawn(move || work(lane, last))
            })
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
    for killer in killers::of(mutant.edits) {
        let program = killer.build(lane)?;
        if let Verdict::Violation(how) = killer.ask(lane, &program)? {
            return Ok(End::Killed {
                by: killer.name,
                how,
            });
        }
    }
    Ok(End::Survived)
}
