//! Before the command runs: busy locks, bounds of the wait, signals.

#![expect(clippy::disallowed_methods, reason = "real processes need real time")]

use std::fs::File;
use std::time::{Duration, Instant};

use crate::support::{Room, Wrapper, alive, assert_message, until, wait_line};
use rustix::process::Signal;

/// A room whose lock `job` is held until there is a file `go`.
fn held() -> (Room, Wrapper) {
    let room = Room::new();
    let wrapper = room.start(
        &["--label", "the holder"],
        &format!("echo > in; {}", wait_line("go")),
    );
    until("held", || room.has("in"));
    (room, wrapper)
}

#[test]
fn busy_is_75_and_nothing_runs() {
    let (room, _holder) = held();
    for arguments in [
        vec!["-n"],
        vec!["-w", "0"],
        vec!["-w", "0s"],
        vec!["-w", "200ms"],
    ] {
        let all = [vec!["run", "job"], arguments, vec!["--", "touch", "ran"]].concat();
        let start = Instant::now();
        assert_message(&room.run(&all), 75, "`job` is held by the holder", "");
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    assert!(!room.has("ran"));
    // Who is in the way, and where.
    let output = room.run(&["run", "job", "-n", "--", "true"]);
    assert_message(
        &output,
        75,
        &room.store().replace("sqlite:", "sqlite file `"),
        "-w 30s",
    );
}

#[test]
fn the_hint_finds_the_holder_where_it_is() {
    let (room, _holder) = held();
    let wait = ["run", "job", "-w", "100ms", "--", "true"];
    assert_message(&room.run(&wait), 75, "is held by", "`leasehold show job`");
    let mut command = room.command(&[&["run", "--store", room.store()], &wait[1..]].concat());
    let output = command.env_remove("LEASEHOLD_STORE").output().unwrap();
    let shown = format!("`leasehold show job --store {}`", room.store());
    assert_message(&output, 75, "is held by", &shown);
}

#[test]
fn verbose_names_the_holder_once_and_at_once() {
    let (room, mut holder) = held();
    let said = File::create(room.path("said")).unwrap();
    let mut command = room.command(&["run", "job", "-v", "-w", "40s", "--", "true"]);
    let mut waiter = Wrapper(command.stderr(said).spawn().unwrap());
    until("the first refusal", || {
        room.text("said").contains("the holder")
    });
    std::thread::sleep(Duration::from_millis(300));
    room.touch("go");
    assert_eq!((holder.ended(), waiter.ended()), (0, 0));
    let said = room.text("said");
    let lines: Vec<_> = said.lines().filter(|l| l.contains("the holder")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(
        lines[0].contains("request: acquire `job`: refused, held by the holder"),
        "{said}"
    );
    // Some dozens of polls, in one line: the last one shows the grant that the holder has handed over.
    let mut polls = said
        .lines()
        .filter(|line| line.contains("read `job`: held"));
    assert!(
        polls
            .next_back()
            .is_some_and(|line| line.contains("that found nothing new")),
        "{said}"
    );
    assert!(said.lines().count() < 10, "{said}");
}

#[test]
fn the_code_of_a_conflict_can_be_chosen() {
    let (room, _holder) = held();
    for code in ["0", "1", "255"] {
        let expected: i32 = code.parse().unwrap();
        assert_eq!(
            room.code(&["run", "job", "-n", "-E", code, "--", "true"]),
            expected
        );
        assert_eq!(
            room.code(&["run", "job", "-w", "500ms", "-E", code, "--", "true"]),
            expected
        );
    }
    // It is for conflicts only.
    assert_eq!(
        room.code(&["run", "other", "-n", "-E", "9", "-c", "exit 3"]),
        3
    );
    assert_eq!(
        room.code(&["run", "other", "-n", "-E", "9", "--", "/no/such"]),
        127
    );
}

#[test]
fn quiet_is_quiet_about_a_conflict_and_loud_about_errors() {
    let (room, _holder) = held();
    let output = room.run(&["run", "job", "-n", "-q", "--", "true"]);
    assert_eq!(output.status.code(), Some(75));
    assert!(output.stderr.is_empty(), "{output:?}");
    let output = room.run(&["run", "job", "-n", "-q", "--", "/no/such"]);
    assert_message(&output, 127, "command not found: /no/such", "-c 'LINE'");
}

#[test]
fn what_cannot_run_is_told_without_waiting() {
    let (room, _holder) = held();
    for (program, code) in [("/no/such", 127), ("no-such-command", 127), ("/tmp", 126)] {
        assert_eq!(room.code(&["run", "job", "--", program]), code);
    }
}

#[test]
fn a_wait_ends_when_the_holder_lets_go() {
    let (room, mut holder) = held();
    let mut waiter = room.start(&["-w", "40s"], "echo mine");
    // It has asked at least once when the record has been read; it does not get in.
    std::thread::sleep(Duration::from_millis(300));
    assert!(waiter.running());
    room.touch("go");
    assert_eq!(holder.ended(), 0);
    assert_eq!(waiter.ended(), 0);
}

#[test]
fn a_signal_while_waiting_is_128_more_and_leaves_nothing() {
    for (signal, code) in [
        (Signal::INT, 130),
        (Signal::TERM, 143),
        (Signal::HUP, 129),
        (Signal::QUIT, 131),
        (Signal::USR1, 138),
    ] {
        let (room, mut holder) = held();
        let before = room.job();
        let mut waiter = room.start(&["-v", "--report", "report"], "echo > ran");
        let worker = waiter.worker();
        let mut catches = || {
            let status = format!("/proc/{}/status", worker.as_raw_pid());
            let text = std::fs::read_to_string(status).unwrap_or_default();
            let mask = text.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
                .is_some_and(|mask| mask & (1 << (signal.as_raw() - 1)) != 0)
        };
        until("the handlers", &mut catches);
        waiter.signal(signal);
        assert_eq!(waiter.ended(), code);
        assert_eq!(room.report()["outcome"], "interrupted");
        assert_eq!(room.report()["exit_code"], code);
        let after = room.job();
        assert_eq!(
            (&after["state"], &after["token"]),
            (&before["state"], &before["token"])
        );
        room.touch("go");
        assert_eq!(holder.ended(), 0);
        assert!(!room.has("ran"));
        assert_eq!(room.job()["state"], "free");
    }
}

#[test]
fn other_signals_do_not_end_a_wait() {
    let (room, mut holder) = held();
    let mut waiter = room.start(&[], "echo > ran");
    std::thread::sleep(Duration::from_millis(200));
    waiter.signal(Signal::WINCH);
    waiter.signal(Signal::CONT);
    std::thread::sleep(Duration::from_millis(100));
    assert!(waiter.running() && alive(waiter.pid()));
    room.touch("go");
    assert_eq!(holder.ended(), 0);
    assert_eq!(waiter.ended(), 0);
    assert!(room.has("ran"));
}

#[test]
fn c21_a_script_without_its_interpreter_is_refused_before_the_wait() {
    use std::os::unix::fs::PermissionsExt;

    let (room, _holder) = held();
    for (first, lacks, hint) in [
        (
            "#!/no/such/interpreter\n",
            "`/no/such/interpreter`",
            "first line",
        ),
        (
            "#!/bin/sh\r\n",
            "`/bin/sh\\r`",
            "sed -i 's/\\r$//' ./script",
        ),
        ("#!/usr/bin/env sh\r\n", "`sh\\r`", "sed -i"),
        (
            "#!/usr/bin/env no-such-interpreter\n",
            "`no-such-interpreter`",
            "install",
        ),
    ] {
        let script = room.path("script");
        std::fs::write(&script, format!("{first}exit 0\n")).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        // 75, if it waited.
        let output = room.run(&["run", "job", "-w", "10s", "--", "./script"]);
        assert_message(
            &output,
            127,
            "of the script `./script` does not exist",
            hint,
        );
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(lacks), "{said}");
    }
    let output = room.run(&["run", "job", "--", "./absent"]);
    assert_message(&output, 127, "command not found: ./absent", "");
}
