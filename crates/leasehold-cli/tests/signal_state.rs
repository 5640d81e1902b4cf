//! Signals that were blocked or ignored when `run` was started: nothing hangs, and the command gets them as they came.

use crate::support;
use std::process::Output;

use crate::support::{
    Room, SHORT, Wrapper, alive, below, is_called, signal_mask, take_away, until, wait_line,
};
use rustix::process::{Signal, kill_process};

/// Every signal that can be blocked and ignored; of those in real time, the ends.
fn signals() -> impl Iterator<Item = u32> {
    (1..=31)
        .filter(|number| ![9, 19].contains(number))
        .chain([34, 64])
}

/// 32 and 33 are the C library's own, and posix_spawn and fork differ in them.
const OURS: u64 = !(0b11 << 31);

/// Blocked and ignored, from the `/proc/self/status` that a command wrote.
fn state(output: &Output) -> [u64; 2] {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let status = String::from_utf8_lossy(&output.stdout);
    ["SigBlk:", "SigIgn:"].map(|name| signal_mask(&status, name).unwrap() & OURS)
}

/// Waits until `env` has become us: with the signals that it was to block.
fn started(wrapper: &Wrapper) {
    until("the wrapper", || is_called(wrapper.pid(), "leasehold"));
}

fn started_with(option: &str) -> [u64; 2] {
    let room = Room::new();
    let arguments = ["run", "job", "--", "cat", "/proc/self/status"];
    state(&room.through(&["env", option], &arguments).output().unwrap())
}

fn bare(option: &str) -> [u64; 2] {
    let mut command = support::command("env");
    state(
        &command
            .args([option, "cat", "/proc/self/status"])
            .output()
            .unwrap(),
    )
}

/// The signals that end a wait for the lock.
const ENDING: [(&str, Signal); 6] = [
    ("INT", Signal::INT),
    ("TERM", Signal::TERM),
    ("HUP", Signal::HUP),
    ("QUIT", Signal::QUIT),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
];

#[test]
fn c2_every_blocked_signal_stays_blocked_for_the_command() {
    for number in signals() {
        assert_eq!(
            started_with(&format!("--block-signal={number}"))[0],
            1 << (number - 1)
        );
    }
}

#[test]
fn c2_every_ignored_signal_stays_ignored_for_the_command() {
    for number in signals() {
        let option = format!("--ignore-signal={number}");
        let [blocked, ignored] = started_with(&option);
        assert_eq!(blocked, 0);
        assert_eq!(ignored, bare(&option)[1], "{option}");
        assert_ne!(ignored & 1 << (number - 1), 0, "{option}");
    }
}

#[test]
fn c2_all_at_once() {
    for option in ["--block-signal", "--ignore-signal", "--default-signal"] {
        assert_eq!(started_with(option), bare(option), "{option}");
    }
}

#[test]
fn c2_the_end_of_the_command_is_seen() {
    for option in [
        "--block-signal",
        "--ignore-signal",
        "--block-signal=CHLD",
        "--ignore-signal=CHLD",
    ] {
        let room = Room::new();
        let arguments = ["run", "job", "-c", "exit 7"];
        let mut wrapper = Wrapper(room.through(&["env", option], &arguments).spawn().unwrap());
        assert_eq!(wrapper.ended(), 7, "{option}");
        assert_eq!(room.job()["state"], "free");
    }
}

#[test]
fn c2_a_loss_stops_the_command() {
    for option in ["--block-signal", "--ignore-signal"] {
        let room = Room::new();
        let line = format!("echo $$ > command; {}", wait_line("never"));
        let arguments = [&["run", "job"], &SHORT[..], &["-c", &line]].concat();
        let mut wrapper = Wrapper(room.through(&["env", option], &arguments).spawn().unwrap());
        let command = room.pid("command");
        take_away(&room);
        until("the command's end", || !alive(command));
        assert_eq!(wrapper.ended(), 76, "{option}");
    }
}

#[test]
fn c2_a_blocked_signal_ends_the_wait_for_the_lock() {
    for (name, signal) in ENDING {
        let room = Room::new();
        let mut holder = room.start(&[], &format!("echo > in; {}", wait_line("go")));
        until("held", || room.has("in"));
        let block = format!("--block-signal={name}");
        let arguments = ["run", "job", "--report", "report", "--", "true"];
        let mut waiter = Wrapper(room.through(&["env", &block], &arguments).spawn().unwrap());
        started(&waiter);
        waiter.signal(signal);
        assert_eq!(waiter.ended(), 128 + signal.as_raw(), "{name}");
        assert_eq!(room.report()["outcome"], "interrupted");
        room.touch("go");
        assert_eq!(holder.ended(), 0);
    }
}

#[test]
fn c2_each_signal_that_is_blocked_reaches_the_command() {
    for (name, signal) in ENDING.into_iter().chain([("WINCH", Signal::WINCH)]) {
        let room = Room::new();
        let block = format!("--block-signal={name}");
        let arguments = ["run", "job", "--", "sleep", "1000"];
        let mut wrapper = Wrapper(room.through(&["env", &block], &arguments).spawn().unwrap());
        let command = below(wrapper.worker(), "sleep");
        wrapper.signal(signal);
        // Blocked there as it was here, so that it waits.
        let status = format!("/proc/{}/status", command.as_raw_pid());
        until(name, || {
            let status = std::fs::read_to_string(&status).unwrap();
            signal_mask(&status, "ShdPnd:").unwrap() & 1 << (signal.as_raw() - 1) != 0
        });
        rustix::process::kill_process(command, Signal::KILL).unwrap();
        assert_eq!(wrapper.ended(), 137, "{name}");
    }
}

#[test]
fn c2_a_file_size_limit_is_an_error_and_no_signal() {
    let room = Room::new();
    assert_eq!(room.code(&["run", "job", "--", "true"]), 0);
    let line = format!(
        "ulimit -f 0; exec setsid {} run job --report report -c 'ulimit -f; exit 7'",
        support::BIN
    );
    let mut shell = support::command("sh");
    shell.args(["-c", &line]).current_dir(room.directory());
    let output = shell.env("LEASEHOLD_STORE", room.store()).output().unwrap();
    assert!(
        output.status.code().is_some_and(|code| code > 0),
        "{output:?}"
    );
    assert!(!output.stderr.is_empty(), "{output:?}");
}

#[test]
fn cont_to_the_worker_alone_continues_its_guardian() {
    let room = Room::new();
    let mut wrapper = room.start(&[], &format!("echo > in; {}", wait_line("done")));
    until("in", || room.has("in"));
    wrapper.freeze();
    kill_process(wrapper.worker(), Signal::CONT).unwrap();
    until("the guardian", || {
        support::state(wrapper.pid()) != Some('T')
    });
    room.touch("done");
    assert_eq!(wrapper.ended(), 0);
}
