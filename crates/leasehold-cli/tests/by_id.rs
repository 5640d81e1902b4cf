//! `renew` and `release`: by an id alone, from any process. A stale id changes nothing.

use std::fs;
use std::process::Output;

use crate::support::{Room, assert_message, dynamo, take_away, until};
use serde_json::Value;

fn id(room: &Room, options: &[&str]) -> String {
    let output = room.run(&[&["acquire", "job", "-n", "-o", "id"], options].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout)
        .unwrap()
        .trim_end()
        .to_owned()
}

fn renew(room: &Room, id: &str, options: &[&str]) -> Output {
    room.run(&[&["renew", "job", "--id", id], options].concat())
}

fn release(room: &Room, id: &str) -> Output {
    room.run(&["release", "job", "--id", id])
}

#[test]
fn a_renewal_keeps_id_and_token_and_moves_the_end() {
    let room = Room::new();
    let id = id(&room, &["--lease", "1m", "--label", "me"]);
    let before = room.job();
    for (options, lease) in [
        (&[][..], 60_000),
        (&["--lease", "10m"], 600_000),
        // The end never moves back.
        (&["--lease", "5s"], 600_000),
        (&[], 600_000),
    ] {
        let output = renew(&room, &id, options);
        assert!(output.stderr.is_empty(), "{output:?}");
        let renewed: Value = serde_json::from_slice(&output.stdout).unwrap();
        let now = room.job();
        assert_eq!(renewed["lease_ms"], lease);
        assert_eq!(renewed["id"], Value::Null);
        for field in ["v", "name", "token", "until", "lease_ms"] {
            assert_eq!(renewed[field], now[field], "{field}");
        }
        assert_eq!(
            (&now["token"], &now["since"]),
            (&before["token"], &before["since"])
        );
        assert_eq!(now["holder"], "me");
        assert!(now["until"].as_str() > before["until"].as_str());
    }
    assert_eq!(release(&room, &id).status.code(), Some(0));
}

#[test]
fn a_release_may_be_repeated() {
    let room = Room::new();
    assert_eq!(room.code(&["acquire", "job", "--id-file", "id"]), 0);
    for said in ["", "was released before by this id"] {
        let output = room.run(&["release", "job", "--id-file", "id"]);
        assert_eq!(output.status.code(), Some(0));
        assert!(
            String::from_utf8_lossy(&output.stderr).contains(said),
            "{output:?}"
        );
        assert_eq!(room.job()["state"], "free");
    }
    let renewed = room.run(&["renew", "job", "--id-file", "id"]);
    assert_message(
        &renewed,
        76,
        "`job` was released by it",
        "`leasehold acquire job`",
    );
    assert_eq!(room.job()["state"], "free");
}

#[test]
fn the_step_on_failure_is_quiet_about_a_lock_that_was_never_acquired() {
    let room = Room::new();
    room.touch("empty");
    for file in ["no-such", "empty"] {
        let output = room.run(&["release", "job", "--id-file", file]);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&output.stderr).contains("nothing to release"));
        let output = room.run(&["renew", "job", "--id-file", file]);
        assert_message(&output, 64, "there is no id", "leasehold acquire");
    }
    assert!(!room.has("locks.db"));
}

#[test]
fn what_is_no_id_or_of_another_lock_is_64() {
    let room = Room::new();
    let id = id(&room, &[]);
    fs::write(room.path("notes"), "not an id\n").unwrap();
    for verb in ["renew", "release"] {
        for (options, message, hint) in [
            (&[verb, "job"][..], "required arguments", "--help"),
            (&[verb, "job", "--id", "7"], "not an id", "unchanged"),
            (
                &[verb, "job", "--id", &id, "--id-file", "x"],
                "cannot be used with",
                "--help",
            ),
            (
                &[verb, "job", "--id-file", "notes"],
                "something else",
                "--id-file",
            ),
            (
                &[verb, "job", "--id-file", "/dev/zero"],
                "something else",
                "--id-file",
            ),
            (
                &[verb, "other", "--id", &id],
                "of the lock `job`, not of `other`",
                "job …",
            ),
        ] {
            assert_message(&room.run(options), 64, message, hint);
        }
    }
    let output = renew(&room, &id, &["--lease", "9000h"]);
    assert_message(&output, 78, "retention", "");
    assert_eq!(room.job()["state"], "held");
    // Another store has no such lock, and is not made.
    let store = format!("sqlite:{}/other.db", room.directory().display());
    for verb in ["renew", "release"] {
        let output = room.run(&[verb, "job", "--id", &id, "-q", "--store", &store]);
        assert_message(&output, 76, "unknown id", "LEASEHOLD_STORE");
        assert!(!room.has("other.db"));
    }
    assert_eq!(room.code(&["init", "--store", &store]), 0);
    for verb in ["renew", "release"] {
        let output = room.run(&[verb, "job", "--id", &id, "--store", &store]);
        assert_message(&output, 76, "unknown id", "LEASEHOLD_STORE");
    }
}

#[test]
fn a_lease_that_ran_out_is_renewed_unless_it_was_taken() {
    let room = Room::new();
    let old = id(&room, &["--lease", "2500ms"]);
    until("its end", || room.job()["state"] == "expired");
    assert_eq!(renew(&room, &old, &[]).status.code(), Some(0));
    assert_eq!(room.job()["state"], "held");
    until("its end", || room.job()["state"] == "expired");
    let new = id(&room, &["--label", "the next"]);
    let before = room.job();
    for output in [renew(&room, &old, &["--lease", "1h"]), release(&room, &old)] {
        let token = format!("with token {}", before["token"]);
        assert_message(
            &output,
            76,
            "`job` is held by the next",
            "`leasehold show job`",
        );
        assert_message(&output, 76, &token, "");
    }
    assert_eq!(room.job(), before);
    assert_eq!(release(&room, &new).status.code(), Some(0));
    for output in [renew(&room, &old, &[]), release(&room, &old)] {
        assert_message(
            &output,
            76,
            "another has taken `job` over",
            "leasehold show job",
        );
    }
    assert_eq!(room.job()["state"], "free");
}

/// The bulk is in the library's tests; these go through the command, some at once.
fn stale_ids_free_nothing(room: &Room, count: usize) {
    let mut stale = Vec::new();
    for _ in 0..count {
        let id = id(room, &[]);
        assert_eq!(release(room, &id).status.code(), Some(0));
        stale.push(id);
    }
    let held = id(room, &["--label", "the present one"]);
    let before = room.job();
    let mut running = Vec::new();
    for id in &stale {
        for verb in ["release", "renew"] {
            running.push(room.command(&[verb, "job", "--id", id]).spawn().unwrap());
        }
    }
    for child in running {
        let output = child.wait_with_output().unwrap();
        assert_message(&output, 76, "`job` is held by the present one", "");
    }
    assert_eq!(room.job(), before);
    assert_eq!(release(room, &held).status.code(), Some(0));
    assert_eq!(room.job()["state"], "free");
}

#[test]
fn stale_ids_free_nothing_on_sqlite() {
    stale_ids_free_nothing(&Room::new(), 20);
}

#[test]
fn stale_ids_free_nothing_on_dynamodb() {
    stale_ids_free_nothing(&dynamo::room(), 5);
}

#[test]
fn who_waits_gets_the_lock_by_the_release() {
    let room = Room::new();
    let id = id(&room, &[]);
    let mut waiter = room.start(&["-w", "40s"], "echo > in");
    until("the place in the queue", || room.job()["waiting"] == 1);
    assert_eq!(renew(&room, &id, &[]).status.code(), Some(0));
    assert_eq!(room.job()["waiting"], 1);
    assert!(!room.has("in"));
    assert_eq!(release(&room, &id).status.code(), Some(0));
    assert_eq!(waiter.ended(), 0);
    assert!(room.has("in"));
}

#[test]
fn what_was_taken_away_is_not_renewed() {
    let room = Room::new();
    let id = id(&room, &[]);
    take_away(&room);
    assert_message(&renew(&room, &id, &[]), 76, "was released by it", "");
}
