//! One observation: a directory, the processes that are started in it, and what they leave there.
//!
//! The command under the lock is `child.sh DIR ROLE`. It writes its pid to `ROLE.pid` when it runs, writes a signal
//! that it gets to `ROLE.signals`, and ends with 3 then. It ends by itself after some five minutes.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::scenario::ms;
use crate::stopwatch::{Stopwatch, pause, within};

const CHILD: &str = r#"d=$1; r=$2; n=0
trap 'echo TERM >>"$d/$r.signals"; exit 3' TERM
trap 'echo INT >>"$d/$r.signals"; exit 3' INT
echo $$ >"$d/$r.new" && mv "$d/$r.new" "$d/$r.pid"
while [ $n -lt 6000 ]; do sleep 0.05; n=$((n+1)); done
"#;

/// A child with a grandchild, and a daemonised one: its own session, and no parent.
const FAMILY: &str = r#"d=$1; s=${0%/*}
sh "$s/child.sh" "$d" grandchild &
(setsid sh "$s/child.sh" "$d" daemon </dev/null >/dev/null 2>&1 &)
exec sh "$s/child.sh" "$d" child
"#;

/// How long a process may take to do what is a matter of milliseconds.
pub(super) const PROMPT: Duration = ms(20_000);

/// Writes the scripts.
pub(super) fn scripts(scratch: &Path) -> Result<()> {
    fs::write(scratch.join("child.sh"), CHILD)?;
    fs::write(scratch.join("family.sh"), FAMILY)?;
    Ok(())
}

/// A directory for one observation. Dropping it kills what still runs in it.
#[derive(Debug)]
pub(super) struct Case {
    scratch: PathBuf,
    directory: PathBuf,
    /// The name of its lock, which no other case uses.
    pub(super) key: String,
}

impl Case {
    pub(super) fn new(scratch: &Path, tool: &str, name: &str) -> Result<Case> {
        let key = format!("{tool}-{name}");
        let directory = scratch.join(&key);
        fs::create_dir(&directory)?;
        Ok(Case {
            scratch: scratch.to_owned(),
            directory,
            key,
        })
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// `child.sh` in this role.
    pub(super) fn child(&self, role: &str) -> Vec<OsString> {
        let script = self.scratch.join("child.sh");
        vec![
            "sh".into(),
            script.into(),
            self.directory.clone().into(),
            role.into(),
        ]
    }

    /// `family.sh`: roles `child`, `grandchild` and `daemon`.
    pub(super) fn family(&self) -> Vec<OsString> {
        let script = self.scratch.join("family.sh");
        vec!["sh".into(), script.into(), self.directory.clone().into()]
    }

    /// The pid of this role, once it runs.
    pub(super) fn pid(&self, role: &str) -> Option<Pid> {
        let text = fs::read_to_string(self.file(&format!("{role}.pid"))).ok()?;
        Pid::from_raw(text.trim().parse().ok()?)
    }

    /// Waits until this role runs.
    pub(super) async fn up(&self, role: &str) -> Result<()> {
        let up = until(PROMPT, async || self.pid(role).is_some()).await;
        up.with_context(|| format!("{}: {role} does not run after {PROMPT:?}", self.key))?;
        Ok(())
    }

    /// Whether this role runs: its pid is that of a process, no zombie, with this directory among its arguments.
    pub(super) fn alive(&self, role: &str) -> bool {
        let Some(pid) = self.pid(role) else {
            return false;
        };
        // A zombie has no arguments.
        let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        let own = OsStr::new(&self.directory).as_encoded_bytes();
        line.split(|byte| *byte == 0)
            .any(|argument| argument == own)
    }

    /// The signals that this role got: `TERM`, say.
    pub(super) fn signals(&self, role: &str) -> String {
        let text = fs::read_to_string(self.file(&format!("{role}.signals"))).unwrap_or_default();
        text.lines().collect::<Vec<_>>().join(", ")
    }

    pub(super) fn signal(&self, role: &str, signal: Signal) {
        if self.alive(role)
            && let Some(pid) = self.pid(role)
        {
            // An error means that it has just ended.
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        for role in ["next", "child", "grandchild", "daemon"] {
            self.signal(role, Signal::KILL);
        }
    }
}

/// A wrapper that runs. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Running(Child);

impl Running {
    /// Starts it with no standard input, and without output.
    pub(super) fn start(mut command: Command) -> Result<Running> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.as_std()))?;
        Ok(Running(child))
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.0.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        kill_process(pid.context("it has ended")?, signal).context("cannot send a signal")
    }

    /// Its code as a shell shows it, if it ends in time.
    pub(super) async fn code(&mut self, limit: Duration) -> Result<Option<i32>> {
        match within(limit, self.0.wait()).await {
            Ok(status) => Ok(Some(code(status?))),
            Err(_) => Ok(None),
        }
    }
}

/// The code of an end, as a shell shows it.
pub(super) fn code(status: ExitStatus) -> i32 {
    let signal = status.signal().map(|signal| 128 + signal);
    status.code().or(signal).unwrap_or(-1)
}

/// Polls every 5 ms. The time until it was so, if it was in time.
pub(super) async fn until(limit: Duration, so: impl AsyncFn() -> bool) -> Option<Duration> {
    let stopwatch = Stopwatch::start();
    loop {
        let asked = stopwatch.elapsed();
        if so().await {
            return Some(asked);
        }
        if asked > limit {
            return None;
        }
        pause(ms(5)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_family_is_seen_alive_and_each_member_by_itself() {
        let scratch = tempfile::tempdir().expect("a directory");
        scripts(scratch.path()).expect("written");
        let case = Case::new(scratch.path(), "none", "family").expect("made");
        let words = case.family();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        let mut run = Running::start(command).expect("started");
        for role in ["child", "grandchild", "daemon"] {
            case.up(role).await.expect("it runs");
            assert!(case.alive(role), "{role}");
        }
        assert!(!case.alive("next"));

        case.signal("child", Signal::TERM);
        assert_eq!(run.code(PROMPT).await.expect("waited"), Some(3));
        assert_eq!(case.signals("child"), "TERM");
        assert!(!case.alive("child"));
        assert!(case.alive("grandchild") && case.alive("daemon"));

        let pids = ["grandchild", "daemon"].map(|role| case.pid(role).expect("it runs"));
        let lines = pids.map(|pid| format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
        drop(case);
        let gone = async || {
            let line = |path: &String| fs::read(path).unwrap_or_default();
            lines.iter().all(|path| line(path).is_empty())
        };
        let killed = until(PROMPT, gone).await;
        killed.expect("dropping the case kills both");
    }

    #[tokio::test]
    async fn an_end_by_a_signal_has_the_code_of_a_shell() {
        let mut command = Command::new("sh");
        command.args(["-c", "kill -TERM $$"]);
        let mut run = Running::start(command).expect("started");
        assert_eq!(run.code(PROMPT).await.expect("waited"), Some(143));
    }
}
