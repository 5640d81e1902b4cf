//! Benchmarks of leasehold beside raw requests and beside its peers: `cargo xtask bench [NAME…]`.
//!
//! Each benchmark is a module and prints markdown tables to standard output. The scenarios also write
//! JSON, plots and `report.md` to `target/bench/`. The figures of one table come from one run on one
//! machine, and are compared only within it. No test asserts a time. `--quick` makes the scenarios small,
//! to test them.
//!
//! | modules | are for |
//! |---|---|
//! | [`stopwatch`], [`stats`] | times and quantiles |
//! | [`table`], [`report`], [`plot`] | output |
//! | [`place`], [`dynamodb`] | files, programs, clients, tables |
//! | [`floor`], [`fsharp`], [`semaphore`] | raw requests |
//! | [`count`], [`delay`], [`loss`] | the proxy that counts and delays requests, and loses answers |
//! | [`choice`] | what the command line chooses |
//! | [`who`], [`peers`], [`lineup`] | all subjects, other locks among them, and their settings |
//! | [`drive`], [`driver`], [`fleet`] | processes that take turns under a lock |
//! | [`turns`] | the evaluation of their events |

mod choice;
mod command;
mod count;
mod cycle;
mod delay;
mod drive;
mod driver;
mod dynamodb;
mod fleet;
mod floor;
mod fsharp;
mod lineup;
mod loss;
mod peers;
mod place;
mod plot;
mod prices;
mod report;
mod scenario;
mod semaphore;
mod sqlite;
mod stats;
mod stopwatch;
mod table;
mod turns;
mod units;
mod who;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::choice::Choice;
use crate::scenario::{
    commands, contend, hot, killed, local, lost, many, once, price, scale, shared, shells, slots,
    uncontended, waiter,
};

/// A benchmark.
type Bench = fn(&Choice) -> Result<()>;

/// All benchmarks, in the order in which they run.
const ALL: [(&str, Bench); 21] = [
    ("cycle", |_| cycle::run()),
    ("sqlite", |_| sqlite::run()),
    ("units", units::run),
    ("command", |_| command::run()),
    ("commands", |choice| commands::run(choice.quick)),
    ("uncontended", uncontended::run),
    ("contend", contend::run),
    ("hot", hot::run),
    ("waiter", waiter::run),
    ("killed", killed::run),
    ("lost", lost::run),
    ("many", many::run),
    ("local", |choice| local::run(choice.quick)),
    ("price", price::run),
    ("shells", |choice| shells::run(choice.quick)),
    ("slots", slots::run),
    ("shared", shared::run),
    ("fleet", |choice| once::fleet::run(choice.quick)),
    ("herd", |choice| once::herd::run(choice.quick)),
    ("beside", |choice| once::beside::run(choice.quick)),
    ("scale", |choice| scale::run(choice.quick)),
];

/// The benchmarks.
#[derive(Debug, Parser)]
#[command(name = "leasehold-bench", disable_version_flag = true)]
struct Cli {
    /// All of them, if none is named
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(ALL.map(|(name, _)| name)))]
    names: Vec<String>,
    #[command(flatten)]
    choice: Choice,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args.split_first() {
        // A process of a benchmark.
        Some((first, rest)) if first == "drive" => drive::run(rest),
        _ => run(Cli::parse()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(Cli { names, mut choice }: Cli) -> Result<()> {
    choice.settle()?;
    let note = choice.note();
    report::begin(&note)?;
    for (name, bench) in ALL {
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        let size = if choice.quick {
            " Quick: too small to quote."
        } else {
            ""
        };
        println!("\n## {name}\n\n{}{size}{note}\n", place::machine());
        let stopwatch = stopwatch::Stopwatch::start();
        bench(&choice)?;
        eprintln!("== {name}: {:.0} s", stopwatch.elapsed().as_secs_f64());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_sound() {
        super::Cli::command().debug_assert();
    }
}
