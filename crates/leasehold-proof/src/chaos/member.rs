//! One process of a fleet: started, listened to, stopped, continued, killed, reaped.
//!
//! Processes are signalled by their own number while we are their parent and have not reaped them, and
//! the command's child through a pidfd: a number that has become a stranger's is never hit.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use leasehold::clock::{Clock, SystemClock};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::event::{At, Event, now};
use super::guardian::Guardian;
use super::history::Kind;

/// How many of its messages are kept, to explain an unexpected end.
const LAST_WORDS: usize = 12;
/// How far a wall clock may be from its set time, in milliseconds: libfaketime reads its file once a second.
const TOLERANCE_MS: i64 = 2_000;

/// What a reader of a process's output shares with who started it.
#[derive(Debug, Default)]
struct Heard {
    /// The command's child.
    inner: Option<OwnedFd>,
    last_words: VecDeque<String>,
    /// What went wrong in listening.
    trouble: Option<String>,
}

/// A running process.
#[derive(Debug)]
pub(super) struct Member {
    who: usize,
    pid: u32,
    child: Child,
    heard: Arc<Mutex<Heard>>,
    listeners: Vec<JoinHandle<()>>,
    guardian: Guardian,
    /// We have killed it.
    killed: bool,
}

/// How a process is started.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) who: usize,
    pub(super) kind: Kind,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(&'static str, OsString)>,
    /// The offsets that its wall clock may have, in seconds; steps are added while it runs.
    pub(super) offsets: Arc<Mutex<Vec<i64>>>,
    pub(super) ear: Ear,
}

/// The receiver of the events of a process.
#[derive(Clone)]
pub(super) struct Ear(Arc<dyn Fn(usize, Event) + Send + Sync>);

impl Ear {
    pub(super) fn new(hears: impl Fn(usize, Event) + Send + Sync + 'static) -> Ear {
        Ear(Arc::new(hears))
    }
}

impl fmt::Debug for Ear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ear")
    }
}

impl Member {
    /// Starts it, in a process group of its own.
    pub(super) fn start(start: Start, guardian: &Guardian) -> Result<Member> {
        let Start {
            who,
            kind,
            program,
            arguments,
            environment,
            offsets,
            ear,
        } = start;
        let spawned = now();
        let mut child = Command::new(&program)
            .args(arguments)
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start `{}`", program.display()))?;
        let pid = child.id().context("it was reaped already")?;
        guardian.watch(pid)?;
        let heard = Arc::<Mutex<Heard>>::default();
        let out = child.stdout.take().context("its output is piped")?;
        let err = child.stderr.take().context("its messages are piped")?;
        let listen = Listener {
            who,
            kind,
            pid,
            spawned,
            offsets,
            ear,
            heard: heard.clone(),
        };
        let runtime = tokio::runtime::Handle::current();
        let listeners = vec![
            runtime.spawn(listen.clone().output(out)),
            runtime.spawn(listen.messages(err)),
        ];
        Ok(Member {
            who,
            pid,
            child,
            heard,
            listeners,
            guardian: guardian.clone(),
            killed: false,
        })
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        // Not reaped, so the number is still its own.
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        kill_process(pid.context("not a pid")?, signal)
            .with_context(|| format!("cannot signal process {}", self.pid))
    }

    /// Signals the command's child, if it is known.
    fn signal_inner(&self, signal: Signal) {
        if let Some(inner) = &lock(&self.heard).inner {
            // It may have ended.
            let _gone = pidfd_send_signal(inner, signal);
        }
    }

    /// The children of its main thread: of `leasehold run`, the worker below its guardian.
    fn children(&self) -> Vec<Pid> {
        let path = format!("/proc/{0}/task/{0}/children", self.pid);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let numbers = text.split_whitespace().filter_map(|pid| pid.parse().ok());
        numbers.filter_map(Pid::from_raw).collect()
    }

    /// Stops it, and the command's child if `all`.
    pub(super) fn freeze(&self, all: bool) -> Result<()> {
        for worker in self.children() {
            // It may have ended.
            let _gone = kill_process(worker, Signal::STOP);
        }
        self.signal(Signal::STOP)?;
        if all {
            self.signal_inner(Signal::STOP);
        }
        Ok(())
    }

    /// Continues it. The child first: if it was stopped alone it may have work that is over by now.
    pub(super) fn thaw(&self) -> Result<()> {
        self.signal_inner(Signal::CONT);
        for worker in self.children() {
            let _gone = kill_process(worker, Signal::CONT);
        }
        self.signal(Signal::CONT)
    }

    /// Kills it, stopped or not. The command's child is left to the kernel, as in life.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.killed = true;
        self.signal(Signal::KILL)
    }

    /// Its status, if it has ended.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait().context("cannot wait for a process")?;
        if status.is_some() {
            self.guardian.forget(self.pid)?;
        }
        Ok(status)
    }

    /// Whether this end was our doing.
    pub(super) fn was_killed(&self) -> bool {
        self.killed
    }

    /// Its last messages.
    pub(super) fn last_words(&self) -> String {
        let heard = lock(&self.heard);
        heard
            .last_words
            .iter()
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Waits until its output is closed, so that it and all its descendants have ended.
    pub(super) async fn silence(self) -> Result<()> {
        for listener in self.listeners {
            listener.await.context("a listener failed")?;
        }
        match lock(&self.heard).trouble.take() {
            Some(trouble) => bail!("process {} of the fleet: {trouble}", self.who),
            None => Ok(()),
        }
    }
}

#[derive(Clone, Debug)]
struct Listener {
    who: usize,
    kind: Kind,
    pid: u32,
    spawned: At,
    offsets: Arc<Mutex<Vec<i64>>>,
    ear: Ear,
    heard: Arc<Mutex<Heard>>,
}

impl Listener {
    async fn output(self, out: impl AsyncRead + Unpin + Send) {
        let mut lines = BufReader::new(out).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if let Err(error) = self.line(&line) {
                lock(&self.heard)
                    .trouble
                    .get_or_insert(format!("{error:#}"));
            }
        }
    }

    fn line(&self, line: &str) -> Result<()> {
        let event = Event::parse(line)?;
        if let Event::Hello { pid, wall_ms, at } = event {
            return self.hello(pid, wall_ms, at);
        }
        (self.ear.0)(self.who, event);
        Ok(())
    }

    /// The clocks are what all judging rests on, so they are not taken on trust.
    fn hello(&self, pid: u32, wall_ms: i64, at: At) -> Result<()> {
        let (heard, wall) = (now(), SystemClock.wall_unix_ms());
        ensure!(
            self.spawned <= at && at <= heard,
            "its elapsed clock is not the machine's: {at} is not within {} and {heard}",
            self.spawned
        );
        let passed_ms = i64::try_from((heard - at) / 1_000_000)?;
        let off_ms = wall_ms - (wall - passed_ms);
        let right = lock(&self.offsets)
            .iter()
            .any(|offset| (off_ms - offset * 1000).abs() <= TOLERANCE_MS);
        ensure!(
            right,
            "its wall clock is off by {off_ms} ms, which is none of {:?} s",
            lock(&self.offsets)
        );
        if self.kind == Kind::Command {
            let inner = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let fd = pidfd_open(inner.context("not a pid")?, PidfdFlags::empty());
            // It is still the wrapper's child, or it has ended.
            if let Ok(fd) = fd
                && parent(pid) == Some(self.pid)
            {
                lock(&self.heard).inner = Some(fd);
            }
        }
        Ok(())
    }

    async fn messages(self, err: impl AsyncRead + Unpin + Send) {
        let mut lines = BufReader::new(err).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let last_words = &mut lock(&self.heard).last_words;
            last_words.push_back(line);
            if last_words.len() > LAST_WORDS {
                last_words.pop_front();
            }
        }
    }
}

/// The parent of a process.
fn parent(pid: u32) -> Option<u32> {
    let path = Path::new("/proc").join(pid.to_string()).join("stat");
    let stat = std::fs::read_to_string(path).ok()?;
    // The name, in parentheses, may hold anything.
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// What is under these locks is never left half changed.
pub(super) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_parent_is_known() {
        let expected = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
        let found = parent(std::process::id()).map(|pid| pid as i32);
        assert_eq!(found, expected);
        assert!(parent(u32::MAX).is_none());
    }
}
