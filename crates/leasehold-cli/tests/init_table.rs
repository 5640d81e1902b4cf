//! `init` where others do the same, and where it may not do everything.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Room, assert_message, dynamo, net};

/// How a table is described.
fn table(status: &str, key: &str) -> String {
    net::answer(
        200,
        "application/x-amz-json-1.0",
        &format!(
            r#"{{"Table":{{"TableName":"locks","TableStatus":"{status}",
            "AttributeDefinitions":[{{"AttributeName":"{key}","AttributeType":"S"}}],
            "KeySchema":[{{"AttributeName":"{key}","KeyType":"HASH"}}]}}}}"#
        ),
    )
}

fn ttl(status: &str) -> String {
    net::answer(
        200,
        "application/x-amz-json-1.0",
        &format!(
            r#"{{"TimeToLiveDescription":{{"TimeToLiveStatus":"{status}","AttributeName":"ExpireInUnixSeconds"}}}}"#
        ),
    )
}

fn denied(action: &str) -> String {
    let message = format!("not authorized to perform: dynamodb:{action}");
    net::refusal(400, "AccessDeniedException", &message)
}

fn at(address: &str) -> Room {
    Room::with_store(&dynamo::url("locks", address))
}

#[test]
fn c12_many_inits_at_once_all_succeed() {
    let room = Room::with_store(&dynamo::url(&dynamo::table_name(), &dynamo::address()));
    let all: Vec<_> = (0..12)
        .map(|_| {
            room.command(&["init"])
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for init in all {
        let output = init.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    assert_eq!(room.code(&["run", "job", "--", "true"]), 0);
}

#[test]
fn c12_another_that_is_faster_is_no_error() {
    // The table is missing when it is looked for, and is there when it is to be made; and then the same with its TTL.
    let (made, on) = (AtomicBool::new(false), AtomicBool::new(false));
    let (address, requests) = net::answering(move |request| match net::action(request) {
        "DescribeTable" if made.load(Ordering::SeqCst) => table("ACTIVE", "LockKey"),
        "DescribeTable" => net::refusal(400, "ResourceNotFoundException", "not there"),
        "CreateTable" => {
            made.store(true, Ordering::SeqCst);
            net::refusal(400, "ResourceInUseException", "there already")
        }
        "DescribeTimeToLive" if on.load(Ordering::SeqCst) => ttl("ENABLED"),
        "DescribeTimeToLive" => ttl("DISABLED"),
        "UpdateTimeToLive" => {
            on.store(true, Ordering::SeqCst);
            net::refusal(400, "ValidationException", "TimeToLive is already enabled")
        }
        action => net::refusal(400, "Unexpected", action),
    });
    let output = at(&address).run(&["init"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(requests.lock().unwrap().contains("UpdateTimeToLive"));
}

#[test]
fn c12_a_table_that_is_being_made_is_waited_for() {
    let seen = AtomicBool::new(false);
    let (address, _) = net::answering(move |request| match net::action(request) {
        "DescribeTable" if seen.swap(true, Ordering::SeqCst) => table("ACTIVE", "LockKey"),
        "DescribeTable" => table("CREATING", "LockKey"),
        "DescribeTimeToLive" => ttl("ENABLING"),
        action => net::refusal(400, "Unexpected", action),
    });
    let output = at(&address).run(&["init"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn c13_a_table_that_is_right_needs_no_right_to_create() {
    let (address, requests) = net::answering(|request| match net::action(request) {
        "DescribeTable" => table("ACTIVE", "LockKey"),
        "DescribeTimeToLive" => ttl("ENABLED"),
        action => denied(action),
    });
    let output = at(&address).run(&["init"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(!requests.lock().unwrap().contains("CreateTable"));
}

#[test]
fn c13_only_the_right_that_is_missing_is_named() {
    for (missing, there) in [
        ("CreateTable", false),
        ("DescribeTimeToLive", true),
        ("UpdateTimeToLive", true),
    ] {
        let (address, _) = net::answering(move |request| match net::action(request) {
            action if action == missing => denied(action),
            "DescribeTable" if there => table("ACTIVE", "LockKey"),
            "DescribeTable" => net::refusal(400, "ResourceNotFoundException", "not there"),
            "DescribeTimeToLive" => ttl("DISABLED"),
            action => net::refusal(400, "Unexpected", action),
        });
        let output = at(&address).run(&["init"]);
        assert_message(
            &output,
            77,
            missing,
            &format!("allow dynamodb:{missing} on table `locks`"),
        );
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("UpdateItem"), "{said}");
    }
}

#[test]
fn c27_a_table_of_others_has_not_no_locks() {
    let name = dynamo::table_name();
    dynamo::create_table(&name, "Id", "S");
    let room = Room::with_store(&dynamo::url(&name, &dynamo::address()));
    assert_message(
        &room.run(&["ls"]),
        78,
        "`LockKey` (S, HASH)",
        "another table",
    );
    // With something in it, too.
    dynamo::call(
        "PutItem",
        &format!(r#"{{"TableName":"{name}","Item":{{"Id":{{"S":"a"}}}}}}"#),
    );
    assert_message(
        &room.run(&["ls"]),
        78,
        "`LockKey` (S, HASH)",
        "another table",
    );
}

#[test]
fn each_step_is_said_once() {
    let room = Room::with_store(&dynamo::url(&dynamo::table_name(), &dynamo::address()));
    let said = |arguments: &[&str]| {
        let output = room.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let first = said(&["init"]);
    let steps = [
        "creating table `cli-",
        "turning TTL of table `cli-",
        "created dynamodb://",
    ];
    let places: Vec<_> = steps
        .map(|step| first.find(step))
        .into_iter()
        .flatten()
        .collect();
    assert!(places.len() == 3 && places.is_sorted(), "{first}");
    let second = said(&["init"]);
    assert!(
        second.contains("is there already, and fine: dynamodb://"),
        "{second}"
    );
    assert_eq!(second.lines().count(), 1, "{second}");
    assert_eq!(said(&["init", "-q"]), "");
}

#[test]
fn a_table_of_another_shape_is_refused_with_the_difference() {
    let name = dynamo::table_name();
    dynamo::create_table(&name, "LockKey", "N");
    let room = Room::with_store(&dynamo::url(&name, &dynamo::address()));
    assert_message(
        &room.run(&["init"]),
        78,
        "has the key `LockKey` (N, HASH), a lock table has `LockKey` (S, HASH)",
        "name another table",
    );
}
