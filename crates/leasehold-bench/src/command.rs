//! What `leasehold run NAME -- true` takes beyond `true`, on the SQLite store.
//!
//! Both are spawned in turn, in an order that changes, with the same standard streams.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::place::{self, Scratch};
use crate::stats::{Times, ms};
use crate::stopwatch::Stopwatch;
use crate::table;

const ROUNDS: usize = 200;
/// Not counted.
const WARM_UP: usize = 10;

pub(crate) fn run() -> Result<()> {
    let command = place::command()?;
    let scratch = Scratch::new("command")?;
    println!(
        "File system: {}; {ROUNDS} spawns of each, in turn.\n",
        place::file_system(scratch.path())
    );
    let (mut alone, mut locked) = (Times::default(), Times::default());
    for round in 0..WARM_UP + ROUNDS {
        for turn in 0..2 {
            let under_lock = (round + turn) % 2 == 1;
            let mut program = if under_lock {
                leasehold(&command, &scratch)
            } else {
                Command::new("true")
            };
            program
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::inherit());
            let stopwatch = Stopwatch::start();
            let status = program.status().context("cannot start the program")?;
            let time = stopwatch.elapsed();
            ensure!(
                status.success(),
                "{program:?} failed ({status}): its time means nothing"
            );
            if round >= WARM_UP {
                if under_lock { &mut locked } else { &mut alone }.add(time);
            }
        }
    }
    let row = |what: &str, times: &Times, extra: String| {
        vec![what.to_owned(), ms(times.p50()), ms(times.p99()), extra]
    };
    table::print(
        &["what", "p50", "p99", "more than `true`, of medians"],
        &[
            row("true", &alone, "–".to_owned()),
            row(
                "leasehold run bench -- true",
                &locked,
                ms(locked.p50().saturating_sub(alone.p50())),
            ),
        ],
    );
    Ok(())
}

pub(crate) fn leasehold(command: &Path, scratch: &Scratch) -> Command {
    let mut program = Command::new(command);
    program
        .args(["run", "bench", "--", "true"])
        .env("LEASEHOLD_STORE", {
            let mut store = std::ffi::OsString::from("sqlite:");
            store.push(scratch.path().join("command.db"));
            store
        });
    program
}
