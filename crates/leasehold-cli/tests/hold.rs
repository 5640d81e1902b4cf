//! `hold`: held until a signal, with or without a reader.
#![expect(clippy::disallowed_methods, reason = "real processes need real time")]

use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::support::{Room, Wrapper, assert_message, dynamo, full_pipe, state, take_away, until};
use rustix::process::Signal;
use serde_json::Value;

fn start(room: &Room, options: &[&str]) -> Wrapper {
    let arguments = [&["hold", "job"], options].concat();
    Wrapper(room.command(&arguments).spawn().unwrap())
}

fn held(room: &Room) {
    until("held", || room.job()["state"] == "held");
}

#[test]
fn a_signal_ends_it_with_0_and_the_lock_is_free() {
    let room = Room::new();
    for signal in [
        Signal::INT,
        Signal::TERM,
        Signal::HUP,
        Signal::QUIT,
        Signal::USR1,
    ] {
        let mut holder = start(&room, &["--label", "me"]);
        let mut line = String::new();
        let mut stdout = BufReader::new(holder.0.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let grant: Value = serde_json::from_str(&line).unwrap();
        let job = room.job();
        assert_eq!(job["state"], "held");
        for field in ["v", "name", "token", "until", "lease_ms"] {
            assert_eq!(grant[field], job[field], "{field}");
        }
        assert_eq!(
            (&grant["v"], &grant["lease_ms"]),
            (&1.into(), &20_000.into())
        );
        assert_eq!(room.code(&["run", "job", "-n", "--", "true"]), 75);
        holder.signal(signal);
        assert_eq!(holder.ended(), 0, "{signal:?}");
        assert_eq!(room.job()["state"], "free");
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        assert_eq!((rest, holder.stderr()), (String::new(), String::new()));
    }
}

#[test]
fn it_is_renewed_and_no_reader_is_needed() {
    let room = Room::new();
    // Full and never read; closed at once; gone after the line.
    for reader in ["full", "closed", "gone"] {
        let mut command = room.command(&["hold", "job", "--lease", "2500ms"]);
        let mut kept = None;
        match reader {
            "full" => {
                let (unread, stdout) = full_pipe();
                kept = Some(unread);
                command.stdout(OwnedFd::from(stdout));
            }
            "closed" => {
                let (_, stdout) = std::io::pipe().unwrap();
                command.stdout(OwnedFd::from(stdout));
            }
            _ => {}
        }
        let mut holder = Wrapper(command.spawn().unwrap());
        held(&room);
        // The key is held before the line is written.
        if let Some(stdout) = holder.0.stdout.take() {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).unwrap();
        }
        room.sees_four_renewals();
        assert!(holder.running(), "{reader}");
        holder.signal(Signal::TERM);
        assert_eq!(holder.ended(), 0, "{reader}");
        assert_eq!(room.job()["state"], "free");
        let said = holder.stderr();
        assert_eq!(
            said.contains("is held all the same"),
            reader == "closed",
            "{said}"
        );
        drop(kept);
    }
}

#[test]
fn busy_is_75_and_a_signal_while_it_waits_128_and_more() {
    let room = Room::new();
    let mut holder = start(&room, &["--label", "the holder"]);
    held(&room);
    let busy = room.run(&["hold", "job", "-n"]);
    assert_message(&busy, 75, "`job` is held by the holder", "-w 30s");
    let busy = room.run(&["hold", "job", "-w", "200ms"]);
    assert_message(&busy, 75, "held by the holder", "leasehold show job");
    assert_eq!(room.code(&["hold", "job", "-n", "-E", "3"]), 3);
    let mut waiter = start(&room, &[]);
    until("the place in the queue", || room.job()["waiting"] == 1);
    waiter.signal(Signal::TERM);
    assert_eq!(waiter.ended(), 143);
    assert_eq!(room.job()["waiting"], 0);
    // One that waits gets it by the release.
    let mut next = start(&room, &["--label", "next"]);
    until("the place in the queue", || room.job()["waiting"] == 1);
    holder.signal(Signal::INT);
    assert_eq!(holder.ended(), 0);
    until("the next", || room.job()["holder"] == "next");
    next.signal(Signal::INT);
    assert_eq!(next.ended(), 0);
}

#[test]
fn a_lost_lock_is_76() {
    let room = Room::new();
    let mut holder = start(&room, &["--lease", "2500ms"]);
    held(&room);
    take_away(&room);
    assert_eq!(holder.ended(), 76);
    let said = holder.stderr();
    assert!(
        said.contains("lost the lock `job`") && said.contains("\nhint: "),
        "{said}"
    );

    // Stopped past its lease: it learns of that when it goes on, also by the signal that ends it.
    for signal in [None, Some(Signal::TERM)] {
        let mut holder = start(&room, &["--lease", "2500ms"]);
        held(&room);
        holder.signal(Signal::STOP);
        until("the stop", || state(holder.pid()) == Some('T'));
        assert_eq!(room.code(&["run", "job", "-w", "20s", "--", "true"]), 0);
        if let Some(signal) = signal {
            holder.signal(signal);
        }
        holder.signal(Signal::CONT);
        assert_eq!(holder.ended(), 76);
    }
}

#[test]
fn max_hold_is_124() {
    let room = Room::new();
    let started = Instant::now();
    let output = room.run(&["hold", "job", "--max-hold", "700ms"]);
    assert!(started.elapsed() >= Duration::from_millis(700));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(124), "{said}");
    assert!(
        said.contains("held the lock `job`") && said.contains("`--max-hold`"),
        "{said}"
    );
    assert_eq!(room.job()["state"], "free");
    let output = room.run(&["hold", "job", "--max-hold", "0s"]);
    assert_message(&output, 64, "--max-hold is 0", "omit");
    let output = room.run(&["hold", "job", "--lease", "1s"]);
    assert_message(&output, 78, "too short", "`--lease`");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("--grace"));
}

#[test]
fn on_sqlite_its_death_frees_the_lock_at_once() {
    let room = Room::new();
    let mut holder = start(&room, &["--lease", "10m"]);
    held(&room);
    holder.0.kill().unwrap();
    holder.0.wait().unwrap();
    assert_eq!(room.code(&["run", "job", "-n", "--", "true"]), 0);
}

#[test]
fn on_dynamodb() {
    let room = dynamo::room();
    let mut holder = start(&room, &["--label", "me", "--lease", "3s"]);
    held(&room);
    room.sees_four_renewals();
    holder.signal(Signal::TERM);
    assert_eq!(holder.ended(), 0);
    assert_eq!(room.job()["state"], "free");
    assert_eq!(room.job()["last_holder"], "me");
}
