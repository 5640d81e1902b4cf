//! Limits, disks and clocks that are not as they should be. What blocks, ignores, stops or hides is in `outputs`, `signal_state`, `terminal`
//! and `left_behind`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::support::{Room, SHORT, Wrapper, alive, assert_message, dynamo, take_away, wait_line};

/// A run with so many files, in a shell that sets the limit.
fn limited(room: &Room, files: u32, arguments: &[&str]) -> Command {
    let line = format!("ulimit -n {files}; exec \"$0\" \"$@\"");
    room.through(&["sh", "-c", &line], arguments)
}

#[test]
fn c27_with_8_files_nothing_is_begun() {
    for room in [Room::new(), dynamo::room()] {
        let output = limited(&room, 8, &["run", "job", "--", "touch", "ran"])
            .output()
            .unwrap();
        assert_message(&output, 125, "too few files may be opened", "ulimit");
        assert!(!room.has("ran"));
    }
}

#[test]
fn c27_32_files_are_enough() {
    for room in [Room::new(), dynamo::room()] {
        let run = |line: &str| {
            limited(&room, 32, &["run", "job", "-c", line])
                .output()
                .unwrap()
        };
        let output = run("ulimit -n; exit 7");
        assert_eq!(output.status.code(), Some(7), "{output:?}");
        assert_eq!(output.stdout, b"32\n");
        assert!(output.stderr.is_empty(), "{output:?}");
    }
    let room = Room::new();
    let line = format!("trap '' TERM; echo $$ > command; {}", wait_line("never"));
    let arguments = [&["run", "job"], &SHORT[..], &["-c", &line]].concat();
    let mut wrapper = Wrapper(limited(&room, 32, &arguments).spawn().unwrap());
    let command = room.pid("command");
    take_away(&room);
    assert_eq!(wrapper.ended(), 76);
    assert!(!alive(command));
}

/// A run with everything on a disk of 256 KiB, which `before` may fill.
fn on_a_small_disk(room: &Room, before: &str, arguments: &[&str]) -> Command {
    fs::create_dir(room.path("disk")).unwrap();
    let line =
        format!("mount -t tmpfs -o size=256k none disk && {{ {before}; }} && exec \"$0\" \"$@\"");
    let store = format!("sqlite:{}/disk/locks.db", room.directory().display());
    let mut command = room.through(&["unshare", "--mount", "sh", "-c", &line], arguments);
    command.env("LEASEHOLD_STORE", store);
    command
}

const FILL: &str = "cat /dev/zero > disk/full 2>/dev/null || true";

#[test]
fn a_full_disk_is_said_before_anything_runs() {
    let room = Room::new();
    let output = on_a_small_disk(&room, FILL, &["run", "job", "--", "touch", "ran"])
        .output()
        .unwrap();
    assert_message(&output, 78, "full", "");
    assert!(!room.has("ran"));
}

#[test]
fn a_disk_that_is_full_under_the_lock_takes_no_report_and_no_messages() {
    let room = Room::new();
    let line = format!("{FILL}; exit 7");
    let arguments = ["run", "job", "-v", "--report", "disk/report", "-c", &line];
    let mut command = on_a_small_disk(&room, "true", &arguments);
    let output: Output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("could not write the report"), "{said}");
}

/// A library that steps the wall clock of the process it is loaded into by an hour once there is a file `step`.
fn stepped(room: &Room) -> PathBuf {
    let source = room.path("step.c");
    fs::write(
        &source,
        "#define _GNU_SOURCE\n#include <sys/syscall.h>\n#include <time.h>\n#include <unistd.h>\n\
         int clock_gettime(clockid_t id, struct timespec *now) {\n\
         int done = syscall(SYS_clock_gettime, id, now);\n\
         if (done == 0 && id == CLOCK_REALTIME && access(STEP, F_OK) == 0) now->tv_sec += 3600;\n\
         return done;\n}\n",
    )
    .unwrap();
    let library = room.path("step.so");
    let step = format!("-DSTEP=\"{}\"", room.path("step").display());
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", &step, "-o"])
        .args([&library, &source])
        .status()
        .expect("a C compiler, which Rust needs as well");
    assert!(compiled.success());
    fs::set_permissions(&library, fs::Permissions::from_mode(0o755)).unwrap();
    library
}

/// The run whose wall clock is stepped while its command runs.
fn holder_of_a_stepped_clock(room: &Room) -> Wrapper {
    let library = stepped(room);
    let line = format!("echo $$ > command; {}; exit 7", wait_line("go"));
    let arguments = [&["run", "job", "-v"], &SHORT[..], &["-c", &line]].concat();
    let mut command = room.command(&arguments);
    let mut wrapper = Wrapper(command.env("LD_PRELOAD", library).spawn().unwrap());
    room.pid("command");
    room.touch("step");
    assert!(wrapper.running());
    wrapper
}

#[test]
fn b10_on_a_file_a_stepped_wall_clock_changes_nothing() {
    let room = Room::new();
    let mut wrapper = holder_of_a_stepped_clock(&room);
    room.sees_four_renewals();
    room.touch("go");
    assert_eq!(wrapper.ended(), 7);
}

#[test]
fn b10_on_a_table_a_stepped_wall_clock_ends_the_command() {
    let room = dynamo::room();
    let mut wrapper = holder_of_a_stepped_clock(&room);
    let command = room.pid("command");
    // A host that was asleep looks the same, so nobody may go on.
    assert_eq!(wrapper.ended(), 76);
    assert!(!alive(command));
    let said = wrapper.stderr();
    assert!(said.contains("lost the lock `job`"), "{said}");
}
