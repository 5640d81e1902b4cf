//! Other people's locks: installed once under `target/peers`, run as programs of their own.
//!
//! Versions and contents are pinned by the lock files in `peers/`; nothing is installed outside of
//! the target directory, and no install script runs.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
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
    driver: Option<PathBuf>,
    node_path: Option<PathBuf>,
}

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
            driver: Some(source.join("driver.js")),
            node_path: Some(home.join("node_modules")),
        })
    }

    /// PyPI `python-dynamodb-lock`, in a virtual environment.
    pub(crate) async fn python() -> Result<Peer> {
        let source = source("python");
        let home = home("python")?;
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
            driver: Some(source.join("driver.py")),
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
            driver: None,
            node_path: None,
        })
    }

    /// Its driver as a program that takes jobs.
    pub(crate) fn command(&self) -> Command {
        let mut program = Command::new(&self.program);
        // A note that it is in maintenance only would fill the screen.
        program.env("AWS_SDK_JS_SUPPRESS_MAINTENANCE_MODE_MESSAGE", "1");
        if let Some(path) = &self.node_path {
            program.env("NODE_PATH", path);
        }
        if let Some(driver) = &self.driver {
            program.arg(driver);
        }
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
    ensure!(
        output.status.success(),
        "{what} failed ({}):\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
