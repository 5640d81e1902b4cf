//! The Debian package: built of this binary, installed below an empty root, and used from there.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{BIN, Room};

fn succeeds(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

/// cargo-deb, which the test harness has built.
fn cargo_deb() -> PathBuf {
    let named = std::env::var_os("LEASEHOLD_TEST_CARGO_DEB").map(PathBuf::from);
    named.unwrap_or_else(|| panic!("this test needs cargo-deb: run `cargo xtask test`, or set LEASEHOLD_TEST_CARGO_DEB to it"))
}

/// The package, built below `room` of a copy of the manifest: its files come from there.
fn package(room: &Room) -> PathBuf {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = crates.ancestors().nth(2).unwrap();
    let dist = workspace.join("target/dist");
    for directory in ["completions", "man1"] {
        fs::create_dir_all(dist.join(directory)).unwrap();
    }
    succeeds(
        Command::new(BIN)
            .arg("man")
            .arg("--dir")
            .arg(dist.join("man1")),
    );
    for (shell, file) in [
        ("bash", "leasehold"),
        ("zsh", "_leasehold"),
        ("fish", "leasehold.fish"),
    ] {
        let script = succeeds(Command::new(BIN).args(["completions", shell]));
        fs::write(dist.join("completions").join(file), script.stdout).unwrap();
    }
    let output = succeeds(
        Command::new(cargo_deb())
            .args([
                "deb",
                "--package",
                "leasehold-cli",
                "--no-build",
                "--strip",
                "--profile",
                "dev",
            ])
            .arg("--output")
            .arg(room.path("leasehold.deb"))
            .current_dir(workspace),
    );
    assert!(room.has("leasehold.deb"), "{output:?}");
    room.path("leasehold.deb")
}

#[test]
fn the_package_can_be_installed_and_used() {
    let room = Room::new();
    let deb = package(&room);
    let root = room.path("root");
    for directory in [
        "var/lib/dpkg/info",
        "var/lib/dpkg/updates",
        "var/lib/dpkg/triggers",
    ] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    succeeds(
        Command::new("dpkg")
            .arg(format!("--root={}", root.display()))
            .args([
                "--force-not-root",
                "--force-depends",
                "--log=/dev/null",
                "-i",
            ])
            .arg(&deb),
    );

    let installed = root.join("usr/bin/leasehold");
    let mut run = Command::new(&installed);
    run.args(["run", "job", "-c", "echo token $LEASEHOLD_TOKEN"]);
    let output = succeeds(run.env("LEASEHOLD_STORE", room.store()));
    assert!(output.stdout.starts_with(b"token "), "{output:?}");

    for page in [
        "leasehold.1.gz",
        "leasehold-run.1.gz",
        "leasehold-doctor.1.gz",
    ] {
        assert!(
            root.join("usr/share/man/man1").join(page).exists(),
            "{page}"
        );
    }
    let completions = root.join("usr/share/bash-completion/completions/leasehold");
    succeeds(Command::new("bash").arg("-n").arg(completions));
    let examples = root.join("usr/share/doc/leasehold/examples");
    for unit in [
        "nightly-report.service",
        "nightly-report.timer",
        "leader.service",
    ] {
        let text = fs::read_to_string(examples.join(unit)).unwrap();
        for line in text
            .lines()
            .filter_map(|line| line.strip_prefix("ExecStart="))
        {
            // The line as it is, with another command: a verb or option that is gone is refused.
            let (args, _) = line.split_once(" -- ").expect("a command");
            let args = args
                .strip_prefix("/usr/bin/leasehold ")
                .expect("the program");
            let mut run = Command::new(&installed);
            run.args(args.split(' '));
            if args.starts_with("elect ") {
                // Otherwise it stands again when the command has ended.
                run.arg("--once");
            }
            run.args(["--", "true"]);
            succeeds(run.env("LEASEHOLD_STORE", room.store()));
        }
    }
    let copyright = fs::read_to_string(root.join("usr/share/doc/leasehold/copyright")).unwrap();
    assert!(copyright.contains("MIT"), "{copyright}");
}
