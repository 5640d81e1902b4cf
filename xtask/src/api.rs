//! The verb `api`: the public API of the library, as a listing that is kept and compared.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::cargo::{guarded_cargo, judge};
use crate::guard::{self, Guarded};
use crate::paths;

/// Beside the documents.
const LISTING: &str = "docs/public-api.txt";

/// Adds the listing of a package.
fn listing(package: &str, now: &mut String) -> Result<()> {
    let json = paths::target().join(format!("doc/{}.json", package.replace('-', "_")));
    // An old one must not be read in its place.
    let _none = fs::remove_file(&json);
    let mut command = guarded_cargo()?;
    command.args(["rustdoc", "--quiet", "--locked", "-p", package, "--lib"]);
    command.arg("--target-dir").arg(paths::target());
    command.args(["--all-features", "--", "-Zunstable-options"]);
    command.args(["--output-format", "json", "--cap-lints", "allow"]);
    // What rustdoc knows as JSON is not stable, and the installed tool chain is.
    command.env("RUSTC_BOOTSTRAP", "1");
    let (_, status) = guard::supervise(&mut vec![Guarded::spawn(command)?])?;
    judge("api", status)?;
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .build()
        .context("cannot read what rustdoc wrote")?;
    for item in api.items() {
        writeln!(now, "{item}")?;
    }
    Ok(())
}

/// `cargo xtask api`.
pub(crate) fn run(bless: bool) -> Result<()> {
    eprintln!("== api: compares the public API with {LISTING}");
    let mut now = String::new();
    for package in ["leasehold-protocol", "leasehold"] {
        writeln!(now, "# {package}, all features")?;
        listing(package, &mut now)?;
    }
    let kept = paths::workspace().join(LISTING);
    if bless {
        return fs::write(&kept, now).with_context(|| format!("cannot write {LISTING}"));
    }
    let before = fs::read_to_string(&kept).with_context(|| format!("cannot read {LISTING}"))?;
    let gone = before
        .lines()
        .filter(|line| !now.lines().any(|l| l == *line));
    let new = now
        .lines()
        .filter(|line| !before.lines().any(|l| l == *line));
    let changes: Vec<_> = gone
        .map(|line| format!("- {line}"))
        .chain(new.map(|line| format!("+ {line}")))
        .collect();
    if !changes.is_empty() {
        bail!(
            "the public API has changed:\n{}\nif that is wanted, write it down: `cargo xtask api --bless`",
            changes.join("\n")
        );
    }
    Ok(())
}
