//! Chaos: real processes on real stores, which are killed and stopped, with wrong clocks (`leasehold-chaos`).
//!
//! `run` starts four processes on DynamoDB Local, behind proxies that lose, delay, break and repeat requests,
//! and four on SQLite. On each store, two use the library and two are the command `leasehold run` with a child.
//! They are stopped for longer than their lease, killed and restarted, and cut off. Their wall clocks are wrong
//! and step. All write, with their fencing tokens, to a register that refuses old tokens. Their events are
//! judged during the run.
//!
//! `lockset` counts the acknowledged updates of a shared set that are lost with the lock alone, and requires that
//! none are lost with either fence.
//!
//! | modules | are for |
//! |---|---|
//! | `options`, `report` | input and output |
//! | `campaign` | the run of one store |
//! | `fleet`, `member`, `guardian` | processes, and their end |
//! | `fault`, `wall`, `dice` | faults, wall clocks, random numbers |
//! | `worker`, `child`, `place`, `event` | the programs of the processes, their stores and events |
//! | `register`, `history`, `judge` | the protected resource, the record of a run, and its judge |
//! | `lockset` | the experiment |
//! | `files` | a lock file that other programs read while it is in use |
//!
//! # What is judged, and what is not
//!
//! All times are `CLOCK_BOOTTIME`, one clock for all processes of a machine. A grant of the library is valid from
//! the return of `acquire` until the release, and at the latest until the deadline that its holder believed in.
//! A stop of the process before that deadline changes nothing. A grant of the command is valid from its child's
//! first sign of life to its last. Signs of life during our own SIGSTOP of the wrapper, and for its grace and a
//! second after it, do not count: a stopped wrapper cannot stop its child. The register refuses the writes of such
//! a child. Clocks of several machines, and a real DynamoDB, are not tested here.

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

/// Runs the part that the first argument names.
///
/// # Errors
///
/// When the run itself fails. Violations are no error: they are printed, and give exit code 1.
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
