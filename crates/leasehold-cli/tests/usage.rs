//! Bad input: refused with a clear message, before anything is locked.

use crate::support;
use std::fs;

use crate::support::{Room, assert_message, leasehold};

fn refused(arguments: &[&str], code: i32, message: &str, hint: &str) {
    let room = Room::new();
    assert_message(&room.run(arguments), code, message, hint);
    assert!(!room.has("locks.db"), "the store was touched");
}

#[test]
fn help_and_version_are_no_errors() {
    for arguments in [["--help"], ["--version"], ["-h"]] {
        let output = leasehold(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(!output.stdout.is_empty() && output.stderr.is_empty());
    }
    let help = leasehold(&["run", "--help"]).output().unwrap();
    let text = String::from_utf8(help.stdout).unwrap();
    for code in [64, 69, 75, 76, 77, 78, 124, 125, 126, 127] {
        assert!(
            text.contains(&format!("\n  {code} ")),
            "{code} is not in: {text}"
        );
    }
    // What it cannot promise is said where the promises are.
    let sentences: Vec<&str> = text.split_whitespace().collect();
    let sentences = sentences.join(" ");
    for caveat in [
        "`kill -9`, on Linux",
        "It does nothing more: --signal and --grace are for a lost lock",
    ] {
        assert!(sentences.contains(caveat), "{caveat} is not in: {text}");
    }
    for (verb, codes) in [
        ("ls", &[0, 64, 69, 77, 78, 125][..]),
        ("show", &[0, 64, 69, 77, 78, 125]),
        ("init", &[0, 64, 69, 77, 78, 125]),
        ("acquire", &[0, 64, 69, 75, 77, 78, 125]),
        ("renew", &[0, 64, 69, 76, 77, 78, 125]),
        ("release", &[0, 64, 69, 76, 77, 78, 125]),
        ("hold", &[0, 64, 69, 75, 76, 77, 78, 124, 125]),
        ("force-release", &[0, 64, 69, 76, 77, 78, 125]),
        ("watch", &[0, 64, 77, 78, 125]),
    ] {
        let help = leasehold(&[verb, "--help"]).output().unwrap();
        let text = String::from_utf8(help.stdout).unwrap();
        for code in codes {
            assert!(text.contains(&format!("\n  {code} ")), "{verb}: {text}");
        }
    }
    // Help alone is an error where a verb was needed.
    let output = leasehold::<&str>(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(output.stdout.is_empty());
}

#[test]
fn usage_errors_are_64() {
    refused(
        &["lock"],
        64,
        "unrecognized subcommand 'lock'",
        "leasehold --help",
    );
    refused(&["run"], 64, "required arguments", "leasehold run --help");
    refused(
        &["run", "x"],
        64,
        "required arguments",
        "leasehold run --help",
    );
    refused(
        &["run", "x", "true"],
        64,
        "unexpected argument 'true'",
        "after `--`",
    );
    refused(
        &["run", "x", "--no-such", "--", "true"],
        64,
        "--no-such",
        "leasehold run --help",
    );
    refused(
        &["run", "x", "-n", "-w", "1s", "--", "true"],
        64,
        "cannot be used with",
        "--help",
    );
    refused(
        &["run", "x", "-q", "-v", "--", "true"],
        64,
        "cannot be used with",
        "--help",
    );
    refused(
        &["run", "x", "-c", "true", "--", "true"],
        64,
        "cannot be used with",
        "--help",
    );
    refused(
        &["run", "x", "-E", "256", "--", "true"],
        64,
        "256",
        "--help",
    );
    refused(
        &["run", "x", "--signal", "NONE", "--", "true"],
        64,
        "unknown signal",
        "`TERM`",
    );
    refused(
        &["run", "x", "--on-lost", "cry", "--", "true"],
        64,
        "cry",
        "--help",
    );
    refused(&["show"], 64, "required arguments", "leasehold show --help");
    refused(
        &["init", "--print", "pulumi"],
        64,
        "pulumi",
        "leasehold init --help",
    );
}

#[test]
fn keys_have_1_to_1024_bytes() {
    refused(
        &["run", "", "--", "true"],
        64,
        "the key is empty",
        "another name",
    );
    refused(
        &["run", &"k".repeat(1025), "--", "true"],
        64,
        "has 1025 bytes",
        "another name",
    );
    refused(&["show", ""], 64, "the key is empty", "");
    assert_eq!(
        Room::new().code(&["run", &"k".repeat(1024), "--", "true"]),
        0
    );
}

#[test]
fn durations_need_a_unit() {
    for option in [
        "-w",
        "--lease",
        "--grace",
        "--check-delay",
        "--hold-at-least",
        "--max-hold",
    ] {
        for (duration, message, hint) in [
            ("15", "a duration needs a unit", "`15s`"),
            ("soon", "not a duration", "`20s`"),
            ("1d", "not a duration", "the units are h, m, s, ms"),
            ("-1s", "cannot be negative", "`20s`"),
        ] {
            refused(
                &["run", "x", option, duration, "--", "true"],
                64,
                message,
                hint,
            );
        }
        // A wait of 0 is -n; elsewhere it is as unclear as any other number.
        if option != "-w" {
            refused(
                &["run", "x", option, "0", "--", "true"],
                64,
                "a duration needs a unit",
                "`0s`",
            );
        }
    }
    let room = Room::new();
    let all = [
        "run",
        "x",
        "-w",
        "1m30s",
        "--lease",
        "30s",
        "--grace",
        "500ms",
        "--check-delay",
        "100ms",
        "--hold-at-least",
        "1ms",
        "--max-hold",
        "1h",
        "--strict",
        "--label",
        "me",
        "--signal",
        "sigint",
        "--on-lost",
        "warn",
        "--",
        "true",
    ];
    let output = room.run(&all);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn sums_that_do_not_add_up_are_refused_and_shown() {
    refused(
        &["run", "x", "--lease", "5s", "--grace", "5s", "--", "true"],
        78,
        "grace 5s + margin 1",
        "set `--lease` to",
    );
    refused(
        &["run", "x", "--lease", "20s", "--grace", "1m", "--", "true"],
        78,
        "a lease of 20s",
        "make `--grace` smaller",
    );
    refused(
        &["run", "x", "--lease", "0s", "--", "true"],
        78,
        "`x`: the lease is 0",
        "`--lease`",
    );
    refused(
        &["run", "x", "--lease", "100000h", "--", "true"],
        78,
        "overflow",
        "",
    );
    refused(
        &["run", "x", "--check-delay", "0s", "--", "true"],
        78,
        "busy loop",
        "",
    );
    refused(
        &[
            "run",
            "x",
            "--max-hold",
            "1s",
            "--hold-at-least",
            "2s",
            "--",
            "true",
        ],
        64,
        "--max-hold is shorter",
        "longer",
    );
    refused(
        &["run", "x", "--max-hold", "0s", "--", "true"],
        64,
        "--max-hold is 0",
        "omit --max-hold",
    );
}

#[test]
fn c27_a_default_never_refuses_what_a_person_has_set() {
    let room = Room::new();
    for (options, lease) in [
        (&["--lease", "10s"][..], 10_000),
        (&["--lease", "2500ms"], 2_500),
        (&["--grace", "1m"], 100_800),
        (&["--grace", "7s"], 20_000),
        (&[], 20_000),
    ] {
        let all = [
            &["run", "x", "--report", "report"],
            options,
            &["--", "true"],
        ]
        .concat();
        assert_eq!(room.code(&all), 0, "{options:?}");
        assert_eq!(room.report()["lease_ms"], lease, "{options:?}");
    }
    // Where no grace is left either, the lease is what is wrong.
    refused(
        &["run", "x", "--lease", "1s", "--", "true"],
        78,
        "grace 0ns + margin 1",
        "set `--lease` to",
    );
}

#[test]
fn the_hint_of_a_lease_is_its_bound() {
    for (grace, least, less) in [
        ("5s", "12.1s", "12s"),
        ("300ms", "2.7s", "2.6s"),
        ("1m", "100.8s", "100.7s"),
    ] {
        let with = |lease| ["run", "x", "--lease", lease, "--grace", grace, "--", "true"];
        let hint = format!("set `--lease` to {least} or more");
        refused(&with("1s"), 78, "the lease is too short", &hint);
        refused(&with(less), 78, "the lease is too short", &hint);
        assert_eq!(Room::new().code(&with(least)), 0);
    }
    refused(
        &[
            "run",
            "x",
            "--lease",
            "1000h",
            "--retention",
            "200h",
            "--",
            "true",
        ],
        78,
        "is too short: a record must outlive",
        "set `--retention` to more",
    );
    // The default of 7 days gives way.
    assert_eq!(
        Room::new().code(&["run", "x", "--lease", "1000h", "--", "true"]),
        0
    );
}

#[test]
fn store_urls_that_are_unknown_list_the_known() {
    for (url, message, hint) in [
        (
            "redis://x",
            "unknown store scheme `redis`",
            "`sqlite:PATH` or `dynamodb://TABLE",
        ),
        ("locks.db", "starts with its scheme", "`sqlite:PATH`"),
        ("", "is empty", "`sqlite:PATH`"),
        (
            "sqlite:",
            "path of the lock file is missing",
            "`sqlite:PATH`",
        ),
        (
            "sqlite:locks.db?mode=ro",
            "unknown store parameter `mode`",
            "cannot have a `?`: write `sqlite:locks.db`",
        ),
        (
            "dynamodb://",
            "name of the table is missing",
            "`dynamodb://TABLE`",
        ),
        (
            "dynamodb://t?regoin=x",
            "unknown store parameter `regoin`",
            "`region`, `endpoint`, `profile`",
        ),
        (
            "dynamodb://t?region=",
            "`region` is empty",
            "`region=VALUE`",
        ),
        (
            "dynamodb://t?endpoint=localhost:8000",
            "is not a URL",
            "endpoint=http",
        ),
    ] {
        refused(
            &["run", "x", "--store", url, "--", "true"],
            64,
            message,
            hint,
        );
        refused(&["ls", "--store", url], 64, message, hint);
        let flag = leasehold(&["ls", "--store", url]).output().unwrap();
        assert_message(&flag, 64, "for '--store <URL>'", hint);
        let output = leasehold(&["ls"])
            .env("LEASEHOLD_STORE", url)
            .output()
            .unwrap();
        assert_message(&output, 64, message, hint);
        assert_message(&output, 64, "for LEASEHOLD_STORE", hint);
    }
}

#[test]
fn without_a_store_it_is_a_file_in_the_state_directory() {
    use std::os::unix::fs::PermissionsExt;
    let room = Room::new();
    let with = |name: &str, value: &str| {
        let mut command = leasehold(&["run", "x", "-c", "echo $LEASEHOLD_STORE"]);
        command
            .env_remove("XDG_STATE_HOME")
            .env("HOME", room.path("home"));
        let output = command.env(name, value).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let state = room.path("state").to_str().unwrap().to_owned();
    assert_eq!(
        with("XDG_STATE_HOME", &state),
        format!("sqlite:{state}/leasehold/locks.db\n")
    );
    let mode = fs::metadata(room.path("state/leasehold"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
    let home = format!(
        "sqlite:{}/.local/state/leasehold/locks.db\n",
        room.path("home").display()
    );
    assert_eq!(with("UNRELATED", ""), home);
    // What a store URL cannot say could not be told to the command.
    let mut odd = leasehold(&["ls"]);
    odd.env("XDG_STATE_HOME", room.path("what?"));
    assert_message(&odd.output().unwrap(), 78, "a `?` in its name", "--store");
    // Relative paths are to be ignored.
    assert_eq!(with("XDG_STATE_HOME", "relative"), home);
    let mut homeless = leasehold(&["ls"]);
    homeless.env_remove("XDG_STATE_HOME").env_remove("HOME");
    assert_message(
        &homeless.output().unwrap(),
        78,
        "no place for locks",
        "`--store sqlite:PATH`",
    );
}

#[test]
fn a_lock_within_itself_would_wait_for_itself() {
    let room = Room::new();
    let inner = format!("{} run same -- echo inner", support::BIN);
    let output = room.run(&["run", "same", "-c", &inner]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(75), "{text}");
    assert!(
        text.contains("wait for itself") && text.contains("hint:"),
        "{text}"
    );
    // Another name inside is fine.
    let inner = format!("{} run other -- echo inner", support::BIN);
    let output = room.run(&["run", "same", "-c", &inner]);
    assert_eq!(output.stdout, b"inner\n");
}

#[test]
fn a_store_in_memory_is_refused() {
    for url in ["sqlite::memory:", "sqlite:file:x?mode=memory"] {
        let output = leasehold(&["ls", "--store", url]).output().unwrap();
        assert_eq!(output.status.code(), Some(64));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains("memory") && text.contains("hint:"), "{text}");
    }
}
