//! Every event, in every phase of a run, with and without a terminal, for three shapes of command: the exact exit code,
//! nobody left when the next holder begins, and a lock that is free at once.
//!
//! A cell is a function of four values, and [`expected`] says its code. Cells that cannot exist are counted, too.

use crate::support;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::terminal::Terminal;
use crate::support::{
    BIN, Room, Wrapper, alive, below, children, is_called, state, take_away, until,
};
use rustix::process::{Pid, Signal, kill_process};

/// What happens.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Event {
    Nothing,
    Signal(Signal),
    KillGuardian,
    KillWorker,
    KillCommand,
    StopAndContinue,
}

/// When it happens.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Phase {
    Waiting,
    Running,
    /// The lock is lost, and the grace runs.
    Losing,
    /// The command has ended, and the store has not answered the release.
    Releasing,
}

/// What the command is.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Tree {
    Plain,
    Grandchild,
    Daemon,
}

const EVENTS: [Event; 9] = [
    Event::Nothing,
    Event::Signal(Signal::TERM),
    Event::Signal(Signal::INT),
    Event::Signal(Signal::HUP),
    Event::Signal(Signal::QUIT),
    Event::KillGuardian,
    Event::KillWorker,
    Event::KillCommand,
    Event::StopAndContinue,
];
const TREES: [Tree; 3] = [Tree::Plain, Tree::Grandchild, Tree::Daemon];

/// The exit code; `None` where the event cannot happen.
fn expected(event: Event, phase: Phase) -> Option<i32> {
    Some(match (event, phase) {
        (Event::KillCommand, Phase::Waiting | Phase::Releasing) => return None,
        (Event::KillGuardian | Event::KillWorker, _) => 137,
        (_, Phase::Losing) => 76,
        (Event::Signal(signal), Phase::Waiting | Phase::Running) => 128 + signal.as_raw(),
        (Event::KillCommand, Phase::Running) => 137,
        (Event::Signal(_), Phase::Releasing) => 7,
        (Event::Nothing | Event::StopAndContinue, _) => 7,
    })
}

/// The script of a command. It ends when a line comes through the pipe `go`, and the daemon through `daemon-go`.
fn script(tree: Tree, phase: Phase) -> String {
    let trap = match phase {
        Phase::Losing => "trap 'echo > losing' TERM; ",
        _ => "",
    };
    let member = |name: &str, pipe: &str| {
        format!("{trap}echo $$ >> pids; echo > {name}; until read x < {pipe}; do :; done")
    };
    match tree {
        Tree::Plain => format!("{}; exit 7", member("command", "go")),
        Tree::Grandchild => format!(
            "echo $$ >> pids; {trap}cat > child.sh <<'E'\n{}\nE\nsh child.sh; exit 7",
            member("command", "go")
        ),
        Tree::Daemon => format!(
            "cat > daemon.sh <<'E'\n{}\nE\n(setsid sh daemon.sh </dev/null >/dev/null 2>&1 &)\n\
             until [ -e daemon ]; do sleep 0.01; done; {}; exit 7",
            member("daemon", "daemon-go"),
            member("command", "go")
        ),
    }
}

/// The run under test.
enum Run {
    Alone(Room, Wrapper),
    OnTerminal(Box<Terminal>, Pid),
}

impl Run {
    fn start(room: Room, terminal: bool, options: &[&str]) -> Run {
        if !terminal {
            let arguments = [&["run", "job"], options, &["--", "sh", "line.sh"]].concat();
            let wrapper = Wrapper(room.command(&arguments).spawn().unwrap());
            return Run::Alone(room, wrapper);
        }
        let mut terminal = Terminal::shell_in(room);
        let shell = terminal.room.pid("shell");
        terminal.keys(&format!(
            "{BIN} run job {} -- sh line.sh\n",
            options.join(" ")
        ));
        let mut guardian = None;
        until("the guardian", || {
            let mut all = children(shell).into_iter();
            guardian = all.find(|child| is_called(*child, "leasehold"));
            guardian.is_some()
        });
        Run::OnTerminal(Box::new(terminal), guardian.unwrap())
    }

    fn room(&self) -> &Room {
        match self {
            Run::Alone(room, _) => room,
            Run::OnTerminal(terminal, _) => &terminal.room,
        }
    }

    fn guardian(&self) -> Pid {
        match self {
            Run::Alone(_, wrapper) => wrapper.pid(),
            Run::OnTerminal(_, guardian) => *guardian,
        }
    }

    /// Ends a read from the pipe, if there is one.
    fn go(&self, pipe: &str) {
        let mut options = OpenOptions::new();
        options
            .write(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
        if let Ok(mut pipe) = options.open(self.room().path(pipe)) {
            let _read = pipe.write_all(b"x\n");
        }
    }

    fn happen(&mut self, event: Event, phase: Phase, worker: Pid) {
        let guardian = self.guardian();
        let command = (phase == Phase::Running).then(|| below(worker, "sh"));
        let kill = |pid, signal| kill_process(pid, signal).unwrap();
        match (event, &mut *self) {
            (Event::Nothing, _) => {}
            (Event::Signal(Signal::INT), Run::OnTerminal(terminal, _)) => terminal.keys("\x03"),
            (Event::Signal(Signal::QUIT), Run::OnTerminal(terminal, _)) => terminal.keys("\x1c"),
            (Event::Signal(signal), _) => kill(guardian, signal),
            (Event::KillGuardian, _) => kill(guardian, Signal::KILL),
            (Event::KillWorker, _) => kill(worker, Signal::KILL),
            (Event::KillCommand, _) => {
                kill(below(worker, "sh"), Signal::KILL);
            }
            // A loss ends the command first.
            (Event::StopAndContinue, Run::OnTerminal(terminal, _)) => {
                terminal.keys("\x1a");
                until("the stop", || state(guardian) == Some('T'));
                terminal.keys("fg\n");
                until("the resumption", || state(guardian) != Some('T'));
            }
            (Event::StopAndContinue, Run::Alone(..)) => {
                kill(guardian, Signal::TSTP);
                kill(guardian, Signal::CONT);
            }
        }
        if let (Some(command), Event::Signal(_) | Event::KillCommand) = (command, event) {
            until("the command's end", || !alive(command));
        }
    }

    fn code(&mut self, worker: Pid) -> i32 {
        let guardian = self.guardian();
        // What ignores the event, or outlives the command, ends now.
        until("the end", || {
            self.go("go");
            self.go("daemon-go");
            match self {
                Run::Alone(_, wrapper) => !wrapper.running(),
                Run::OnTerminal(..) => !alive(guardian),
            }
        });
        until("the worker's end", || !alive(worker));
        match self {
            Run::Alone(_, wrapper) => {
                let status = wrapper.0.wait().unwrap();
                let signal = status.signal().map(|signal| 128 + signal);
                status.code().or(signal).unwrap()
            }
            Run::OnTerminal(terminal, _) => {
                terminal.keys("echo $? > code\n");
                until("the code", || terminal.room.text("code").ends_with('\n'));
                terminal.room.text("code").trim().parse().unwrap()
            }
        }
    }
}

/// A line that writes down each process that still runs.
const LOOK: &str = "[ -e pids ] || exit 0; for p in $(cat pids); do \
                    s=$(sed -n 's/^State:\t\\(.\\).*/\\1/p' /proc/$p/status 2>/dev/null); \
                    case $s in ''|Z|X) ;; *) echo $p $s >> overlap;; esac; done";

fn cell(event: Event, phase: Phase, terminal: bool, tree: Tree, expected: i32) {
    let room = Room::new();
    std::fs::write(room.path("line.sh"), script(tree, phase)).unwrap();
    let pipes = support::command("mkfifo")
        .args(["go", "daemon-go"])
        .current_dir(room.directory())
        .status();
    assert!(pipes.unwrap().success());
    let holder = (phase == Phase::Waiting).then(|| {
        let holder = room.start(&[], &format!("echo > held; {}", support::wait_line("free")));
        until("the holder", || room.has("held"));
        holder
    });
    let options: &[&str] = match phase {
        // The event comes within the grace, on a slow machine, too.
        Phase::Losing => &["--lease", "13s", "--grace", "5s"],
        _ => &[],
    };
    let mut run = Run::start(room, terminal, options);
    let worker = below(run.guardian(), "lh-worker");
    match phase {
        Phase::Waiting => until("the place", || run.room().job()["waiting"] == 1),
        _ => until("the command", || run.room().has("command")),
    }
    let mut busy = None;
    if phase == Phase::Losing {
        take_away(run.room());
        until("the loss", || run.room().has("losing"));
    }
    if phase == Phase::Releasing {
        let connection = rusqlite::Connection::open(run.room().path("locks.db")).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        busy = Some(connection);
        until("the command's end", || {
            run.go("go");
            run.go("daemon-go");
            children(worker).is_empty()
        });
    }

    run.happen(event, phase, worker);
    drop(busy);
    let free = |run: &Run| {
        run.room().touch("free");
        if let Some(mut holder) = holder {
            assert_eq!(holder.ended(), 0);
        }
    };
    // A signal ends the wait while the holder goes on; otherwise the command must run now.
    if matches!(event, Event::Nothing | Event::StopAndContinue) {
        free(&run);
        assert_eq!(run.code(worker), expected);
    } else {
        assert_eq!(run.code(worker), expected);
        free(&run);
    }

    // Less than the lease of 20 s: the lock is free at once.
    let room = run.room();
    assert_eq!(room.code(&["run", "job", "-w", "10s", "-c", LOOK]), 0);
    assert_eq!(room.text("overlap"), "");
    assert_eq!(room.job()["state"], "free");
}

/// All cells of a phase, several at a time: most of their time is waiting.
fn cells(phase: Phase, terminal: bool) {
    let all: Vec<(Event, Tree)> = EVENTS
        .into_iter()
        .flat_map(|event| TREES.map(|tree| (event, tree)))
        .collect();
    let (next, impossible) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((event, tree)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let Some(expected) = expected(*event, phase) else {
                        impossible.fetch_add(1, Ordering::Relaxed);
                        continue;
                    };
                    let run = || cell(*event, phase, terminal, *tree, expected);
                    if catch_unwind(AssertUnwindSafe(run)).is_err() {
                        failed.lock().unwrap().push((event, tree));
                    }
                }
            });
        }
    });
    let impossible = impossible.into_inner();
    println!(
        "{phase:?}, terminal {terminal}: {} cells, {impossible} impossible",
        all.len()
    );
    assert!(impossible <= 3);
    let failed = failed.into_inner().unwrap();
    assert!(
        failed.is_empty(),
        "{phase:?}, terminal {terminal}: {failed:?}"
    );
}

macro_rules! phases {
    ($($name:ident: $phase:ident $terminal:literal,)*) => {
        $(#[test] fn $name() { cells(Phase::$phase, $terminal); })*
    };
}

phases! {
    waiting: Waiting false,
    waiting_on_a_terminal: Waiting true,
    running: Running false,
    running_on_a_terminal: Running true,
    losing: Losing false,
    losing_on_a_terminal: Losing true,
    releasing: Releasing false,
    releasing_on_a_terminal: Releasing true,
}
