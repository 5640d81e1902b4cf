//! The parts of the proof that a mutant has to get past, in the order of their cost.
//!
//! Unit tests beside the code are none of them: they fix what the code says, not what it promises.

use std::ffi::OsString;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::program::{self, Ended};
use crate::scratch::Lane;

/// More than any build takes.
const BUILD_LIMIT: Duration = Duration::from_secs(900);
/// More than any killer takes, on a busy machine.
const RUN_LIMIT: Duration = Duration::from_secs(180);

const PROTOCOL: &str = "crates/leasehold-protocol/";
const WRITE: &str = "crates/leasehold-protocol/src/write.rs";
const LIBRARY: &str = "crates/leasehold/src/";
const DYNAMODB: &str = "crates/leasehold/src/store/dynamodb/";
const SQLITE: &str = "crates/leasehold/src/store/sqlite/";

/// One part of the proof.
#[derive(Debug)]
pub(crate) struct Killer {
    /// For the table.
    pub(crate) name: &'static str,
    /// Whether it contains a file: a change of another one cannot show.
    pub(crate) sees: fn(&str) -> bool,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// A command of the proof: its name, its arguments.
    Binary {
        name: &'static str,
        arguments: &'static [&'static str],
    },
    /// Integration tests of the library: the file, and which of its tests.
    Tests {
        file: &'static str,
        which: &'static [&'static str],
    },
}

/// What a killer says.
#[derive(Debug)]
pub(crate) enum Verdict {
    Passed,
    Violation(String),
}

fn client(file: &str) -> bool {
    let store = file.starts_with(DYNAMODB) || file.starts_with(SQLITE);
    file.starts_with(PROTOCOL) || (file.starts_with(LIBRARY) && !store)
}

/// All of them.
pub(crate) const KILLERS: &[Killer] = &[
    Killer {
        name: "contract suite, memory",
        sees: |file| file == WRITE,
        kind: Kind::Binary {
            name: "leasehold-contract",
            arguments: &[],
        },
    },
    Killer {
        name: "cancellation",
        sees: client,
        kind: Kind::Binary {
            name: "leasehold-cancellation",
            arguments: &["--depth", "1", "--failures", "1"],
        },
    },
    Killer {
        name: "simulation",
        sees: client,
        kind: Kind::Binary {
            name: "leasehold-sim",
            // The named seeds come first.
            arguments: &["--seeds", "2000", "--threads", "1", "--failures", "1"],
        },
    },
    Killer {
        name: "cancellation, two requests troubled",
        sees: client,
        kind: Kind::Binary {
            name: "leasehold-cancellation",
            arguments: &["--depth", "2", "--failures", "1"],
        },
    },
    Killer {
        name: "contract suite, SQLite",
        sees: |file| file.starts_with(SQLITE),
        kind: Kind::Tests {
            file: "contract",
            which: &["sqlite"],
        },
    },
    Killer {
        name: "contract suite, DynamoDB Local",
        sees: |file| file.starts_with(DYNAMODB),
        kind: Kind::Tests {
            file: "contract",
            which: &["dynamodb"],
        },
    },
    Killer {
        name: "SQLite between processes",
        sees: |file| file.starts_with(SQLITE),
        kind: Kind::Tests {
            file: "sqlite_processes",
            which: &[],
        },
    },
];

impl Killer {
    /// Builds it in a lane. What does not compile is no mutant.
    pub(crate) fn build(&self, lane: &Lane) -> Result<()> {
        let mut command = match &self.kind {
            Kind::Binary { name, .. } => {
                let mut command = cargo_in(lane, "build");
                command
                    .args([
                        "--profile",
                        "mutants",
                        "-p",
                        "leasehold-proof",
                        "--bin",
                        name,
                    ])
                    .arg("--target-dir")
                    .arg(&lane.target);
                command
            }
            Kind::Tests { file, .. } => {
                let mut command = tests_in(lane, file);
                command.arg("--no-run");
                command
            }
        };
        let ended = program::run(&mut command, BUILD_LIMIT, &lane.log)?;
        let built = ended.status.is_some_and(|status| status.success());
        ensure!(built, "`{}` does not build:\n{}", self.name, ended.words);
        Ok(())
    }

    /// Asks it what it sees.
    pub(crate) fn ask(&self, lane: &Lane) -> Result<Verdict> {
        let mut command = match &self.kind {
            Kind::Binary {
                name, arguments, ..
            } => {
                let mut command = Command::new(lane.target.join("mutants").join(name));
                command.current_dir(&lane.copy).args(*arguments);
                command
            }
            Kind::Tests { file, which } => {
                let mut command = tests_in(lane, file);
                command.arg("--").args(*which);
                command
            }
        };
        let Ended { status, words } = program::run(&mut command, RUN_LIMIT, &lane.log)?;
        let Some(status) = status else {
            bail!("`{}` did not end within {RUN_LIMIT:?}", self.name);
        };
        if status.success() {
            return Ok(Verdict::Passed);
        }
        match violation(&words) {
            Some(text) => Ok(Verdict::Violation(text)),
            None => bail!("`{}` ended with {status}:\n{words}", self.name),
        }
    }
}

fn cargo_in(lane: &Lane, verb: &str) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command
        .current_dir(&lane.copy)
        .args([verb, "--quiet", "--offline"]);
    command
}

/// With the features of the whole workspace, so that the SDK that the tests have built is used again.
fn tests_in(lane: &Lane, file: &str) -> Command {
    let mut command = cargo_in(lane, "test");
    command
        .args(["--workspace", "--all-features", "--test", file])
        .arg("--target-dir")
        .arg(&lane.shared_target);
    command
}

/// What a failed run says is wrong: a violated property, or the assertion of a test.
fn violation(words: &str) -> Option<String> {
    if let Some(line) = words.lines().find(|line| line.starts_with("VIOLATION of ")) {
        return Some(line.trim_start_matches("VIOLATION of ").to_owned());
    }
    let mut lines = words.lines();
    let place =
        lines.find(|line| line.contains("' panicked at ") || line.contains(") panicked at "))?;
    let place = place.split(" panicked at ").nth(1)?;
    let file = place.rsplit('/').next()?.trim_end_matches(':');
    let what = lines.next().unwrap_or_default();
    Some(format!("{file}: {what}"))
}
