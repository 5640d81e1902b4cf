//! The project's chores: `cargo xtask help` lists them.
//!
//! Each verb does its own set-up, so that a clean checkout with a Rust tool chain is enough. All programs run under a
//! [`guard`], so none outlives xtask. Unix only, like the command `leasehold`.

mod api;
mod bench;
mod cargo;
mod dist;
mod dynamodb;
mod guard;
mod host;
mod layers;
mod mutants;
mod package;
mod part;
mod patches;
mod paths;
mod prove;
mod rustdoc;
mod steps;
mod tools;
mod verb;
mod wait;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use prove::Extent;
use verb::{Cli, Verb};

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Test { whole, args } => steps::test(whole, &args),
        Verb::Lint => steps::lint(),
        Verb::Prove { parts, soak, share } => {
            extent(soak, share).and_then(|extent| prove::run(&parts, extent))
        }
        Verb::Ci => ci(),
        Verb::Mutants { args } => mutants::run(&args),
        Verb::Patches { only, quarter } => patches::run(only.as_deref(), quarter),
        Verb::Api { bless } => api::run(bless),
        Verb::Package => package::run(),
        Verb::Dist => dist::run(),
        Verb::Bench { names, choice } => bench::run(&names, &choice),
        Verb::Dynamodb { port } => dynamodb::foreground(port),
        Verb::Guard { program, args } => return guard::serve(&program, &args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn extent(soak: Option<Duration>, share: bool) -> anyhow::Result<Extent> {
    match soak {
        Some(time) => Ok(Extent::Soak(time)),
        None if share => Extent::share(),
        None => Ok(Extent::Whole),
    }
}

fn ci() -> anyhow::Result<()> {
    steps::lint()?;
    api::run(false)?;
    package::run()?;
    prove::run(&[], Extent::share()?)?;
    steps::test(false, &[])
}
