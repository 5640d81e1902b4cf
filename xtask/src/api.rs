//! The verb `api`: the public API of the library, as a listing that is kept and compared.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::cargo::judge;
use crate::guard;
use crate::paths;
use crate::rustdoc;

/// Beside the documents.
const LISTING: &str = "docs/public-api.txt";

/// The public items of these packages, as rustdoc knows them.
fn listing(packages: &[&str]) -> Result<String> {
    // In a directory of its own, which is empty: cargo would take the pages of `lint` for these.
    let target = paths::target().join("api");
    let _none = fs::remove_dir_all(&target);
    let json = |package: &str| target.join(format!("doc/{}.json", package.replace('-', "_")));
    let mut command =
        rustdoc::command("-Zunstable-options --output-format json --cap-lints allow")?;
    command.arg("--quiet");
    command.env("CARGO_TARGET_DIR", &target);
    command.env("CARGO_BUILD_BUILD_DIR", paths::target());
    let status = guard::run(&mut command)?;
    judge("api", status)?;
    let mut listing = String::new();
    for package in packages {
        writeln!(listing, "# {package}, all features")?;
        let api = public_api::Builder::from_rustdoc_json(json(package))
            .omit_blanket_impls(true)
            .build()
            .context("cannot read what rustdoc wrote")?;
        for item in api.items() {
            writeln!(listing, "{item}")?;
        }
    }
    Ok(listing)
}

/// `cargo xtask api`.
pub(crate) fn run(bless: bool) -> Result<()> {
    eprintln!("== api: compares the public API with {LISTING}");
    let now = listing(&["leasehold-protocol", "leasehold"])?;
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
