//! `once` and `forget`: one run of many, what it leaves, and what a duplicate gets.

use std::process::{Output, Stdio};

use crate::support::{Room, Wrapper, assert_message, dynamo, until};
use rustix::process::{Pid, Signal, kill_process};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A note has no hint.
#[track_caller]
fn says(output: &Output, code: i32, note: &str) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(text(&output.stderr).contains(note), "{output:?}");
}

fn once(room: &Room, options: &[&str], line: &str) -> Output {
    let words = [&["once", "job"][..], options, &["-c", line]].concat();
    room.run(&words)
}

fn one_of_many(room: &Room) {
    for round in 0..3 {
        let line = format!("echo round {round} by $LEASEHOLD_TOKEN; echo x >> runs; sleep 0.1");
        let all: Vec<_> = (0..8)
            .map(|_| {
                let words = ["once", "job", "--keep", "1h", "--replay", "-c", &line];
                let mut command = room.command(&words);
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
                command.spawn().unwrap()
            })
            .collect();
        let mut printed: Vec<String> = Vec::new();
        for child in all {
            let ended = child.wait_with_output().unwrap();
            assert_eq!(ended.status.code(), Some(0), "{ended:?}");
            printed.push(text(&ended.stdout));
        }
        printed.dedup();
        assert_eq!(printed.len(), 1, "{printed:?}");
        assert!(printed[0].starts_with(&format!("round {round} by ")));
        let runs = std::fs::read_to_string(room.path("runs")).unwrap();
        assert_eq!(runs.lines().count(), round + 1);
        assert_eq!(room.run(&["forget", "job"]).status.code(), Some(0));
    }
}

#[test]
fn one_of_many_runs_and_all_end_alike_on_sqlite() {
    one_of_many(&Room::new());
}

#[test]
fn one_of_many_runs_and_all_end_alike_on_dynamodb() {
    one_of_many(&dynamo::room());
}

#[test]
fn a_duplicate_runs_nothing_and_says_who_did_it() {
    let room = Room::new();
    let first = once(&room, &["--every", "1m", "--label", "alice"], "echo first");
    assert_eq!(
        (first.status.code(), &*first.stdout),
        (Some(0), &b"first\n"[..])
    );
    let report = room.path("report");
    let report = report.to_str().unwrap();
    let again = once(&room, &["--every", "1m", "--report", report], "touch ran");
    says(&again, 0, "`job` is done already, by alice");
    assert!(!room.path("ran").exists());
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!(report["outcome"], "done_before");
    assert_eq!(
        (&report["requests"], &report["write_units"]),
        (&1.into(), &0.0.into())
    );
    // Without its output, which was not kept.
    let again = once(&room, &["--every", "1m", "-E", "9"], "touch ran");
    assert_eq!((again.status.code(), again.stdout.len()), (Some(9), 0));
    let replayed = once(&room, &["--every", "1m", "--replay"], "touch ran");
    says(&replayed, 0, "its output was not kept");

    let job = room.job();
    assert_eq!(
        (&job["state"], &job["runner"]),
        (&"done".into(), &"alice".into())
    );
    assert_eq!(job["failed"], false);
    for verb in [&["show", "job"][..], &["ls"]] {
        let shown = text(&room.run(verb).stdout);
        assert!(shown.contains("done") && shown.contains("alice"), "{shown}");
    }
    assert_eq!(text(&room.run(&["ls", "--held"]).stdout), "");
    // The name is no lock while that is remembered.
    let refused = room.run(&["run", "job", "--", "true"]);
    assert_message(
        &refused,
        75,
        "`job` is done, run by alice",
        "leasehold forget job",
    );

    let forgotten = room.run(&["forget", "job"]);
    says(&forgotten, 0, "forgot the run by alice");
    says(&room.run(&["forget", "job"]), 0, "nothing to forget");
    assert_eq!(
        room.run(&["run", "job", "--", "true"]).status.code(),
        Some(0)
    );
}

#[test]
fn a_failure_is_free_to_run_again_or_is_remembered_with_its_code() {
    let room = Room::new();
    for _ in 0..2 {
        let failed = once(&room, &["--keep", "1h"], "echo x >> runs; exit 3");
        assert_eq!(failed.status.code(), Some(3));
    }
    assert_eq!(room.job()["state"], "free");
    let remembered = ["--keep", "1h", "--remember-failures", "--replay"];
    let failed = once(&room, &remembered, "echo x >> runs; echo why; exit 4");
    assert_eq!(
        (failed.status.code(), &*failed.stdout),
        (Some(4), &b"why\n"[..])
    );
    for options in [&remembered[..], &["--keep", "1h", "-E", "0"]] {
        let again = once(&room, options, "echo x >> runs");
        says(&again, 4, "`job` failed before");
        says(&again, 4, "leasehold forget job");
    }
    let runs = std::fs::read_to_string(room.path("runs")).unwrap();
    assert_eq!(runs.lines().count(), 3);
    assert_eq!(room.job()["state"], "failed");
    let missing = room.run(&["once", "other", "--keep", "1h", "--", "no-such-program"]);
    assert_eq!(missing.status.code(), Some(127));
}

#[test]
fn what_is_printed_is_kept_whole_or_not_at_all() {
    let room = Room::new();
    for (bytes, kept) in [(850, true), (851, false), (100_000, false)] {
        let line = format!("head -c {bytes} /dev/zero | tr '\\0' x");
        let options = ["--keep", "1h", "--replay"];
        let first = once(&room, &options, &line);
        assert_eq!(first.stdout.len(), bytes, "it is passed on: {first:?}");
        let again = once(&room, &options, "true");
        assert_eq!(again.status.code(), Some(0));
        assert_eq!(again.stdout == first.stdout, kept, "{bytes}");
        assert_eq!(text(&again.stderr).contains("was not kept"), !kept);
        room.run(&["forget", "job"]);
    }
}

#[test]
fn a_slow_reader_delays_no_record_and_loses_nothing() {
    let room = Room::new();
    let line = "head -c 300000 /dev/zero | tr '\\0' x";
    let words = ["once", "job", "--keep", "1h", "--replay", "-c", line];
    let mut slow = room.command(&words);
    slow.stdout(Stdio::piped());
    let slow = slow.spawn().unwrap();
    until("it is recorded", || room.job()["state"] == "done");
    let output = slow.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), output.stdout.len()),
        (Some(0), 300_000)
    );
}

#[test]
fn a_killed_run_is_replaced_at_once_by_one_that_waits() {
    let room = Room::new();
    let words = [
        "once",
        "job",
        "--keep",
        "1h",
        "-c",
        "echo $$ > pid; exec sleep 60",
    ];
    let mut first = Wrapper(room.command(&words).spawn().unwrap());
    until("it runs", || {
        room.path("pid").exists() && room.job()["state"] == "held"
    });
    let busy = once(&room, &["--keep", "1h", "-n"], "true");
    assert_message(&busy, 75, "is held by", "");
    let words = [
        "once",
        "job",
        "--keep",
        "1h",
        "--check-delay",
        "50ms",
        "-c",
        "echo second",
    ];
    let mut second = room.command(&words);
    second.stdout(Stdio::piped());
    let second = second.spawn().unwrap();
    let pid = i32::try_from(first.0.id()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    let second = second.wait_with_output().unwrap();
    assert_eq!(
        (second.status.code(), &*second.stdout),
        (Some(0), &b"second\n"[..])
    );
    assert_eq!(first.0.wait().unwrap().code(), None);
    assert_eq!(room.job()["state"], "done");
}

#[test]
fn a_run_that_was_lost_is_not_remembered_and_says_so() {
    let room = Room::new();
    let words = [
        "once", "job", "--keep", "1h", "--data", "build 7", "--lease", "2500ms", "--", "sleep",
        "60",
    ];
    let mut lost = Wrapper(room.command(&words).spawn().unwrap());
    until("it runs", || room.job()["state"] == "held");
    assert_eq!(room.job()["data"], "build 7");
    room.force_release();
    assert_eq!(lost.ended(), 76);
    assert_eq!(room.job()["state"], "free");
    // The command ends before it could know.
    let line = format!(
        "{} force-release job --token $LEASEHOLD_TOKEN --reason test >&2",
        env!("CARGO_BIN_EXE_leasehold")
    );
    let late = once(&room, &["--keep", "1h"], &line);
    assert_message(
        &late,
        76,
        "`job` ran and is not remembered",
        "LEASEHOLD_TOKEN",
    );
    assert_eq!(room.job()["state"], "free");
}

#[test]
fn a_run_is_seen_by_watch() {
    let room = Room::new();
    assert_eq!(
        once(&room, &["--keep", "1h"], "true").status.code(),
        Some(0)
    );
    let watch = room
        .command(&["watch", "job"])
        .stdout(Stdio::piped())
        .spawn();
    let mut watch = watch.unwrap();
    let mut line = String::new();
    let mut out = std::io::BufReader::new(watch.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert!(
        line.contains("done, run by") && line.contains("remembered until"),
        "{line}"
    );
}

#[test]
fn bad_times_are_refused_before_anything_is_done() {
    let room = Room::new();
    for (options, named) in [
        (&[][..], "--every"),
        (&["--every", "1m", "--keep", "1m"], "--keep"),
        (&["--every", "1m", "--tolerance", "40s"], "--tolerance"),
        (&["--keep", "15"], "unit"),
        (
            &["--keep", "1m", "--hold-at-least", "1s"],
            "--hold-at-least",
        ),
    ] {
        let refused = once(&room, options, "touch ran");
        assert_eq!(refused.status.code(), Some(64), "{options:?}: {refused:?}");
        assert!(
            text(&refused.stderr).contains(named),
            "{options:?}: {refused:?}"
        );
    }
    assert!(!room.path("ran").exists());
}
