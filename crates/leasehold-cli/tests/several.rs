//! Several locks at once (`--key`): all of them or none, on every way out.
#![expect(clippy::disallowed_methods, reason = "real processes need real time")]

use crate::support;
use std::time::{Duration, Instant};

use crate::support::{Room, SHORT, Wrapper, assert_message, dynamo, take_away, until, wait_line};
use rustix::process::{Signal, kill_process};
use serde_json::Value;

/// The lock with this name, as `show --json` has it.
fn lock(room: &Room, name: &str) -> Value {
    let output = room.run(&["show", name, "--json"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn is(room: &Room, name: &str, state: &str) -> bool {
    lock(room, name)["state"] == state
}

fn all_are(room: &Room, state: &str) {
    for name in ["a", "b", "job"] {
        assert!(is(room, name, state), "`{name}` is not {state}");
    }
}

/// `run job -k b -k a … -c LINE`, which begins with a mark.
fn started(room: &Room, options: &[&str], line: &str) -> Wrapper {
    let options = [&["-k", "b", "--key", "a", "-k", "b"], options].concat();
    let wrapper = room.start(&options, &format!("echo > in; {line}"));
    until("the command", || room.has("in"));
    wrapper
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn a_run_has_all_of_them(room: &Room) {
    let line = format!(
        "echo \"$LEASEHOLD_NAME $LEASEHOLD_TOKEN\" > one; echo \"$LEASEHOLD_TOKENS\" > tokens; {}",
        wait_line("go")
    );
    let mut run = started(room, &["--report", "report"], &line);
    all_are(room, "held");
    let token = |name: &str| lock(room, name)["token"].to_string();
    until("the variables", || room.text("tokens").lines().count() == 3);
    assert_eq!(room.text("one"), format!("job {}\n", token("job")));
    let line = |name: &str| format!("{name}={}\n", token(name));
    let lines = [line("a"), line("b"), line("job")].concat();
    assert_eq!(room.text("tokens"), lines);
    // A single one of them is busy, and so are all.
    for options in [&["b"][..], &["c", "-k", "b"]] {
        let options = [&["run", "-n"], options, &["--", "true"]].concat();
        assert_message(&room.run(&options), 75, "`b` is held by", "-w 30s");
    }
    assert!(is(room, "c", "free"));
    room.touch("go");
    assert_eq!(run.ended(), 0);
    all_are(room, "free");
    let report = room.report();
    assert_eq!(
        (&report["name"], &report["outcome"]),
        (&"job".into(), &"completed".into())
    );
    assert_eq!(report["release"], "released");
    let names: Vec<_> = report["locks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|lock| &lock["name"])
        .collect();
    assert_eq!(names, ["a", "b", "job"]);
    assert_eq!(report["token"], report["locks"][2]["token"]);
    assert!(report["locks"][0]["token"].is_u64());
}

#[test]
fn a_run_has_all_of_them_on_sqlite() {
    a_run_has_all_of_them(&Room::new());
}

#[test]
fn a_run_has_all_of_them_on_dynamodb() {
    a_run_has_all_of_them(&dynamo::room());
}

#[test]
fn one_wait_bounds_all_and_nothing_is_left_of_it() {
    let room = Room::new();
    let mut holder = Wrapper(room.command(&["hold", "b"]).spawn().unwrap());
    until("the holder", || is(&room, "b", "held"));
    let began = Instant::now();
    let options = ["run", "job", "-k", "a", "-k", "b", "-w", "1s", "--", "true"];
    let output = room.run(&options);
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(1) && took < Duration::from_secs(10),
        "{took:?}"
    );
    assert_message(&output, 75, "`b` is held by", "leasehold show b");
    assert!(is(&room, "a", "free") && is(&room, "job", "free"));
    // A signal ends the wait as well.
    let waits = ["run", "job", "-k", "a", "-k", "b", "--", "true"];
    let mut waiter = Wrapper(room.command(&waits).spawn().unwrap());
    until("the place in the queue", || {
        lock(&room, "b")["waiting"] == 1
    });
    assert!(is(&room, "a", "held"));
    waiter.signal(Signal::TERM);
    assert_eq!(waiter.ended(), 143);
    assert!(is(&room, "a", "free") && is(&room, "job", "free"));
    holder.signal(Signal::TERM);
    assert_eq!(holder.ended(), 0);
}

#[test]
fn the_loss_of_one_is_the_loss_of_all() {
    let room = Room::new();
    let mut run = started(&room, &SHORT, &wait_line("never"));
    take_away(&room);
    assert_eq!(run.ended(), 76);
    let said = run.stderr();
    assert!(said.contains("lost the lock `job`"), "{said}");
    all_are(&room, "free");
}

fn a_killed_worker_gives_all_back(room: &Room) {
    let mut run = started(room, &["--report", "report"], &wait_line("never"));
    let token = lock(room, "job")["token"].clone();
    kill_process(run.worker(), Signal::KILL).unwrap();
    assert_eq!(run.ended(), 137);
    all_are(room, "free");
    let said = run.stderr();
    let each = "`a`: the lock is released; `b`: the lock is released; `job`: the lock is released";
    assert!(said.contains(each), "{said}");
    let report = room.report();
    assert_eq!(
        (&report["token"], &report["release"]),
        (&token, &"released".into())
    );
    assert_eq!(report["locks"].as_array().map(Vec::len), Some(3));
}

#[test]
fn a_killed_worker_gives_all_back_on_sqlite() {
    a_killed_worker_gives_all_back(&Room::new());
}

#[test]
fn a_killed_worker_gives_all_back_on_dynamodb() {
    a_killed_worker_gives_all_back(&dynamo::room());
}

#[test]
fn a_worker_that_is_killed_while_it_waits_gives_back_what_it_has() {
    let room = Room::new();
    let holder = Wrapper(room.command(&["hold", "b"]).spawn().unwrap());
    until("the holder", || is(&room, "b", "held"));
    let mut run = room.start(&["-k", "a", "-k", "b"], "true");
    until("the place in the queue", || {
        lock(&room, "b")["waiting"] == 1
    });
    kill_process(run.worker(), Signal::KILL).unwrap();
    assert_eq!(run.ended(), 137);
    let said = run.stderr();
    let each = "`a`: the lock is released; `b`: its place in the queue is free; `job`: did not have the lock";
    assert!(said.contains(each), "{said}");
    assert!(is(&room, "a", "free"));
    assert_eq!(lock(&room, "b")["waiting"], 0);
    drop(holder);
}

#[test]
fn a_hold_writes_a_line_for_each() {
    let room = Room::new();
    let output = std::fs::File::create(room.path("out")).unwrap();
    let mut hold = room.command(&["hold", "job", "-k", "b", "-k", "a"]);
    let mut hold = Wrapper(hold.stdout(output).spawn().unwrap());
    until("three lines", || room.text("out").lines().count() == 3);
    all_are(&room, "held");
    for (line, name) in room.text("out").lines().zip(["a", "b", "job"]) {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["name"], name);
        assert_eq!(line["token"], lock(&room, name)["token"]);
    }
    hold.signal(Signal::TERM);
    assert_eq!(hold.ended(), 0);
    all_are(&room, "free");
}

#[test]
fn ids_of_several_locks_are_lines_and_options() {
    let room = Room::new();
    let all = ["job", "-k", "a", "-k", "b"];
    let acquire = [&["acquire"], &all[..], &["-o", "id"]].concat();
    let output = room.run(&acquire);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    all_are(&room, "held");
    let ids = text(&output.stdout);
    let ids: Vec<_> = ids.lines().collect();
    assert_eq!(ids.len(), 3);
    let by_ids = |verb: &str, ids: &[&str]| {
        let mut options = [&[verb], &all[..]].concat();
        for id in ids {
            options.extend(["--id", id]);
        }
        room.run(&options)
    };
    // Each lock has its id, once.
    for ids in [&ids[..2], &[ids[0], ids[1], ids[1]]] {
        assert_message(&by_ids("release", ids), 64, "ids of `", "--key");
    }
    let before = lock(&room, "b")["until"].clone();
    let renewed = by_ids("renew", &ids);
    assert_eq!(renewed.status.code(), Some(0), "{renewed:?}");
    assert_eq!(text(&renewed.stdout).lines().count(), 3);
    assert_ne!(lock(&room, "b")["until"], before);
    // A stale one keeps the others from nothing.
    assert_eq!(room.code(&["release", "a", "--id", ids[0]]), 0);
    assert_eq!(room.code(&["run", "a", "--", "true"]), 0);
    let released = by_ids("release", &ids);
    assert_message(&released, 76, "stale id", "leasehold show a");
    all_are(&room, "free");
}

#[test]
fn an_id_file_has_a_line_for_each() {
    let room = Room::new();
    let all = ["job", "-k", "a", "-k", "b", "--id-file", "ids"];
    for _ in 0..2 {
        let output = room.run(&[&["acquire"], &all[..]].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(text(&output.stdout).lines().count(), 3);
        all_are(&room, "held");
        assert_eq!(room.text("ids").lines().count(), 3);
        assert_eq!(room.code(&[&["renew"], &all[..]].concat()), 0);
        assert_eq!(room.code(&[&["release"], &all[..]].concat()), 0);
        all_are(&room, "free");
    }
    // The ids of other locks are not replaced.
    let other = room.run(&["acquire", "job", "-k", "c", "--id-file", "ids"]);
    assert_message(
        &other,
        64,
        "it has the id of another lock, `a`",
        "--id-file",
    );
    let nothing = room.run(&["release", "job", "-k", "a", "--id-file", "none"]);
    assert_eq!(nothing.status.code(), Some(0), "{nothing:?}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let room = Room::new();
    let once = ["once", "job", "-k", "a", "--keep", "1m", "--", "true"];
    assert_message(&room.run(&once), 64, "--key", "name the work once");
    let lines = ["run", "job", "-k", "a\nb", "--", "true"];
    assert_message(&room.run(&lines), 64, "line break", "another name");
    // It would wait for itself.
    let inner = "leasehold run c -k a -- true; echo $? > code";
    let inner = inner.replace("leasehold", support::BIN);
    let mut outer = room.start(&["-k", "a"], &inner);
    assert_eq!(outer.ended(), 0);
    assert_eq!(room.text("code"), "75\n");
    let said = outer.stderr();
    assert!(
        said.contains("`a` is held by the command that this one runs in"),
        "{said}"
    );
}

#[test]
fn a_single_lock_inside_has_its_own_tokens() {
    let room = Room::new();
    let inner = "leasehold run c -c 'echo \"$LEASEHOLD_TOKENS\" > in; echo \"$LEASEHOLD_PARENT_TOKENS\" > out'";
    let inner = inner.replace("leasehold", support::BIN);
    let mut outer = room.start(&["-k", "a"], &inner);
    assert_eq!(outer.ended(), 0);
    assert!(room.text("in").starts_with("c=") && room.text("in").lines().count() == 1);
    assert_eq!(room.text("out").lines().count(), 2);
    // Where there is no other, it has no such variable.
    assert_eq!(
        room.code(&["run", "c", "-c", "echo \"${LEASEHOLD_TOKENS-none}\" > in"]),
        0
    );
    assert_eq!(room.text("in"), "none\n");
}
