//! Nothing that xtask starts outlives it.
//!
//! A program is started through a *guard*: this executable, which runs the program in its own process group and holds the
//! reading end of a pipe. Only xtask has the writing end. When xtask stops the program, drops the handle, or dies (KILL
//! included), the pipe closes. The guard then ends the group: TERM, three seconds, KILL. A signal handler cannot handle
//! KILL, and the parent-death signal exists only on Linux.
//!
//! It cannot end a program that made its own group, and cannot act after a KILL of the guard itself.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::wait;

/// Starts the hidden verb: xtask starts itself with it, people never do.
pub(crate) const GUARD: &str = "__guard";

/// How long a program may take to end after TERM.
const GRACE: Duration = Duration::from_secs(3);

/// A `Command` that runs `program` under a guard; for [`run`] and [`Guarded::spawn`].
pub(crate) fn command(program: impl AsRef<OsStr>) -> Result<Command> {
    // The kernel's link still works after cargo has replaced the file, which happens when several people build in one tree.
    let link = PathBuf::from("/proc/self/exe");
    let own = if link.exists() {
        link
    } else {
        std::env::current_exe().context("cannot find xtask's own executable")?
    };
    let mut command = Command::new(own);
    command.arg0("xtask").arg(GUARD).arg(program);
    Ok(command)
}

/// A program under a guard. Dropping it ends the program and waits for that.
#[derive(Debug)]
pub(crate) struct Guarded {
    guard: Child,
}

impl Guarded {
    /// Starts what [`command`] made.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        // A group of its own, so that Ctrl-C reaches xtask alone, which then ends its programs in the right order.
        let guard = command
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("cannot start a guard process")?;
        Ok(Self { guard })
    }

    /// The program's status, when it has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.guard
            .try_wait()
            .context("cannot wait for a guard process")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        // Bounded by the guard's own GRACE. An error means that it was reaped before.
        let _ = self.guard.wait();
    }
}

/// Waits until one of `programs` ends, and returns its index and status. On INT or TERM it ends all, the last one first, and
/// this process dies of that signal.
pub(crate) fn supervise(programs: &mut Vec<Guarded>) -> Result<(usize, ExitStatus)> {
    let mut signals = Signals::new([SIGCHLD, SIGINT, SIGTERM]).context("cannot watch signals")?;
    loop {
        // Checked before the first wait as well: a program may have ended before the handlers were installed.
        for (index, program) in programs.iter_mut().enumerate() {
            if let Some(status) = program.ended()? {
                return Ok((index, status));
            }
        }
        for signal in signals.wait().filter(|&signal| signal != SIGCHLD) {
            while let Some(program) = programs.pop() {
                drop(program);
            }
            signal_hook::low_level::emulate_default_handler(signal)
                .context("cannot end by a signal")?;
        }
    }
}

/// Runs what [`command`] made to its end.
pub(crate) fn run(command: &mut Command) -> Result<ExitStatus> {
    let (_, status) = supervise(&mut vec![Guarded::spawn(command)?])?;
    Ok(status)
}

/// The guard process itself: runs `program` until it ends or until standard input closes. Exits with the program's code.
pub(crate) fn serve(program: &OsStr, args: &[OsString]) -> ExitCode {
    match guard(program, args) {
        Ok(status) => ExitCode::from(code(status)),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(127)
        }
    }
}

enum Event {
    /// The program may have ended.
    Child,
    /// The program has to end.
    Stop,
}

fn guard(program: &OsStr, args: &[OsString]) -> Result<ExitStatus> {
    // Before the program starts, or its end could be missed.
    let mut signals = Signals::new([SIGCHLD, SIGINT, SIGTERM]).context("cannot watch signals")?;
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let group = Pid::from_child(&child);

    let (tell, events) = mpsc::channel();
    let from_pipe = tell.clone();
    std::thread::spawn(move || {
        // Nothing is ever written: this returns when xtask has closed its end, or is dead.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = from_pipe.send(Event::Stop);
    });
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let event = if signal == SIGCHLD {
                Event::Child
            } else {
                Event::Stop
            };
            if tell.send(event).is_err() {
                return;
            }
        }
    });

    while let Ok(event) = events.recv() {
        match event {
            Event::Child if ended(group) => break,
            Event::Child => {}
            Event::Stop => {
                let _ = kill_process_group(group, Signal::TERM);
                wait::until(GRACE, Duration::from_millis(10), || {
                    ended(group).then_some(())
                });
                break;
            }
        }
    }
    // For a program that ignored TERM, and for processes that it left in its group. The group is not reaped yet, so its
    // number was not reused. An error means that no process is left.
    let _ = kill_process_group(group, Signal::KILL);
    child.wait().context("cannot wait for the guarded program")
}

/// Has it ended? Leaves it unreaped.
fn ended(program: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::Pid(program), options), Ok(Some(_)))
}

/// A shell's view of a status: 128 + the signal for a program that died of one.
fn code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_become_codes_as_in_a_shell() {
        let status = |raw| code(ExitStatus::from_raw(raw));
        assert_eq!(status(0), 0);
        assert_eq!(status(101 << 8), 101);
        assert_eq!(status(15), 143);
    }
}
