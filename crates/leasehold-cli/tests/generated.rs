//! `completions` and `man`: generated from the definition of the command line.

use std::fs;
use std::process::{Command, Stdio};

use crate::support::{Room, assert_message};

fn text(arguments: &[&str]) -> String {
    let output = Room::new().run(arguments);
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The verbs that the help lists.
fn verbs() -> Vec<String> {
    let help = text(&["--help"]);
    let list = help.split_once("Commands:\n").unwrap().1;
    let list = list.split_once("\n\n").unwrap().0;
    let verb = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let verbs: Vec<_> = list.lines().filter_map(verb).collect();
    assert!(verbs.len() >= 7, "{help}");
    verbs
}

/// What bash offers after these words.
fn completed(script: &std::path::Path, words: &[&str]) -> Vec<String> {
    let last = words.len() - 1;
    let line = format!(
        "set -u; . {}; COMP_WORDS=({}); COMP_CWORD={last}; _leasehold leasehold '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display(),
        words.join(" "),
        words[last],
        words[last - 1]
    );
    let output = Command::new("bash")
        .args(["--norc", "-c", &line])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let offered = String::from_utf8(output.stdout).unwrap();
    offered.lines().map(str::to_owned).collect()
}

#[test]
fn bash_accepts_the_completions_and_completes() {
    let room = Room::new();
    let script = room.path("leasehold.bash");
    fs::write(&script, text(&["completions", "bash"])).unwrap();
    let checked = Command::new("bash")
        .arg("-n")
        .arg(&script)
        .output()
        .unwrap();
    assert!(checked.status.success(), "{checked:?}");
    for verb in verbs() {
        let half = &verb[..verb.len() / 2 + 1];
        let offered = completed(&script, &["leasehold", half]);
        assert!(offered.contains(&verb), "{half}: {offered:?}");
    }
    assert_eq!(
        completed(&script, &["leasehold", "run", "--hold-at"]),
        ["--hold-at-least"]
    );
    let tools = completed(&script, &["leasehold", "init", "--print", ""]);
    assert!(tools.contains(&"iam".to_owned()), "{tools:?}");
}

#[test]
fn every_shell_has_completions_for_every_verb() {
    let verbs = verbs();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = text(&["completions", shell]);
        assert!(verbs.iter().all(|verb| script.contains(verb)), "{shell}");
    }
}

#[test]
fn there_is_a_page_for_each_verb_and_one_for_the_whole() {
    let room = Room::new();
    fs::create_dir(room.path("man1")).unwrap();
    let output = room.run(&["man", "--dir", "man1"]);
    assert!(
        output.status.success() && output.stdout.is_empty(),
        "{output:?}"
    );
    let mut pages: Vec<_> = fs::read_dir(room.path("man1"))
        .unwrap()
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort();
    let mut expected: Vec<_> = verbs()
        .iter()
        .map(|verb| format!("leasehold-{verb}.1"))
        .collect();
    expected.push("leasehold.1".to_owned());
    expected.sort();
    assert_eq!(pages, expected);
    assert_eq!(text(&["man", "run"]), room.text("man1/leasehold-run.1"));
    let whole = text(&["man"]);
    assert_eq!(whole, room.text("man1/leasehold.1"));
    for verb in verbs() {
        assert!(
            whole.contains(&format!("leasehold\\-{}(1)", verb.replace("-", "\\-"))),
            "{whole}"
        );
    }
    assert!(text(&["man", "run"]).contains(".SH \"EXIT CODES\""));
}

#[test]
fn what_cannot_be_printed_is_refused() {
    let room = Room::new();
    assert_message(
        &room.run(&["man", "--dir", "no"]),
        78,
        "cannot write `no/",
        "`mkdir -p no`",
    );
    assert_message(
        &room.run(&["man", "fly"]),
        64,
        "no verb `fly`",
        "the verbs are run, ",
    );
    assert_eq!(room.code(&["completions", "tcsh"]), 64);
}
