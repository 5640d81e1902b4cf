//! The verb `bench`: builds what is measured, starts the server if one is needed, and runs `leasehold-bench`.
//!
//! Its tables go to standard output, everything else to standard error.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::cargo::{guarded_cargo, judge};
use crate::dynamodb::{self, Server};
use crate::guard::{self, Guarded};
use crate::steps::SERVER_VARIABLE;
use crate::verb::{Bench, Choice};

/// The environment variable that tells the benchmarks where to put files and peers.
const TARGET_VARIABLE: &str = "LEASEHOLD_BENCH_TARGET";

/// `cargo xtask bench`: these benchmarks, or all of them.
pub(crate) fn run(names: &[Bench], choice: &Choice) -> Result<()> {
    let names = if names.is_empty() {
        Bench::value_variants()
    } else {
        names
    };
    if names.iter().any(|name| name.needs_command()) {
        // By itself: built together with others it would have their features of shared crates.
        build("leasehold-cli")?;
    }
    build("leasehold-bench")?;
    // Where cargo puts it: `build` asks for no other place.
    let program = crate::paths::target().join("release/leasehold-bench");

    let named = std::env::var(SERVER_VARIABLE).ok();
    if !names.iter().any(|name| name.needs_dynamodb()) {
        return alone(bench(&program, names, choice, None)?);
    }
    if let Some(url) = dynamodb::given(named.as_deref())? {
        eprintln!("== bench: uses the DynamoDB at {url}, as {SERVER_VARIABLE} says");
        return alone(bench(&program, names, choice, Some(url))?);
    }
    let Server {
        url,
        program: server,
        log,
    } = dynamodb::start(None)?;
    eprintln!("== bench: DynamoDB Local runs at {url}");
    // In this order, so that a signal ends the benchmarks before the server that they use.
    let mut programs = vec![
        server,
        Guarded::spawn(&mut bench(&program, names, choice, Some(&url))?)?,
    ];
    match guard::supervise(&mut programs)? {
        (1, status) => judge("bench", status),
        (_, status) => bail!(
            "DynamoDB Local ended while the benchmarks ran ({status}), so they were stopped; its log:\n{}",
            log.tail()
        ),
    }
}

fn alone(mut command: Command) -> Result<()> {
    let status = guard::run(&mut command)?;
    judge("bench", status)
}

fn build(package: &str) -> Result<()> {
    let target = crate::paths::target();
    let mut command = guarded_cargo()?;
    command
        .args(["build", "--locked", "--release", "-p", package])
        .arg("--target-dir")
        .arg(&target);
    eprintln!("== bench: cargo build --release -p {package}");
    let status = guard::run(&mut command)?;
    judge("build", status)
}

fn bench(program: &Path, names: &[Bench], choice: &Choice, url: Option<&str>) -> Result<Command> {
    let mut command = guard::command(program)?;
    command
        .args(names.iter().map(|name| name.name()))
        .args(choice.args())
        .env(TARGET_VARIABLE, crate::paths::target());
    if let Some(url) = url {
        command.env(SERVER_VARIABLE, url);
    }
    Ok(command)
}
