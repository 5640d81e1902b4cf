//! Chaos: real processes on real stores, killed, stopped and lied to (`leasehold-chaos`).
//!
//! `run` keeps four processes at work on DynamoDB Local, behind proxies that lose, delay, break and
//! repeat requests, and at the same time four on SQLite: two use the library, two are the command
//! `leasehold run` with a child. They are stopped for longer than their lease, killed and started
//! again, cut off, and their wall clocks are wrong and step. All write, with their fencing tokens, to a
//! register that refuses old ones. What they tell is judged while it happens.
//!
//! `lockset` is the honest experiment: how many acknowledged updates of a shared set are lost with the
//! lock alone, and that none are with either fence.
//!
//! - `options`, `report`: what goes in and out;
//! - `campaign`: one store's run; `fleet`, `member`: its processes; `guardian`: nothing is left
//!   of them; `fault`, `wall`, `dice`: what is done to them;
//! - `worker`, `child`: what they do; `place`: where; `event`: what they tell;
//! - `register`: what they write to; `history`, `judge`: what must not come of it;
//! - `lockset`: the experiment;
//! - `files`: a lock file whose files are read by everybody while it is in use.
//!
//! # What is judged, and what is not
//!
//! All times are `CLOCK_BOOTTIME`, one clock for all processes of a machine. A grant of the library is
//! valid from when `acquire` returned until its holder lets go or, at the latest, until the deadline
//! it believed in while it ran; that deadline counts whether or not the process was stopped before it.
//! A grant of the command is valid from its child's first sign of life to its last; signs of life
//! while our own SIGSTOP holds the wrapper (and for its grace and a second after) do not count: a
//! wrapper that does not run cannot stop its child, and nothing can promise that it does. The register
//! refuses what such a child writes. Real clocks of several machines, and a real DynamoDB, are not
//! tried here.

mod campaign;
mod child;
mod dice;
mod event;
mod fault;
mod files;
mod fleet;
mod guardian;
mod history;
mod judge;
mod lockset;
mod member;
mod options;
mod place;
mod programs;
mod register;
mod report;
mod wall;
mod worker;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use leasehold::store::dynamodb::DynamoDbStore;

use self::fleet::Programs;
use self::guardian::Guardian;
use self::options::{Cli, Options, Part, Server};
use self::place::Place;

/// The part that the first argument names.
///
/// # Errors
///
/// When something could not be done at all. Violations are no error: they are printed, and are the exit
/// code 1.
pub fn main() -> Result<ExitCode> {
    match Cli::parse().part {
        Part::Run {
            server: Server { endpoint },
            seconds,
            seed,
        } => guarded(
            &Options {
                endpoint,
                seconds,
                seed,
            },
            run,
        ),
        Part::Lockset {
            server: Server { endpoint },
            seconds,
        } => guarded(
            &Options {
                endpoint,
                seconds,
                seed: 0,
            },
            lockset::run,
        ),
        Part::Files { seconds, comers } => files::main(seconds, comers).map(|()| ExitCode::SUCCESS),
        Part::Process(words) => process(&words).map(|()| ExitCode::SUCCESS),
    }
}

/// A process of an experiment.
fn process(words: &[String]) -> Result<()> {
    let (name, rest) = words.split_first().context("a process needs a name")?;
    match name.as_str() {
        "files-holder" => files::holder(rest),
        "files-comer" => files::comer(rest),
        "files-shell" => files::shell(rest),
        "worker" => worker::main(rest),
        "child" => child::main(rest),
        "adder" => lockset::adder::main(rest),
        "guardian" => {
            let directory = rest.first().context("a guardian needs a directory")?;
            guardian::serve(directory.as_ref())
        }
        _ => bail!("no such part: `{name}`; see `leasehold-chaos --help`"),
    }
}

/// Runs a part under a guardian, which is dismissed whatever comes of it.
fn guarded(
    options: &Options,
    part: impl AsyncFn(&Options, &Guardian) -> Result<bool>,
) -> Result<ExitCode> {
    let guardian = Guardian::start()?;
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")
        .and_then(|runtime| runtime.block_on(part(options, &guardian)));
    let dismissed = guardian.dismiss();
    let good = outcome?;
    dismissed?;
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn run(options: &Options, guardian: &Guardian) -> Result<bool> {
    let programs = Programs {
        own: guardian.keep(&programs::own()?)?,
        command: guardian.keep(&programs::beside("leasehold")?)?,
    };
    let table = format!("chaos-{}", std::process::id());
    DynamoDbStore::new(place::client(&options.endpoint), table.as_str())
        .create_table()
        .await
        .context("cannot create the table: is there a DynamoDB Local at the endpoint?")?;
    let dynamodb = Place::DynamoDb {
        table,
        endpoint: options.endpoint.clone(),
    };
    let sqlite = Place::Sqlite {
        path: guardian.directory().join("locks.db"),
    };
    let (seed, seconds) = (options.seed, options.seconds);
    let (on_dynamodb, on_sqlite) = tokio::join!(
        campaign::run(dynamodb, &programs, seed, seconds, guardian),
        campaign::run(sqlite, &programs, seed, seconds, guardian),
    );
    let outcomes = [on_dynamodb?, on_sqlite?];
    println!("{}", report::table(&outcomes));
    let mut good = true;
    for outcome in &outcomes {
        for violation in &outcome.violations {
            good = false;
            println!("violation on {}: {violation}\n", outcome.store);
        }
        for missing in report::missing(outcome) {
            good = false;
            println!("{missing}");
        }
    }
    println!(
        "seed {seed}, {seconds} seconds: {}",
        if good { "passed" } else { "FAILED" }
    );
    Ok(good)
}
