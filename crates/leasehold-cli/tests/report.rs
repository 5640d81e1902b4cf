//! `--report`: one JSON object, however it ended; and the environment of the command.

use crate::support;
use std::fs;

use crate::support::{Room, until, wait_line};
use serde_json::Value;

#[test]
fn a_run_that_completed() {
    let room = Room::new();
    let output = room.run(&[
        "run",
        "job",
        "--report",
        "report",
        "-c",
        "echo $LEASEHOLD_TOKEN; exit 9",
    ]);
    assert_eq!(output.status.code(), Some(9));
    let token: u64 = String::from_utf8(output.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let report = room.report();
    for (field, value) in [
        ("name", Value::from("job")),
        ("store", Value::from(room.store())),
        ("outcome", Value::from("completed")),
        ("exit_code", Value::from(9)),
        ("token", Value::from(token)),
        ("lease_ms", Value::from(20_000)),
        ("requests", Value::from(2)),
        ("renewals", Value::from(0)),
        ("grants", Value::from(1)),
        ("waits", Value::from(0)),
        ("hand_offs", Value::from(0)),
        ("dollars", Value::from(0.0)),
        ("release", Value::from("released")),
        ("lost", Value::Null),
        ("holder", Value::Null),
        ("error", Value::Null),
    ] {
        assert_eq!(report[field], value, "{field} of {report}");
    }
    assert_eq!(report["command"]["exit_code"], 9);
    assert_eq!(report["command"]["signal"], Value::Null);
    for field in ["waited_ms", "held_ms", "pid"] {
        assert!(report[field].is_u64(), "{field} of {report}");
    }
    for field in ["write_units", "read_units"] {
        assert!(report[field].is_f64(), "{field} of {report}");
    }
    assert!(report["started_at"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn a_command_that_died_of_a_signal() {
    let room = Room::new();
    assert_eq!(
        room.code(&["run", "job", "--report", "report", "-c", "kill -9 $$"]),
        137
    );
    assert_eq!(room.report()["command"]["signal"], 9);
    assert_eq!(room.report()["exit_code"], 137);
}

#[test]
fn nothing_was_run() {
    let room = Room::new();
    let mut holder = room.start(
        &["--label", "somebody"],
        &format!("echo > in; {}", wait_line("go")),
    );
    until("held", || room.has("in"));
    for option in [["-n", "-q"], ["-w", "200ms"]] {
        let all = [
            &["run", "job", "--report", "report"],
            &option[..],
            &["--", "true"],
        ]
        .concat();
        assert_eq!(room.code(&all), 75);
        let report = room.report();
        assert_eq!(report["outcome"], "not_acquired");
        assert_eq!(report["exit_code"], 75);
        assert_eq!(report["token"], Value::Null);
        assert_eq!(report["command"], Value::Null);
        assert_eq!(report["holder"]["label"], "somebody");
        assert_eq!(report["holder"]["token"], room.job()["token"]);
    }
    room.touch("go");
    assert_eq!(holder.ended(), 0);
    assert_eq!(
        room.code(&["run", "job", "--report", "report", "--", "/no/such"]),
        127
    );
    assert_eq!(room.report()["outcome"], "failed");
    assert_eq!(room.report()["exit_code"], 127);
    assert!(
        room.report()["error"]
            .as_str()
            .unwrap()
            .contains("/no/such")
    );
}

#[test]
fn a_run_that_is_refused_before_it_asks() {
    let room = Room::new();
    let long = "k".repeat(1025);
    for (arguments, code, error) in [
        (
            &["run", "job", "--lease", "1s"][..],
            78,
            "lease is too short",
        ),
        (&["run", "job", "--max-hold", "0s"], 64, "--max-hold is 0"),
        (&["run", &long], 64, "has 1025 bytes"),
    ] {
        let _none_yet = fs::remove_file(room.path("report"));
        let all = [arguments, &["--report", "report", "--", "true"]].concat();
        assert_eq!(room.code(&all), code);
        let report = room.report();
        assert_eq!(report["outcome"], "failed");
        assert_eq!(report["exit_code"], code);
        assert_eq!(report["name"], arguments[1]);
        assert_eq!(report["store"], room.store());
        assert!(
            report["error"].as_str().unwrap().contains(error),
            "{report}"
        );
    }
    // Only what cannot be read at all leaves none.
    fs::remove_file(room.path("report")).unwrap();
    let unread = ["run", "job", "--lease", "3", "--report", "report"];
    assert_eq!(room.code(&[&unread[..], &["--", "true"]].concat()), 64);
    assert!(!room.has("report"));
}

#[test]
fn a_report_that_cannot_be_written_is_a_warning() {
    let room = Room::new();
    fs::create_dir(room.path("directory")).unwrap();
    for path in ["no/such/directory/report", "directory"] {
        let output = room.run(&["run", "job", "--report", path, "-c", "exit 4"]);
        assert_eq!(output.status.code(), Some(4));
        let said = String::from_utf8(output.stderr).unwrap();
        // In good time, and only then.
        assert!(said.contains("the report cannot be written to"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

/// What the command sees of LEASEHOLD_*, sorted.
fn environment(room: &Room, line: &str, outer: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut command = room.command(&["run", "inner", "-c", line]);
    command.envs(outer.iter().copied());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut all: Vec<_> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| name.starts_with("LEASEHOLD_"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    all.sort();
    all
}

fn names(all: &[(String, String)]) -> Vec<&str> {
    all.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn the_command_is_told_of_its_lock() {
    let room = Room::new();
    let all = environment(&room, "env", &[]);
    assert_eq!(
        names(&all),
        [
            "LEASEHOLD_GRANTS",
            "LEASEHOLD_LEASE_MS",
            "LEASEHOLD_NAME",
            "LEASEHOLD_STORE",
            "LEASEHOLD_TOKEN"
        ]
    );
    assert_eq!(all[1].1, "20000");
    assert_eq!(all[2].1, "inner");
    assert_eq!(all[3].1, room.store());
    assert!(all[4].1.parse::<u64>().unwrap() > 0);
}

#[test]
fn an_outer_lock_moves_aside() {
    let room = Room::new();
    let outer = [
        ("LEASEHOLD_NAME", "outer"),
        ("LEASEHOLD_TOKEN", "17"),
        ("LEASEHOLD_LEASE_MS", "1"),
    ];
    let all = environment(&room, "env", &outer);
    let find = |name: &str| {
        all.iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    };
    assert_eq!(find("LEASEHOLD_NAME"), Some("inner"));
    assert_ne!(find("LEASEHOLD_TOKEN"), Some("17"));
    assert_eq!(find("LEASEHOLD_PARENT_NAME"), Some("outer"));
    assert_eq!(find("LEASEHOLD_PARENT_TOKEN"), Some("17"));
    assert_eq!(find("LEASEHOLD_PARENT_LEASE_MS"), Some("1"));
    assert_eq!(find("LEASEHOLD_PARENT_STORE"), Some(room.store()));
}

#[test]
fn nested_runs_use_the_same_store_from_anywhere() {
    let room = Room::new();
    let line = format!(
        "cd / && {0} run innermost -c 'echo $LEASEHOLD_NAME $LEASEHOLD_PARENT_NAME $LEASEHOLD_STORE; {0} ls --json | wc -l'",
        support::BIN
    );
    let mut command = room.command(&["run", "outer", "--store", "sqlite:relative.db", "-c", &line]);
    let output = command.env_remove("LEASEHOLD_STORE").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let directory = room.directory().canonicalize().unwrap();
    assert_eq!(
        text,
        format!(
            "innermost outer sqlite:{}/relative.db\n2\n",
            directory.display()
        )
    );
}

#[test]
fn standard_output_is_the_commands() {
    let room = Room::new();
    let output = room.run(&[
        "run",
        "job",
        "-v",
        "--report",
        "report",
        "-c",
        "printf '\\000x'",
    ]);
    assert_eq!(output.stdout, b"\0x");
    let said = String::from_utf8(output.stderr).unwrap();
    for part in [
        "request: acquire `job`: done",
        "with token",
        "request: release `job`: done",
    ] {
        assert!(said.contains(part), "{said}");
    }
    // Without -v, nothing at all.
    let output = room.run(&["run", "job", "--", "true"]);
    assert!(
        output.stdout.is_empty() && output.stderr.is_empty(),
        "{output:?}"
    );
}
