//! The command: which configurations to explore, on two threads, and what to say about them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Parser;

use super::configs::{self, Size};
use super::search::{Trouble, explore};
use super::shape::{Kind, Shape, Stamps};
use super::variants::{self, Variant};
use super::{once, once_variants, queue_variants, queues, slots};

/// Every state of small configurations.
#[derive(Clone, Debug, Parser)]
#[command(name = "leasehold-checker", disable_version_flag = true)]
struct Order {
    /// Small configurations
    #[arg(long)]
    quick: bool,
    /// This configuration alone
    #[arg(long = "config", value_name = "NAME")]
    only: Option<String>,
    /// Prints the names of the configurations
    #[arg(long)]
    list: bool,
    /// Prints the counterexamples
    #[arg(long)]
    traces: bool,
    /// Only the configurations with a rule removed
    #[arg(long = "broken")]
    broken_only: bool,
    /// Every fourth configuration: those of quarter 0, 1, 2 or 3
    #[arg(long, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(..4))]
    quarter: Option<usize>,
    #[arg(long, default_value_t = 2, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=64))]
    threads: usize,
    /// The most states of a configuration
    #[arg(long, default_value_t = 60_000_000)]
    limit: usize,
}

impl Order {
    fn size(&self) -> Size {
        match self.quick {
            true => Size::Quick,
            false => Size::Full,
        }
    }

    /// Those of `all` that are wanted, by their names.
    fn choose<T>(&self, all: impl IntoIterator<Item = T>, name: impl Fn(&T) -> &str) -> Vec<T> {
        all.into_iter()
            .enumerate()
            .filter(|(at, _)| self.quarter.is_none_or(|quarter| at % 4 == quarter))
            .map(|(_, one)| one)
            .filter(|one| self.only.as_deref().is_none_or(|only| only == name(one)))
            .collect()
    }
}

/// Entry.
///
/// # Errors
///
/// A promise broken, a broken rule without its counterexample, or a configuration that was not explored to its end.
pub fn main() -> anyhow::Result<()> {
    let order = Order::parse();
    let shapes = configs::all(order.size())
        .into_iter()
        .chain(queues::all(order.size()))
        .chain(once::all(order.size()))
        .filter(|_| !order.broken_only);
    let shapes = order.choose(shapes, |shape| shape.name);
    if order.list {
        for shape in &shapes {
            println!("{}: {}", shape.name, shape.about);
        }
        return Ok(());
    }
    let started = now();
    let search = |shape: &Shape| explore(shape.clone(), order.limit);
    let found = run(&shapes, &order, search, |_, found| found.result.is_err());
    println!("| configuration | clients | bounds | states | depth | seconds | verdict |");
    println!("|---|---|---|---|---|---|---|");
    let mut states = 0;
    let mut steps = 0;
    let mut bad = 0;
    for (shape, found) in shapes.iter().zip(&found) {
        // Not begun, because another one has failed.
        let Some((found, took)) = found else { continue };
        states += found.states;
        steps += found.transitions;
        let verdict = match &found.result {
            Ok(()) => "holds".to_owned(),
            Err(Trouble::TooMany) => "NOT EXPLORED".to_owned(),
            Err(Trouble::Breach { breach, .. }) => format!("{:?} BROKEN", breach.property),
        };
        bad += usize::from(found.result.is_err());
        println!(
            "| {} | {} | {} | {} | {} | {:.1} | {verdict} |",
            shape.name,
            clients(shape),
            bounds(shape),
            found.states,
            found.depth,
            took.as_secs_f64()
        );
        if let Err(Trouble::Breach { breach, trace }) = &found.result {
            println!("\n{:?}: {}", breach.property, breach.how);
            for line in trace {
                println!("  {line}");
            }
        }
    }
    if bad == 0 || order.size() == Size::Full {
        bad += variants(&order);
    }
    let (more, more_steps, failed) = slots(&order);
    states += more;
    steps += more_steps;
    bad += failed;
    println!(
        "\n{states} distinct states, {steps} steps, in {:.1} s",
        started.elapsed().as_secs_f64()
    );
    if bad > 0 {
        bail!("{bad} configurations failed");
    }
    Ok(())
}

/// Runs the configurations with a rule removed; how many kept their promises, or broke another.
fn variants(order: &Order) -> usize {
    let all = variants::all(order.size())
        .into_iter()
        .chain(queue_variants::all())
        .chain(once_variants::all());
    let variants: Vec<Variant> = order.choose(all, |variant| variant.rule);
    let search = |variant: &Variant| explore(variant.shape.clone(), order.limit);
    let found = run(&variants, order, search, |variant, found| {
        match &found.result {
            Err(Trouble::Breach { breach, .. }) => breach.property != variant.breaks,
            _ => true,
        }
    });
    println!("\n| rule removed | must break | broke | steps | states | seconds |");
    println!("|---|---|---|---|---|---|");
    let mut bad = 0;
    let mut traces = Vec::new();
    for (variant, found) in variants.iter().zip(&found) {
        let Some((found, took)) = found else { continue };
        let broke = match &found.result {
            Err(Trouble::Breach { breach, trace }) => {
                traces.push((variant, breach, trace));
                bad += usize::from(breach.property != variant.breaks);
                format!("{:?}", breach.property)
            }
            Ok(()) | Err(Trouble::TooMany) => {
                bad += 1;
                "NOTHING".to_owned()
            }
        };
        println!(
            "| {} | {:?} | {broke} | {} | {} | {:.1} |",
            variant.rule,
            variant.breaks,
            found.depth,
            found.states,
            took.as_secs_f64()
        );
    }
    if order.traces {
        for (variant, breach, trace) in traces {
            println!("\n{}: {:?}, {}", variant.rule, breach.property, breach.how);
            for line in trace {
                println!("  {line}");
            }
        }
    }
    bad
}

/// S8: the cases that hold, and those with a rule removed. States, steps, and how many failed.
fn slots(order: &Order) -> (usize, u64, usize) {
    let mut all = slots::removed();
    if !order.broken_only {
        all.extend(slots::cases(order.size() == Size::Quick));
    }
    let all = order.choose(all, |case| case.name);
    let search = |case: &slots::Case| slots::explore(case, order.limit);
    let found = run(&all, order, search, |_, _| false);
    println!("\n| slots | must break | broke | states | seconds |");
    println!("|---|---|---|---|---|");
    let (mut states, mut steps, mut bad) = (0, 0, 0);
    for (case, found) in all.iter().zip(found) {
        let Some((found, took)) = found else { continue };
        let must = case.broken.is_some();
        let found_states = found.as_ref().map_or(order.limit, |found| found.states);
        let broke = found.as_ref().map(|found| found.breach.is_some());
        bad += usize::from(broke != Some(must));
        if !must {
            states += found_states;
            steps += found.as_ref().map_or(0, |found| found.steps);
        }
        println!(
            "| {} | {} | {} | {found_states} | {:.1} |",
            case.name,
            if must { "S8" } else { "" },
            match broke {
                Some(true) => "S8",
                Some(false) => "",
                None => "NOT EXPLORED",
            },
            took.as_secs_f64()
        );
        let way = found
            .and_then(|found| found.breach)
            .filter(|_| order.traces || !must);
        for line in way.iter().flatten() {
            println!("  {line}");
        }
    }
    (states, steps, bad)
}

/// Searches all of them on some threads. In the quick size, the first that is `bad` ends it.
fn run<T: Sync, F: Send>(
    all: &[T],
    order: &Order,
    search: impl Fn(&T) -> F + Sync,
    bad: impl Fn(&T, &F) -> bool + Sync,
) -> Vec<Option<(F, Duration)>> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let found: Mutex<Vec<Option<(F, Duration)>>> = Mutex::new(all.iter().map(|_| None).collect());
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(one) = all.get(at) else { return };
            let started = now();
            let result = search(one);
            if order.size() == Size::Quick && bad(one, &result) {
                stop.store(true, Ordering::Relaxed);
            }
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            found[at] = Some((result, started.elapsed()));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..order.threads {
            scope.spawn(work);
        }
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn clients(shape: &Shape) -> String {
    let clients = shape.clients.iter().map(|client| {
        let kind = match client.kind {
            Kind::Ours => "",
            Kind::Fsharp => "F# ",
        };
        let joins = if client.joins { " queues" } else { "" };
        format!("{kind}{}x{}{joins}", client.attempts, client.requests)
    });
    clients.collect::<Vec<_>>().join(", ")
}

fn bounds(shape: &Shape) -> String {
    let stamps = match shape.stamps {
        Stamps::Exact => "exact".to_owned(),
        Stamps::None => "no dates".to_owned(),
        Stamps::Dates { error_ms } => format!("dates ± {error_ms} ms"),
    };
    let mut bounds = format!("{} ticks of {} ms, {stamps}", shape.horizon, shape.tick_ms);
    let faults = &shape.faults;
    for (number, what) in [
        (faults.duplicates, "duplicates"),
        (faults.pauses, "pauses"),
        (faults.crashes, "crashes"),
        (faults.wall_steps, "wall steps"),
    ] {
        if number > 0 {
            bounds.push_str(&format!(", {what}: {number}"));
        }
    }
    if let Some(late) = faults.late {
        bounds.push_str(&format!(", late or lost: {late}"));
    }
    if shape.prompt {
        bounds.push_str(", answers prompt or lost");
    }
    bounds
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a search took, for its report"
)]
fn now() -> Instant {
    Instant::now()
}
