//! What the command leaves behind, and what is not the command's: in containers, without `/proc`, as another user.

use crate::support;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::support::{
    BIN, PATIENCE, Room, SHORT, Wrapper, alive, below, children, is_called, take_away, until,
    wait_line,
};
use rustix::process::{Signal, kill_process};

/// As the first process of a container.
const FIRST: [&str; 4] = ["unshare", "--pid", "--fork", "--mount-proc"];

/// In a pid namespace, with the outer `/proc`.
const FOREIGN_PROC: [&str; 3] = ["unshare", "--pid", "--fork"];

/// A `/proc` without anything in it.
const NO_PROC: [&str; 5] = [
    "unshare",
    "--mount",
    "sh",
    "-c",
    "mount -t tmpfs none /proc && exec \"$0\" \"$@\"",
];

fn started(room: &Room, outer: &[&str], options: &[&str], line: &str) -> Wrapper {
    let arguments = [&["run", "job"], options, &["-c", line]].concat();
    Wrapper(room.through(outer, &arguments).spawn().unwrap())
}

/// A process in a session of its own, which runs `line` and leaves its parent.
fn daemon(line: &str) -> String {
    format!("(setsid sh -c 'echo > daemon; {line}' </dev/null >/dev/null 2>&1 &)")
}

#[test]
fn c14_an_orphan_of_another_in_the_container_is_not_waited_for() {
    let room = Room::new();
    let line = format!("echo > in; {}; exit 5", wait_line("go"));
    let mut outer = started(&room, &FIRST, &[], &line);
    until("in", || room.has("in"));
    let first = below(outer.pid(), "leasehold");
    // As `docker exec` does: its child is left to process 1.
    let pid = first.as_raw_pid().to_string();
    let entered = support::command("nsenter")
        .args([
            "-t",
            &pid,
            "-p",
            "-m",
            "setsid",
            "sh",
            "-c",
            "sleep 1000 & sleep 1000 &",
        ])
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(entered.success());
    until("orphans of process 1", || {
        children(first)
            .into_iter()
            .filter(|child| is_called(*child, "sleep"))
            .count()
            == 2
    });
    room.touch("go");
    assert_eq!(outer.ended(), 5);
    assert_eq!(room.job()["state"], "free");
}

#[test]
fn c14_as_process_1_what_the_command_leaves_behind_is_waited_for() {
    let room = Room::new();
    let line = format!(
        "{}; until [ -e daemon ]; do sleep 0.02; done; exit 5",
        daemon(&wait_line("go"))
    );
    let mut outer = started(&room, &FIRST, &[], &line);
    until("the daemon", || room.has("daemon"));
    let said = read_until(&mut outer, "processes that it started have not");
    assert!(said.contains("`sh` (pid "), "{said}");
    assert_eq!(room.job()["state"], "held");
    room.touch("go");
    assert_eq!(outer.ended(), 5);
}

#[test]
fn c14_process_1_passes_signals_on() {
    let room = Room::new();
    let line = format!(
        "trap 'echo > got; exit 6' TERM; echo > in; {}",
        wait_line("never")
    );
    let mut outer = started(&room, &FIRST, &[], &line);
    until("in", || room.has("in"));
    kill_process(below(outer.pid(), "leasehold"), Signal::TERM).unwrap();
    assert_eq!(outer.ended(), 6);
    assert!(room.has("got"));
}

#[test]
fn c14_a_child_of_the_program_that_we_replaced_is_not_the_commands() {
    let room = Room::new();
    let line = format!("sleep 1000 & echo $! > other; exec {BIN} run job -c 'exit 5'");
    let mut shell = support::command("setsid");
    shell
        .args(["sh", "-c", &line])
        .current_dir(room.directory());
    let mut wrapper = Wrapper(shell.env("LEASEHOLD_STORE", room.store()).spawn().unwrap());
    let other = room.pid("other");
    assert_eq!(wrapper.ended(), 5);
    assert!(alive(other), "it was nobody's to stop");
    kill_process(other, Signal::KILL).unwrap();
}

#[test]
fn c15_without_proc_nothing_hangs() {
    for outer in [&NO_PROC[..], &FOREIGN_PROC] {
        // A command that just ends; one with an orphan that ends later; one that leaves a zombie behind.
        for (line, code) in [
            ("exit 5".to_owned(), 5),
            (format!("{}; exit 6", daemon(&wait_line("go"))), 6),
            ("(setsid true &); (true &); exit 7".to_owned(), 7),
        ] {
            let room = Room::new();
            let mut wrapper = started(&room, outer, &[], &line);
            if line.contains("daemon") {
                until("the daemon", || room.has("daemon"));
                let said = read_until(&mut wrapper, "processes that it started have not");
                assert!(said.contains("the process table does not show"), "{said}");
                room.touch("go");
            }
            assert_eq!(wrapper.ended(), code, "{outer:?} {line}");
        }
    }
}

#[test]
fn c15_without_proc_a_loss_stops_the_command() {
    for outer in [&NO_PROC[..], &FOREIGN_PROC] {
        let room = Room::new();
        let line = format!(
            "trap '' TERM; sh -c 'echo > grandchild; {w}' & echo > in; {w}",
            w = wait_line("never")
        );
        let mut wrapper = started(&room, outer, &SHORT, &line);
        until("in", || room.has("in") && room.has("grandchild"));
        take_away(&room);
        assert_eq!(wrapper.ended(), 76);
        let said = wrapper.stderr();
        assert!(
            said.contains("lost the lock `job`") && !said.contains("KILL did not"),
            "{said}"
        );
    }
}

/// Standard error as far as there is this text.
fn read_until(wrapper: &mut Wrapper, text: &str) -> String {
    use std::io::{BufRead, BufReader};

    // On a thread of its own, because a line may never come.
    let (sender, lines) = std::sync::mpsc::channel();
    let stderr = BufReader::new(wrapper.0.stderr.take().unwrap());
    std::thread::spawn(move || {
        for line in stderr.lines() {
            if sender.send(line.unwrap()).is_err() {
                break;
            }
        }
    });
    let mut said = String::new();
    while !said.contains(text) {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => said += &line,
            Err(_) => panic!("no `{text}` in: {said}"),
        }
    }
    said
}

#[test]
fn c16_it_says_who_is_waited_for_and_signals_reach_them() {
    for signal in [Signal::TERM, Signal::INT] {
        let room = Room::new();
        let line = format!(
            "(setsid env --default-signal=INT sh -c 'trap \"echo > got; exit\" TERM INT; echo $$ > daemon; {}' </dev/null >/dev/null 2>&1 &); \
             until [ -e daemon ]; do sleep 0.02; done; exit 3",
            wait_line("never")
        );
        let mut wrapper = room.start(&[], &line);
        let daemon = room.pid("daemon");
        let said = read_until(&mut wrapper, "processes that it started have not");
        let named = format!("`sh` (pid {})", daemon.as_raw_pid());
        assert!(
            said.contains("`job` is kept") && said.contains(&named),
            "{said}"
        );
        assert_eq!(room.job()["state"], "held");
        wrapper.signal(signal);
        assert_eq!(wrapper.ended(), 3);
        assert!(room.has("got"));
        assert!(!alive(daemon));
    }
}

/// A copy of `setpriv` that anybody may become root with, as with sudo; and one of the wrapper that anybody may run.
fn as_nobody(room: &Room, options: &[&str]) -> Wrapper {
    let open = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    open(room.directory(), 0o777);
    let root = room.path("root");
    fs::copy("/usr/bin/setpriv", &root).unwrap();
    open(&root, 0o4755);
    fs::copy(BIN, room.path("leasehold")).unwrap();
    open(&room.path("leasehold"), 0o755);
    let line = format!(
        "echo $$ > command; exec ./root --reuid 0 --regid 0 --clear-groups sh -c 'echo > root-runs; {}; exit 3'",
        wait_line("go")
    );
    let bare = room.command(&[]);
    let mut command = support::command("setsid");
    command.args([
        "setpriv",
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
    ]);
    command
        .args(["./leasehold", "run", "job"])
        .args(options)
        .args(["-c", &line]);
    for (name, value) in bare.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command.current_dir(room.directory()).stderr(Stdio::piped());
    let wrapper = Wrapper(command.spawn().unwrap());
    until("the command of root", || room.has("root-runs"));
    wrapper
}

#[test]
fn c22_the_lock_is_kept_while_a_command_that_cannot_be_killed_lives() {
    let room = Room::new();
    let options = [&SHORT[..], &["--max-hold", "500ms", "--report", "report"]].concat();
    let mut wrapper = as_nobody(&room, &options);
    let command = room.pid("command");
    let said = read_until(&mut wrapper, "KILL did not end");
    let named = format!("`sh` (pid {})", command.as_raw_pid());
    assert!(
        said.contains("`job` is kept until they are gone") && said.contains(&named),
        "{said}"
    );
    // Renewed, past the lease of 3 s that it had when KILL failed.
    let until_then = room.job()["until"].clone();
    until("two renewals", || {
        let job = room.job();
        assert_eq!(job["state"], "held", "{job}");
        job["until"].as_str() > until_then.as_str()
    });
    assert!(alive(command));
    room.touch("go");
    assert_eq!(wrapper.ended(), 124);
    assert_eq!(room.report()["outcome"], "max_hold");
    assert_eq!(room.report()["command"]["exit_code"], 3);
    assert_eq!(room.job()["state"], "free");
}

#[test]
fn c22_a_loss_says_that_the_command_cannot_be_killed() {
    let room = Room::new();
    let mut wrapper = as_nobody(&room, &SHORT);
    let command = room.pid("command");
    take_away(&room);
    let said = read_until(&mut wrapper, "KILL did not end");
    assert_eq!(wrapper.ended(), 76);
    let named = format!("`sh` (pid {})", command.as_raw_pid());
    assert!(
        said.contains("the next holder of `job` may begin beside them"),
        "{said}"
    );
    assert!(said.contains(&named), "{said}");
    assert!(alive(command));
    room.touch("go");
    until("the command's end", || !alive(command));
}

#[test]
fn c26_sockets_and_watchdog_are_the_commands() {
    let room = Room::new();
    let outer = [
        "sh",
        "-c",
        "export LISTEN_PID=$$ LISTEN_FDS=1 WATCHDOG_PID=$$ LISTEN_PIDFDID=1; exec \"$0\" \"$@\"",
    ];
    let line =
        "echo $$ $LISTEN_PID $WATCHDOG_PID $LISTEN_FDS ${LISTEN_PIDFDID-none} $LEASEHOLD_NAME";
    // As process 1, too, where the number is that of the one that stays behind.
    for outer in [outer.to_vec(), [&FIRST[..], &outer].concat()] {
        let arguments = ["run", "job", "--", "sh", "-c", line];
        let output = room.through(&outer, &arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let words: Vec<_> = text.split_whitespace().collect();
        assert_eq!(
            words[1..],
            [words[0], words[0], "1", "none", "job"],
            "{text}"
        );
    }
    // Another's stays another's; and an error of the start is one as ever.
    let arguments = ["run", "job", "--", "sh", "-c", "echo $LISTEN_PID"];
    let mut command = room.command(&arguments);
    let output = command.env("LISTEN_PID", "1").output().unwrap();
    assert_eq!(output.stdout, b"1\n");
    let missing = room
        .through(&outer, &["run", "job", "--", "./none"])
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(127));
}
