//! The verb `mutants`: cargo-mutants.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;

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

/// `cargo xtask mutants [ARGS]`.
pub(crate) fn run(args: &[OsString]) -> Result<()> {
    MUTANTS.install()?;
    let (_, status) = guard::supervise(&mut vec![Guarded::spawn(command(args)?)?])?;
    judge("mutants", status)
}
