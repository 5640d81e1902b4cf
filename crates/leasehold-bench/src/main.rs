//! Benchmarks of leasehold beside raw requests and beside its peers: `cargo xtask bench [NAME…]`.
//!
//! Each benchmark is a module and prints one markdown table to standard output. Figures of one
//! table come from one run on one machine and are compared only within it; nothing here is a test
//! of speed, and no test asserts a time.
//!
//! What they share: [`stopwatch`] is the only place that reads a clock, [`stats`] turns times into
//! quantiles, [`table`] prints, [`place`] says where files and programs are, [`dynamodb`] makes
//! clients and tables, [`floor`] is what raw requests take, [`count`] stands between any client and
//! the service and counts, [`peers`] installs and starts other people's locks.

mod command;
mod count;
mod cycle;
mod dynamodb;
mod floor;
mod peers;
mod place;
mod sqlite;
mod stats;
mod stopwatch;
mod table;
mod units;

use std::process::ExitCode;

use anyhow::{Result, bail};

/// All benchmarks, in the order in which they run.
const ALL: [&str; 4] = ["cycle", "sqlite", "units", "command"];

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let outcome = if names.is_empty() {
        ALL.iter().try_for_each(|name| run(name))
    } else {
        names.iter().try_for_each(|name| run(name))
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str) -> Result<()> {
    let bench = match name {
        "cycle" => cycle::run,
        "sqlite" => sqlite::run,
        "units" => units::run,
        "command" => command::run,
        _ => bail!("no benchmark `{name}`: there are {}", ALL.join(", ")),
    };
    println!("\n## {name}\n\n{}\n", place::machine());
    bench()
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_unknown_name_is_told_the_known_ones() {
        let error = super::run("fast").expect_err("there is none");
        assert!(error.to_string().contains("cycle, sqlite, units, command"));
    }
}
