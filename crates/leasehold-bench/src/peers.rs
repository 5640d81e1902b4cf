//! Other people's locks: installed once under `target/peers`, run as programs of their own.
//!
//! Versions and contents are pinned by the lock files in `peers/`; nothing is installed outside of
//! the target directory, and no install script runs. AWS's Java client and Go's dynamolock can also be run
//! from a copy that was built by hand. Where neither is to be had, they are absent, and their rows say so.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::place;
use crate::stopwatch::within;

const INSTALL_LIMIT: Duration = Duration::from_secs(300);
/// Two generations of the SDK, on two cores that may have other work.
const BUILD_LIMIT: Duration = Duration::from_secs(1_800);
/// The longest wait among them is the Node client's lease of 10 s.
const RUN_LIMIT: Duration = Duration::from_secs(60);

/// A peer that is ready to run.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    program: PathBuf,
    args: Vec<OsString>,
    node_path: Option<PathBuf>,
}

/// A peer, or why there is none.
pub(crate) type Found = Result<Peer, String>;

impl Peer {
    /// npm `dynamodb-lock-client`.
    pub(crate) async fn node() -> Result<Peer> {
        let source = source("node");
        let home = home("node")?;
        install(&source, &home, "package-lock.json", async || {
            for file in ["package.json", "package-lock.json"] {
                fs::copy(source.join(file), home.join(file))?;
            }
            let npm = Command::new("npm");
            let args = [
                "ci",
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
                "--loglevel=error",
            ];
            finish(npm, &args, &home, INSTALL_LIMIT).await
        })
        .await?;
        Ok(Peer {
            program: "node".into(),
            args: vec![source.join("driver.js").into()],
            node_path: Some(home.join("node_modules")),
        })
    }

    /// PyPI `python-dynamodb-lock`, in a virtual environment.
    pub(crate) async fn python() -> Result<Peer> {
        Peer::of_pypi("python").await
    }

    /// PyPI `aws-lambda-powertools` and `idemkit`, in another one.
    pub(crate) async fn idempotency() -> Result<Peer> {
        Peer::of_pypi("idempotency").await
    }

    async fn of_pypi(name: &str) -> Result<Peer> {
        let source = source(name);
        let home = home(name)?;
        let python = home.join("bin/python");
        install(&source, &home, "requirements.txt", async || {
            // An interpreter of its own, whatever was there before.
            finish(
                Command::new("python3"),
                &["-m", "venv", "--clear", "."],
                &home,
                INSTALL_LIMIT,
            )
            .await
            .context("on Debian and Ubuntu, type `apt-get install python3-venv`")?;
            let requirements = source.join("requirements.txt");
            let args: [&OsStr; 9] = [
                "-m".as_ref(),
                "pip".as_ref(),
                "install".as_ref(),
                "--quiet".as_ref(),
                "--disable-pip-version-check".as_ref(),
                "--only-binary=:all:".as_ref(),
                "--require-hashes".as_ref(),
                "-r".as_ref(),
                requirements.as_ref(),
            ];
            finish(Command::new(&python), &args, &home, INSTALL_LIMIT).await
        })
        .await?;
        Ok(Peer {
            program: python,
            args: vec![source.join("driver.py").into()],
            node_path: None,
        })
    }

    /// The crates `dlock`, `dynamodb-lease` and `dynamodb_lock`: built from a workspace of their own,
    /// since their lock file and ours cannot be one.
    pub(crate) async fn rust() -> Result<Peer> {
        let source = source("rust");
        let home = home("rust")?;
        // Cargo knows itself whether there is anything to do.
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let args: [&OsStr; 6] = [
            "build".as_ref(),
            "--release".as_ref(),
            "--locked".as_ref(),
            "--quiet".as_ref(),
            "--target-dir".as_ref(),
            home.as_os_str(),
        ];
        finish(Command::new(cargo), &args, &source, BUILD_LIMIT).await?;
        Ok(Peer {
            program: home.join("release/leasehold-bench-peers"),
            args: Vec::new(),
            node_path: None,
        })
    }

    /// AWS's Java client: the registry's, or the JAR `copy`, with the SDK that it needs.
    pub(crate) async fn java(copy: Option<&Path>) -> Result<Found> {
        let source = source("java");
        let home = home(if copy.is_some() { "java-copy" } else { "java" })?;
        let libraries = home.join("lib");
        let installed = install(&source, &home, "pom.xml", async || {
            let mut mvn = Command::new("mvn");
            mvn.arg("-f").arg(source.join("pom.xml"));
            if copy.is_some() {
                mvn.arg("-Dcopy");
            }
            let mut output = OsString::from("-DoutputDirectory=");
            output.push(&libraries);
            let args: [&OsStr; 4] = [
                "--batch-mode".as_ref(),
                "--quiet".as_ref(),
                "dependency:copy-dependencies".as_ref(),
                &output,
            ];
            finish(mvn, &args, &home, INSTALL_LIMIT).await
        })
        .await;
        if let Err(error) = installed {
            return absent(error, "--java JAR");
        }
        let classes = home.join("classes");
        let mut class_path = libraries.join("*").into_os_string();
        if let Some(copy) = copy {
            class_path.push(":");
            class_path.push(copy);
        }
        let args: [&OsStr; 6] = [
            "-proc:none".as_ref(),
            "-cp".as_ref(),
            &class_path,
            "-d".as_ref(),
            classes.as_ref(),
            "Driver.java".as_ref(),
        ];
        finish(Command::new("javac"), &args, &source, INSTALL_LIMIT).await?;
        class_path.push(":");
        class_path.push(&classes);
        // Ten of them on two cores: a small collector, and code that is fast soon rather than fastest late.
        let flags = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx512m"];
        let mut args: Vec<OsString> = flags.map(OsString::from).to_vec();
        args.extend(["-cp".into(), class_path, "Driver".into()]);
        Ok(Ok(Peer {
            program: "java".into(),
            args,
            node_path: None,
        }))
    }

    /// Go's `cirello.io/dynamolock/v2`: the registry's, or the module in the directory `copy`.
    pub(crate) async fn go(copy: Option<&Path>) -> Result<Found> {
        let source = source("go");
        let home = home(if copy.is_some() { "go-copy" } else { "go" })?;
        for file in ["go.mod", "go.sum"] {
            fs::copy(source.join(file), home.join(file))?;
        }
        let go = || Command::new("go");
        let module = home.join("go.mod");
        if let Some(copy) = copy {
            let mut replace = OsString::from("-replace=cirello.io/dynamolock/v2=");
            replace.push(copy);
            let args: [&OsStr; 4] = ["mod".as_ref(), "edit".as_ref(), &replace, module.as_ref()];
            finish(go(), &args, &source, INSTALL_LIMIT).await?;
        }
        let mut file = OsString::from("-modfile=");
        file.push(&module);
        let args: [&OsStr; 3] = ["mod".as_ref(), "download".as_ref(), &file];
        if let Err(error) = finish(go(), &args, &source, INSTALL_LIMIT).await {
            return absent(error, "--go-replace DIR");
        }
        let program = home.join("driver");
        // It may write the sum of the one module that was never to be had here; the checksum database knows it.
        let args: [&OsStr; 7] = [
            "build".as_ref(),
            "-buildvcs=false".as_ref(),
            "-mod=mod".as_ref(),
            &file,
            "-o".as_ref(),
            program.as_ref(),
            ".".as_ref(),
        ];
        finish(go(), &args, &source, INSTALL_LIMIT).await?;
        Ok(Ok(Peer {
            program,
            args: Vec::new(),
            node_path: None,
        }))
    }

    /// Its driver as a program that takes jobs.
    pub(crate) fn command(&self) -> Command {
        let mut program = Command::new(&self.program);
        // A note that it is in maintenance only would fill the screen.
        program.env("AWS_SDK_JS_SUPPRESS_MAINTENANCE_MODE_MESSAGE", "1");
        if let Some(path) = &self.node_path {
            program.env("NODE_PATH", path);
        }
        program.args(&self.args);
        program
    }

    /// Runs its driver; `args` are what the driver's own text says.
    pub(crate) async fn run(&self, args: &[&str]) -> Result<()> {
        finish(self.command(), args, Path::new("."), RUN_LIMIT).await
    }
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("peers")
        .join(name)
}

fn home(name: &str) -> Result<PathBuf> {
    let home = place::target()?.join("peers").join(name);
    fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
    Ok(home)
}

/// Installs unless it was done before from the same `pins`.
async fn install(
    source: &Path,
    home: &Path,
    pins: &str,
    work: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    let pins = source.join(pins);
    let wanted =
        fs::read_to_string(&pins).with_context(|| format!("cannot read {}", pins.display()))?;
    // Written last: what it says is there is whole.
    let stamp = home.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    eprintln!("installing {} in {}", pins.display(), home.display());
    work().await?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

async fn finish(
    mut command: Command,
    args: &[impl AsRef<OsStr> + Sync],
    directory: &Path,
    limit: Duration,
) -> Result<()> {
    command
        .args(args)
        .current_dir(directory)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let what = format!("{:?}", command.as_std());
    let output = match within(limit, command.output()).await {
        Ok(output) => output.with_context(|| format!("cannot start {what}: install it"))?,
        Err(error) => bail!("{what}: {error:#}"),
    };
    if !output.status.success() {
        bail!(Failed(format!(
            "{what} failed ({}):\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    Ok(())
}

/// A program ran, and said no.
#[derive(Debug)]
struct Failed(String);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failed {}

/// What an error of the program that resolves a peer means. That there is no such program is for the user to mend.
fn absent(error: anyhow::Error, option: &str) -> Result<Found> {
    if error.is::<Failed>() {
        eprintln!("{error}");
        return Ok(Err(format!(
            "not measured: it does not resolve here; `{option}` runs a copy"
        )));
    }
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_is_absent_when_its_resolver_says_no_and_not_when_there_is_none() {
        let run = async |program: &str| {
            finish(
                Command::new(program),
                &["-"; 0],
                Path::new("."),
                INSTALL_LIMIT,
            )
            .await
        };
        let refused = run("false").await.expect_err("false says no");
        let found = absent(refused, "--java JAR").expect("no error");
        let absence = found.expect_err("no peer");
        assert!(absence.contains("does not resolve"), "{absence}");
        assert!(absence.contains("--java JAR"), "{absence}");
        let missing = run("no-such-program").await.expect_err("not there");
        let error = absent(missing, "--java JAR").expect_err("an error");
        assert!(format!("{error:#}").contains("install it"), "{error:#}");
    }
}
