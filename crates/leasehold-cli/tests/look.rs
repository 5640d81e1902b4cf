//! `ls`, `show` and `init`: what they print, and where.

use crate::support;
use crate::support::{Room, SHORT, assert_message, until, wait_line};
use serde_json::Value;

fn text(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn what_is_not_there_yet_is_empty_and_is_not_made() {
    let room = Room::new();
    for (arguments, lines) in [
        (&["ls"][..], 0),
        (&["ls", "--json"], 0),
        (&["show", "job"], 3),
    ] {
        let output = room.run(arguments);
        assert_eq!(text(&output).lines().count(), lines);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains("locks.db` does not exist yet") && said.lines().count() == 1,
            "{said}"
        );
    }
    assert_eq!(room.job()["state"], "free");
    assert!(!room.has("locks.db"));
}

#[test]
fn held_locks_are_listed_sorted() {
    let room = Room::new();
    assert_eq!(room.code(&["run", "a-free-one", "--", "true"]), 0);
    let mut holder = room.start(
        &["--label", "host \u{1b}[2J 1"],
        &format!("echo > in1; {}", wait_line("go")),
    );
    let inner = room
        .command(&[
            "run",
            "another job",
            "--label",
            "second",
            "-c",
            &format!("echo > in2; {}", wait_line("go")),
        ])
        .spawn()
        .unwrap();
    let mut inner = support::Wrapper(inner);
    until("both", || room.has("in1") && room.has("in2"));

    let table = text(&room.run(&["ls"]));
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(
        lines[0].starts_with("NAME ") && lines[0].ends_with("TOKEN"),
        "{table}"
    );
    assert!(
        lines[1].starts_with("another job") && lines[1].contains("second"),
        "{table}"
    );
    assert!(
        lines[2].starts_with("job") && lines[2].contains("held"),
        "{table}"
    );
    assert!(
        lines[2].contains(" ago") && lines[2].contains("in "),
        "{table}"
    );
    // What a label holds never steers the terminal.
    assert!(
        !table.contains('\u{1b}') && lines[2].contains("\\u{1b}[2J"),
        "{table}"
    );

    let all = text(&room.run(&["ls", "--all", "--json"]));
    let all: Vec<Value> = all
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names: Vec<_> = all
        .iter()
        .map(|entry| entry["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["a-free-one", "another job", "job"]);
    assert_eq!(all[0]["state"], "free");
    assert_eq!(all[0]["holder"], Value::Null);
    assert_eq!(all[2]["holder"], "host \u{1b}[2J 1");
    assert_eq!(all[2]["lease_ms"], 20_000);
    assert!(all[2]["token"].is_u64());
    assert!(all[2]["since"].as_str() < all[2]["until"].as_str());

    room.touch("go");
    assert_eq!((holder.ended(), inner.ended()), (0, 0));
    assert_eq!(text(&room.run(&["ls", "--json"])), "");
}

#[test]
fn one_lock_in_detail() {
    let room = Room::new();
    let mut holder = room.start(
        &[&SHORT[..], &["--label", "me"]].concat(),
        &format!("echo > in; {}", wait_line("go")),
    );
    until("held", || room.has("in"));
    let shown = text(&room.run(&["show", "job"]));
    for line in [
        "name     job\n",
        "state    held\n",
        "holder   me\n",
        "lease    3s\n",
        "waiting  0\n",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    assert!(
        shown.contains(&format!("store    {}\n", room.store())),
        "{shown}"
    );
    assert_eq!(room.job()["holder"], "me");
    // Both killed at once: it runs out, for processes of its command might live on.
    holder.kill_both();
    assert_eq!(room.job()["state"], "held");
    until("expired", || room.job()["state"] == "expired");
    assert!(text(&room.run(&["ls"])).contains("expired"));
    assert_eq!(text(&room.run(&["show", "other"])).lines().count(), 3);
}

#[test]
fn init_says_whether_it_made_anything() {
    let room = Room::new();
    let nothing_in_it = |room: &Room| {
        let output = room.run(&["ls"]);
        assert_eq!(text(&output), "");
        String::from_utf8_lossy(&output.stderr).contains("no locks in sqlite:")
    };
    for expected in ["created sqlite:", "is there already, and fine: sqlite:"] {
        let output = room.run(&["init"]);
        assert_eq!(text(&output), "");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains(expected),
            "{output:?}"
        );
        assert!(nothing_in_it(&room));
    }
}

#[test]
fn init_prints_definitions_without_asking_anyone() {
    let room = Room::with_store("dynamodb://my-locks");
    for (tool, parts) in [
        (
            "cloudformation",
            ["AWS::DynamoDB::Table", "ExpireInUnixSeconds"],
        ),
        ("terraform", ["aws_dynamodb_table", "ExpireInUnixSeconds"]),
        ("cdk", ["new dynamodb.Table", "ExpireInUnixSeconds"]),
    ] {
        let output = room.run(&["init", "--print", tool]);
        let definition = text(&output);
        assert!(output.stderr.is_empty());
        for part in parts.iter().chain(&["my-locks", "LockKey"]) {
            assert!(definition.contains(part), "{definition}");
        }
    }
    // Without a store it is the table of the documents.
    let output = room
        .command(&["init", "--print", "cdk"])
        .env_remove("LEASEHOLD_STORE")
        .output()
        .unwrap();
    assert!(text(&output).contains("tableName: 'locks'"), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("a table named `locks`"), "{said}");
    let output = Room::new().run(&["init", "--print", "cdk"]);
    assert_message(
        &output,
        64,
        "--print needs a table",
        "`--store dynamodb://TABLE`",
    );
}

#[test]
fn init_prints_the_least_policy() {
    let arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/locks";
    for (store, resource) in [
        (
            "dynamodb://locks",
            "arn:aws:dynamodb:REGION:ACCOUNT:table/locks",
        ),
        (
            "dynamodb://locks?region=eu-west-1",
            "arn:aws:dynamodb:eu-west-1:ACCOUNT:table/locks",
        ),
        (&format!("dynamodb://{arn}"), arn),
    ] {
        let output = Room::with_store(store).run(&["init", "--print", "iam"]);
        let policy: Value = serde_json::from_str(&text(&output)).unwrap();
        let statements = policy["Statement"].as_array().unwrap();
        let actions: Vec<_> = statements
            .iter()
            .flat_map(|statement| statement["Action"].as_array().unwrap())
            .map(|action| action.as_str().unwrap())
            .collect();
        assert_eq!(
            actions,
            [
                "UpdateItem",
                "GetItem",
                "DeleteItem",
                "Scan",
                "ConditionCheckItem"
            ]
            .map(|action| format!("dynamodb:{action}"))
        );
        assert!(
            statements.iter().all(|s| s["Resource"] == resource),
            "{policy}"
        );
    }
}
