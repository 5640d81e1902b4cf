//! `acquire`: a lock without a process. What its caller learns is held, and nothing else is.
#![expect(clippy::disallowed_methods, reason = "real processes need real time")]

use crate::support;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Room, Wrapper, assert_message, dynamo, full_pipe, net, until, wait_line};
use rustix::process::Signal;
use serde_json::Value;

/// The one line on standard output.
#[track_caller]
fn line(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let line = text.strip_suffix('\n').expect("a line");
    assert!(!line.contains('\n'), "{text}");
    line.to_owned()
}

fn acquired(room: &Room, options: &[&str]) -> Value {
    let output = room.run(&[&["acquire", "job", "-n"], options].concat());
    assert!(output.stderr.is_empty(), "{output:?}");
    serde_json::from_str(&line(&output)).unwrap()
}

#[test]
fn the_lock_is_held_without_a_process() {
    let room = Room::new();
    let grant = acquired(&room, &["--label", "pipeline 7", "--data", "https://ci/7"]);
    assert_eq!(grant["v"], 1);
    assert_eq!(grant["name"], "job");
    assert_eq!(grant["lease_ms"], 300_000);
    let job = room.job();
    assert_eq!(job["state"], "held");
    assert_eq!(job["holder"], "pipeline 7");
    assert_eq!(job["data"], "https://ci/7");
    for field in ["token", "until", "lease_ms", "name", "v"] {
        assert_eq!(job[field], grant[field], "{field}");
    }
    assert_eq!(room.code(&["run", "job", "-n", "--", "true"]), 75);
    let id = grant["id"].as_str().unwrap();
    assert_eq!(room.code(&["release", "job", "--id", id]), 0);
    assert_eq!(room.job()["state"], "free");
}

#[test]
fn a_shell_needs_no_parser() {
    let room = Room::new();
    let id = line(&room.run(&["acquire", "job", "-o", "id", "--lease", "10m"]));
    assert!(id.starts_with("1:") && id.ends_with(":job"), "{id}");
    assert_eq!(room.job()["lease_ms"], 600_000);
    assert_eq!(room.code(&["release", "job", "--id", &id]), 0);
    let token = line(&room.run(&["acquire", "job", "-o", "token", "--id-file", "id"]));
    assert_eq!(room.job()["token"], token.parse::<u64>().unwrap());
    // As a script has it.
    let script = format!(
        "set -e; id=$({0} acquire other -o id); trap '{0} release other --id \"$id\"' EXIT; \
         {0} renew other --id \"$id\" > renewed; {0} show other --json > shown; exit 3",
        support::BIN
    );
    let mut shell = support::command("sh");
    shell.args(["-c", &script]).current_dir(room.directory());
    let status = shell.env("LEASEHOLD_STORE", room.store()).status().unwrap();
    assert_eq!(status.code(), Some(3));
    assert!(room.text("shown").contains(r#""state":"held""#));
    let shown = room.run(&["show", "other", "--json"]);
    assert!(line(&shown).contains(r#""state":"free""#), "{shown:?}");
}

#[test]
fn busy_is_75_and_a_wait_gets_a_whole_lease() {
    let room = Room::new();
    let mut holder = room.start(
        &["--label", "the holder"],
        &format!("echo > in; {}", wait_line("go")),
    );
    until("held", || room.has("in"));
    let busy = room.run(&["acquire", "job", "-n"]);
    assert_message(&busy, 75, "`job` is held by the holder", "-w 30s");
    let busy = room.run(&["acquire", "job", "-w", "300ms", "--id-file", "id"]);
    assert_message(&busy, 75, "held by the holder", "leasehold show job");
    assert_eq!(room.code(&["acquire", "job", "-n", "-E", "9"]), 9);
    assert!(!room.has("id"));

    let waiter = room
        .command(&[
            "acquire", "job", "-w", "40s", "--label", "next", "--data", "7",
        ])
        .spawn()
        .unwrap();
    until("the place in the queue", || room.job()["waiting"] == 1);
    room.touch("go");
    assert_eq!(holder.ended(), 0);
    let grant: Value = serde_json::from_str(&line(&waiter.wait_with_output().unwrap())).unwrap();
    // What was handed over is a claim of some seconds, and says nothing of its holder.
    let job = room.job();
    assert_eq!(
        (&job["holder"], &job["data"]),
        (&"next".into(), &"7".into())
    );
    assert_eq!(job["lease_ms"], 300_000);
    assert_eq!(job["until"], grant["until"]);
    let since: jiff::Timestamp = job["since"].as_str().unwrap().parse().unwrap();
    let until: jiff::Timestamp = job["until"].as_str().unwrap().parse().unwrap();
    assert!(until.duration_since(since).as_secs() >= 290, "{job}");
}

#[test]
fn a_run_of_the_same_lock_around_it_is_told() {
    let room = Room::new();
    let inner = format!("{} acquire job", support::BIN);
    let output = room.run(&["run", "job", "-c", &inner]);
    assert_message(&output, 75, "it would wait for itself", "");
}

#[test]
fn a_signal_while_it_waits_leaves_nothing() {
    let room = Room::new();
    let mut holder = room.start(&[], &format!("echo > in; {}", wait_line("go")));
    until("held", || room.has("in"));
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let waiter = room.command(&["acquire", "job", "--id-file", "id"]).spawn();
        let mut waiter = Wrapper(waiter.unwrap());
        until("the place in the queue", || room.job()["waiting"] == 1);
        waiter.signal(signal);
        assert_eq!(waiter.ended(), code);
        assert_eq!(room.job()["waiting"], 0);
    }
    room.touch("go");
    assert_eq!(holder.ended(), 0);
    assert_eq!(room.job()["state"], "free");
    assert!(!room.has("id"));
}

#[test]
fn what_is_wrong_is_refused_before_anything_is_locked() {
    let room = Room::new();
    fs::write(room.path("notes"), "not an id\n").unwrap();
    fs::create_dir(room.path("dir")).unwrap();
    for (arguments, code, message, hint) in [
        (&["acquire"][..], 64, "required arguments", "acquire --help"),
        (&["acquire", ""], 64, "the key is empty", "another name"),
        (
            &["acquire", "job", "--lease", "15"],
            64,
            "needs a unit",
            "`15s`",
        ),
        (
            &["acquire", "job", "-o", "yaml"],
            64,
            "yaml",
            "acquire --help",
        ),
        (
            &["acquire", "job", "-o", "id", "--id-file", "x"],
            64,
            "two places",
            "omit",
        ),
        (
            &["acquire", "job", "--lease", "1s"],
            78,
            "too short",
            "set `--lease` to",
        ),
        (
            &["acquire", "job", "--lease", "9000h", "--retention", "200h"],
            78,
            "is too short: a record must outlive",
            "`--retention`",
        ),
        (
            &["acquire", "job", "--id-file", "notes"],
            64,
            "something else",
            "new file",
        ),
        (
            &["acquire", "job", "--id-file", "dir"],
            64,
            "something else",
            "new file",
        ),
        (
            &["acquire", "job", "--id-file", "/dev/null"],
            64,
            "something else",
            "new file",
        ),
        (
            &["acquire", "job", "--id-file", "no/where"],
            64,
            "No such file",
            "exists",
        ),
    ] {
        let output = room.run(arguments);
        assert_message(&output, code, message, hint);
        assert!(
            !String::from_utf8_lossy(&output.stderr).contains("--grace"),
            "{output:?}"
        );
    }
    assert!(!room.has("locks.db"), "the store was touched");
    assert_eq!(room.text("notes"), "not an id\n");
}

#[test]
fn an_id_file_is_for_its_owner_and_for_one_lock() {
    let room = Room::new();
    let grant = acquired(&room, &["--id-file", "id"]);
    assert_eq!(grant["id"], Value::Null, "{grant}");
    let mode = || fs::metadata(room.path("id")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    let first = room.text("id");
    // Of the same lock, once that is free.
    assert_eq!(room.code(&["acquire", "job", "-n", "--id-file", "id"]), 75);
    assert_eq!(room.text("id"), first);
    assert_eq!(room.code(&["release", "job", "--id-file", "id"]), 0);
    acquired(&room, &["--id-file", "id"]);
    assert_ne!(room.text("id"), first);
    // The id of a lock that is held is never lost.
    let other = room.run(&["acquire", "other", "--id-file", "id"]);
    assert_message(&other, 64, "the id of another lock, `job`", "");
    // As of mktemp, and where others may read.
    room.touch("made");
    fs::set_permissions(room.path("made"), fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(room.code(&["acquire", "made", "--id-file", "made"]), 0);
    let made = fs::metadata(room.path("made")).unwrap();
    assert_eq!(made.permissions().mode() & 0o777, 0o600);
    // Nothing is left beside it.
    let names = fs::read_dir(room.directory()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let hidden: Vec<_> = names.filter(|name| name.starts_with('.')).collect();
    assert!(hidden.is_empty(), "{hidden:?}");
    // A directory that vanishes while it waits.
    fs::create_dir(room.path("dir")).unwrap();
    symlink(room.path("dir"), room.path("link")).unwrap();
    let waiter = room
        .command(&["acquire", "job", "--id-file", "link/id"])
        .spawn();
    until("the place in the queue", || room.job()["waiting"] == 1);
    fs::remove_file(room.path("link")).unwrap();
    assert_eq!(room.code(&["release", "job", "--id-file", "id"]), 0);
    let failed = waiter.unwrap().wait_with_output().unwrap();
    assert_message(&failed, 125, "`job` is released again", "`--id-file`");
    assert_eq!(room.job()["state"], "free");
}

#[test]
fn what_cannot_be_written_is_released_again() {
    let room = Room::new();
    let full = fs::File::create("/dev/full").unwrap();
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    for (stdout, why) in [
        (Stdio::from(full), "No space left"),
        (Stdio::from(OwnedFd::from(closed)), "Broken pipe"),
    ] {
        let mut command = room.command(&["acquire", "job", "--id-file", "id"]);
        let failed = command.stdout(stdout).output().unwrap();
        assert_message(&failed, 125, why, "");
        assert_message(&failed, 125, "`job` is released again", "");
        assert_eq!(room.job()["state"], "free");
        assert!(!room.has("id"), "an id of nothing");
    }
    // The runtime would open /dev/null in its place.
    let closed = room
        .through(&["sh", "-c", "exec \"$0\" \"$@\" >&-"], &["acquire", "job"])
        .output()
        .unwrap();
    assert_message(&closed, 125, "Bad file descriptor", "");
    assert_eq!(room.job()["state"], "free");
    // Nobody reads: a signal ends it, and otherwise a bound.
    for (code, ends) in [
        (143, Duration::from_secs(5)),
        (125, Duration::from_secs(15)),
    ] {
        let (_unread, stdout) = full_pipe();
        let mut command = room.command(&["acquire", "job", "-n"]);
        let command = command.stdout(OwnedFd::from(stdout));
        let mut blocked = Wrapper(command.spawn().unwrap());
        until("the lock", || room.job()["state"] == "held");
        let started = Instant::now();
        if code == 143 {
            blocked.signal(Signal::TERM);
        }
        assert_eq!(blocked.ended(), code);
        assert!(started.elapsed() < ends, "{:?}", started.elapsed());
        assert_eq!(room.job()["state"], "free");
    }
}

#[test]
fn killed_at_any_moment_it_leaves_the_key_free_after_its_lease() {
    let room = Room::new();
    assert_eq!(room.code(&["init"]), 0);
    let started = Instant::now();
    // From before the first instruction until after the end, which takes some 10 ms.
    let names: Vec<String> = (0..60).map(|n| format!("k{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        let mut command = room.command(&["acquire", name, "--lease", "3s", "--id-file", name]);
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_micros(500 * n as u64));
        // It may have ended.
        let _killed = child.kill();
        let _status = child.wait().unwrap();
    }
    let killed = started.elapsed();
    let listed = |state: &str| -> Vec<Value> {
        let output = room.run(&["ls", "--json"]);
        let text = String::from_utf8(output.stdout).unwrap();
        let all = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        all.filter(|entry| entry["state"] == state).collect()
    };
    let held = |state: &str| listed(state).len();
    let alive = listed("held");
    let (at_first, ids) = (
        held("held"),
        names.iter().filter(|name| room.has(name)).count(),
    );
    assert!(at_first > 0 && at_first < 60, "{at_first} after {killed:?}");
    // Whoever got an id has the lock.
    assert!(ids <= at_first + held("expired"), "{ids} of {at_first}");
    // The last one that was acquired, on a busy host not the last of all. When it is free, so are the others: the lease
    // and 1 s.
    let is_alive = |name: &&String| alive.iter().any(|entry| entry["name"] == **name);
    let last = names.iter().rev().find(is_alive).unwrap();
    assert_eq!(room.code(&["run", last, "-w", "4s", "--", "true"]), 0);
    for name in &names {
        let code = room.code(&["run", name, "-n", "--", "true"]);
        assert_eq!(code, 0, "{name}");
    }
}

#[test]
fn on_dynamodb_it_is_one_write() {
    let room = dynamo::room();
    let requests = |output: &Output| {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let lines = stderr.lines().filter(|line| line.contains("request: "));
        lines
            .map(|line| {
                line.split("request: ")
                    .nth(1)
                    .unwrap_or_default()
                    .to_owned()
            })
            .collect::<Vec<_>>()
    };
    let output = room.run(&["acquire", "job", "-v", "-o", "id"]);
    let id = line(&output);
    let sent = requests(&output);
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert!(sent[0].contains("1 write and 0 read units"), "{sent:?}");
    let output = room.run(&["renew", "job", "--id", &id, "-v", "--lease", "20m"]);
    let sent = requests(&output);
    assert!(
        line(&output).contains(r#""lease_ms":1200000"#),
        "{output:?}"
    );
    assert_eq!(sent.len(), 2, "{sent:?}");
    assert!(
        sent[0].starts_with("read") && sent[1].starts_with("renew"),
        "{sent:?}"
    );
    assert_eq!(room.job()["lease_ms"], 1_200_000);
    let output = room.run(&["release", "job", "--id", &id, "-v"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(requests(&output).len(), 1, "{output:?}");
    assert_eq!(room.job()["state"], "free");
    // And a holder in between.
    assert_eq!(room.code(&["run", "job", "--", "true"]), 0);
    let stale = room.run(&["release", "job", "--id", &id]);
    assert_message(
        &stale,
        76,
        "another has taken `job` over",
        "leasehold show job",
    );
}

#[test]
fn a_store_that_fails_is_69_or_77() {
    let room = Room::with_store(&dynamo::url("locks", &net::nobody()));
    let id = "1:03c8e04c-6730-4038-9ef4-000642434465:1795958803333:0:job";
    for verb in [&["acquire", "job"][..], &["renew", "job", "--id", id]] {
        let output = room.run(verb);
        assert_message(&output, 69, "`job`", "network");
    }
    let denies = net::always(400, "AccessDeniedException", "not you");
    let room = Room::with_store(&dynamo::url("locks", &denies));
    for verb in [
        &["acquire", "job"][..],
        &["hold", "job"],
        &["renew", "job", "--id", id],
        &["release", "job", "--id", id],
        &["force-release", "job", "--token", "7", "--reason", "x"],
    ] {
        assert_message(&room.run(verb), 77, "not you", "allow");
    }
}
