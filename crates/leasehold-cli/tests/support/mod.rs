//! The real binary, processes that talk to a test by files, and waits for conditions.
#![allow(clippy::disallowed_methods, reason = "real processes need real time")]

pub(crate) mod dynamo;
pub(crate) mod net;
pub(crate) mod terminal;
pub(crate) mod tls;

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

pub(crate) const BIN: &str = env!("CARGO_BIN_EXE_leasehold");

/// How long anything may take; a bound, not a wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// A short lease that adds up: a third + a sixth + grace + margin of 1 s.
pub(crate) const SHORT: [&str; 4] = ["--lease", "3s", "--grace", "300ms"];

/// The binary with nothing of the outer world in its environment, and in a session without a terminal: who runs the tests by hand has one,
/// and with a terminal much is different.
pub(crate) fn leasehold<S: AsRef<OsStr>>(arguments: &[S]) -> Command {
    let mut command = command("/usr/bin/setsid");
    command.arg(BIN);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let proxy = text.to_ascii_uppercase().ends_with("_PROXY");
        if proxy || text.starts_with("LEASEHOLD_") || text.starts_with("AWS_") {
            command.env_remove(&name);
        }
    }
    command
        .args(arguments)
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A program that ignores no signals. Under `nohup`, say, these tests do, and so would all below, as it should be; but the
/// tests are about something else.
pub(crate) fn command(program: &str) -> Command {
    if !ignores_signals() {
        return Command::new(program);
    }
    let mut command = Command::new("/usr/bin/env");
    command.args(["--default-signal", program]);
    command
}

/// Whether HUP, INT or QUIT are ignored in this process, as far as Linux tells.
fn ignores_signals() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    signal_mask(&status, "SigIgn:").is_some_and(|mask| mask & 0b111 != 0)
}

/// A set of signals in the text of a `/proc/PID/status`; bit 0 is signal 1.
pub(crate) fn signal_mask(status: &str, name: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix(name))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// Waits for a condition, not for time to pass.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited too long for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A directory with a lock file of its own, and the files by which a test and its processes talk.
pub(crate) struct Room {
    directory: tempfile::TempDir,
    store: String,
}

impl Room {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = format!("sqlite:{}/locks.db", directory.path().display());
        Self { directory, store }
    }

    /// The same with another store.
    pub(crate) fn with_store(store: &str) -> Self {
        Self {
            store: store.to_owned(),
            ..Self::new()
        }
    }

    pub(crate) fn store(&self) -> &str {
        &self.store
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    pub(crate) fn touch(&self, name: &str) {
        fs::write(self.path(name), "").unwrap();
    }

    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The number that a process wrote into a file, once it is complete.
    pub(crate) fn pid(&self, name: &str) -> Pid {
        let mut pid = None;
        until(name, || {
            pid = self
                .text(name)
                .strip_suffix('\n')
                .and_then(|text| text.parse().ok())
                .and_then(Pid::from_raw);
            pid.is_some()
        });
        pid.unwrap()
    }

    /// The binary on this room's store.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = leasehold(arguments);
        command
            .env("LEASEHOLD_STORE", &self.store)
            .env("XDG_STATE_HOME", self.path("state"))
            .current_dir(self.directory());
        if self.store.starts_with("dynamodb:") {
            command
                .env("AWS_ACCESS_KEY_ID", "test")
                .env("AWS_SECRET_ACCESS_KEY", "test");
        }
        command
    }

    /// The same, started by another program, such as `unshare`, with its options.
    pub(crate) fn through(&self, outer: &[&str], arguments: &[&str]) -> Command {
        let inner = self.command(arguments);
        let mut command = command("/usr/bin/setsid");
        command.args(outer).arg(BIN).args(arguments);
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
            .current_dir(self.directory())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        assert_eq!(output.status.signal(), None, "{output:?}");
        output
    }

    pub(crate) fn code(&self, arguments: &[&str]) -> i32 {
        self.run(arguments).status.code().unwrap()
    }

    /// `run job … -c LINE`, in the background.
    pub(crate) fn start(&self, options: &[&str], line: &str) -> Wrapper {
        let arguments = [&["run", "job"], options, &["-c", line]].concat();
        Wrapper(self.command(&arguments).spawn().unwrap())
    }

    /// The lock `job`, as `show --json` has it.
    pub(crate) fn job(&self) -> Value {
        let output = self.run(&["show", "job", "--json"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Ends the grant of the lock `job` by force.
    pub(crate) fn force_release(&self) {
        let token = self.job()["token"].to_string();
        let force = [
            "force-release",
            "job",
            "--token",
            &token,
            "--reason",
            "a test",
        ];
        let output = self.run(&force);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }

    /// Waits until the lock `job` was renewed four times, and sees it held all the while.
    pub(crate) fn sees_four_renewals(&self) {
        let mut ends = Vec::new();
        until("four renewals", || {
            let job = self.job();
            assert_eq!(job["state"], "held", "{job}");
            if ends.last() != Some(&job["until"]) {
                ends.push(job["until"].clone());
            }
            ends.len() > 4
        });
    }

    /// The report that `--report report` wrote.
    pub(crate) fn report(&self) -> Value {
        serde_json::from_str(&self.text("report")).unwrap()
    }
}

/// A running wrapper; killed when a test fails, and its command with it.
pub(crate) struct Wrapper(pub Child);

impl Wrapper {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// The process that holds the lock: the one that was started is its guardian.
    pub(crate) fn worker(&self) -> Pid {
        below(self.pid(), "lh-worker")
    }

    /// Stops both, as a host that freezes does, until CONT to the guardian.
    pub(crate) fn freeze(&self) {
        let worker = self.worker();
        kill_process(worker, Signal::STOP).unwrap();
        until("the stop", || {
            state(worker) == Some('T') && state(self.pid()) == Some('T')
        });
    }

    /// Kills both, without a moment for either to notice.
    pub(crate) fn kill_both(&mut self) {
        let worker = self.worker();
        self.freeze();
        // In this order: the end of the guardian would continue the worker, as the system does with an orphaned group.
        kill_process(worker, Signal::KILL).unwrap();
        kill_process(self.pid(), Signal::KILL).unwrap();
        self.0.wait().unwrap();
    }

    pub(crate) fn running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    pub(crate) fn ended(&mut self) -> i32 {
        until("the wrapper's end", || !self.running());
        let status = self.0.wait().unwrap();
        status.code().unwrap_or_else(|| panic!("{status:?}"))
    }

    /// What it wrote to standard error until its end.
    pub(crate) fn stderr(&mut self) -> String {
        let mut text = String::new();
        let mut stderr = self.0.stderr.take().unwrap();
        stderr.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Wrapper {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// The children of a process's main thread.
pub(crate) fn children(pid: Pid) -> Vec<Pid> {
    let path = format!("/proc/{0}/task/{0}/children", pid.as_raw_pid());
    let text = fs::read_to_string(path).unwrap_or_default();
    let numbers = text
        .split_whitespace()
        .filter_map(|number| number.parse().ok());
    numbers.filter_map(Pid::from_raw).collect()
}

/// The child of this process that is called so.
pub(crate) fn below(pid: Pid, name: &str) -> Pid {
    let mut found = None;
    until(name, || {
        found = children(pid)
            .into_iter()
            .find(|child| is_called(*child, name));
        found.is_some()
    });
    found.unwrap()
}

/// Whether it runs this program.
pub(crate) fn is_called(pid: Pid, name: &str) -> bool {
    let path = format!("/proc/{}/comm", pid.as_raw_pid());
    fs::read_to_string(path).is_ok_and(|found| found.trim_end() == name)
}

/// A pipe that is full, and that nobody reads while its first half lives.
pub(crate) fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    use std::io::Write;
    let (reader, mut writer) = std::io::pipe().unwrap();
    // What Linux gives a pipe; one byte more would block.
    writer.write_all(&[b'x'; 65_536]).unwrap();
    (reader, writer)
}

pub(crate) fn state(pid: Pid) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

pub(crate) fn alive(pid: Pid) -> bool {
    test_kill_process(pid).is_ok() && state(pid).is_some_and(|state| state != 'Z')
}

/// Waits for `file` in a shell line, without being a busy loop.
pub(crate) fn wait_line(file: &str) -> String {
    format!("until [ -e {file} ]; do sleep 0.02; done")
}

/// Ends the grant of `job` behind the holder's back, who notices at its next renewal.
pub(crate) fn take_away(room: &Room) {
    use leasehold::store::sqlite::SqliteStore;
    use leasehold::store::{Consistency, Store};

    let path = room.store().strip_prefix("sqlite:").expect("a lock file");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = SqliteStore::open(path).unwrap();
        let record = store
            .read("job", Consistency::Strong)
            .await
            .unwrap()
            .value
            .unwrap();
        let id = format!(
            "1:{}:{}:0:job",
            record.owner.as_ref().unwrap(),
            record.token().unwrap()
        );
        let client = leasehold::LockClient::new(store);
        let outcome = client.release(&id.parse().unwrap()).await.unwrap();
        assert!(outcome.is_released(), "{outcome:?}");
    });
}

/// Asserts that a message has our form: `leasehold: fragment` without a full stop, and perhaps a hint.
#[track_caller]
pub(crate) fn assert_message(output: &Output, code: i32, message: &str, hint: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    let first = stderr.lines().next().unwrap_or_default();
    assert!(
        first.starts_with("leasehold: ") && !first.ends_with('.'),
        "{stderr}"
    );
    assert!(stderr.contains(message), "no `{message}` in: {stderr}");
    let hints: Vec<_> = stderr
        .lines()
        .filter_map(|line| line.strip_prefix("hint: "))
        .collect();
    assert!(
        hints.iter().any(|line| line.contains(hint)),
        "no hint `{hint}` in: {stderr}"
    );
    assert!(output.stdout.is_empty(), "{output:?}");
}
