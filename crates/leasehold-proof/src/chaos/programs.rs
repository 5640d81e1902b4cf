//! The programs that play.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// This program.
pub(super) fn own() -> Result<PathBuf> {
    std::env::current_exe().context("cannot find our own program")
}

/// A program that was built beside this one.
pub(super) fn beside(name: &str) -> Result<PathBuf> {
    let path = own()?.with_file_name(name);
    ensure!(
        path.exists(),
        "`{}` is missing: build it with `cargo build -p leasehold-cli`, in the same profile",
        path.display()
    );
    Ok(path)
}
