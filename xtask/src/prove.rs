//! The verb `prove`: builds the parts of the proof, starts their services, runs the parts one after the other, and prints the
//! time of each.
//!
//! Their tables go to standard output, everything else to standard error. The first part that fails ends the run. A part
//! that mostly waits (chaos, the lock-set experiment) runs beside one that computes.
//!
//! A CI runs a share of what takes longest. Its commit decides which, so that a run can be repeated.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::cargo::{guarded_cargo, judge, without_own};
use crate::dynamodb::{self, Server};
use crate::guard::{self, Guarded};
use crate::mutants;
use crate::part::Part;
use crate::steps::SERVER_VARIABLE;
use crate::tools::MUTANTS;
use crate::wait::Stopwatch;

/// The Cargo profile of what computes, and its directory.
const PROFILE: &str = "proof";

/// How much of it is run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extent {
    Whole,
    /// Of sixteen, as the last digit of a commit has it
    Share(u32),
    /// Simulation and chaos for so long, side by side
    Soak(Duration),
}

impl Extent {
    /// The share of the commit that is checked out.
    pub(crate) fn share() -> Result<Extent> {
        let head = Command::new("git")
            .args(["rev-parse", "HEAD"])
            .current_dir(crate::paths::workspace())
            .output()
            .context("cannot start git")?;
        ensure!(head.status.success(), "git has no commit here");
        let share = share_of(&String::from_utf8_lossy(&head.stdout))?;
        eprintln!("== prove: share {share} of 16, by the commit; all of it: cargo xtask prove");
        Ok(Extent::Share(share))
    }

    fn soak(self) -> Option<Duration> {
        match self {
            Extent::Soak(time) => Some(time),
            Extent::Whole | Extent::Share(_) => None,
        }
    }
}

fn share_of(commit: &str) -> Result<u32> {
    let last = commit.trim().chars().last().and_then(|c| c.to_digit(16));
    last.with_context(|| format!("not a commit: {commit:?}"))
}

impl Part {
    /// Whether it mostly waits.
    fn waits(self) -> bool {
        matches!(self, Part::Lockset | Part::Chaos | Part::Files)
    }

    fn command(self, url: &str, extent: Extent) -> Result<Command> {
        let soak = extent.soak();
        let share = match extent {
            Extent::Share(share) => Some(share),
            Extent::Whole | Extent::Soak(_) => None,
        };
        let quarter = share.map(|share| ["--quarter".into(), (share % 4).to_string()]);
        let built = |profile: &str, name: &str| crate::paths::target().join(profile).join(name);
        let proof = |name: &str| guard::command(built(PROFILE, name));
        // As the tests build it, with every feature.
        let debug = |name: &str| guard::command(built("debug", name));
        let mut command = match self {
            Part::Checker => {
                let mut command = proof("leasehold-checker")?;
                command.args(quarter.iter().flatten());
                command
            }
            Part::Sim => {
                let mut command = proof("leasehold-sim")?;
                match soak {
                    // Other seeds than every other run has: they begin where the clock is.
                    Some(time) => command.args(soak_seeds(time)),
                    None => {
                        let within = share.map_or("150", |_| "75");
                        command.args(["--seeds", "200000", "--within", within])
                    }
                };
                command
            }
            Part::Cancellation => proof("leasehold-cancellation")?,
            Part::Chaos => {
                let mut command = debug("leasehold-chaos")?;
                let seconds = soak.map_or(90, |time| time.as_secs()).to_string();
                command.args(["run", "--seconds", &seconds, "--endpoint", url]);
                command
            }
            Part::Lockset => {
                let mut command = debug("leasehold-chaos")?;
                command.args(["lockset", "--endpoint", url]);
                command
            }
            Part::Files => {
                let mut command = debug("leasehold-chaos")?;
                command.args(["files", "--seconds", "60", "--comers", "200"]);
                command
            }
            Part::Mutants => mutants::command(&mutants::of_protocol(share))?,
            Part::Patches => {
                // What waits beside it has real processes with real leases: these come first.
                let mut command = guard::command("nice")?;
                // The build before this may have put another file in the place of the program that runs.
                let own = built("debug", "xtask");
                command.args(["-n", "10"]).arg(own).arg("patches");
                command.args(quarter.iter().flatten());
                command
            }
            Part::Schedules => {
                let mut command = proof("leasehold-schedules")?;
                if let Some(share) = share {
                    let from = (share % 4) * 50_000;
                    command.args(["--seeds", "50000", "--from", &from.to_string()]);
                }
                command
            }
        };
        command
            .current_dir(crate::paths::workspace())
            .env(SERVER_VARIABLE, url);
        without_own(&mut command);
        Ok(command)
    }
}

fn soak_seeds(time: Duration) -> [OsString; 8] {
    let from = crate::wait::unix_seconds() * 1_000;
    [
        "--seeds".into(),
        "1000000000".into(),
        "--from".into(),
        from.to_string().into(),
        "--within".into(),
        time.as_secs().to_string().into(),
        "--threads".into(),
        "1".into(),
    ]
}

/// `cargo xtask prove`: these parts, or all of them.
pub(crate) fn run(parts: &[Part], extent: Extent) -> Result<()> {
    let soak = extent.soak();
    let all = parts.is_empty() && soak.is_none();
    if all || parts.contains(&Part::Mutants) {
        MUTANTS.install()?;
    }
    build()?;
    let Server { url, program, log } = dynamodb::start(None)?;
    eprintln!("== prove: DynamoDB Local runs at {url}");
    let mut programs = vec![program];
    let mut took = Vec::new();
    let whole = Stopwatch::start();
    let groups: Vec<Vec<Part>> = match soak {
        Some(_) => vec![vec![Part::Sim, Part::Chaos]],
        None => groups(if parts.is_empty() {
            Part::value_variants()
        } else {
            parts
        }),
    };
    for group in groups {
        let mut running = Vec::new();
        for part in group {
            eprintln!("== prove: {}", part.name());
            programs.push(Guarded::spawn(&mut part.command(&url, extent)?)?);
            running.push((part, Stopwatch::start()));
        }
        while !running.is_empty() {
            let (index, status) = guard::supervise(&mut programs)?;
            if index == 0 {
                bail!(
                    "DynamoDB Local ended by itself ({status}), so the proof was stopped; its log:\n{}",
                    log.tail()
                );
            }
            drop(programs.remove(index));
            let (part, watch) = running.remove(index - 1);
            judge(&part.name(), status)?;
            took.push((part.name(), watch.seconds()));
        }
    }
    println!("\n| part | wall time |\n|---|---:|");
    for (name, seconds) in took {
        println!("| {name} | {seconds:.0} s |");
    }
    println!("| **all, without building** | {:.0} s |", whole.seconds());
    Ok(())
}

/// The groups of parts that run at the same time: all parts that wait, with the last one that computes.
fn groups(parts: &[Part]) -> Vec<Vec<Part>> {
    let (waiting, computing): (Vec<Part>, Vec<Part>) = parts.iter().partition(|part| part.waits());
    let mut groups: Vec<Vec<Part>> = computing.into_iter().map(|part| vec![part]).collect();
    match groups.last_mut() {
        Some(last) => last.extend(waiting),
        None => groups.extend(waiting.into_iter().map(|part| vec![part])),
    }
    groups
}

fn build() -> Result<()> {
    // The second is what `cargo xtask test` builds, too.
    for args in [
        &[
            "build",
            "--locked",
            "--profile",
            PROFILE,
            "-p",
            "leasehold-proof",
        ][..],
        &[
            "build",
            "--locked",
            "--workspace",
            "--all-features",
            "--all-targets",
        ],
    ] {
        eprintln!("== prove: cargo {}", args.join(" "));
        let mut command = guarded_cargo()?;
        let target: PathBuf = crate::paths::target();
        command.args(args).arg("--target-dir").arg(target);
        let status = guard::run(&mut command)?;
        judge("build", status)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_decides_the_share() {
        for (commit, share) in [("0297433\n", 3), ("b87d3e4", 4), ("fe", 14)] {
            assert_eq!(share_of(commit).expect("a commit"), share);
        }
        share_of("").expect_err("no commit");
    }

    #[test]
    fn parts_that_wait_run_beside_the_last_that_computes() {
        let all = groups(Part::value_variants());
        assert_eq!(all[0], [Part::Checker]);
        let last = [Part::Patches, Part::Lockset, Part::Chaos, Part::Files];
        assert_eq!(all.last().map(Vec::as_slice), Some(&last[..]));
        assert_eq!(
            all.iter().map(Vec::len).sum::<usize>(),
            Part::value_variants().len()
        );
        assert_eq!(
            groups(&[Part::Chaos, Part::Lockset]),
            [vec![Part::Chaos], vec![Part::Lockset]]
        );
        assert_eq!(groups(&[Part::Sim]), [vec![Part::Sim]]);
    }
}
