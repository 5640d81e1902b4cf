//! `watch`: what it sees, what it costs, and how it ends. Also what `ls` leaves out.
#![expect(clippy::disallowed_methods, reason = "real processes need real time")]

use crate::support;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::support::{Room, Wrapper, assert_message, dynamo, net, take_away, until};
use rustix::process::Signal;
use serde_json::Value;

/// Its output goes to `seen`.
fn start(room: &Room, options: &[&str]) -> Wrapper {
    let seen = File::create(room.path("seen")).unwrap();
    let mut command = room.command(&[&["watch", "--interval", "20ms"], options].concat());
    Wrapper(command.stdout(seen).spawn().unwrap())
}

/// What `watch --json` has seen of a lock.
fn events(room: &Room, name: &str) -> Vec<Value> {
    let text = room.text("seen");
    let all = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|change| change["name"] == name).collect()
}

#[track_caller]
fn next(room: &Room, name: &str, event: &str) -> Value {
    let mut last = Value::Null;
    until(event, || {
        last = events(room, name).pop().unwrap_or_default();
        last["event"] == event
    });
    last
}

fn hold(room: &Room, label: &str) -> Wrapper {
    let arguments = ["hold", "job", "--lease", "2500ms", "--label", label];
    Wrapper(room.command(&arguments).spawn().unwrap())
}

fn every_change(room: &Room, options: &[&str]) {
    let mut watch = start(room, &[&["--json"], options].concat());
    if options.contains(&"job") {
        until("the first look", || !events(room, "job").is_empty());
    }
    let mut first = hold(room, "first");
    let held = next(room, "job", "held");
    assert_eq!((&held["v"], &held["holder"]), (&1.into(), &"first".into()));
    assert!(held["at"].is_string() && held["token"].is_u64() && held["until"].is_string());
    let renewed = next(room, "job", "renewed");
    assert_eq!(renewed["token"], held["token"]);
    let mut second = hold(room, "second");
    until("the place in the queue", || room.job()["waiting"] == 1);
    first.signal(Signal::TERM);
    assert_eq!(first.ended(), 0);
    let over = next(room, "job", "handed_over");
    assert!(over["token"].as_u64() > held["token"].as_u64());
    until("its label", || room.job()["holder"] == "second");
    second.0.kill().unwrap();
    second.0.wait().unwrap();
    let lost = next(room, "job", "lost");
    assert_eq!(lost["state"], "expired");
    assert_eq!(
        room.code(&[
            "run", "job", "--label", "third", "-w", "9s", "--", "sleep", "0.2"
        ]),
        0
    );
    let free = next(room, "job", "free");
    assert_eq!(free["last_holder"], "third");
    watch.signal(Signal::TERM);
    assert_eq!(watch.ended(), 0);
    assert_eq!(watch.stderr(), "");
}

#[test]
fn every_change_on_sqlite() {
    // Before there is a file.
    let room = Room::new();
    every_change(&room, &["job", "other"]);
    let first = &events(&room, "other");
    assert_eq!(first.len(), 1, "{first:?}");
    assert_eq!(first[0]["event"], "free");
    assert_eq!(events(&room, "job")[0]["event"], "free");
}

#[test]
fn every_change_of_every_lock() {
    let room = Room::new();
    assert_eq!(room.code(&["run", "was", "--", "true"]), 0);
    assert_eq!(room.code(&["acquire", "is"]), 0);
    every_change(&room, &[]);
    // Free locks are no news, until they change.
    assert_eq!(events(&room, "was"), Vec::<Value>::new());
    assert_eq!(events(&room, "is").len(), 1);
}

#[test]
fn every_change_on_dynamodb() {
    every_change(&dynamo::room(), &["job"]);
    every_change(&dynamo::room(), &[]);
}

#[test]
fn for_people_a_line_that_steers_no_terminal() {
    let room = Room::new();
    let label = "host \u{1b}[2J\n1";
    assert_eq!(room.code(&["acquire", "job", "--label", label]), 0);
    let mut watch = start(&room, &["job"]);
    until("a line", || room.text("seen").contains('\n'));
    take_away(&room);
    until("free", || {
        room.text("seen").contains("  job  free, after host")
    });
    watch.signal(Signal::INT);
    assert_eq!(watch.ended(), 0);
    let seen = room.text("seen");
    assert!(
        !seen.contains('\u{1b}') && seen.lines().count() == 2,
        "{seen}"
    );
    assert!(
        seen.contains("  job  held by host \\u{1b}[2J\\n1, token "),
        "{seen}"
    );
}

#[test]
fn it_ends_when_nobody_reads_and_when_a_signal_comes() {
    let room = Room::new();
    assert_eq!(room.code(&["acquire", "job"]), 0);
    // Gone after the first line, and nothing changes any more.
    let (reader, stdout) = std::io::pipe().unwrap();
    let mut command = room.command(&["watch", "job", "--interval", "20ms"]);
    let mut watch = Wrapper(command.stdout(OwnedFd::from(stdout)).spawn().unwrap());
    drop(command);
    std::thread::sleep(Duration::from_millis(200));
    assert!(watch.running());
    drop(reader);
    assert_eq!(watch.ended(), 0);
    assert_eq!(watch.stderr(), "");
    // Never read: a signal still ends it.
    let (_unread, stdout) = support::full_pipe();
    let mut command = room.command(&["watch", "job"]);
    let mut watch = Wrapper(command.stdout(OwnedFd::from(stdout)).spawn().unwrap());
    std::thread::sleep(Duration::from_millis(200));
    watch.signal(Signal::HUP);
    assert_eq!(watch.ended(), 0);
}

#[test]
fn it_reads_as_often_as_it_says_and_writes_nothing() {
    let room = dynamo::room();
    assert_eq!(room.code(&["acquire", "job"]), 0);
    let said = File::create(room.path("said")).unwrap();
    let arguments = ["watch", "job", "other", "-v", "--interval", "500ms"];
    let mut command = room.command(&arguments);
    let seen = File::create(room.path("seen")).unwrap();
    let started = Instant::now();
    let mut watch = Wrapper(command.stdout(seen).stderr(said).spawn().unwrap());
    std::thread::sleep(Duration::from_millis(2_200));
    watch.signal(Signal::TERM);
    assert_eq!(watch.ended(), 0);
    let said = room.text("said");
    let polls = said
        .lines()
        .filter(|line| line.contains("request: "))
        .count() as u64;
    assert!(
        said.lines().all(|line| line.contains("request: read ")),
        "{said}"
    );
    let most = 2 * (started.elapsed().as_millis() as u64 / 500 + 1);
    assert!((4..=most).contains(&polls), "{polls} of {most}: {said}");
}

#[test]
fn a_store_that_is_cut_off_is_asked_again() {
    let room = dynamo::room();
    assert_eq!(room.code(&["acquire", "job"]), 0);
    let way = net::Way::to(&dynamo::address());
    let url = room.store().replace(&dynamo::address(), &way.address);
    let said = File::create(room.path("said")).unwrap();
    let seen = File::create(room.path("seen")).unwrap();
    let arguments = [
        "watch",
        "job",
        "--json",
        "--interval",
        "20ms",
        "--store",
        &url,
    ];
    let mut command = room.command(&arguments);
    let mut watch = Wrapper(command.stdout(seen).stderr(said).spawn().unwrap());
    next(&room, "job", "held");
    way.cut();
    until("the message", || room.text("said").contains("trying again"));
    room.force_release();
    way.mend();
    next(&room, "job", "free");
    assert!(
        room.text("said").contains("answers again"),
        "{}",
        room.text("said")
    );
    watch.signal(Signal::TERM);
    assert_eq!(watch.ended(), 0);
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let room = Room::new();
    for (options, code, message) in [
        (&["watch", ""][..], 64, "empty"),
        (&["watch", "--interval", "1ms"], 64, "shorter than 10ms"),
        (&["watch", "--interval", "5"], 64, "needs a unit"),
    ] {
        assert_message(&room.run(options), code, message, "");
    }
    let missing = Room::with_store(&dynamo::url(&dynamo::table_name(), &dynamo::address()));
    assert_message(
        &missing.run(&["watch", "job"]),
        78,
        "the table does not exist",
        "init",
    );
    let output = missing.run(&["watch"]);
    assert_message(&output, 78, "the table does not exist", "init");
}

#[test]
fn ls_takes_a_prefix_and_held() {
    let room = Room::new();
    assert_eq!(room.code(&["acquire", "team/a", "--lease", "2500ms"]), 0);
    for name in ["team/b", "other"] {
        assert_eq!(room.code(&["acquire", name, "--lease", "10m"]), 0);
    }
    assert_eq!(room.code(&["run", "team/free", "--", "true"]), 0);
    let names = |options: &[&str]| {
        let output = room.run(&[&["ls", "--json"], options].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        let all = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        all.map(|entry| {
            assert_eq!(entry["v"], 1);
            entry["name"].as_str().unwrap().to_owned()
        })
        .collect::<Vec<_>>()
    };
    until("the end of a lease", || {
        names(&["--held"]) == ["other", "team/b"]
    });
    assert_eq!(names(&[]), ["other", "team/a", "team/b"]);
    assert_eq!(names(&["team/"]), ["team/a", "team/b"]);
    assert_eq!(names(&["team/", "--held"]), ["team/b"]);
    assert_eq!(names(&["team/", "-a"]), ["team/a", "team/b", "team/free"]);
    let none = room.run(&["ls", "nobody/"]);
    let said = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(
        said.contains("no locks that begin with `nobody/`"),
        "{said}"
    );
    let both = room.run(&["ls", "--held", "-a"]);
    assert_message(&both, 64, "cannot be used with", "ls --help");
}
