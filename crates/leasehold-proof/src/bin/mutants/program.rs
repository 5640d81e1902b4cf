//! Running other programs in real time: the only place here that reads a clock or sleeps.

use std::fs::File;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How often a running program is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Measures how long something takes.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(
        clippy::disallowed_methods,
        reason = "it holds no lease; it measures real programs in real time"
    )]
    pub(crate) fn start() -> Self {
        Stopwatch(Instant::now())
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// How a program ended, and all that it said.
pub(crate) struct Ended {
    /// `None`: it was still running at its limit, and was ended.
    pub(crate) status: Option<ExitStatus>,
    pub(crate) words: String,
}

/// Runs a program, at most for `limit`. What it says goes through the file `log`: a pipe that nobody
/// empties would stop it.
pub(crate) fn run(command: &mut Command, limit: Duration, log: &Path) -> Result<Ended> {
    let file = File::create(log).with_context(|| log.display().to_string())?;
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    let watch = Stopwatch::start();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if watch.seconds() > limit.as_secs_f64() {
            child.kill()?;
            child.wait()?;
            break None;
        }
        #[expect(clippy::disallowed_methods, reason = "it waits for a real program")]
        std::thread::sleep(LOOK);
    };
    let words = String::from_utf8_lossy(&std::fs::read(log)?).into_owned();
    Ok(Ended { status, words })
}
