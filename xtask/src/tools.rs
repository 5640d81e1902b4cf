//! Programs from crates.io, each in the one version that the figures are of.
//!
//! They are built once, into the target directory: nothing is installed for the user.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::cargo::{guarded_cargo, judge};
use crate::guard;

/// A cargo subcommand.
pub(crate) struct Tool {
    /// `mutants` of `cargo mutants`.
    pub(crate) subcommand: &'static str,
    /// The version.
    pub(crate) version: &'static str,
    /// More arguments for `cargo install`.
    pub(crate) options: &'static [&'static str],
}

pub(crate) const MUTANTS: Tool = Tool {
    subcommand: "mutants",
    version: "27.1.0",
    options: &[],
};

/// Debian packages. Without a compression that needs a C compiler.
pub(crate) const DEB: Tool = Tool {
    subcommand: "deb",
    version: "3.8.0",
    options: &["--no-default-features"],
};

impl Tool {
    /// Where it is, once it is installed.
    pub(crate) fn program(&self) -> PathBuf {
        tools().join("bin").join(self.name())
    }

    fn name(&self) -> String {
        format!("cargo-{}", self.subcommand)
    }

    /// Builds it, where it is not there in this version.
    pub(crate) fn install(&self) -> Result<()> {
        let version = Command::new(self.program())
            .args([self.subcommand, "--version"])
            .output();
        if version.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains(self.version)) {
            return Ok(());
        }
        let name = self.name();
        eprintln!(
            "== {}: builds {name} {}, once",
            self.subcommand, self.version
        );
        let mut command = guarded_cargo()?;
        let version = ["--version", self.version, "--locked", "--force"];
        // They wait for cargo. Built so, they are there in half of the time.
        command.args(["install", "--debug", &name]).args(version);
        command.args(self.options).arg("--root").arg(tools());
        // Beside the workspace's own artefacts, and kept for the next time.
        command.env("CARGO_TARGET_DIR", tools().join("build"));
        let status = guard::run(&mut command)?;
        judge(&format!("install {name}"), status)
    }
}

fn tools() -> PathBuf {
    crate::paths::target().join("tools")
}
