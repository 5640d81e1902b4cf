//! The requirements of the host: Java 17 or later, and npm.
//!
//! As root on a Debian or Ubuntu host, xtask installs them. Elsewhere it prints the exact commands and fails.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// DynamoDB Local 3 is compiled for this version.
const JAVA_AT_LEAST: u32 = 17;

/// The path of a Java that is new enough, installed if need be. `npm` too, when `with_npm`.
pub(crate) fn prepare(with_npm: bool) -> Result<PathBuf> {
    let java = java();
    let npm_missing = with_npm && !npm();
    match java {
        Some(java) if !npm_missing => return Ok(java),
        _ => {}
    }
    install(java.is_none(), npm_missing)?;
    ensure!(
        !npm_missing || npm(),
        "npm was installed but does not run: see what `npm --version` says"
    );
    self::java().with_context(|| {
        format!("java was installed but none of version {JAVA_AT_LEAST} or later was found: set JAVA_HOME to one")
    })
}

fn npm() -> bool {
    let npm = Command::new("npm")
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    npm.is_ok_and(|output| output.status.success())
}

/// The first Java that is new enough: JAVA_HOME's, then the path's, then what Debian keeps beside its default.
fn java() -> Option<PathBuf> {
    let home = std::env::var_os("JAVA_HOME")
        .filter(|home| !home.is_empty())
        .map(|home| Path::new(&home).join("bin/java"));
    let mut beside: Vec<PathBuf> = std::fs::read_dir("/usr/lib/jvm")
        .map(|entries| {
            entries
                .flatten()
                .map(|entry| entry.path().join("bin/java"))
                .collect()
        })
        .unwrap_or_default();
    beside.sort();
    let candidates = home
        .into_iter()
        .chain([PathBuf::from("java")])
        .chain(beside);
    candidates
        .into_iter()
        .find(|java| version(java).is_some_and(|version| version >= JAVA_AT_LEAST))
}

fn version(java: &Path) -> Option<u32> {
    let output = Command::new(java)
        .arg("-version")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    // `java -version` answers on standard error.
    output
        .status
        .success()
        .then(|| parse_version(&String::from_utf8_lossy(&output.stderr)))?
}

/// The feature version in the answer of `java -version`: 17 for `"17.0.15"`, 8 for `"1.8.0_402"`.
fn parse_version(answer: &str) -> Option<u32> {
    // Not simply the first line: JAVA_TOOL_OPTIONS puts a notice before it.
    let (_, quoted) = answer
        .lines()
        .find_map(|line| line.split_once(" version \""))?;
    let mut numbers = quoted
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().ok());
    match numbers.next()?? {
        1 => numbers.next()?,
        feature => Some(feature),
    }
}

fn install(java: bool, npm: bool) -> Result<()> {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !is_debian_like(&release) || !rustix::process::geteuid().is_root() {
        bail!("{}", instructions(java, npm, &release));
    }
    apt(&["update"])?;
    let mut packages = Vec::new();
    if java {
        // Newer releases have dropped 17; their default is later.
        let exact = "openjdk-17-jre-headless";
        packages.push(if in_release(exact)? {
            exact
        } else {
            "default-jre-headless"
        });
    }
    if npm {
        packages.push("npm");
    }
    apt(&[
        &["install", "--yes", "--no-install-recommends"],
        packages.as_slice(),
    ]
    .concat())
}

/// `musl-gcc`, installed if need be.
pub(crate) fn musl_gcc() -> Result<()> {
    if Command::new("musl-gcc").arg("--version").output().is_ok() {
        return Ok(());
    }
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    ensure!(
        is_debian_like(&release) && rustix::process::geteuid().is_root(),
        "musl-gcc is missing: on Debian, `sudo apt-get install musl-tools`"
    );
    apt(&["update"])?;
    apt(&["install", "--yes", "--no-install-recommends", "musl-tools"])
}

fn apt(args: &[&str]) -> Result<()> {
    eprintln!("+ apt-get {}", args.join(" "));
    // Not under a guard: a package manager that is killed half-way leaves the host in need of repair.
    let status = Command::new("apt-get")
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .status();
    let status = status.context("cannot start apt-get")?;
    ensure!(
        status.success(),
        "`apt-get {}` failed ({status}): run it by hand, then try again",
        args.join(" ")
    );
    Ok(())
}

fn in_release(package: &str) -> Result<bool> {
    let output = Command::new("apt-cache")
        .args(["policy", package])
        .env("LC_ALL", "C")
        .output()
        .context("cannot start apt-cache")?;
    Ok(has_candidate(&String::from_utf8_lossy(&output.stdout)))
}

fn has_candidate(policy: &str) -> bool {
    policy.lines().any(|line| {
        line.trim()
            .strip_prefix("Candidate: ")
            .is_some_and(|version| version != "(none)")
    })
}

/// Reads `ID` and `ID_LIKE` of os-release(5).
fn is_debian_like(release: &str) -> bool {
    let names = release.lines().filter_map(|line| {
        line.strip_prefix("ID=")
            .or_else(|| line.strip_prefix("ID_LIKE="))
    });
    names
        .flat_map(|names| names.trim_matches('"').split(' '))
        .any(|name| matches!(name, "debian" | "ubuntu"))
}

/// The commands for the user, as the text of an error.
fn instructions(java: bool, npm: bool, release: &str) -> String {
    let what = match (java, npm) {
        (true, true) => "Java 17 or later and npm are missing",
        (true, false) => "Java 17 or later is missing",
        _ => "npm is missing",
    };
    let commands = if is_debian_like(release) {
        let packages = [(java, " openjdk-17-jre-headless"), (npm, " npm")];
        let packages: String = packages
            .iter()
            .filter(|(wanted, _)| *wanted)
            .map(|(_, package)| *package)
            .collect();
        let note = if java {
            "\nwhere the release has no openjdk-17-jre-headless, install default-jre-headless in its place"
        } else {
            ""
        };
        format!(
            "  sudo apt-get update\n  sudo apt-get install --yes --no-install-recommends{packages}{note}"
        )
    } else if cfg!(target_os = "macos") {
        let java = if java {
            "  brew install openjdk@17\n  export JAVA_HOME=\"$(brew --prefix openjdk@17)\"\n"
        } else {
            ""
        };
        format!("{java}{}", if npm { "  brew install node" } else { "" })
            .trim_end()
            .to_owned()
    } else {
        let packages = [
            (java, "a Java runtime of version 17 or later"),
            (npm, "npm"),
        ];
        let packages: Vec<&str> = packages
            .iter()
            .filter(|(wanted, _)| *wanted)
            .map(|(_, package)| *package)
            .collect();
        format!(
            "  (with this system's package manager) install {}",
            packages.join(" and ")
        )
    };
    format!(
        "{what}; the tests need DynamoDB Local, which needs them. Type\n{commands}\n\
         and try again, or set LEASEHOLD_TEST_DYNAMODB=URL to a DynamoDB Local that already runs"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_java_versions() {
        let cases = [
            (
                "openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime Environment\n",
                Some(17),
            ),
            ("java version \"1.8.0_402\"\n", Some(8)),
            ("openjdk version \"21\" 2023-09-19\n", Some(21)),
            ("openjdk version \"25-ea\" 2025-09-16\n", Some(25)),
            (
                "Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version \"17.0.1\" 2021-10-19\n",
                Some(17),
            ),
            (
                "The operation couldn't be completed. Unable to locate a Java Runtime.\n",
                None,
            ),
            ("java version \"\"\n", None),
            ("", None),
        ];
        for (answer, version) in cases {
            assert_eq!(parse_version(answer), version, "{answer:?}");
        }
    }

    #[test]
    fn knows_debian_and_its_children() {
        assert!(is_debian_like(
            "PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\n"
        ));
        assert!(is_debian_like("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!is_debian_like(
            "ID=fedora\nID_LIKE=rhel\nHOME_URL=\"https://debian.org\"\n"
        ));
        assert!(!is_debian_like(""));
    }

    #[test]
    fn knows_whether_apt_has_a_package() {
        assert!(has_candidate(
            "openjdk-17-jre-headless:\n  Installed: (none)\n  Candidate: 17.0.15+6-1~deb12u1\n"
        ));
        assert!(!has_candidate(
            "openjdk-17-jre-headless:\n  Installed: (none)\n  Candidate: (none)\n"
        ));
        assert!(!has_candidate(""));
    }

    #[test]
    fn instructions_name_only_what_is_missing() {
        let text = instructions(false, true, "ID=debian");
        assert!(
            text.starts_with("npm is missing")
                && text.contains("recommends npm\n")
                && !text.contains("openjdk"),
            "{text}"
        );
        let text = instructions(true, true, "ID=debian");
        assert!(
            text.contains("recommends openjdk-17-jre-headless npm\n"),
            "{text}"
        );
    }
}
