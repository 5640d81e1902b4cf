//! Lock files that are not as they should be.

use crate::support;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use crate::support::{Room, assert_message};

fn refused(room: &Room, code: i32, message: &str) {
    for arguments in [
        &["run", "job", "--", "touch", "ran"][..],
        &["ls"],
        &["show", "job"],
        &["init"],
    ] {
        assert_message(&room.run(arguments), code, message, "");
    }
    assert!(!room.has("ran"));
}

#[test]
fn not_a_database() {
    let room = Room::new();
    fs::write(
        room.path("locks.db"),
        "a letter to my aunt, much longer than any header ".repeat(99),
    )
    .unwrap();
    refused(&room, 78, "locks.db` is not a SQLite database");
    // Who reads the mail of a cron job wants to know which.
    let output = room.run(&["run", "job", "--", "true"]);
    assert_message(&output, 78, "leasehold: `job`: `", "");
}

#[test]
fn another_programs_database() {
    let room = Room::new();
    let other = rusqlite::Connection::open(room.path("locks.db")).unwrap();
    other
        .execute_batch("CREATE TABLE aunts (name TEXT)")
        .unwrap();
    drop(other);
    refused(&room, 78, "locks.db");
}

#[test]
fn from_a_newer_version() {
    let room = Room::new();
    assert_eq!(room.code(&["run", "job", "--", "true"]), 0);
    let newer = rusqlite::Connection::open(room.path("locks.db")).unwrap();
    newer.pragma_update(None, "user_version", 4711).unwrap();
    drop(newer);
    refused(&room, 78, "newer");
}

#[test]
fn no_such_directory() {
    let room = Room::with_store("sqlite:/no/such/directory/locks.db");
    let output = room.run(&["run", "job", "--", "true"]);
    assert_message(
        &output,
        78,
        "the directory `/no/such/directory`",
        "mkdir -p",
    );
}

#[test]
fn c27_a_file_without_a_clock_speaks_of_no_date_and_no_table() {
    let room = Room::new();
    assert_eq!(room.code(&["run", "job", "--", "true"]), 0);
    // As a container makes it that hides the boot of its machine.
    let file = rusqlite::Connection::open(room.path("locks.db")).unwrap();
    file.execute("UPDATE meta SET value = 'none' WHERE name = 'clock'", [])
        .unwrap();
    drop(file);
    let output = room.run(&["run", "-v", "job", "--", "true"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("answers carry no service time"), "{said}");
    assert!(!said.contains("Date") && !said.contains("table"), "{said}");
}

#[test]
fn c19_a_tilde_means_home() {
    let room = Room::with_store("sqlite:~/locks.db");
    let mut command = room.command(&["run", "job", "--", "true"]);
    let home = room.path("home");
    fs::create_dir(&home).unwrap();
    assert!(command.env("HOME", &home).status().unwrap().success());
    assert!(home.join("locks.db").exists() && !room.has("~"));

    let other = Room::with_store("sqlite:~aunt/locks.db");
    let output = other.run(&["run", "job", "--", "true"]);
    assert_message(&output, 64, "home of another user (`~aunt`)", "whole path");
    let nobody = Room::with_store("sqlite:~/locks.db");
    let mut command = nobody.command(&["run", "job", "--", "true"]);
    let output = command.env("HOME", "").output().unwrap();
    assert_message(&output, 64, "HOME is not set", "whole path");
}

#[test]
fn a_directory_is_no_file() {
    let room = Room::with_store("sqlite:/tmp");
    assert_message(
        &room.run(&["run", "job", "--", "true"]),
        78,
        "`/tmp` is a directory",
        "locks.db",
    );
}

#[test]
fn not_writable_is_77() {
    let room = Room::new();
    assert_eq!(room.code(&["run", "job", "--", "true"]), 0);
    fs::set_permissions(room.directory(), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["locks.db", "locks.db-wal", "locks.db-shm"] {
        if room.has(name) {
            fs::set_permissions(room.path(name), fs::Permissions::from_mode(0o444)).unwrap();
        }
    }
    let root = rustix::process::geteuid().is_root();
    if !root {
        fs::set_permissions(room.directory(), fs::Permissions::from_mode(0o555)).unwrap();
    }
    // Looking, too: what SQLite needs beside the file is written by readers as well.
    for arguments in [&["run", "job", "--", "true"][..], &["ls"], &["show", "job"]] {
        let mut command = room.command(arguments);
        if root {
            // Nothing is forbidden to root. The binary must be where others may run it.
            let copy = room.path("leasehold");
            fs::copy(support::BIN, &copy).unwrap();
            command = std::process::Command::new(copy);
            command
                .args(arguments)
                .env("LEASEHOLD_STORE", room.store())
                .current_dir("/")
                .uid(65_534)
                .gid(65_534);
        }
        assert_message(
            &command.output().unwrap(),
            77,
            "locks.db",
            "let this user write",
        );
    }
}
