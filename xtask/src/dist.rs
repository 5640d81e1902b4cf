//! The verb `dist`: the command for other machines, as a static program and as a Debian package.
//!
//! Linux only. The static program needs Rust's musl target and `musl-gcc`, which this installs.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cargo::{guarded_cargo, judge};
use crate::guard;
use crate::host;
use crate::paths::{target, workspace};
use crate::tools::DEB;

/// `cargo xtask dist`.
pub(crate) fn run() -> Result<()> {
    let musl = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    DEB.install()?;
    host::musl_gcc()?;
    let added = Command::new("rustup")
        .args(["target", "add", &musl])
        .status();
    let added = added.context("cannot start rustup: install the musl target of Rust by hand")?;
    judge("rustup target add", added)?;

    let mut build = guarded_cargo()?;
    build.args(["build", "--locked", "--package", "leasehold-cli"]);
    build.args(["--profile", "dist", "--target", &musl]);
    let status = guard::run(&mut build)?;
    judge("build", status)?;
    let binary = target().join(&musl).join("dist/leasehold");
    let into = target().join("dist");
    generate(&binary, &into)?;

    let mut deb = guard::command(DEB.program())?;
    deb.args([
        "deb",
        "--package",
        "leasehold-cli",
        "--no-build",
        "--no-strip",
    ]);
    deb.args(["--profile", "dist", "--target", &musl]);
    deb.arg("--output").arg(&into).current_dir(workspace());
    let status = guard::run(&mut deb)?;
    judge("cargo deb", status)?;
    let size = std::fs::metadata(&binary)?.len();
    eprintln!(
        "== dist: {} has {:.1} MB; the package is in {}",
        binary.display(),
        size as f64 / 1e6,
        into.display()
    );
    Ok(())
}

/// Writes the manual pages and the completions, which the package contains.
fn generate(binary: &Path, into: &Path) -> Result<()> {
    let completions = into.join("completions");
    std::fs::create_dir_all(&completions)?;
    std::fs::create_dir_all(into.join("man1"))?;
    let pages = Command::new(binary)
        .arg("man")
        .arg("--dir")
        .arg(into.join("man1"))
        .status()?;
    judge("leasehold man", pages)?;
    for (shell, file) in [
        ("bash", "leasehold"),
        ("zsh", "_leasehold"),
        ("fish", "leasehold.fish"),
    ] {
        let script = Command::new(binary).args(["completions", shell]).output()?;
        ensure!(
            script.status.success(),
            "`leasehold completions {shell}` failed"
        );
        std::fs::write(completions.join(file), script.stdout)?;
    }
    Ok(())
}
