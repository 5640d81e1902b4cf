//! The verb `mutants`: cargo-mutants.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;

use crate::cargo::{judge, without_own};
use crate::guard;
use crate::tools::MUTANTS;

/// The protocol, whose own tests are to catch every one.
const PROTOCOL: &[&str] = &["--package", "leasehold-protocol", "--all-features"];

/// cargo-mutants with these arguments.
pub(crate) fn command(args: &[OsString]) -> Result<Command> {
    let mut command = guard::command(MUTANTS.program())?;
    command
        .arg("mutants")
        .current_dir(crate::paths::workspace());
    command.args(args);
    let output = crate::paths::target().join("mutants");
    command.args(["--no-times", "--timeout", "60", "--jobs", "2", "--output"]);
    command.arg(output);
    without_own(&mut command);
    // Each mutant changes one file of one crate.
    command.env("CARGO_INCREMENTAL", "1");
    Ok(command)
}

/// The arguments for the protocol's mutants: all of them, or one share of sixteen.
pub(crate) fn of_protocol(share: Option<u32>) -> Vec<OsString> {
    let mut args: Vec<OsString> = PROTOCOL.iter().map(Into::into).collect();
    if let Some(share) = share {
        args.extend(["--shard".into(), format!("{share}/16").into()]);
    }
    args
}

/// `cargo xtask mutants [ARGS]`: with these arguments, or all of the protocol.
pub(crate) fn run(args: &[OsString]) -> Result<()> {
    MUTANTS.install()?;
    let mut command = match args {
        [] => command(&of_protocol(None))?,
        args => command(args)?,
    };
    let status = guard::run(&mut command)?;
    judge("mutants", status)
}
