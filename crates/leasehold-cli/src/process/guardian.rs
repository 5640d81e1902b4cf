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
//! What the worker announces is in a page of memory that both see, so that any number of terms needs no reader. The
//! guardian has one thread, no runtime and no store while the worker lives. Signals that are sent to it go on to
//! the worker. Only Linux has subreapers and such a signal: elsewhere there is no guardian.
//!
//! [`Signals::killed`]: super::Signals::killed

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
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
    page: Option<File>,
    announced: Mutex<Announced>,
}

/// What the guardian must know if the worker is killed.
#[derive(Debug, Default)]
struct Announced {
    group: String,
    line: String,
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
    /// What the worker has announced last with [`Guardian::send`].
    pub(crate) sent: String,
}

/// The start of the lines that name the command's process group, and of all others.
const GROUP: &str = "group ";
const LINE: &str = "line ";

impl Guardian {
    /// Announces one line, which replaces the one before.
    pub(crate) fn send(&self, line: &str) {
        self.announce(|announced| line.clone_into(&mut announced.line));
    }

    /// Names the command's process group, in case the guardian has no process table.
    pub(super) fn send_group(&self, group: Pid) {
        self.announce(|announced| announced.group = group.to_string());
    }

    fn announce(&self, change: impl FnOnce(&mut Announced)) {
        let mut announced = self
            .announced
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        change(&mut announced);
        if let Some(page) = &self.page {
            let Announced { group, line } = &*announced;
            // Whole, so that the rest of a longer one before it is not read. Without memory the lease expires.
            let _written =
                page.write_all_at(format!("{GROUP}{group}\n{LINE}{line}\n").as_bytes(), 0);
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

/// The first complete line of a kind. Behind it there may be the rest of an older page.
#[cfg(any(target_os = "linux", test))]
fn first<'a>(page: &'a str, kind: &str) -> &'a str {
    let complete = page.rsplit_once('\n').map_or("", |(complete, _)| complete);
    let mut lines = complete.split('\n');
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
    use std::fs::File;
    use std::io::{self, Read as _, Seek as _};
    use std::os::unix::net::UnixStream;
    use std::process::exit;
    use std::time::Duration;

    use leasehold::clock::{Clock, SystemClock};
    use rustix::fs::{MemfdFlags, memfd_create};
    use rustix::io::Errno;
    use rustix::process::{
        Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpid, kill_process_group,
        set_child_subreaper, setpgid, wait, waitid,
    };
    use rustix::thread::set_name;

    use super::{GROUP, Guardian, LINE, Role, Survivor, first};
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
        let page = page();
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
                Ok(Role::Worker(Guardian {
                    socket: Some(theirs),
                    page,
                    ..Guardian::default()
                }))
            }
            Some(worker) => {
                drop(theirs);
                let status = pass_on(worker);
                if matches!(status, Status::Exited(_)) {
                    exit(i32::from(status.exit_code()));
                }
                drop(ours);
                let announced = page.map(read).unwrap_or_default();
                let group = first(&announced, GROUP).parse().ok();
                Ok(Role::Survivor(Survivor {
                    status,
                    alone: end_all(group.and_then(Pid::from_raw)) && subreaper,
                    started_unix_ms,
                    sent: first(&announced, LINE).to_owned(),
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

    /// The page for what the worker announces. A sandbox may forbid it: then the lease of a killed worker expires.
    fn page() -> Option<File> {
        let flags = MemfdFlags::CLOEXEC;
        // Some systems demand that it cannot be executed, and older ones do not know that.
        let page = memfd_create("announced", flags | MemfdFlags::NOEXEC_SEAL)
            .or_else(|_| memfd_create("announced", flags));
        page.ok().map(File::from)
    }

    /// What the worker has announced.
    fn read(mut page: File) -> String {
        let mut text = Vec::new();
        let _read = page.rewind().and_then(|()| page.read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_complete_line_counts() {
        for (page, group, line) in [
            ("", "", ""),
            ("group \nline a", "", ""),
            ("group \nline a\n", "", "a"),
            ("group 7\nline b\n", "7", "b"),
            ("group 7\nline b\nne longer\n", "7", "b"),
            ("group 7\nline b\nline longer\n", "7", "b"),
        ] {
            assert_eq!(
                (first(page, GROUP), first(page, LINE)),
                (group, line),
                "{page:?}"
            );
        }
    }

    #[test]
    fn any_number_of_announcements_leaves_the_last_one() {
        let page = tempfile::tempfile().expect("a file");
        let guardian = Guardian {
            page: Some(page.try_clone().expect("a copy")),
            ..Guardian::default()
        };
        let mut text = String::new();
        for n in (0..10_000).rev() {
            guardian.send_group(Pid::from_raw(1 + n % 5).expect("positive"));
            guardian.send(&format!("attempt {n}"));
        }
        std::io::Read::read_to_string(&mut &page, &mut text).expect("text");
        // `try_clone` shares the offset, which `write_all_at` does not move.
        assert_eq!(
            (first(&text, GROUP), first(&text, LINE)),
            ("1", "attempt 0")
        );
    }
}
