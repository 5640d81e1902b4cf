//! The documentation of all libraries of the workspace, by a rustdoc that takes what is not stable, as docs.rs has it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo::guarded_cargo;

/// `cargo doc` with these flags for rustdoc.
///
/// The variable that unlocks rustdoc is set for it alone. Build scripts of dependencies look at that variable too, and
/// cargo would build all of them anew, each time it comes and goes.
pub(crate) fn command(flags: &str) -> Result<Command> {
    let script = crate::paths::target().join("rustdoc-unlocked");
    let text = "#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc \"$@\"\n";
    // As it was, it keeps its time.
    if !fs::read_to_string(&script).is_ok_and(|old| old == text) {
        fs::create_dir_all(crate::paths::target())?;
        fs::write(&script, text)
            .and_then(|()| fs::set_permissions(&script, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot write {}", script.display()))?;
    }
    let mut command = guarded_cargo()?;
    command
        .args(["doc", "--locked", "--workspace", "--no-deps"])
        .args(["--all-features", "--lib"])
        .env("RUSTDOC", script)
        .env("RUSTDOCFLAGS", flags);
    Ok(command)
}
