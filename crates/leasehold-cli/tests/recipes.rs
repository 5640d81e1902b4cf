//! The command lines of README, of the recipes and of the operating guide, run as they stand: with the names of programs, stores and
//! files that they have. Only the endpoint of DynamoDB comes from the test.

use crate::support;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::support::{BIN, Room, dynamo, until};
use rustix::process::{Pid, Signal, kill_process_group};

const RECIPES: &str = include_str!("../../../docs/recipes.md");
const GUIDE: &str = include_str!("../../../docs/operating.md");
const README: &str = include_str!("../../../README.md");

/// The fenced blocks of a section with this language.
fn blocks(text: &str, section: &str, language: &str) -> Vec<String> {
    let section = text
        .split(&format!("\n## {section}"))
        .nth(1)
        .unwrap_or_else(|| panic!("no section {section}"));
    let section = section.split("\n## ").next().unwrap();
    let fence = format!("```{language}\n");
    let blocks = section.split(&fence).skip(1);
    let blocks: Vec<_> = blocks
        .map(|rest| rest.split("```").next().unwrap().to_owned())
        .collect();
    assert!(!blocks.is_empty(), "no {language} in {section}");
    blocks
}

/// A room with the programs of the recipes. Each writes its name to `ran`.
fn room() -> Room {
    let room = Room::new();
    let programs = [
        "report.sh",
        "deploy.sh",
        "migrate.sh",
        "import.sh",
        "job",
        "scheduler",
        "transfer.sh",
        "export.sh",
    ];
    for program in programs {
        let path = room.path(program);
        fs::write(&path, format!("#!/bin/sh\necho {program} \"$@\" >> ran\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::create_dir(room.path("lock")).unwrap();
    room
}

/// A shell line, with `leasehold` in its path, and DynamoDB Local as the endpoint of AWS.
fn shell(room: &Room, line: &str) -> Command {
    let bin = Path::new(BIN).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = support::command("/usr/bin/setsid");
    command
        .args(["sh", "-e", "-c", line])
        .current_dir(room.directory())
        .env("PATH", path)
        .env("LEASEHOLD_STORE", room.store())
        .env("AWS_ENDPOINT_URL", format!("http://{}", dynamo::address()))
        .env("AWS_REGION", "local")
        .env("AWS_ACCESS_KEY_ID", "recipes")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[track_caller]
fn runs(room: &Room, script: &str) -> Output {
    let output = shell(room, script).output().unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
    output
}

/// A script that runs until it is stopped.
struct Running(Child);

impl Running {
    fn new(room: &Room, script: &str) -> Running {
        Running(shell(room, script).spawn().unwrap())
    }

    fn end(mut self) {
        kill_process_group(Pid::from_child(&self.0), Signal::TERM).unwrap();
        until("the end", || self.0.try_wait().unwrap().is_some());
    }
}

/// The command of a crontab line.
fn of_cron(line: &str) -> String {
    line.split_whitespace()
        .skip(5)
        .collect::<Vec<_>>()
        .join(" ")
}

/// One host runs the job; the next finds it done.
fn once_for_all_hosts(line: &str, program: &str) {
    let room = room();
    for _ in 0..2 {
        runs(&room, line);
        assert_eq!(room.text("ran"), format!("{program}\n"));
    }
}

#[test]
fn cron() {
    let lines = blocks(RECIPES, "A cron job", "crontab");
    once_for_all_hosts(&of_cron(&lines[0]), "report.sh");
    // The line of the operating guide.
    let line = GUIDE
        .split('`')
        .find(|code| code.starts_with("leasehold once nightly "));
    once_for_all_hosts(line.expect("the guide has a line"), "job");
}

#[test]
fn a_deploy_in_steps() {
    let room = room();
    let script = &blocks(RECIPES, "A deploy", "sh")[0];
    runs(&room, script);
    assert_eq!(room.text("ran"), "migrate.sh\ndeploy.sh\n");
    // "On failure", after another has taken the lock.
    runs(&room, "leasehold acquire deploy --id-file other.id");
    let last = script.lines().last().unwrap();
    assert_eq!(shell(&room, last).output().unwrap().status.code(), Some(76));
    runs(&room, "leasehold renew deploy --id-file other.id");
}

#[test]
fn a_migration_and_another_shells_options() {
    let room = room();
    runs(&room, &blocks(RECIPES, "A migration", "sh")[0]);
    assert!(
        room.text("ran").starts_with("migrate.sh --fence "),
        "{}",
        room.text("ran")
    );
    runs(&room, &blocks(RECIPES, "From `flock`", "sh")[0]);
    assert!(room.text("ran").ends_with("report.sh\ndeploy.sh\n"));
    let block = &blocks(RECIPES, "What a run costs", "sh")[0];
    assert_eq!(runs(&room, block).stdout, b"\"dollars\":0.0\n");
}

/// The words of `command: [...]`.
fn commands(section: &str) -> Vec<Vec<String>> {
    let blocks = blocks(RECIPES, section, "yaml");
    let lists = blocks
        .iter()
        .map(|block| block.strip_prefix("command: ").unwrap());
    lists
        .map(|list| serde_json::from_str(list).unwrap())
        .collect()
}

fn quoted(words: &[String]) -> String {
    let quoted = words
        .iter()
        .map(|word| format!("'{}'", word.replace('\'', "'\\''")));
    quoted.collect::<Vec<_>>().join(" ")
}

#[test]
fn kubernetes() {
    let room = room();
    let [job, sidecar] = commands("Kubernetes").try_into().unwrap();
    runs(&room, &quoted(&job));
    assert_eq!(room.text("ran"), "report.sh\n");
    let holder = Running::new(&room, &quoted(&sidecar));
    until("held", || room.text("lock/held").ends_with('\n'));
    let line: serde_json::Value = serde_json::from_str(&room.text("lock/held")).unwrap();
    assert!(line["token"].is_u64(), "{line}");
    holder.end();
    assert_eq!(room.run(&["show", "leader"]).status.code(), Some(0));
}

#[test]
fn a_lock_that_is_stuck() {
    let room = room();
    runs(&room, "leasehold acquire stuck -o id > id");
    runs(&room, &blocks(RECIPES, "A lock that is stuck", "sh")[0]);
    let shown = room.run(&["show", "stuck"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("free") && shown.contains("ticket 4711"),
        "{shown}"
    );
}

#[test]
fn a_new_table() {
    let room = room();
    let output = runs(&room, &blocks(RECIPES, "A new table", "sh")[0]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("dynamodb:UpdateItem"), "{text}");
}

#[test]
fn the_readme() {
    let room = room();
    let block = &blocks(README, "The command", "text")[0];
    runs(
        &room,
        "leasehold init --store 'dynamodb://locks?region=eu-west-1'",
    );
    assert!(block.lines().count() >= 6, "{block}");
    for line in block.lines() {
        // Without `--once` it stands again when the command has ended.
        runs(
            &room,
            &line.replace("leasehold elect ", "leasehold elect --once "),
        );
    }
    let ran = room.text("ran");
    for program in [
        "report.sh",
        "deploy.sh",
        "transfer.sh",
        "import.sh",
        "scheduler",
    ] {
        assert!(ran.contains(program), "{ran}");
    }
}

#[test]
fn the_units_of_systemd_run_what_they_say() {
    for unit in ["nightly-report.service", "leader.service"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("packaging")
            .join(unit);
        let text = fs::read_to_string(path).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart="))
            .unwrap();
        let room = room();
        // The programs are where the package and the administrator put them.
        let line = line
            .replace("/usr/bin/leasehold", BIN)
            .replace("/usr/local/bin/", "./");
        for program in ["nightly-report", "server"] {
            fs::copy(room.path("job"), room.path(program)).unwrap();
        }
        let running = Running::new(&room, &line);
        until(unit, || room.text("ran").ends_with("job\n"));
        running.end();
    }
}
