//! The verb `package`: what would be uploaded, what crates.io would say of it, and what a user does with it.

mod examples;
mod user;

use anyhow::Result;

use user::PUBLISHED;

use crate::cargo::{guarded_cargo, judge};
use crate::guard;

/// `cargo xtask package`.
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
    let status = guard::run(&mut command)?;
    judge("package", status)?;
    user::check()
}
