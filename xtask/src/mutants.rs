//! The verb `mutants`: cargo-mutants, in the one version that the figures are of.
//!
//! It is built once, from crates.io, into the target directory: nothing is installed for the user.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::guard::{self, Guarded};
use crate::steps::{guarded_cargo, judge};

const VERSION: &str = "27.1.0";

/// The protocol, whose own tests are to catch every one.
const PROTOCOL: &[&str] = &["--package", "leasehold-protocol", "--all-features"];

fn tools() -> PathBuf {
    crate::paths::target().join("tools")
}

fn program() -> PathBuf {
    tools().join("bin").join("cargo-mutants")
}

/// Builds cargo-mutants, where it is not there in this version.
pub(crate) fn install() -> Result<()> {
    let version = Command::new(program())
        .args(["mutants", "--version"])
        .output();
    if version.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains(VERSION)) {
        return Ok(());
    }
    eprintln!("== mutants: builds cargo-mutants {VERSION}, once");
    let mut command = guarded_cargo()?;
    let version = ["--version", VERSION, "--locked", "--force"];
    command.args(["install", "cargo-mutants"]).args(version);
    command.arg("--root").arg(tools());
    // Beside the workspace's own artefacts, and kept for the next time.
    command.env(
        "CARGO_TARGET_DIR",
        crate::paths::target().join("tools").join("build"),
    );
    let (_, status) = guard::supervise(&mut vec![Guarded::spawn(command)?])?;
    judge("install cargo-mutants", status)
}

/// cargo-mutants with these arguments, or on the protocol.
pub(crate) fn command(args: &[OsString]) -> Result<Command> {
    let mut command = guard::command(program())?;
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

/// `cargo xtask mutants [ARGS]`.
pub(crate) fn run(args: &[OsString]) -> Result<()> {
    install()?;
    let (_, status) = guard::supervise(&mut vec![Guarded::spawn(command(args)?)?])?;
    judge("mutants", status)
}
