//! The guardian: two processes, of which each ends the command if the other is killed.
//!
//! The started process is the *guardian*. It forks the *worker*, which holds the lock and runs the command. A socket
//! connects the two: its end shows the death of the other, which no process can prevent.
//!
//! - **The guardian is killed.** The worker sees the end of the socket as a signal KILL ([`Signals::killed`]). It kills
//!   the command and its processes, releases the lock, and ends.
//! - **The worker is killed.** The system kills the command, which is bound to the worker's main thread. The guardian
//!   is a subreaper, so every other process of the command becomes its child, whatever its session. It kills
//!   them until the system says that it has no children. Only then may it release the lock: the worker has
//!   announced each request for the lock to it.
//! - **Both are killed at once.** The command is killed by the system. Other processes of it run on, and the lease
//!   expires. So the worker has another name than the program, for `pkill leasehold`, and outside of a terminal's
//!   foreground another process group, for `timeout -k`.
//!
//! The guardian has one thread, no runtime and no store while the worker lives. Signals that are sent to it go on to
//! the worker. Only Linux has subreapers and such a signal: elsewhere there is no guardian.
//!
//! [`Signals::killed`]: super::Signals::killed

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::Pid;

use super::status::Status;

/// The part of this process.
#[derive(Debug)]
pub(crate) enum Role {
    /// The worker, which holds the lock and runs the command.
    Worker(Guardian),
    /// The guardian, after the worker was killed.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "only Linux has a guardian")
    )]
    Survivor(Survivor),
}

/// The guardian, as the worker sees it.
#[derive(Debug, Default)]
pub(crate) struct Guardian {
    socket: Option<UnixStream>,
}

/// The guardian after the death of the worker.
#[derive(Debug)]
pub(crate) struct Survivor {
    /// How the worker ended.
    pub(crate) status: Status,
    /// Whether certainly no process of the command is left.
    pub(crate) alone: bool,
    /// When the run began.
    pub(crate) started_unix_ms: i64,
    /// What the worker has sent last with [`Guardian::send`].
    pub(crate) sent: String,
}

/// The start of the lines that name the command's process group, and of all others.
const GROUP: &str = "group ";
const LINE: &str = "line ";

impl Guardian {
    /// Sends one line, which replaces the one before. It does not wait: a line that does not fit is lost.
    pub(crate) fn send(&self, line: &str) {
        self.write(LINE, line);
    }

    /// Names the command's process group, in case the guardian has no process table.
    pub(super) fn send_group(&self, group: Pid) {
        self.write(GROUP, &group.to_string());
    }

    fn write(&self, kind: &str, text: &str) {
        if let Some(mut socket) = self.socket.as_ref() {
            // If the guardian is dead, nobody needs it.
            let _sent = writeln!(socket, "{kind}{text}");
        }
    }

    /// Calls `dead` in a thread when the guardian has died.
    ///
    /// # Errors
    ///
    /// When the operating system refuses a thread.
    pub(crate) fn when_dead(&self, dead: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        let socket = socket.try_clone()?;
        thread::Builder::new()
            .name("guardian".to_owned())
            .spawn(move || {
                // The guardian sends nothing: the socket is readable at its end.
                let mut end = [PollFd::new(&socket, PollFlags::IN)];
                while let Err(Errno::INTR) = poll(&mut end, None) {}
                dead();
            })?;
        Ok(())
    }
}

/// The last complete line of a kind.
#[cfg(any(target_os = "linux", test))]
fn last<'a>(text: &'a str, kind: &str) -> &'a str {
    let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
    let mut lines = complete.rsplit('\n');
    lines
        .find_map(|line| line.strip_prefix(kind))
        .unwrap_or_default()
}

/// Other systems have no guardian.
#[cfg(not(target_os = "linux"))]
pub(crate) fn separate() -> io::Result<Role> {
    Ok(Role::Worker(Guardian::default()))
}

#[cfg(target_os = "linux")]
pub(crate) use linux::separate;

#[cfg(target_os = "linux")]
mod linux {
    use std::io::{self, Read as _};
    use std::os::unix::net::UnixStream;
    use std::process::exit;
    use std::time::Duration;

    use leasehold::clock::{Clock, SystemClock};
    use rustix::io::Errno;
    use rustix::process::{
        Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpid, kill_process_group,
        set_child_subreaper, setpgid, wait, waitid,
    };
    use rustix::thread::set_name;

    use super::{GROUP, Guardian, LINE, Role, Survivor, last};
    use crate::process::relay::{fork, keep_others_away, pass_on};
    use crate::process::status::Status;
    use crate::process::{inherited, table, terminal};

    /// How long the guardian tries to end the command's processes. Too short: the lock is left to expire although a
    /// process would have ended. Too long: a process that hangs in the kernel keeps the guardian.
    const KILL_WITHIN: Duration = Duration::from_secs(5);
    /// The pause between two rounds of KILL.
    const ROUND: Duration = Duration::from_millis(2);

    /// Forks, and returns in the worker; in the guardian, it returns only when the worker was killed. It must be called
    /// before any thread starts.
    ///
    /// # Errors
    ///
    /// When the operating system refuses a process or a socket.
    pub(crate) fn separate() -> io::Result<Role> {
        keep_others_away()?;
        let (ours, theirs) = UnixStream::pair()?;
        let started_unix_ms = SystemClock.wall_unix_ms();
        // Before the fork, and inherited by no child. A sandbox may forbid it: then orphans are not found.
        let guardian = getpid();
        let subreaper = set_child_subreaper(Some(guardian)).is_ok();
        match fork()? {
            None => {
                inherited::restore_mask();
                inherited::guarded_by(guardian);
                // A KILL of the guardian's process group, as of `timeout -k`, then spares the worker. In the foreground of
                // a terminal it must stay: other groups may not use the terminal.
                if !terminal::in_foreground() {
                    let _set = setpgid(None, None);
                }
                // `pkill leasehold` must not end both.
                let _named = set_name(c"lh-worker");
                drop(ours);
                theirs.set_nonblocking(true)?;
                let socket = Some(theirs);
                Ok(Role::Worker(Guardian { socket }))
            }
            Some(worker) => {
                drop(theirs);
                let status = pass_on(worker);
                if matches!(status, Status::Exited(_)) {
                    exit(i32::from(status.exit_code()));
                }
                let received = receive(ours);
                let group = last(&received, GROUP).parse().ok();
                Ok(Role::Survivor(Survivor {
                    status,
                    alone: end_all(group.and_then(Pid::from_raw)) && subreaper,
                    started_unix_ms,
                    sent: last(&received, LINE).to_owned(),
                }))
            }
        }
    }

    /// Kills all descendants, and returns whether none is left. `group` is the command's, and all that is known without a
    /// process table.
    fn end_all(group: Option<Pid>) -> bool {
        let give_up = SystemClock.elapsed().plus(KILL_WITHIN);
        loop {
            // Subreapers get every orphan, so "no children" proves that there are no descendants.
            loop {
                match wait(WaitOptions::NOHANG) {
                    Ok(Some(_)) => {}
                    Err(Errno::CHILD) => return true,
                    Ok(None) | Err(_) => break,
                }
            }
            match (table::scan(), group) {
                (Ok(scan), _) => {
                    for entry in table::descendants(&scan.entries, getpid(), |_| false) {
                        entry.signal(Signal::KILL);
                    }
                }
                // Its number is not reused while a child of ours is in it.
                (Err(_), Some(group)) if has_child_in(group) => {
                    let _sent = kill_process_group(group, Signal::KILL);
                }
                (Err(_), _) => {}
            }
            if SystemClock.elapsed() >= give_up {
                return false;
            }
            pause();
        }
    }

    fn has_child_in(group: Pid) -> bool {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pgid(Some(group)), look).is_ok()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "there is neither a runtime nor a test with virtual time here"
    )]
    fn pause() {
        std::thread::sleep(ROUND);
    }

    /// What the worker has sent. It does not wait.
    fn receive(mut socket: UnixStream) -> String {
        let mut text = Vec::new();
        let _nonblocking = socket.set_nonblocking(true);
        let mut part = [0; 4096];
        while let Ok(read @ 1..) = socket.read(&mut part) {
            text.extend_from_slice(&part[..read]);
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_complete_line_counts() {
        for (text, group, line) in [
            ("", "", ""),
            ("line a", "", ""),
            ("line a\n", "", "a"),
            ("line a\nline b\n", "", "b"),
            ("group 7\nline a\nline b", "7", "a"),
        ] {
            assert_eq!(
                (last(text, GROUP), last(text, LINE)),
                (group, line),
                "{text:?}"
            );
        }
    }
}
