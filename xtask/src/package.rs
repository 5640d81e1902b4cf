//! The verb `package`: what would be published, built from what would be uploaded.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cargo::{guarded_cargo, judge};
use crate::guard::{self, Guarded};
use crate::paths::target;

/// In the order of their dependencies.
const PUBLISHED: [&str; 3] = ["leasehold-protocol", "leasehold", "leasehold-cli"];

/// `cargo xtask package`. That a user's crate builds of the packages is a test of the library (`tests/documents.rs`).
pub(crate) fn run() -> Result<()> {
    eprintln!(
        "== package: cargo publish --dry-run of {}",
        PUBLISHED.join(", ")
    );
    forget(&cargo_home()?)?;
    let mut command = guarded_cargo()?;
    command.args([
        "publish",
        "--dry-run",
        "--quiet",
        "--locked",
        "--allow-dirty",
    ]);
    for package in PUBLISHED {
        command.args(["--package", package]);
    }
    let (_, status) = guard::supervise(&mut vec![Guarded::spawn(command)?])?;
    judge("package", status)
}

/// Removes what earlier runs have unpacked and compiled. cargo believes that a version in a registry
/// never changes, and would build the packages of an older tree again.
fn forget(cargo_home: &Path) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    for registry in directories(&cargo_home.join("registry/src"))? {
        // cargo names a registry by its host, which that of a dry run lacks.
        if registry
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('-'))
        {
            for package in PUBLISHED {
                remove(&registry.join(format!("{package}-{version}")))?;
            }
        }
    }
    for unit in directories(&target().join("debug/.fingerprint"))? {
        let name = unit.file_name().unwrap_or_default().to_string_lossy();
        if name
            .rsplit_once('-')
            .is_some_and(|(package, _)| PUBLISHED.contains(&package))
        {
            remove(&unit)?;
        }
    }
    Ok(())
}

/// The entries of a directory that may be missing.
fn directories(parent: &Path) -> Result<Vec<PathBuf>> {
    let Ok(entries) = parent.read_dir() else {
        return Ok(Vec::new());
    };
    Ok(entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?)
}

fn remove(directory: &Path) -> Result<()> {
    if directory.exists() {
        std::fs::remove_dir_all(directory)
            .with_context(|| format!("remove {}", directory.display()))?;
    }
    Ok(())
}

fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = std::env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    let home = std::env::home_dir().context("neither CARGO_HOME nor HOME is set")?;
    Ok(home.join(".cargo"))
}
