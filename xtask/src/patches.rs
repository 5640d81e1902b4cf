//! The verb `patches`: rules and fixes undone one by one on a scratch copy, each with the test that must see it.
//!
//! A patch is a unified diff in `crates/leasehold-proof/patches/`, below two lines: `what:` it undoes, and the arguments of
//! the `test:` (for `cargo test`). Invariants: the copy without a change passes every one of these tests, else a failure proves
//! nothing; a patch applies, else it has not kept up with the code; the test runs and fails, for what does not compile is
//! not seen by a test. Anything else fails the run.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::{cargo, without_own};
use crate::dynamodb::{self, Server};
use crate::guard::Guarded;
use crate::steps::SERVER_VARIABLE;
use crate::wait::Stopwatch;

struct Patch {
    name: String,
    file: PathBuf,
    what: String,
    test: String,
}

/// `cargo xtask patches [WORD]`: those whose name has the word, or all; every fourth, with a quarter.
pub(crate) fn run(only: Option<&str>, quarter: Option<usize>) -> Result<()> {
    let patches = all(&crate::paths::workspace().join("crates/leasehold-proof/patches"))?;
    let patches: Vec<&Patch> = patches
        .iter()
        .enumerate()
        .filter(|(at, _)| quarter.is_none_or(|quarter| at % 4 == quarter))
        .map(|(_, patch)| patch)
        .filter(|patch| only.is_none_or(|word| patch.name.contains(word)))
        .collect();
    ensure!(!patches.is_empty(), "no patch has such a name");
    let tree = Tree::new()?;
    let mut tests: Vec<_> = patches.iter().map(|patch| &patch.test).collect();
    tests.sort_unstable();
    tests.dedup();
    for test in tests {
        let output = tree.test(test)?;
        ensure!(
            output.status.success(),
            "without a change, `cargo test {test}` fails:\n{}",
            text(&output)
        );
    }
    let mut unseen = Vec::new();
    println!("| undone | seen by | s |\n|---|---|---:|");
    for patch in &patches {
        let watch = Stopwatch::start();
        apply(&tree.path, &patch.file, &[])?;
        let output = tree.test(&patch.test)?;
        apply(&tree.path, &patch.file, &["--reverse"])?;
        let text = text(&output);
        let seen = !output.status.success() && text.contains("test result: FAILED");
        let by = if seen {
            failed(&text)
        } else {
            unseen.push(&patch.name);
            format!("**not seen** by `{}`", patch.test)
        };
        println!("| {} | {by} | {:.0} |", patch.what, watch.seconds());
    }
    println!("\n{} undone, {} not seen", patches.len(), unseen.len());
    ensure!(unseen.is_empty(), "not seen: {unseen:?}");
    Ok(())
}

/// The scratch copy, and the DynamoDB for its tests.
struct Tree {
    path: PathBuf,
    url: String,
    /// Started for this, where the user named none.
    _server: Option<Guarded>,
}

impl Tree {
    fn new() -> Result<Tree> {
        let named = std::env::var(SERVER_VARIABLE).ok();
        let (url, server) = match dynamodb::given(named.as_deref())? {
            Some(url) => (url.to_owned(), None),
            None => {
                let Server { url, program, .. } = dynamodb::start(None)?;
                (url, Some(program))
            }
        };
        let path = crate::paths::target().join("patches");
        copy(&path)?;
        Ok(Tree {
            path,
            url,
            _server: server,
        })
    }
}

fn all(dir: &Path) -> Result<Vec<Patch>> {
    let mut patches = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let file = entry?.path();
        if file.extension().is_none_or(|ext| ext != "patch") {
            continue;
        }
        let text = fs::read_to_string(&file)?;
        let line = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map(|line| line.trim().to_owned())
                .with_context(|| format!("{} has no line `{name}`", file.display()))
        };
        let name = file.file_stem().unwrap_or_default();
        patches.push(Patch {
            name: name.to_string_lossy().into_owned(),
            what: line("what:")?,
            test: line("test:")?,
            file,
        });
    }
    patches.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(patches)
}

/// Copies what git knows, or would, of the workspace, and removes what is gone from it. Files that are as they were keep
/// their time, so that little is built again.
fn copy(tree: &Path) -> Result<()> {
    let workspace = crate::paths::workspace();
    let listed = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(&workspace)
        .output()
        .context("cannot start git")?;
    ensure!(listed.status.success(), "git does not list the workspace");
    let mut kept = HashSet::new();
    for name in listed.stdout.split(|byte| *byte == 0) {
        let name = String::from_utf8_lossy(name);
        let (from, to) = (workspace.join(&*name), tree.join(&*name));
        if name.is_empty() || !from.is_file() {
            continue;
        }
        kept.insert(to.clone());
        let content = fs::read(&from)?;
        if fs::read(&to).ok().as_ref() == Some(&content) {
            continue;
        }
        fs::create_dir_all(to.parent().unwrap_or(tree))?;
        fs::write(&to, content).with_context(|| format!("cannot write {}", to.display()))?;
    }
    remove_others(tree, &kept)
}

/// Removes all files below a directory that are not kept.
fn remove_others(directory: &Path, kept: &HashSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            remove_others(&path, kept)?;
        } else if !kept.contains(&path) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn apply(tree: &Path, patch: &Path, how: &[&str]) -> Result<()> {
    let output = Command::new("patch")
        .args(["--strip=1", "--silent", "--force", "--fuzz=0"])
        .args(["--no-backup-if-mismatch", "--reject-file=-"])
        .args(how)
        .current_dir(tree)
        .stdin(File::open(patch)?)
        .output()
        .context("cannot start `patch`: install it")?;
    if !output.status.success() {
        bail!(
            "{} does not apply any more, make it anew:\n{}",
            patch.display(),
            text(&output)
        );
    }
    Ok(())
}

impl Tree {
    fn test(&self, test: &str) -> Result<Output> {
        // A test that never ends sees nothing: it must have a bound of its own.
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=5", "400"])
            .arg(cargo())
            .args(["test", "--locked", "--all-features", "--no-fail-fast"])
            .args(test.split_whitespace())
            // The workspace's dependencies are built. Programs go elsewhere: other parts of the proof run the workspace's.
            .env("CARGO_BUILD_BUILD_DIR", crate::paths::target())
            .env(
                "CARGO_TARGET_DIR",
                crate::paths::target().join("patches-build"),
            )
            .env("CARGO_INCREMENTAL", "1")
            .current_dir(&self.path)
            .stdin(Stdio::null())
            .env(SERVER_VARIABLE, &self.url);
        without_own(&mut command);
        command.output().context("cannot start cargo")
    }
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

/// The tests that failed.
fn failed(text: &str) -> String {
    let names = text.lines().filter_map(|line| {
        let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
        Some(format!("`{name}`"))
    });
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_from_the_workspace_goes_from_the_copy() {
        let tree = std::env::temp_dir().join(format!("leasehold-copy-{}", std::process::id()));
        let (kept, gone) = (tree.join("a/kept.rs"), tree.join("a/b/gone.rs"));
        fs::create_dir_all(tree.join("a/b")).expect("made");
        for file in [&kept, &gone] {
            fs::write(file, "").expect("written");
        }
        remove_others(&tree, &HashSet::from([kept.clone()])).expect("removed");
        assert!(kept.exists() && !gone.exists());
        fs::remove_dir_all(tree).expect("removed");
    }
}
