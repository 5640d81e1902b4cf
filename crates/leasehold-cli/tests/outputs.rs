//! Standard error and the report, where nobody takes what is written. The lock and the command must not care.

use crate::support;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use crate::support::{Room, SHORT, Wrapper, alive, dynamo, full_pipe, take_away, until, wait_line};

/// A run whose standard error is this; the command writes its number to `command` and ignores TERM.
fn stubborn(room: &Room, options: &[&str], stderr: impl Into<Stdio>) -> Wrapper {
    let line = format!(
        "trap '' TERM; echo $$ > command; {}; exit 7",
        wait_line("go")
    );
    let arguments = [&["run", "job"], &SHORT[..], options, &["-c", &line]].concat();
    Wrapper(room.command(&arguments).stderr(stderr).spawn().unwrap())
}

#[test]
fn c1_a_loss_stops_the_command_though_nobody_reads_stderr() {
    for volume in [&[][..], &["-q"], &["-v"]] {
        let room = Room::new();
        let (_unread, stderr) = full_pipe();
        let mut wrapper = stubborn(&room, volume, OwnedFd::from(stderr));
        let command = room.pid("command");
        take_away(&room);
        until("the command's end", || !alive(command));
        assert_eq!(wrapper.ended(), 76, "{volume:?}");
    }
}

#[test]
fn c1_renewals_go_on_though_nobody_reads_what_verbose_says() {
    let room = Room::new();
    let (_unread, stderr) = full_pipe();
    let mut wrapper = stubborn(&room, &["-v"], OwnedFd::from(stderr));
    room.pid("command");
    room.sees_four_renewals();
    room.touch("go");
    assert_eq!(wrapper.ended(), 7);
    assert_eq!(room.job()["state"], "free");
}

#[test]
fn c1_what_was_left_unread_is_read_later() {
    let room = Room::new();
    let (mut reader, stderr) = full_pipe();
    let mut wrapper = stubborn(&room, &["-v"], OwnedFd::from(stderr));
    room.pid("command");
    room.touch("go");
    // At the end it waits for a reader for a moment.
    let mut said = String::new();
    let read = std::thread::spawn(move || {
        reader.read_to_string(&mut said).unwrap();
        said
    });
    assert_eq!(wrapper.ended(), 7);
    let said = read.join().unwrap();
    assert!(said.contains("acquired `job`"), "{said}");
    assert!(said.contains("released `job`"), "{said}");
}

#[test]
fn c1_a_stderr_that_takes_nothing_is_no_failure() {
    for redirection in ["2>&-", "2>/dev/full", "2>&1 >&- | true"] {
        let room = Room::new();
        // The code goes through a file, for a pipeline has that of its last member.
        let line = format!(
            "{{ setsid {} run job -v -c 'exit 7'; echo $? > code; }} {redirection}",
            support::BIN
        );
        let mut shell = support::command("sh");
        shell.args(["-c", &line]).current_dir(room.directory());
        shell.env("LEASEHOLD_STORE", room.store());
        assert!(shell.status().unwrap().success());
        until("the code", || room.text("code").ends_with('\n'));
        assert_eq!(room.text("code"), "7\n", "{redirection}");
        assert_eq!(room.job()["state"], "free");
    }
}

#[test]
fn c1_a_panic_of_a_dependency_waits_for_nobody() {
    let room = dynamo::room();
    let (_unread, stderr) = full_pipe();
    let mut command = room.command(&["run", "job", "-n", "--", "true"]);
    command
        .env("AWS_ACCESS_KEY_ID", "test\ntest")
        .stderr(OwnedFd::from(stderr));
    let mut wrapper = Wrapper(command.spawn().unwrap());
    // It cannot sign a request; what matters is that it says so to nobody and ends.
    assert_ne!(wrapper.ended(), 0);
}

#[test]
fn c1_a_report_that_nobody_takes_keeps_nothing() {
    let room = Room::new();
    assert!(
        Command::new("mkfifo")
            .arg(room.path("fifo"))
            .status()
            .unwrap()
            .success()
    );
    for (path, why) in [
        ("fifo", "not written within 2s"),
        ("/dev/full", "No space left"),
    ] {
        let mut wrapper = room.start(&["--report", path], "exit 7");
        assert_eq!(wrapper.ended(), 7);
        let said = wrapper.stderr();
        assert!(
            said.contains("could not write the report") && said.contains(why),
            "{said}"
        );
        assert_eq!(room.job()["state"], "free");
    }
    // A reader that comes a little late is a reader.
    let mut wrapper = room.start(&["--report", "fifo"], "exit 7");
    let mut reader = Command::new("cat");
    reader.arg(room.path("fifo"));
    let got = File::create(room.path("got")).unwrap();
    let mut reader = Wrapper(reader.stdout(got).spawn().unwrap());
    assert_eq!(wrapper.ended(), 7);
    assert_eq!(reader.ended(), 0);
    let report = room.text("got");
    assert!(report.contains("\"exit_code\":7"), "{report}");
}

#[test]
fn c1_a_non_blocking_pipe_loses_nothing() {
    let room = Room::new();
    let (mut reader, stderr) = full_pipe();
    let status = rustix::fs::fcntl_getfl(&stderr).unwrap();
    rustix::fs::fcntl_setfl(&stderr, status | rustix::fs::OFlags::NONBLOCK).unwrap();
    let mut wrapper = stubborn(&room, &["-v"], OwnedFd::from(stderr));
    room.pid("command");
    room.touch("go");
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert_eq!(wrapper.ended(), 7);
    let said = said.trim_start_matches('x');
    assert!(said.contains("acquired `job`"), "{said}");
}

#[test]
fn what_stands_before_the_commands_own_messages_was_said_before() {
    let room = Room::new();
    let mut said = File::create(room.path("said")).unwrap();
    writeln!(said).unwrap();
    let arguments = ["run", "job", "-v", "-c", "echo mine >&2"];
    let mut command = room.command(&arguments);
    assert!(command.stderr(said).status().unwrap().success());
    let said = room.text("said");
    let (before, after) = said.split_once("mine\n").expect("the command's message");
    assert!(before.contains("acquired `job`"), "{said}");
    assert!(after.contains("released `job`"), "{said}");
}
