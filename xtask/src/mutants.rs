//! The verb `mutants`: cargo-mutants.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cargo::judge;
use crate::guard::{self, Guarded};
use crate::tools::MUTANTS;

/// The protocol, whose own tests are to catch every one.
const PROTOCOL: &[&str] = &["--package", "leasehold-protocol", "--all-features"];

/// cargo-mutants with these arguments, or on the protocol.
pub(crate) fn command(args: &[OsString]) -> Result<Command> {
    let mut command = guard::command(MUTANTS.program())?;
    command
        .arg("mutants")
        .current_dir(crate::paths::workspace());
    if args.is_empty() {
        command.args(PROTOCOL);
    } else {
        command.args(args);
    }
    let output = crate::paths::target().join("mutants");
    command.args(["--no-times", "--timeout", "60", "--jobs", "2", "--output"]);
    command.arg(output).env_remove("CARGO_MANIFEST_DIR");
    Ok(command)
}

/// cargo-mutants on a quarter of the protocol's mutants. The commit decides which, so that a run can be repeated.
pub(crate) fn quarter() -> Result<Command> {
    let head = Command::new("git")
        .args(["rev-parse", "HEAD"])
        .current_dir(crate::paths::workspace())
        .output()
        .context("cannot start git")?;
    ensure!(head.status.success(), "git has no commit here");
    let shard = quarter_of(&String::from_utf8_lossy(&head.stdout))?;
    eprintln!("mutants {shard}; all of them: cargo xtask mutants");
    let mut args: Vec<OsString> = PROTOCOL.iter().map(Into::into).collect();
    args.extend(["--shard".into(), shard.into()]);
    command(&args)
}

fn quarter_of(commit: &str) -> Result<String> {
    let last = commit.trim().chars().last().and_then(|c| c.to_digit(16));
    let last = last.with_context(|| format!("not a commit: {commit:?}"))?;
    Ok(format!("{}/4", last % 4))
}

/// `cargo xtask mutants [ARGS]`.
pub(crate) fn run(args: &[OsString]) -> Result<()> {
    MUTANTS.install()?;
    let (_, status) = guard::supervise(&mut vec![Guarded::spawn(command(args)?)?])?;
    judge("mutants", status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_decides_the_quarter() {
        for (commit, quarter) in [("0297433\n", "3/4"), ("b87d3e4", "0/4"), ("fe", "2/4")] {
            assert_eq!(quarter_of(commit).expect("a commit"), quarter);
        }
        quarter_of("").expect_err("no commit");
    }
}
