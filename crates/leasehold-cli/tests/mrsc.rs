//! Tables of multi-Region strong consistency: `init --mrsc`, `doctor` and `sweep`.

use std::process::Output;

use crate::support::{Room, assert_message, dynamo};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What it wrote to standard error.
#[track_caller]
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    text(&output.stderr)
}

/// A new table, and a room whose store is it.
fn table() -> (String, Room) {
    let table = dynamo::table_name();
    let url = dynamo::url(&table, &dynamo::address());
    let made = Room::with_store(&url).run(&["init", "--mrsc"]);
    let said = done(&made);
    for part in [
        "mrsc=true",
        "--multi-region-consistency STRONG",
        &format!("--table-name {table} --region local --endpoint-url"),
        "leasehold sweep",
    ] {
        assert!(said.contains(part), "no `{part}` in: {said}");
    }
    (table, Room::with_store(&format!("{url}&mrsc=true")))
}

#[test]
fn init_makes_a_table_without_ttl_and_doctor_asks_for_none() {
    let (table, room) = table();
    let ttl = dynamo::call(
        "DescribeTimeToLive",
        &format!(r#"{{"TableName":"{table}"}}"#),
    );
    assert!(ttl.contains("DISABLED"), "{ttl}");
    assert!(done(&room.run(&["init"])).contains("is there already"));
    let doctor = room.run(&["doctor"]);
    done(&doctor);
    let found = text(&doctor.stdout);
    assert!(found.contains("without TTL"), "{found}");
    assert!(found.contains("none yet"), "{found}");
    assert!(!found.contains("has no TTL"), "{found}");
    assert!(!found.contains("ConditionCheckItem"), "{found}");
    assert_eq!(room.code(&["run", "job", "--", "true"]), 0);
}

#[test]
fn sweep_deletes_what_is_past_its_retention_and_says_how_many() {
    let (table, room) = table();
    assert_eq!(room.code(&["run", "new", "--", "true"]), 0);
    for key in ["a", "b", "c"] {
        let item = format!(
            r#"{{"LockKey":{{"S":"{key}"}},"ExpireInUnixMs":{{"N":"0"}},"ExpireInUnixSeconds":{{"N":"1700000000"}},
            "FencingToken":{{"N":"5"}},"LeaseMs":{{"N":"20000"}},"RenewCount":{{"N":"1"}},"V":{{"N":"3"}}}}"#
        );
        let put = format!(r#"{{"TableName":"{table}","Item":{item}}}"#);
        dynamo::call("PutItem", &put);
    }
    let sweep = |options: &[&str]| done(&room.run(&[&["sweep"], options].concat()));
    let said = sweep(&["--older-than", "1000000h"]);
    assert!(said.contains("deleted 0 of 4 records"), "{said}");
    let said = sweep(&["--older-than", "1h", "--limit", "2"]);
    assert!(said.contains("deleted 2 of "), "{said}");
    assert!(said.contains("the limit is reached"), "{said}");
    let said = sweep(&[]);
    assert!(said.contains("deleted 1 of 2 records"), "{said}");
    assert!(text(&room.run(&["ls", "--all"]).stdout).contains("new"));
}

#[test]
fn a_file_has_neither() {
    let room = Room::new();
    assert_message(&room.run(&["sweep"]), 64, "a file", "dynamodb://TABLE");
    let init = room.run(&["init", "--mrsc"]);
    assert_message(&init, 64, "--mrsc needs a table", "dynamodb://TABLE");
}

#[test]
fn definitions_have_no_ttl() {
    let room = Room::with_store("dynamodb://locks");
    for tool in ["cloudformation", "terraform", "cdk"] {
        let printed = room.run(&["init", "--mrsc", "--print", tool]);
        done(&printed);
        let definition = text(&printed.stdout);
        assert!(definition.contains("LockKey"), "{definition}");
        assert!(!definition.contains("ExpireInUnixSeconds"), "{definition}");
    }
}
