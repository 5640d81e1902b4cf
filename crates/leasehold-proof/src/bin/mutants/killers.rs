//! The parts of the proof that a mutant has to get past, in the order of their cost; a part that is
//! about the changed file itself comes before the others.
//!
//! Unit tests beside the code are none of them: they fix what the code says, not what it promises.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::list::Edit;
use crate::program::{self, Ended};
use crate::scratch::Lane;

/// More than any build takes.
const BUILD_LIMIT: Duration = Duration::from_secs(900);
/// More than any killer takes, on a busy machine.
const RUN_LIMIT: Duration = Duration::from_secs(180);

const PROTOCOL: &str = "crates/leasehold-protocol/";
const WRITE: &str = "crates/leasehold-protocol/src/write.rs";
const RENEWAL: &str = "crates/leasehold-protocol/src/renewal.rs";
const LIBRARY: &str = "crates/leasehold/src/";
const DYNAMODB: &str = "crates/leasehold/src/store/dynamodb/";
const SQLITE: &str = "crates/leasehold/src/store/sqlite/";
/// Where waiters stand in line, and what one guard hands to the next.
const LINE: [&str; 4] = [
    "crates/leasehold/src/line.rs",
    "crates/leasehold/src/keeper/hand_on.rs",
    "crates/leasehold/src/identity.rs",
    "crates/leasehold/src/acquire/ask.rs",
];

/// The tests with that name take long.
const CROWD: &str = "eight_processes";

/// One part of the proof.
#[derive(Debug)]
pub(crate) struct Killer {
    /// For the table.
    pub(crate) name: &'static str,
    /// Whether it contains a file: a change of another one cannot show.
    pub(crate) sees: fn(&str) -> bool,
    /// Whether it is about that file: then it is asked before the others.
    about: fn(&str) -> bool,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// A command of the proof: its name, the one feature that it needs, its arguments.
    Binary {
        name: &'static str,
        feature: &'static str,
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

fn nothing(_: &str) -> bool {
    false
}

/// All of them.
pub(crate) const KILLERS: &[Killer] = &[
    Killer {
        name: "contract suite, memory",
        sees: |file| file == WRITE,
        about: nothing,
        kind: Kind::Binary {
            name: "leasehold-contract",
            feature: "client",
            arguments: &[],
        },
    },
    Killer {
        name: "cancellation",
        sees: client,
        about: nothing,
        kind: Kind::Binary {
            name: "leasehold-cancellation",
            feature: "cancel",
            arguments: &["--depth", "1", "--failures", "1"],
        },
    },
    Killer {
        name: "simulation",
        sees: client,
        about: nothing,
        kind: Kind::Binary {
            name: "leasehold-sim",
            feature: "sim",
            // The named seeds come first.
            arguments: &["--seeds", "2000", "--threads", "1", "--failures", "1"],
        },
    },
    Killer {
        name: "cancellation, two requests troubled",
        sees: client,
        about: nothing,
        kind: Kind::Binary {
            name: "leasehold-cancellation",
            feature: "cancel",
            arguments: &["--depth", "2", "--failures", "1"],
        },
    },
    Killer {
        name: "protocol checker",
        sees: |file| file.starts_with(PROTOCOL),
        about: nothing,
        kind: Kind::Binary {
            name: "leasehold-checker",
            feature: "checker",
            arguments: &["--quick", "--threads", "1"],
        },
    },
    Killer {
        name: "tests of the line",
        sees: |file| client(file) && !file.starts_with(PROTOCOL),
        about: |file| LINE.contains(&file),
        kind: Kind::Tests {
            file: "line",
            which: &[],
        },
    },
    Killer {
        name: "tests of turns",
        sees: |file| LINE.contains(&file),
        about: |file| LINE.contains(&file),
        kind: Kind::Tests {
            file: "turns",
            which: &[],
        },
    },
    Killer {
        // Rare in the simulation: a seed that shows it today may not tomorrow.
        name: "test of a renewal that is found",
        sees: |file| file == RENEWAL,
        about: nothing,
        kind: Kind::Tests {
            file: "hard_cases",
            which: &["a_renewal_found_in_the_record"],
        },
    },
    Killer {
        name: "contract suite, DynamoDB Local, beside F#",
        sees: |file| file.starts_with(DYNAMODB),
        about: nothing,
        // Alone, because the suite beside it takes much longer.
        kind: Kind::Tests {
            file: "contract",
            which: &[
                "--exact",
                "dynamodb_takes_over_exactly_the_fsharp_record_that_was_seen",
            ],
        },
    },
    Killer {
        name: "contract suite, DynamoDB Local",
        sees: |file| file.starts_with(DYNAMODB),
        about: nothing,
        kind: Kind::Tests {
            file: "contract",
            which: &["dynamodb"],
        },
    },
    Killer {
        name: "SQLite between processes",
        sees: |file| file.starts_with(SQLITE),
        about: nothing,
        kind: Kind::Tests {
            file: "sqlite_processes",
            which: &["--skip", CROWD],
        },
    },
    Killer {
        name: "SQLite between eight processes",
        sees: |file| file.starts_with(SQLITE),
        about: nothing,
        kind: Kind::Tests {
            file: "sqlite_processes",
            which: &[CROWD],
        },
    },
    Killer {
        name: "contract suite, SQLite",
        sees: |file| file.starts_with(SQLITE),
        about: nothing,
        kind: Kind::Tests {
            file: "contract",
            which: &["sqlite"],
        },
    },
];

/// Those that contain one of the changed files, in the order in which they are asked.
pub(crate) fn of(edits: &[Edit<'_>]) -> Vec<&'static Killer> {
    let any = |meets: fn(&str) -> bool| edits.iter().any(|edit| meets(edit.file));
    let mut killers: Vec<_> = KILLERS.iter().filter(|k| any(k.sees)).collect();
    killers.sort_by_key(|killer| !any(killer.about));
    killers
}

impl Killer {
    /// Whether it is built where the tests are, in the one target directory that all lanes share.
    pub(crate) fn shares_target(&self) -> bool {
        matches!(self.kind, Kind::Tests { .. })
    }

    /// Builds it in a lane; what to run. What does not compile is no mutant.
    pub(crate) fn build(&self, lane: &Lane) -> Result<PathBuf> {
        let mut command = match &self.kind {
            Kind::Binary { name, feature, .. } => binary_in(lane, name, feature),
            Kind::Tests { file, .. } => tests_in(lane, file),
        };
        let Ended { status, words } = program::run(&mut command, BUILD_LIMIT, &lane.log)?;
        let built = status.is_some_and(|status| status.success());
        ensure!(built, "`{}` does not build:\n{words}", self.name);
        if let Kind::Binary { name, .. } = &self.kind {
            return Ok(lane.target.join("mutants").join(name));
        }
        let named = words.lines().find_map(|line| {
            let (_, path) = line.split_once("\"executable\":\"")?;
            path.split_once('"')
        });
        let (path, _) = named.context("cargo names no executable")?;
        Ok(path.into())
    }

    /// Asks it what it sees.
    pub(crate) fn ask(&self, lane: &Lane, program: &Path) -> Result<Verdict> {
        let mut command = Command::new(program);
        match &self.kind {
            Kind::Binary { arguments, .. } => command.current_dir(&lane.copy).args(*arguments),
            Kind::Tests { which, .. } => {
                // Where cargo starts tests.
                let package = lane.copy.join("crates/leasehold");
                command.current_dir(package).args(*which)
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

fn binary_in(lane: &Lane, name: &str, feature: &str) -> Command {
    let mut command = cargo_in(lane, "build");
    command
        .args(["--profile", "mutants", "-p", "leasehold-proof"])
        .args(["--no-default-features", "--features", feature])
        .args(["--bin", name])
        .arg("--target-dir")
        .arg(&lane.target);
    command
}

/// With the features of the whole workspace, so that the SDK that the tests have built is used again.
fn tests_in(lane: &Lane, file: &str) -> Command {
    let mut command = cargo_in(lane, "test");
    command
        .args(["--workspace", "--all-features", "--test", file])
        .args(["--no-run", "--message-format=json-render-diagnostics"])
        .arg("--target-dir")
        .arg(&lane.shared_target);
    command
}

/// What a failed run says is wrong: a violated property, or the assertion of a test.
fn violation(words: &str) -> Option<String> {
    if let Some(line) = words.lines().find(|line| line.starts_with("VIOLATION of ")) {
        return Some(line.trim_start_matches("VIOLATION of ").to_owned());
    }
    broken_promise(words).or_else(|| failed_assertion(words))
}

/// The checker's row of a configuration that does not hold, and what it says below it.
fn broken_promise(words: &str) -> Option<String> {
    let mut lines = words.lines();
    let row = lines.find(|line| line.ends_with(" BROKEN |"))?;
    let configuration = row.split('|').nth(1)?.trim();
    let how = lines.find(|line| !line.is_empty())?;
    Some(format!("\"{configuration}\", {how}"))
}

fn failed_assertion(words: &str) -> Option<String> {
    let mut lines = words.lines();
    let place =
        lines.find(|line| line.contains("' panicked at ") || line.contains(") panicked at "))?;
    let place = place.split(" panicked at ").nth(1)?;
    let file = place.rsplit('/').next()?.trim_end_matches(':');
    let what = lines.next().unwrap_or_default();
    Some(format!("{file}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkers_violation_is_its_configuration_and_its_words() {
        let words = "| lease | 1x3 | 3 ticks | 9 | 4 | 0.1 | holds |
| dates | 1x2 | 3 ticks | 7 | 4 | 0.1 | S1 BROKEN |

S1: a and b believe
  a step
";
        let said = violation(words).expect("broken");
        assert_eq!(said, "\"dates\", S1: a and b believe");
        // A rule whose removal breaks nothing any more is not what a mutant is killed by.
        assert_eq!(violation("| a rule | S1 | NOTHING | 3 | 7 | 0.1 |"), None);
    }

    #[test]
    fn what_is_about_the_changed_file_comes_first() {
        let edit = |file| Edit {
            file,
            old: "",
            new: "",
        };
        let names = |file| of(&[edit(file)]).into_iter().map(|killer| killer.name);
        assert_eq!(names(LINE[0]).next(), Some("tests of the line"));
        assert!(names(LINE[0]).any(|name| name == "simulation"));
        assert!(!names(LINE[0]).any(|name| name == "protocol checker"));
        assert_eq!(names(WRITE).next(), Some("contract suite, memory"));
    }
}
