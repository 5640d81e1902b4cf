//! The verb `package`: what would be published, built from what would be uploaded.

use anyhow::Result;

use crate::guard::{self, Guarded};
use crate::steps::{guarded_cargo, judge};

/// In the order of their dependencies.
const PUBLISHED: [&str; 3] = ["leasehold-protocol", "leasehold", "leasehold-cli"];

/// `cargo xtask package`. That a user's crate builds of the packages is a test of the library (`tests/documents.rs`).
pub(crate) fn run() -> Result<()> {
    eprintln!(
        "== package: cargo publish --dry-run of {}",
        PUBLISHED.join(", ")
    );
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
