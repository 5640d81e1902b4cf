//! The verbs `lint` and `test`: which cargo commands they are, and running them.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::{cargo, guarded_cargo, judge};
use crate::dynamodb::{self, Server};
use crate::guard::{self, Guarded};
use crate::layers;
use crate::rustdoc;
use crate::tools::DEB;

/// The environment variable that names the DynamoDB for tests, for xtask and for the tests.
pub(crate) const SERVER_VARIABLE: &str = "LEASEHOLD_TEST_DYNAMODB";

/// A cargo command that must succeed.
struct Step {
    name: &'static str,
    args: &'static [&'static str],
}

/// In order of their cost. The library also has to be clean without the features that others need.
const LINTS: &[Step] = &[
    Step {
        name: "format",
        args: &["fmt", "--all", "--check"],
    },
    Step {
        name: "clippy",
        args: &[
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--",
            "-Dwarnings",
        ],
    },
    Step {
        name: "clippy without features",
        args: &[
            "clippy",
            "--locked",
            "-p",
            "leasehold",
            "--no-default-features",
            "--",
            "-Dwarnings",
        ],
    },
    Step {
        name: "clippy with sqlite alone",
        args: &[
            "clippy",
            "--locked",
            "-p",
            "leasehold",
            "--no-default-features",
            "--features",
            "sqlite",
            "--",
            "-Dwarnings",
        ],
    },
];

/// `cargo xtask lint`: stops at the first step that fails, and names it.
pub(crate) fn lint() -> Result<()> {
    for component in ["rustfmt", "clippy"] {
        let verb = if component == "rustfmt" {
            "fmt"
        } else {
            component
        };
        let probe = Command::new(cargo())
            .args([verb, "--version"])
            .output()
            .context("cannot start cargo")?;
        ensure!(
            probe.status.success(),
            "{component} is missing: type `rustup component add {component}` and try again"
        );
    }
    eprintln!("== layers: imports point down, without circles");
    layers::check(&crate::paths::workspace())?;
    for step in LINTS {
        eprintln!("== {}: cargo {}", step.name, step.args.join(" "));
        let mut command = guarded_cargo()?;
        command.args(step.args);
        let status = guard::run(&mut command)?;
        judge(step.name, status)?;
    }
    eprintln!("== docs, as docs.rs builds them");
    let mut docs = rustdoc::command("--cfg docsrs -Dwarnings")?;
    let status = guard::run(&mut docs)?;
    judge("docs", status)?;
    eprintln!("== lints: all passed");
    Ok(())
}

/// Tests at a time, as libtest reads it.
const THREADS_VARIABLE: &str = "RUST_TEST_THREADS";

/// Many tests wait for real leases: two of them fill a processor, and more delay the renewals of others.
const TESTS_PER_PROCESSOR: usize = 2;

/// `cargo xtask test`: all tests, against a DynamoDB Local of this run or against the one that the user named. `whole`:
/// those with many real processes do all their work. Prints nothing after cargo's own closing lines when they pass.
pub(crate) fn test(whole: bool, args: &[OsString]) -> Result<()> {
    // A test packages the command.
    DEB.install()?;
    let named = std::env::var(SERVER_VARIABLE).ok();
    if let Some(url) = dynamodb::given(named.as_deref())? {
        eprintln!("== test: uses the DynamoDB at {url}, as {SERVER_VARIABLE} says");
        let status = guard::run(&mut cargo_test(url, whole, args)?)?;
        return judge("test", status);
    }
    let Server { url, program, log } = dynamodb::start(None)?;
    eprintln!("== test: DynamoDB Local runs at {url}");
    // In this order, so that a signal ends the tests before the server that they use.
    let mut programs = vec![
        program,
        Guarded::spawn(&mut cargo_test(&url, whole, args)?)?,
    ];
    match guard::supervise(&mut programs)? {
        (1, status) => judge("test", status),
        (_, status) => bail!(
            "DynamoDB Local ended while the tests ran ({status}), so they were stopped; its log:\n{}",
            log.tail()
        ),
    }
}

fn cargo_test(url: &str, whole: bool, args: &[OsString]) -> Result<Command> {
    let mut command = guarded_cargo()?;
    command.args(["test", "--locked", "--all-features"]);
    if !names_package(args) {
        command.arg("--workspace");
    }
    command.args(args).env(SERVER_VARIABLE, url);
    if std::env::var_os(THREADS_VARIABLE).is_none() {
        let processors = std::thread::available_parallelism()?.get();
        command.env(
            THREADS_VARIABLE,
            (TESTS_PER_PROCESSOR * processors).to_string(),
        );
    }
    if whole {
        command.env("LEASEHOLD_TEST_WHOLE", "1");
    }
    command.env("LEASEHOLD_TEST_CARGO_DEB", DEB.program());
    Ok(command)
}

/// Do these arguments choose packages? Beside `--workspace` cargo would not heed them.
fn names_package(args: &[OsString]) -> bool {
    let for_cargo = args.iter().take_while(|arg| *arg != "--");
    for_cargo
        .filter_map(|arg| arg.to_str())
        .any(|arg| arg.starts_with("-p") || arg == "--package" || arg.starts_with("--package="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_seen_before_the_dashes_only() {
        let named =
            |words: &[&str]| names_package(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert!(named(&["-p", "leasehold"]));
        assert!(named(&["-pleasehold"]));
        assert!(named(&["--doc", "--package=leasehold"]));
        assert!(!named(&[]));
        assert!(!named(&["some_test", "--", "-p"]));
    }
}
