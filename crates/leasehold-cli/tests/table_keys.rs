//! Locks in a table with other keys, which the store URL names.

use std::process::Output;

use crate::support::{Room, assert_message, dynamo};

const ONE_SORT_KEY: &str = "key=PK&sort=SK&sort_value=LOCK&prefix=LOCK%23&ttl=ttl";
const SORT_KEY_PER_LOCK: &str = "key=PK&sort=SK&sort_after=/&prefix=LOCK%23&ttl=ttl";

/// A room whose store is this table, with these parameters.
fn room(table: &str, parameters: &str) -> Room {
    let url = dynamo::url(table, &dynamo::address());
    Room::with_store(&format!("{url}&{parameters}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn done(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

#[test]
fn every_verb_works_in_such_a_table() {
    for parameters in [ONE_SORT_KEY, SORT_KEY_PER_LOCK] {
        let room = room(&dynamo::table_name(), parameters);
        let made = room.run(&["init"]);
        assert!(made.status.success(), "{made:?}");
        // The whole URL: it is the store for the other verbs.
        assert!(text(&made.stderr).contains(parameters), "{made:?}");
        done(room.run(&["run", "job/1", "--", "true"]));
        let grant = done(room.run(&["acquire", "job/2", "--lease", "60s"]));
        let grant: serde_json::Value = serde_json::from_str(&grant).unwrap();
        let id = grant["id"].as_str().unwrap();
        done(room.run(&["renew", "job/2", "--id", id]));
        assert!(done(room.run(&["ls"])).contains("job/2"));
        assert!(done(room.run(&["show", "job/2"])).contains("held"));
        done(room.run(&["release", "job/2", "--id", id]));
        assert!(done(room.run(&["show", "job/2"])).contains("free"));
        let found = done(room.run(&["doctor"]));
        let schema = "the key is `PK` (S, HASH), `SK` (S, RANGE), TTL is on for `ttl`";
        assert!(found.contains(schema), "{found}");
        assert!(!found.contains("problem"), "{found}");
        assert_eq!(
            found.contains("dynamodb:Query"),
            parameters == SORT_KEY_PER_LOCK
        );
    }
}

#[test]
fn ls_has_only_the_locks_with_the_prefix_and_nothing_of_others() {
    for parameters in [ONE_SORT_KEY, SORT_KEY_PER_LOCK] {
        let table = dynamo::table_name();
        let room = room(&table, parameters);
        done(room.run(&["init"]));
        for name in ["job/1", "job/2", "jobs/1"] {
            done(room.run(&["acquire", name, "--lease", "60s"]));
        }
        let item = r#"{"PK":{"S":"CUSTOMER#1"},"SK":{"S":"PROFILE"}}"#;
        let put = format!(r#"{{"TableName":"{table}","Item":{item}}}"#);
        dynamo::call("PutItem", &put);
        for (prefix, names) in [
            (&[][..], &["job/1", "job/2", "jobs/1"][..]),
            (&["job"], &["job/1", "job/2", "jobs/1"]),
            (&["job/"], &["job/1", "job/2"]),
            (&["job/2"], &["job/2"]),
        ] {
            let listed = done(room.run(&[&["ls", "--json"], prefix].concat()));
            let found: Vec<serde_json::Value> = listed
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            let found: Vec<_> = found
                .iter()
                .map(|lock| lock["name"].as_str().unwrap())
                .collect();
            assert_eq!(found, names, "{prefix:?}");
        }
    }
}

#[test]
fn a_name_without_the_separator_is_refused_with_the_parameter() {
    let room = room(&dynamo::table_name(), SORT_KEY_PER_LOCK);
    done(room.run(&["init"]));
    for verb in [&["run", "job", "--", "true"][..], &["show", "job"]] {
        let output = room.run(verb);
        assert_message(&output, 64, "the key `job` has no text", "`customer/42`");
        assert!(text(&output.stderr).contains("sort_after="), "{output:?}");
    }
}

#[test]
fn a_table_with_other_keys_is_told_with_the_parameters_to_add() {
    let table = dynamo::table_name();
    done(room(&table, ONE_SORT_KEY).run(&["init"]));
    for verb in ["init", "doctor"] {
        let output = room(&table, "ttl=ttl").run(&[verb]);
        assert_eq!(output.status.code(), Some(78), "{output:?}");
        let told = text(&output.stderr) + &text(&output.stdout);
        assert!(told.contains("`key=PK&sort=SK&sort_value=LOCK`"), "{told}");
    }
    let other_ttl = ONE_SORT_KEY.replace("ttl=ttl", "ttl=expires");
    let output = room(&table, &other_ttl).run(&["init"]);
    assert_message(&output, 78, "has its TTL on `ttl`", "add `ttl=ttl`");
}

#[test]
fn keys_that_cannot_be_are_refused_with_the_parameter() {
    let output = room("locks", "key=ClientId").run(&["show", "job"]);
    assert_message(&output, 78, "`ClientId`", "change `key=` in the store URL");
}

#[test]
fn definitions_have_the_keys() {
    let room = room("shared", ONE_SORT_KEY);
    for tool in ["cloudformation", "terraform", "cdk"] {
        let definition = done(room.run(&["init", "--print", tool]));
        for part in ["shared", "PK", "SK", "ttl"] {
            assert!(definition.contains(part), "{definition}");
        }
        assert!(!definition.contains("LockKey"), "{definition}");
    }
}
