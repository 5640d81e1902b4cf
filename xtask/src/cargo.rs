//! cargo, as every verb calls it.

use std::ffi::OsString;
use std::process::{Command, ExitStatus};

use anyhow::{Result, ensure};

use crate::guard;

/// All of them use `--locked`: cargo has updated the lock file when it built xtask, unless it was called with `--locked`
/// itself.
pub(crate) fn guarded_cargo() -> Result<Command> {
    let mut command = guard::command(cargo())?;
    command.current_dir(crate::paths::workspace());
    without_own(&mut command);
    Ok(command)
}

/// Takes away what cargo says of xtask. Some build scripts (ring's) ask for such variables: what depends on them would be
/// built anew whenever a person calls cargo after xtask.
pub(crate) fn without_own(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let own = ["CARGO_MANIFEST_", "CARGO_PKG_"];
        if own
            .iter()
            .any(|own| name.to_string_lossy().starts_with(own))
        {
            command.env_remove(name);
        }
    }
}

/// The cargo that runs xtask.
pub(crate) fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// An error that names the step, if it failed.
pub(crate) fn judge(step: &str, status: ExitStatus) -> Result<()> {
    ensure!(status.success(), "step `{step}` failed ({status})");
    Ok(())
}
