//! The verb `package`: what would be uploaded, and what crates.io would say of it.

use anyhow::Result;

use crate::cargo::{guarded_cargo, judge};
use crate::guard::{self, Guarded};

/// In the order of their dependencies.
const PUBLISHED: [&str; 3] = ["leasehold-protocol", "leasehold", "leasehold-cli"];

/// `cargo xtask package`. That the packages build is a test of the library (`tests/documents.rs`).
pub(crate) fn run() -> Result<()> {
    eprintln!(
        "== package: cargo publish --dry-run of {}",
        PUBLISHED.join(", ")
    );
    let mut command = guarded_cargo()?;
    command.args(["publish", "--dry-run", "--no-verify"]);
    command.args(["--quiet", "--locked", "--allow-dirty"]);
    for package in PUBLISHED {
        command.args(["--package", package]);
    }
    let (_, status) = guard::supervise(&mut vec![Guarded::spawn(command)?])?;
    judge("package", status)
}
