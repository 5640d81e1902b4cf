//! A terminal: `script` provides one, and what is written to its input is typed.

use std::fs::{self, File};
use std::io::Write;
use std::process::{Child, ChildStdin, Stdio};

use rustix::process::Pid;

use super::{Room, command, state, until, wait_line};

/// A terminal with something running in it.
pub(crate) struct Terminal {
    pub(crate) script: Child,
    keys: ChildStdin,
    pub(crate) room: Room,
}

impl Terminal {
    /// `line` is run by a shell that is the session leader.
    pub(crate) fn new(line: &str) -> Self {
        Self::within(Room::new(), line)
    }

    fn within(room: Room, line: &str) -> Self {
        let screen = File::create(room.path("screen")).unwrap();
        let mut script = command("script")
            .args(["-qefc", line, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .current_dir(room.directory())
            .env("LEASEHOLD_STORE", room.store())
            .stdin(Stdio::piped())
            .stderr(screen.try_clone().unwrap())
            .stdout(screen)
            .spawn()
            .unwrap();
        let keys = script.stdin.take().unwrap();
        Self { script, keys, room }
    }

    /// An interactive shell with job control.
    pub(crate) fn shell() -> Self {
        Self::shell_in(Room::new())
    }

    /// The same in a room that is there already.
    pub(crate) fn shell_in(room: Room) -> Self {
        let mut terminal = Self::within(room, "exec bash --norc --noprofile -i");
        terminal.keys("echo $$ > shell\n");
        terminal.room.pid("shell");
        terminal
    }

    pub(crate) fn keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Ctrl-S, which has been dealt with when the line after it has been read.
    pub(crate) fn stop(&mut self) {
        self.keys("\x13x\n");
        until("the stopped terminal", || self.room.has("stopped"));
    }

    pub(crate) fn screen(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.room.path("screen")).unwrap()).into_owned()
    }

    pub(crate) fn shows(&self, text: &str) {
        until(text, || self.screen().contains(text));
    }

    pub(crate) fn ended(&mut self) -> i32 {
        until("the terminal's end", || {
            self.script.try_wait().unwrap().is_some()
        });
        self.script.wait().unwrap().code().unwrap()
    }

    /// The lines that were written to `got`.
    pub(crate) fn got(&self) -> Vec<String> {
        let text = self.room.text("got");
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The end of the terminal is a HUP for everything in it.
        let _ended = self.script.kill();
        let _reaped = self.script.wait();
    }
}

pub(crate) fn field(pid: Pid, number: usize) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).unwrap();
    stat.rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .nth(number - 3)
        .unwrap()
        .parse()
        .unwrap()
}

pub(crate) fn parent(pid: Pid) -> Pid {
    Pid::from_raw(field(pid, 4)).unwrap()
}

pub(crate) fn group(pid: Pid) -> i32 {
    field(pid, 5)
}

/// A shell that was stopped between vfork and exec of its child is shown as D: it waits for the child, which is stopped.
pub(crate) fn halted(pid: Pid) -> bool {
    matches!(state(pid), Some('T' | 'D'))
}

/// A command that writes down the signals it gets, until there is a file `done`.
pub(crate) fn recorder() -> String {
    format!(
        "trap \"echo INT >> got\" INT; trap \"echo USR1 >> got\" USR1; echo $$ > command; {}; exit 5",
        wait_line("done")
    )
}
