//! `elect`: a command for every term, one leader at a time, and nothing left after a loss, a kill or a signal.
#![expect(clippy::disallowed_methods, reason = "real processes need real time")]

use std::fs::File;
use std::time::{Duration, Instant};

use crate::support::{Room, SHORT, Wrapper, alive, assert_message, until, wait_line};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// `elect job … -c LINE`, in the background.
fn stand(room: &Room, options: &[&str], line: &str) -> Wrapper {
    let arguments = [&["elect", "job"], options, &["-c", line]].concat();
    Wrapper(room.command(&arguments).spawn().unwrap())
}

/// A command that writes down its token and its pid, and leads until it is stopped.
fn leads(name: &str) -> String {
    format!(
        "echo $LEASEHOLD_TOKEN >> {name}.tokens; echo $$ > {name}.pid; {}",
        wait_line("never")
    )
}

fn tokens(room: &Room, name: &str) -> Vec<u64> {
    let text = room.text(name);
    text.lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn a_term_for_each_end_of_the_command_and_a_pause_between() {
    let room = Room::new();
    let mut elect = stand(
        &room,
        &[],
        "echo \"$LEASEHOLD_NAME $LEASEHOLD_LEASE_MS\" >> names; echo $LEASEHOLD_TOKEN >> tokens; exit 3",
    );
    let began = Instant::now();
    until("three terms", || tokens(&room, "tokens").len() == 3);
    // 1s and 2s.
    let passed = began.elapsed();
    assert!(passed >= Duration::from_millis(2_900), "{passed:?}");
    assert!(tokens(&room, "tokens").is_sorted_by(|a, b| a < b));
    assert_eq!(room.text("names"), "job 20000\n".repeat(3));
    until("the release", || room.job()["state"] == "free");
    // In the pause.
    elect.signal(Signal::TERM);
    assert_eq!(elect.ended(), 143);
    let said = elect.stderr();
    for pause in ["1s", "2s"] {
        let told = said
            .lines()
            .find(|line| line.ends_with(&format!("stands again in {pause}")));
        let told = told.unwrap_or_else(|| panic!("no {pause}: {said}"));
        assert!(told.starts_with("leasehold: `job`: the command ended with code 3 after "));
    }
}

#[test]
fn a_command_that_is_being_replaced_does_not_end_the_election() {
    let room = Room::new();
    let deploy = |line: &str| {
        let script = room.path("next");
        std::fs::write(&script, format!("#!/bin/sh\n{line}\n")).unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&script, executable).unwrap();
        std::fs::rename(script, room.path("server")).unwrap();
    };
    deploy("rm server; echo old >> led");
    let mut elect = Wrapper(
        room.command(&["elect", "job", "--", "./server"])
            .stderr(std::fs::File::create(room.path("said")).unwrap())
            .spawn()
            .unwrap(),
    );
    until("a term", || room.text("led") == "old\n");
    until("a term without the command", || {
        let said = room.text("said");
        said.contains("not found: ./server") && said.contains("stands again in 2s")
    });
    deploy("echo new >> led");
    until("another term", || room.text("led").ends_with("new\n"));
    elect.signal(Signal::TERM);
    elect.ended();
}

#[test]
fn once_is_one_term_with_the_code_of_the_command() {
    let room = Room::new();
    assert_eq!(room.code(&["elect", "job", "--once", "-c", "exit 7"]), 7);
    assert_eq!(room.job()["state"], "free");
    let stopped = room.run(&[
        "elect",
        "job",
        "--once",
        "--max-hold",
        "300ms",
        "--",
        "sleep",
        "60",
    ]);
    assert_eq!(stopped.status.code(), Some(124), "{stopped:?}");
    // A signal before the term, and a command that does not exist, which no term mends.
    let mut leader = stand(&room, &[], &leads("a"));
    room.pid("a.pid");
    let mut waits = stand(&room, &["--once"], "touch led");
    until("the place in the queue", || room.job()["waiting"] == 1);
    waits.signal(Signal::INT);
    assert_eq!(waits.ended(), 130);
    until("the place is left", || room.job()["waiting"] == 0);
    leader.signal(Signal::INT);
    leader.ended();
    assert!(!room.has("led"));
    let missing = room.run(&["elect", "job", "--", "no-such-program"]);
    assert_message(&missing, 127, "no-such-program", "");
}

#[test]
fn options_of_a_bounded_wait_are_refused() {
    let room = Room::new();
    for option in [&["-n"][..], &["-w", "5s"], &["-E", "3"], &["--detach-ok"]] {
        let arguments = [&["elect", "job"], option, &["--", "true"]].concat();
        let output = room.run(&arguments);
        assert_message(&output, 64, option[0], "leasehold elect --help");
    }
    let output = room.run(&["elect", "job", "--max-hold", "0s", "--", "true"]);
    assert_message(&output, 64, "--max-hold", "longer");
    let output = room.run(&["elect", "job", "--lease", "1s", "--", "true"]);
    assert_message(&output, 78, "lease", "--lease");
}

/// The leader's process is killed, and the other candidate leads: at once, and alone.
fn is_followed(room: &Room, leader: &str, next: &str) -> Pid {
    let old = room.pid(&format!("{leader}.pid"));
    let killed = Instant::now();
    let new = room.pid(&format!("{next}.pid"));
    assert!(!alive(old), "two leaders");
    // The lease is 20 s.
    let gap = killed.elapsed();
    assert!(gap < Duration::from_secs(5), "{gap:?}");
    new
}

#[test]
fn a_killed_leader_is_followed_at_once_by_the_other_candidate() {
    let room = Room::new();
    let mut first = stand(&room, &["--data", "10.0.0.1:80"], &leads("a"));
    let old = room.pid("a.pid");
    let second = stand(&room, &["--data", "10.0.0.2:80"], &leads("b"));
    until("the place in the queue", || room.job()["waiting"] == 1);
    assert_eq!(room.job()["data"], "10.0.0.1:80");
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    let leader = is_followed(&room, "a", "b");
    assert!(!alive(old) && alive(leader));
    until("its address", || room.job()["data"] == "10.0.0.2:80");

    // The worker of the second one, whose guardian gives the term back.
    let _third = stand(&room, &[], &leads("c"));
    until("the place in the queue", || room.job()["waiting"] == 1);
    kill_process(second.worker(), Signal::KILL).unwrap();
    is_followed(&room, "b", "c");
    let mut second = second;
    assert_eq!(second.ended(), 137);
    let said = second.stderr();
    assert!(said.contains("`job`: the lock is released"), "{said}");
    let all = ["a", "b", "c"]
        .map(|name| tokens(&room, &format!("{name}.tokens")))
        .concat();
    assert!(all.len() == 3 && all.is_sorted_by(|a, b| a < b), "{all:?}");
}

#[test]
fn a_leader_whose_both_processes_are_killed_is_followed_after_its_lease() {
    let room = Room::new();
    let mut first = stand(&room, &SHORT, &leads("a"));
    let old = room.pid("a.pid");
    let _second = stand(&room, &SHORT, &leads("b"));
    until("the place in the queue", || room.job()["waiting"] == 1);
    let killed = Instant::now();
    first.kill_both();
    room.pid("b.pid");
    assert!(!alive(old), "two leaders");
    // L2: the lease of 3 s, and 1 s more.
    let gap = killed.elapsed();
    assert!(gap < Duration::from_secs(5), "{gap:?}");
}

#[test]
fn a_signal_ends_the_command_and_the_election_with_the_code_of_the_command() {
    let room = Room::new();
    let line = format!(
        "trap 'exit 5' TERM; (setsid sh -c 'echo $$ > daemon; {0}' </dev/null >/dev/null 2>&1 &); echo $$ > pid; {0}",
        wait_line("never")
    );
    let mut elect = stand(&room, &[], &line);
    let all = [room.pid("pid"), room.pid("daemon")];
    let other = stand(&room, &[], &leads("b"));
    until("the place in the queue", || room.job()["waiting"] == 1);
    elect.signal(Signal::TERM);
    // The daemon, which has its own session, gets the next one.
    until("the command's end", || !alive(all[0]));
    assert!(
        elect.running() && !room.has("b.pid"),
        "the term lasts while it lives"
    );
    elect.signal(Signal::TERM);
    assert_eq!(elect.ended(), 5);
    assert!(!all.into_iter().any(alive));
    room.pid("b.pid");
    drop(other);

    // A HUP that ends the command soon is the end of a terminal.
    let room = Room::new();
    let line = format!(
        "trap 'touch told' HUP; echo $$ > pid; {}; exit 4",
        wait_line("go")
    );
    let mut elect = stand(&room, &[], &line);
    room.pid("pid");
    elect.signal(Signal::HUP);
    until("the signal", || room.has("told"));
    room.touch("go");
    assert_eq!(elect.ended(), 4);
}

#[test]
fn a_lost_term_ends_the_command_and_it_stands_again() {
    let room = Room::new();
    let mut elect = stand(&room, &SHORT, &leads("a"));
    let old = room.pid("a.pid");
    room.force_release();
    until("the next term", || tokens(&room, "a.tokens").len() == 2);
    assert!(!alive(old), "the lost leader is stopped");
    assert!(tokens(&room, "a.tokens").is_sorted_by(|a, b| a < b));
    until("the next command", || room.pid("a.pid") != old);
    let new = room.pid("a.pid");
    elect.signal(Signal::TERM);
    assert_eq!(elect.ended(), 143);
    assert!(!alive(new));
    assert_eq!(room.job()["state"], "free");
    let said = elect.stderr();
    assert!(said.contains("lost the lock `job`"), "{said}");
    assert!(said.contains("`job`: the term was lost after "), "{said}");
}

#[test]
fn watch_shows_each_leader_with_its_data() {
    let room = Room::new();
    let watch = |options: &[&str], to: &str| {
        let mut command =
            room.command(&[&["watch", "job", "--interval", "20ms"], options].concat());
        let seen = File::create(room.path(to)).unwrap();
        Wrapper(command.stdout(seen).spawn().unwrap())
    };
    let _watches = [watch(&["--json"], "json"), watch(&[], "text")];
    let data = |name: &str| format!("http://{name}:80");
    let seen = |leader: &str| {
        let text = room.text("json");
        let mut all = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        all.any(|change| change["data"] == data(leader) && change["holder"] == leader)
    };
    let elect = |name: &str| {
        let data = data(name);
        stand(&room, &["--data", &data, "--label", name], &leads(name))
    };
    let mut first = elect("a");
    until("the first leader", || seen("a"));
    let _second = elect("b");
    until("the place in the queue", || room.job()["waiting"] == 1);
    first.signal(Signal::TERM);
    first.ended();
    until("the second leader", || seen("b"));
    until("both as text", || {
        let text = room.text("text");
        let of = |name: &str| {
            text.lines()
                .any(|line| line.contains(&format!("by {name}")) && line.ends_with(&data(name)))
        };
        of("a") && of("b")
    });
}
