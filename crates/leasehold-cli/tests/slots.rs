//! `--slots` and `--shared`: several holders of one lock, as people and scripts see them.

use crate::support::{Room, Wrapper, assert_message, dynamo, until};
use rustix::process::Signal;
use serde_json::Value;

fn hold(room: &Room, options: &[&str]) -> Wrapper {
    let arguments = [&["hold", "job"], options].concat();
    Wrapper(room.command(&arguments).spawn().unwrap())
}

fn slots(room: &Room) -> usize {
    room.job()["slots"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_limit_of_slots_is_kept_and_shown() {
    for room in [Room::new(), dynamo::room()] {
        let mut first = hold(&room, &["--slots", "2", "--label", "first"]);
        until("one slot", || slots(&room) == 1);
        let mut second = hold(&room, &["--slots", "2", "--label", "second"]);
        until("two slots", || slots(&room) == 2);
        let job = room.job();
        assert_eq!((&job["state"], &job["limit"]), (&"held".into(), &2.into()));
        let holders: Vec<&Value> = job["slots"].as_array().unwrap().iter().collect();
        assert_eq!(holders[0]["holder"], "first");
        assert_eq!(holders[1]["holder"], "second");
        let shown = String::from_utf8(room.run(&["show", "job"]).stdout).unwrap();
        assert!(
            shown.contains("2 of 2") && shown.contains("second"),
            "{shown}"
        );
        // No third one, and nobody beside them.
        assert_eq!(
            room.code(&["run", "-n", "--slots", "2", "job", "--", "true"]),
            75
        );
        assert_eq!(room.code(&["run", "-n", "job", "--", "true"]), 75);
        let other = room.run(&["run", "--slots", "3", "job", "--", "true"]);
        assert_message(&other, 64, "has 2 slots", "use one limit");
        first.signal(Signal::TERM);
        assert_eq!(first.ended(), 0);
        assert_eq!(
            room.code(&["run", "-n", "--slots", "2", "job", "--", "true"]),
            0
        );
        second.signal(Signal::TERM);
        assert_eq!(second.ended(), 0);
        assert_eq!(room.code(&["run", "-n", "job", "--", "true"]), 0);
    }
}

#[test]
fn a_killed_holder_frees_its_slot_at_once_in_a_file() {
    let room = Room::new();
    let mut holder = hold(&room, &["--slots", "1"]);
    until("held", || slots(&room) == 1);
    holder.signal(Signal::KILL);
    holder.0.wait().unwrap();
    assert_eq!(
        room.code(&["run", "-n", "--slots", "1", "job", "--", "true"]),
        0
    );
}

#[test]
fn readers_share_and_a_writer_excludes() {
    let room = Room::new();
    let mut reader = hold(&room, &["--shared"]);
    until("held", || slots(&room) == 1);
    assert_eq!(room.code(&["run", "-n", "-s", "job", "--", "true"]), 0);
    assert_eq!(room.code(&["run", "-n", "job", "--", "true"]), 75);
    reader.signal(Signal::TERM);
    assert_eq!(reader.ended(), 0);
    let mut writer = hold(&room, &[]);
    until("held", || room.job()["state"] == "held");
    assert_eq!(room.code(&["run", "-n", "-s", "job", "--", "true"]), 75);
    writer.signal(Signal::TERM);
    assert_eq!(writer.ended(), 0);
}

#[test]
fn the_id_of_a_slot_names_it_in_other_processes() {
    let room = Room::new();
    let acquire = ["acquire", "--slots", "2", "-o", "id", "job"];
    let id = String::from_utf8(room.run(&acquire).stdout).unwrap();
    let id = id.trim();
    assert_eq!(slots(&room), 1);
    assert_eq!(room.code(&["renew", "job", "--id", id]), 0);
    assert_eq!(room.code(&["release", "job", "--id", id]), 0);
    assert_eq!(slots(&room), 0);
    let refused = room.run(&["once", "job", "--keep", "1h", "--slots", "2", "--", "true"]);
    assert_message(&refused, 64, "make no sense with `once`", "omit it");
}

#[test]
fn a_forced_release_ends_one_slot() {
    let room = Room::new();
    let _first = hold(&room, &["--slots", "2", "--label", "first"]);
    until("one slot", || slots(&room) == 1);
    let _second = hold(&room, &["--slots", "2", "--label", "second"]);
    until("two slots", || slots(&room) == 2);
    let token = room.job()["slots"][0]["token"].to_string();
    let shown = String::from_utf8(room.run(&["show", "job"]).stdout).unwrap();
    assert!(shown.contains(&format!("first, token {token}")), "{shown}");
    let force = |token: &str| {
        let options = ["--token", token, "--reason", "host is gone"];
        room.run(&[&["force-release", "job"], &options[..]].concat())
    };
    assert_message(&force("7"), 76, "held by first", "leasehold show");
    assert_eq!(slots(&room), 2);
    assert_eq!(force(&token).status.code(), Some(0));
    assert_eq!(slots(&room), 1);
    assert_eq!(room.job()["slots"][0]["holder"], "second");
}
