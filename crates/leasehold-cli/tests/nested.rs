//! `run` of a lock within the command of a run of the same lock, and environments that outlive their run.

use std::io::Read;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Output};

use crate::support::{BIN, Room, assert_message, dynamo, until, wait_line};

/// `LINE` under the lock `job`, with a bound: who waits for itself would wait for ever.
fn inside(room: &Room, line: &str) -> Output {
    let mut wrapper = room.start(&[], line);
    let code = wrapper.ended();
    let mut stdout = Vec::new();
    let mut pipe = wrapper.0.stdout.take().unwrap();
    pipe.read_to_end(&mut stdout).unwrap();
    Output {
        status: ExitStatus::from_raw(code << 8),
        stdout,
        stderr: wrapper.stderr().into_bytes(),
    }
}

#[test]
fn c4_an_environment_that_outlives_its_run_is_not_believed() {
    let room = Room::new();
    // As a tmux server or a daemon inherits it: it lives on, and the lock is free.
    let line = format!(
        "(setsid sh -c '{}; {BIN} run job -c \"echo in > ran\"; echo $? > code' </dev/null >/dev/null 2>&1 &)",
        wait_line("go")
    );
    assert_eq!(room.code(&["run", "job", "--detach-ok", "-c", &line]), 0);
    room.touch("go");
    until("the code", || room.text("code").ends_with('\n'));
    assert_eq!(room.text("code"), "0\n");
    assert!(room.has("ran"));
}

#[test]
fn c4_another_holder_is_waited_for() {
    let room = Room::new();
    let line = format!(
        "(setsid sh -c '{}; {BIN} run job -v -- true 2>said; echo $? > code' </dev/null >/dev/null 2>&1 &)",
        wait_line("go")
    );
    assert_eq!(room.code(&["run", "job", "--detach-ok", "-c", &line]), 0);
    let mut other = room.start(&[], &format!("echo > in; {}", wait_line("done")));
    until("the other holder", || room.has("in"));
    room.touch("go");
    until("the wait", || {
        room.text("said").contains("refused, held by")
    });
    assert!(!room.has("code"));
    room.touch("done");
    assert_eq!(other.ended(), 0);
    until("the code", || room.text("code") == "0\n");
}

#[test]
fn c5_the_same_lock_under_another_spelling_is_recognised() {
    let room = Room::new();
    symlink(room.directory(), room.path("link")).unwrap();
    let file = room.store().strip_prefix("sqlite:").unwrap();
    let name = room.directory().file_name().unwrap().to_str().unwrap();
    for store in [
        file.to_owned(),
        format!("{}/../{name}/locks.db", room.directory().display()),
        format!("{}/link/locks.db", room.directory().display()),
    ] {
        let output = inside(
            &room,
            &format!("exec {BIN} run --store sqlite:{store} job -- touch ran"),
        );
        assert_message(&output, 75, "wait for itself", "-w");
        assert!(!room.has("ran"), "{store}");
    }
}

#[test]
fn c5_on_a_table_a_region_that_is_added_changes_nothing() {
    let room = dynamo::room();
    let table = room.store().split('?').next().unwrap();
    let endpoint = format!("AWS_ENDPOINT_URL_DYNAMODB=http://{}", dynamo::address());
    for inner in [
        format!("{BIN} run --store '{}' job -- touch ran", room.store()),
        format!("{endpoint} AWS_REGION=local {BIN} run --store {table} job -- touch ran"),
    ] {
        let output = inside(&room, &inner);
        assert_message(&output, 75, "wait for itself", "-w");
        assert!(!room.has("ran"));
    }
}

#[test]
fn c5_a_lock_around_another_is_recognised() {
    let room = Room::new();
    let third = format!("{BIN} run c -- {BIN} run job -- touch ran");
    for between in [
        format!("{BIN} run b -- {BIN} run job -- touch ran"),
        format!("{BIN} run b -c \"{third}\""),
    ] {
        let output = inside(&room, &between);
        assert_message(&output, 75, "wait for itself", "-w");
        assert!(!room.has("ran"));
    }
}

#[test]
fn c5_below_a_cleared_environment_a_parent_is_asked() {
    let room = Room::new();
    let store = room.store();
    // The shell keeps what `env -i` takes away; sudo does the same.
    let line = format!("env -i {BIN} run --store {store} job -- touch ran; exit $?");
    let output = inside(&room, &line);
    assert_message(&output, 75, "wait for itself", "-w");
    assert!(!room.has("ran"));
}

#[test]
fn c5_a_lock_of_the_same_name_elsewhere_is_another() {
    let room = Room::new();
    let elsewhere = format!("sqlite:{}/other.db", room.directory().display());
    let output = inside(
        &room,
        &format!("{BIN} run --store {elsewhere} job -- echo both"),
    );
    assert_eq!(output.stdout, b"both\n");
    // With a bound it is waited for, as before.
    assert_eq!(
        inside(&room, &format!("{BIN} run -w 100ms job -- true"))
            .status
            .code(),
        Some(75)
    );
}
