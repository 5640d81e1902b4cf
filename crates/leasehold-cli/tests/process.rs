//! What `run` does with processes, seen from outside: no terminal. Every wait is for a condition and has a bound.
#![expect(clippy::disallowed_methods, reason = "real processes need real time")]

use crate::support;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::{BIN, Room, SHORT, alive, signal_mask, state, take_away, until, wait_line};
use rustix::process::{Pid, Signal, kill_process};

/// The exit code of `run job … ARGUMENTS`.
fn code(arguments: &[&str]) -> i32 {
    Room::new().code(&[&["run", "job"], arguments].concat())
}

#[test]
fn exit_codes_pass_unchanged() {
    for expected in [0, 1, 42, 64, 75, 76, 124, 125, 126, 127, 128, 130, 255] {
        assert_eq!(code(&["-c", &format!("exit {expected}")]), expected);
    }
}

#[test]
fn an_end_by_signal_is_128_more() {
    for number in [1, 2, 3, 6, 9, 10, 11, 13, 14, 15] {
        assert_eq!(code(&["-c", &format!("kill -{number} $$")]), 128 + number);
    }
}

#[test]
fn what_cannot_be_started_has_its_own_codes() {
    let room = Room::new();
    let file = |name: &str, text: &str, mode: u32| {
        let path = room.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let plain = file("plain", "#!/bin/sh\nexit 0\n", 0o644);
    let orphan = file("orphan", "#!/no/such/interpreter\n", 0o755);
    let ok = file("ok", "#!/bin/sh\nexit 9\n", 0o755);
    let garbage = file("garbage", "\u{7f}ELFnonsense", 0o755);
    let below = format!("{plain}/below");
    assert_eq!(code(&["--", "/no/such/command"]), 127);
    assert_eq!(code(&["--", "no-such-command-anywhere"]), 127);
    assert_eq!(code(&["--", ""]), 127);
    assert_eq!(code(&["--", &orphan]), 127);
    assert_eq!(code(&["--", &plain]), 126);
    assert_eq!(code(&["--", "/tmp"]), 126);
    assert_eq!(code(&["--", &below]), 126);
    assert_ne!(code(&["--", &garbage]), 0);
    assert_eq!(code(&["--", &ok]), 9);
    // In PATH: what may not be run is passed over for what may, and told only when there is nothing else.
    let directory = room.directory().to_str().unwrap();
    let found = |path: &str, name: &str| {
        room.command(&["run", "job", "--", name])
            .env("PATH", path)
            .output()
            .unwrap()
            .status
            .code()
    };
    assert_eq!(found(directory, "ok"), Some(9));
    assert_eq!(found(directory, "plain"), Some(126));
    assert_eq!(found(directory, "absent"), Some(127));
    assert_eq!(found(&format!("{plain}:{directory}"), "ok"), Some(9));
}

#[test]
fn standard_streams_and_environment_are_the_commands() {
    let room = Room::new();
    let mut child = room
        .command(&["run", "job", "-c", "cat; echo $LEASEHOLD_NAME >&2; exit 4"])
        .env("LEASEHOLD_NAME", "outer")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"through and through")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"through and through");
    assert_eq!(output.stderr, b"job\n");
    assert_eq!(output.status.code(), Some(4));
}

/// The signals that are blocked, ignored and caught, from `/proc/self/status`.
fn masks(output: &Output) -> [u64; 3] {
    let status = String::from_utf8_lossy(&output.stdout);
    ["SigBlk:", "SigIgn:", "SigCgt:"].map(|name| signal_mask(&status, name).unwrap())
}

#[test]
fn the_command_starts_with_default_dispositions_and_an_empty_mask() {
    // What runs the tests may ignore something itself; the wrapper must add nothing to it.
    let bare = masks(
        &support::command("cat")
            .arg("/proc/self/status")
            .output()
            .unwrap(),
    );
    // 32 and above are left out: the C library keeps two of them to itself, and posix_spawn and fork differ in that.
    let standard = |masks: [u64; 3]| masks.map(|mask| mask & 0x7fff_ffff);
    assert_eq!(
        standard(masks(&Room::new().run(&[
            "run",
            "job",
            "--",
            "cat",
            "/proc/self/status"
        ]))),
        standard(bare)
    );
    assert_eq!(standard(bare)[0], 0);
}

#[test]
fn what_was_ignored_stays_ignored() {
    // As nohup starts us.
    let room = Room::new();
    let line = format!(
        "trap '' HUP; exec {BIN} run job --store {} -- cat /proc/self/status",
        room.store()
    );
    let masks = masks(&support::command("sh").args(["-c", &line]).output().unwrap());
    assert_eq!(masks[1] & 0x7fff_ffff, 1);
}

#[test]
fn term_reaches_grandchildren() {
    let room = Room::new();
    let grandchild = format!(
        "trap 'echo > got; exit 0' TERM; echo > ready; {}",
        wait_line("never")
    );
    let mut wrapper = room.start(&[], &format!("sh -c \"{grandchild}\" & wait"));
    until("ready", || room.has("ready"));
    wrapper.signal(Signal::TERM);
    assert_eq!(wrapper.ended(), 143);
    // Not a hope: the wrapper ends only after the grandchild.
    assert!(room.has("got"));
}

#[test]
fn every_forwarded_signal_arrives_once() {
    for (name, signal) in [
        ("INT", Signal::INT),
        ("HUP", Signal::HUP),
        ("QUIT", Signal::QUIT),
        ("USR1", Signal::USR1),
        ("WINCH", Signal::WINCH),
    ] {
        let room = Room::new();
        let mut wrapper = room.start(
            &[],
            &format!(
                "trap 'echo {name} >> got' {name}; echo > ready; {}",
                wait_line("done")
            ),
        );
        until("ready", || room.has("ready"));
        wrapper.signal(signal);
        until(name, || room.has("got"));
        room.touch("done");
        assert_eq!(wrapper.ended(), 0);
        assert_eq!(
            fs::read_to_string(room.path("got")).unwrap(),
            format!("{name}\n")
        );
    }
}

/// A shell line that starts a daemon, by double fork and in a session of its own, which writes its number to `daemon`.
fn daemon(work: &str) -> String {
    format!(
        "(setsid sh -c 'echo $$ > daemon; {work}' </dev/null >/dev/null 2>&1 &); until [ -s daemon ]; do sleep 0.02; done"
    )
}

#[test]
fn a_daemon_is_waited_for() {
    let room = Room::new();
    let line = format!(
        "{}; echo > left; exit 5",
        daemon(&format!("{}; echo > last", wait_line("go")))
    );
    let mut wrapper = room.start(&[], &line);
    until("left", || room.has("left"));
    let daemon = room.pid("daemon");
    // The command is gone, as seen from its number no more being there; the wrapper is not.
    until("the command's end", || {
        let children = fs::read_dir("/proc").unwrap().flatten();
        let parent = format!(" {} ", wrapper.worker().as_raw_pid());
        let ours = children.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
        ours.filter(|stat| stat.rsplit_once(')').unwrap().1[2..].starts_with(&parent))
            .count()
            == 1
    });
    assert!(wrapper.running());
    assert!(alive(daemon));
    room.touch("go");
    assert_eq!(wrapper.ended(), 5);
    assert!(room.has("last"));
}

#[test]
fn detach_ok_leaves_a_daemon() {
    let room = Room::new();
    let mut wrapper = room.start(
        &["--detach-ok"],
        &format!("{}; exit 6", daemon(&wait_line("go"))),
    );
    assert_eq!(wrapper.ended(), 6);
    let daemon = room.pid("daemon");
    assert!(alive(daemon));
    room.touch("go");
    until("the daemon's end", || !alive(daemon));
}

#[test]
fn a_background_process_of_the_group_is_waited_for() {
    let room = Room::new();
    let mut wrapper = room.start(
        &[],
        &format!(
            "(echo > started; {}; echo > last) & echo $$ > command; exit 3",
            wait_line("go")
        ),
    );
    let command = room.pid("command");
    until("the command's end", || !alive(command));
    until("the background process", || room.has("started"));
    assert!(wrapper.running());
    room.touch("go");
    assert_eq!(wrapper.ended(), 3);
    assert!(room.has("last"));
}

#[test]
fn a_stranger_in_the_group_is_waited_for() {
    let room = Room::new();
    // Not a descendant of the wrapper: its end sends it no signal. Groups are joined within a session.
    let line = format!(
        "{BIN} run job -c 'echo $$ > command; {}; exit 3' & wrapper=$!; echo $wrapper > wrapper
         until [ -s command ]; do sleep 0.02; done
         perl -e 'setpgrp(0, $ARGV[0]); exec qw(sleep 1000)' $(cat command) & echo $! > stranger
         wait $wrapper; echo $? > code",
        wait_line("go")
    );
    let mut shell = support::command("/usr/bin/setsid");
    shell
        .args(["sh", "-c", &line])
        .current_dir(room.directory());
    let mut shell = shell.env("LEASEHOLD_STORE", room.store()).spawn().unwrap();
    let (command, stranger) = (room.pid("command"), room.pid("stranger"));
    until("the stranger in the group", || {
        rustix::process::getpgid(Some(stranger)) == Ok(command)
    });
    room.touch("go");
    until("the command's end", || !alive(command));
    assert!(alive(room.pid("wrapper")));
    kill_process(stranger, Signal::KILL).unwrap();
    until("the code", || room.text("code") == "3\n");
    shell.wait().unwrap();
}

#[test]
fn stop_is_term_first() {
    let room = Room::new();
    let mut wrapper = room.start(
        &["--lease", "6s", "--grace", "1500ms"],
        &format!(
            "trap 'echo > cleaned; exit 0' TERM; echo > ready; {}",
            wait_line("never")
        ),
    );
    until("ready", || room.has("ready"));
    take_away(&room);
    assert_eq!(wrapper.ended(), 76);
    assert!(room.has("cleaned"));
}

#[test]
fn stop_wakes_the_stopped() {
    let room = Room::new();
    let mut wrapper = room.start(
        &["--lease", "6s", "--grace", "1500ms"],
        &format!(
            "trap 'echo > cleaned; exit 0' TERM; echo $$ > command; {}",
            wait_line("never")
        ),
    );
    let command = room.pid("command");
    kill_process(command, Signal::STOP).unwrap();
    until("the stop", || state(command) == Some('T'));
    take_away(&room);
    assert_eq!(wrapper.ended(), 76);
    assert!(room.has("cleaned"));
}

#[test]
fn what_ignores_term_is_killed_after_the_grace() {
    let room = Room::new();
    let line = format!(
        "trap '' TERM; {}; sh -c 'echo $$ > grandchild; {w}' & echo $$ > command; {w}",
        daemon(&wait_line("never")),
        w = wait_line("never")
    );
    let mut wrapper = room.start(&SHORT, &line);
    let all = ["daemon", "grandchild", "command"].map(|name| room.pid(name));
    let start = Instant::now();
    take_away(&room);
    assert_eq!(wrapper.ended(), 76);
    // Dead before the wrapper ended, not some time after, and not without the grace.
    assert_eq!(all.map(alive), [false; 3]);
    assert!(start.elapsed() >= Duration::from_millis(300));
    let said = wrapper.stderr();
    assert!(said.contains("lost the lock `job`"), "{said}");
    assert!(!said.contains("could not be killed"), "{said}");
}

#[test]
fn stop_outruns_what_forks_and_flees() {
    let room = Room::new();
    // Every process opens a session, starts the next and ends: nobody of yesterday is alive today.
    let hop = "#!/bin/sh\ntrap '' TERM\necho >> hops\nsetsid ./hop </dev/null >/dev/null 2>&1 &\nexit 0\n";
    fs::write(room.path("hop"), hop).unwrap();
    fs::set_permissions(room.path("hop"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut wrapper = room.start(&SHORT, "./hop; exit 0");
    until("hops", || {
        fs::read(room.path("hops")).unwrap_or_default().len() > 20
    });
    assert!(wrapper.running());
    take_away(&room);
    assert_eq!(wrapper.ended(), 76);
    let said = wrapper.stderr();
    assert!(!said.contains("could not be killed"), "{said}");
    let hops = fs::read(room.path("hops")).unwrap().len();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(fs::read(room.path("hops")).unwrap().len(), hops);
}

#[test]
fn a_killed_wrapper_takes_the_command_along() {
    let room = Room::new();
    let mut wrapper = room.start(&[], &format!("echo $$ > command; {}", wait_line("never")));
    let command = room.pid("command");
    wrapper.0.kill().unwrap();
    wrapper.0.wait().unwrap();
    until("the command's end", || !alive(command));
}

#[test]
fn orphans_are_collected_while_the_command_runs() {
    let room = Room::new();
    let mut wrapper = room.start(
        &[],
        &format!(
            "for i in 1 2 3; do (setsid true &); done; echo > ready; {}",
            wait_line("done")
        ),
    );
    until("ready", || room.has("ready"));
    let parent = format!("Z {} ", wrapper.worker().as_raw_pid());
    let zombies = || {
        let stats = fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
        stats
            .filter(|stat| {
                stat.rsplit_once(')')
                    .unwrap()
                    .1
                    .trim_start()
                    .starts_with(&parent)
            })
            .count()
    };
    let mut calm = 0;
    until("no zombies", || {
        calm = if zombies() == 0 { calm + 1 } else { 0 };
        calm > 100
    });
    room.touch("done");
    assert_eq!(wrapper.ended(), 0);
}

#[test]
fn waiting_costs_no_processor_time() {
    let room = Room::new();
    let mut wrapper = room.start(&[], &daemon(&wait_line("go")));
    let daemon = room.pid("daemon");
    let ticks = |pid: Pid| {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).unwrap();
        let fields: Vec<u64> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        fields[11] + fields[12]
    };
    let worker = wrapper.worker();
    let all = || ticks(wrapper.pid()) + ticks(worker);
    let before = all();
    std::thread::sleep(Duration::from_secs(2));
    let used = all() - before;
    assert!(used <= 2, "{used} ticks of 10 ms in 2 s");
    assert!(alive(daemon));
    room.touch("go");
    assert_eq!(wrapper.ended(), 0);
}
