//! `force-release`: one grant of a stuck holder, and no other. Who did it, and why, is seen.

use crate::support::{Room, Wrapper, assert_message, dynamo, until};
use rustix::process::Signal;

const WHY: &str = "host is gone, ticket 4711";

fn force(room: &Room, token: &str) -> std::process::Output {
    room.run(&[
        "force-release",
        "job",
        "--token",
        token,
        "--reason",
        WHY,
        "--label",
        "alice",
    ])
}

fn stuck(room: &Room) -> (Wrapper, String) {
    // Its first renewal comes after 2.6 s: not between the two writes of `force-release`, where the record names the taker.
    let holder = room
        .command(&["hold", "job", "--lease", "10s", "--label", "stuck"])
        .args(["--data", "step 7"])
        .spawn();
    let holder = Wrapper(holder.unwrap());
    until("held", || room.job()["state"] == "held");
    (holder, room.job()["token"].to_string())
}

fn who_and_why(room: &Room) {
    let (mut holder, token) = stuck(room);
    let done = force(room, &token);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("released `job` by force"), "{said}");
    let job = room.job();
    assert_eq!(job["state"], "free");
    let seen = format!("alice ended token {token}: {WHY}");
    assert_eq!(job["last_holder"], "stuck");
    assert_eq!(job["last_force"], seen.as_str());
    let shown = String::from_utf8(room.run(&["show", "job"]).stdout).unwrap();
    assert!(shown.contains(&format!("\nforced   {seen}\n")), "{shown}");
    // How far the work came is there for the next holder.
    assert_eq!(job["left"], "step 7");
    let shown = String::from_utf8(room.run(&["show", "job"]).stdout).unwrap();
    assert!(shown.contains("\nleft     step 7\n"), "{shown}");
    // It learns of it at its next renewal.
    assert_eq!(holder.ended(), 76);
    let said = holder.stderr();
    assert!(said.contains("ended it by force"), "{said}");
    // The token has been raised.
    let next = room.run(&["acquire", "job", "-o", "token"]);
    let next: u64 = String::from_utf8(next.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(next > token.parse().unwrap());
    assert_eq!(room.job()["last_holder"], serde_json::Value::Null);
    assert_eq!(room.job()["data"], "step 7");
    // Under later grants as well.
    assert_eq!(room.job()["last_force"], seen.as_str());

    // The grant with that token is over, and another is the present one.
    let before = room.job();
    let refused = force(room, &token);
    assert_message(
        &refused,
        76,
        &format!("token {token} is not the present one"),
        "leasehold show job",
    );
    assert_message(&refused, 76, &format!("with token {next}"), "");
    assert_eq!(room.job(), before);
}

#[test]
fn who_and_why_on_sqlite() {
    who_and_why(&Room::new());
}

#[test]
fn who_and_why_on_dynamodb() {
    who_and_why(&dynamo::room());
}

#[test]
fn what_has_ended_is_left_alone() {
    let room = Room::new();
    let refused = force(&room, "7");
    assert_message(
        &refused,
        76,
        "there is no record of `job`",
        "leasehold show job",
    );
    assert!(!room.has("locks.db"));
    let (mut holder, token) = stuck(&room);
    holder.signal(Signal::TERM);
    assert_eq!(holder.ended(), 0);
    let again = force(&room, &token);
    assert_eq!(again.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&again.stderr).contains("released already"));
    assert_eq!(room.code(&["run", "job", "--", "true"]), 0);
    assert_message(&force(&room, &token), 76, "free, with a later token", "");
    assert_message(&force(&room, "7"), 76, "free, with a later token", "");
}

#[test]
fn without_a_token_or_a_reason_it_is_refused() {
    let room = Room::new();
    let (_holder, token) = stuck(&room);
    for (options, message) in [
        (&[][..], "required arguments"),
        (&["--token", &token], "required arguments"),
        (&["--token", "x", "--reason", "y"], "invalid"),
        (&["--token", &token, "--reason", ""], "reason"),
        (&["--token", &token, "--reason", "two\nlines"], "reason"),
        (
            &["--token", &token, "--reason", &"x".repeat(257)],
            "256 bytes",
        ),
    ] {
        let output = room.run(&[&["force-release", "job"], options].concat());
        assert_message(&output, 64, message, "");
    }
    assert_eq!(room.job()["token"].to_string(), token);
}

#[test]
fn the_first_waiter_gets_the_lock() {
    let room = Room::new();
    let (mut holder, token) = stuck(&room);
    let waiter = room.command(&["hold", "job", "--label", "next"]).spawn();
    let mut waiter = Wrapper(waiter.unwrap());
    until("the place in the queue", || room.job()["waiting"] == 1);
    assert_eq!(force(&room, &token).status.code(), Some(0));
    until("the next", || room.job()["holder"] == "next");
    assert_eq!(holder.ended(), 76);
    waiter.signal(Signal::TERM);
    assert_eq!(waiter.ended(), 0);
}
