//! No started process outlives this program, even after a `KILL`.
//!
//! The guardian is a second process of this program, in its own process group, so that Ctrl-C does not reach
//! it. It reads from a pipe which processes run and which are reaped. When the pipe closes, it kills the
//! remaining process groups, stopped or not, and removes the directory. The command's child has its own group,
//! and dies with its wrapper by the kernel's parent-death signal.

use std::collections::BTreeSet;
use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};

use super::wall;

/// The guardian of this process, and the directory that goes with it.
#[derive(Clone, Debug)]
pub(super) struct Guardian {
    pipe: Arc<Mutex<Pipe>>,
    directory: PathBuf,
}

#[derive(Debug)]
struct Pipe {
    guardian: Child,
    stdin: Option<ChildStdin>,
}

impl Guardian {
    /// Starts it, and makes a new directory for this run.
    pub(super) fn start() -> Result<Guardian> {
        let directory =
            std::env::temp_dir().join(format!("leasehold-chaos-{}", std::process::id()));
        std::fs::create_dir(&directory)
            .with_context(|| format!("cannot create `{}`", directory.display()))?;
        let mut guardian = Command::new(std::env::current_exe()?)
            .arg("guardian")
            .arg(&directory)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("cannot start the guardian")?;
        let stdin = guardian.stdin.take();
        Ok(Guardian {
            pipe: Arc::new(Mutex::new(Pipe { guardian, stdin })),
            directory,
        })
    }

    /// A directory that is removed at the end.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Copies a program there, so that all processes of a run use one build.
    pub(super) fn keep(&self, program: &Path) -> Result<PathBuf> {
        let name = program.file_name().context("a program has a name")?;
        let copy = self.directory.join(name);
        std::fs::copy(program, &copy)
            .with_context(|| format!("cannot copy `{}`", program.display()))?;
        Ok(copy)
    }

    /// A process of its own group runs.
    pub(super) fn watch(&self, pid: u32) -> Result<()> {
        self.tell('+', pid)
    }

    /// It was reaped: its number may soon be another's.
    pub(super) fn forget(&self, pid: u32) -> Result<()> {
        self.tell('-', pid)
    }

    fn tell(&self, what: char, pid: u32) -> Result<()> {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        let stdin = pipe.stdin.as_mut().context("the guardian was dismissed")?;
        writeln!(stdin, "{what}{pid}").context("the guardian is gone")
    }

    /// Ends it, and waits until it has tidied up.
    pub(super) fn dismiss(&self) -> Result<()> {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        pipe.stdin = None;
        pipe.guardian
            .wait()
            .context("cannot wait for the guardian")?;
        Ok(())
    }
}

/// The guardian process itself.
pub(super) fn serve(directory: &Path) -> Result<()> {
    let mut running = BTreeSet::new();
    for line in std::io::stdin().lock().lines() {
        // A line that is cut short is the end, too.
        let Ok(line) = line else { break };
        match line.split_at_checked(1) {
            Some(("+", pid)) => running.insert(pid.parse::<i32>()?),
            Some(("-", pid)) => {
                wall::tidy(pid.parse()?);
                running.remove(&pid.parse::<i32>()?)
            }
            _ => break,
        };
    }
    for pid in running {
        if let Some(group) = Pid::from_raw(pid) {
            // Gone already is fine.
            let _gone = kill_process_group(group, Signal::KILL);
            wall::tidy(pid.unsigned_abs());
        }
    }
    std::fs::remove_dir_all(directory)
        .with_context(|| format!("cannot remove `{}`", directory.display()))
}
