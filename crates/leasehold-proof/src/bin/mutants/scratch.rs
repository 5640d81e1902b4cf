//! A scratch copy of the workspace, in which one mutant at a time lives.
//!
//! Each job has a copy and a target directory of its own, so that dependencies are built once and a
//! mutant rebuilds the three small crates alone. Invariant: nothing outside of `target/mutants/` is
//! written, except cargo's own output of the contract suite, which shares the workspace's target
//! directory because the SDK takes minutes to build.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::list::Edit;

/// What is copied of the workspace as it is; the manifest gets a profile besides.
const PARTS: [&str; 4] = ["Cargo.lock", ".cargo", "crates", "xtask"];

/// What the packages of the workspace have for a version.
const VERSION: &str = "version = \"0.1.0\"";

/// Quick to build, quick enough to run; appended to the copy's manifest.
const PROFILE: &str = "
[profile.mutants]
inherits = \"dev\"
opt-level = 1
debug = false
incremental = true
";

/// One scratch copy.
#[derive(Debug)]
pub(crate) struct Lane {
    /// The root of the copied workspace.
    pub(crate) copy: PathBuf,
    /// Where the killers without the SDK are built.
    pub(crate) target: PathBuf,
    /// Where those with it are built.
    pub(crate) shared_target: PathBuf,
    /// What the last program said.
    pub(crate) log: PathBuf,
}

impl Lane {
    /// Copies the workspace at `root`. Files that have not changed keep their times, so that cargo
    /// does not build them again.
    pub(crate) fn new(root: &Path, number: usize) -> Result<Lane> {
        let shared_target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(target) if !target.is_empty() => std::path::absolute(target)?,
            _ => root.join("target"),
        };
        let home = shared_target.join(format!("mutants/lane-{number}"));
        let lane = Lane {
            copy: home.join("copy"),
            target: home.join("target"),
            log: home.join("log"),
            shared_target,
        };
        fs::create_dir_all(&lane.copy)?;
        for part in PARTS {
            copy(&root.join(part), &lane.copy.join(part))?;
        }
        // Cargo tells packages apart by their version, not by where the workspace lies: with the same
        // one, copies that share a target directory would be taken for each other.
        let version = Edit {
            file: "Cargo.toml",
            old: VERSION,
            new: &format!("version = \"0.0.{number}\""),
        };
        let manifest = version.apply(&read(&root.join("Cargo.toml"))?)?;
        write(&lane.copy.join("Cargo.toml"), &(manifest + PROFILE))?;
        Ok(lane)
    }

    /// Makes the changes of a mutant, until the result is dropped.
    pub(crate) fn change(&self, edits: &[Edit<'_>]) -> Result<Changed> {
        let mut changed = Changed(Vec::new());
        for edit in edits {
            let file = self.copy.join(edit.file);
            let before = read(&file)?;
            let after = edit.apply(&before)?;
            fs::write(&file, after)?;
            changed.0.push((file, before));
        }
        Ok(changed)
    }
}

/// Changed files and what they were; dropping it puts that back.
#[derive(Debug)]
pub(crate) struct Changed(Vec<(PathBuf, String)>);

impl Drop for Changed {
    fn drop(&mut self) {
        // The last first: two changes of one file are undone in their reverse order.
        for (file, before) in self.0.iter().rev() {
            if let Err(error) = fs::write(file, before) {
                eprintln!("cannot restore {}: {error}", file.display());
            }
        }
    }
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| file.display().to_string())
}

/// Copies a file or a directory; what is no longer there is removed.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        return write(to, &read(from)?);
    }
    fs::create_dir_all(to)?;
    let names = |directory: &Path| -> Result<Vec<_>> {
        let entries = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name()));
        entries.collect()
    };
    let wanted = names(from)?;
    for name in names(to)? {
        let stale = to.join(&name);
        match stale.is_dir() {
            _ if wanted.contains(&name) => {}
            true => fs::remove_dir_all(stale)?,
            false => fs::remove_file(stale)?,
        }
    }
    for name in wanted {
        copy(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}

/// Writes a file, unless that is what it says already.
fn write(file: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(file).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(file, text).with_context(|| file.display().to_string())
}

impl Edit<'_> {
    /// The text with this change.
    pub(crate) fn apply(&self, before: &str) -> Result<String> {
        let found = before.matches(self.old).count();
        ensure!(
            found == 1,
            "{}: this text occurs {found} times, not once; the list of mutants has to follow the code:\n{}",
            self.file,
            self.old
        );
        Ok(before.replacen(self.old, self.new, 1))
    }
}
