//! Other programs, and threads of a holder's process, read the files of a lock file.
//!
//! Two holders hold one lease each and take turns at a counter, while a thread in their process copies the
//! three files: each close drops all of SQLite's locks of the process. Beside them run SQLite shells, each of
//! which would delete the log if it were alone, and short processes, each with one turn. The shells are our
//! own SQLite and, if installed, the command `sqlite3`: versions before 3.51 handle lost locks differently.
//! Every turn must be counted. No process may end by a signal, no lease may be lost or granted twice, and no
//! file may be replaced.

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use leasehold::clock::{Clock, SystemClock};
use leasehold::store::sqlite::SqliteStore;
use leasehold::{LockClient, Policy, TryAcquireOutcome};

use super::wall::pause;

const HOLDERS: usize = 2;
/// Comers and shells at the same time.
const AT_ONCE: usize = 4;
/// Started one beside another, and then a shell that is alone with the holders.
const BURST: u64 = 12;
/// For short processes among many.
const LONGEST: Duration = Duration::from_secs(120);

/// A process that does not outlive this one's interest in it.
struct Running {
    child: Child,
    what: &'static str,
}

impl Running {
    fn start(what: &'static str, path: &Path, index: usize) -> Result<Running> {
        let mut command = Command::new(super::programs::own()?);
        command.arg(what).arg(path).arg(index.to_string());
        Running::of(what, command)
    }

    fn sqlite3(path: &Path) -> Result<Running> {
        let mut command = Command::new("sqlite3");
        command.args(["-bail", "-cmd", ".timeout 10000"]).arg(path);
        command.arg("SELECT count(*) FROM locks");
        Running::of("sqlite3", command)
    }

    fn of(what: &'static str, mut command: Command) -> Result<Running> {
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a process of our own")?;
        Ok(Running { child, what })
    }

    /// Its exit, if it has ended.
    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if let Some(status) = status {
            ensure!(status.success(), "a {} ended with {status}", self.what);
        }
        Ok(status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended, and then this does nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn three(path: &Path) -> [PathBuf; 3] {
    [path.into(), beside(path, "-wal"), beside(path, "-shm")]
}

fn inodes(path: &Path) -> Result<Vec<u64>> {
    let inode = |file: &PathBuf| {
        let meta = fs::metadata(file);
        Ok(meta
            .with_context(|| format!("{} is gone", file.display()))?
            .ino())
    };
    three(path).iter().map(inode).collect()
}

fn sqlite3_version() -> Option<String> {
    let output = Command::new("sqlite3").arg("--version").output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(said.split_whitespace().next()?.to_owned())
}

/// Both numbers must be reached.
pub(super) fn main(seconds: u64, comers: u64) -> Result<()> {
    let directory = std::env::temp_dir().join(format!("leasehold-files-{}", std::process::id()));
    fs::create_dir(&directory)?;
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(run(&directory.join("locks.db"), seconds, comers));
    fs::remove_dir_all(&directory)?;
    println!("{}", outcome?);
    Ok(())
}

async fn run(path: &Path, seconds: u64, comers: u64) -> Result<String> {
    fs::write(beside(path, ".count"), "0")?;
    let mut holders = Vec::new();
    for index in 0..HOLDERS {
        let mut holder = Running::start("files-holder", path, index)?;
        let mut ready = [0; 6];
        let output = holder.child.stdout.as_mut().context("piped")?;
        output
            .read_exact(&mut ready)
            .context("a holder did not begin")?;
        holders.push(holder);
    }
    let before = inodes(path)?;
    let began = SystemClock.elapsed();
    let until = began.plus(Duration::from_secs(seconds));
    let sqlite3 = sqlite3_version();
    let (mut started, mut shells, mut foreign) = (0, 0, 0);
    let mut lonely = false;
    let mut passing: Vec<Running> = Vec::new();
    loop {
        let more = started < comers || SystemClock.elapsed() < until;
        while more && passing.len() < AT_ONCE {
            let alone = (started + shells + foreign) % BURST == 0;
            if !passing.is_empty() && (alone || lonely) {
                break;
            }
            lonely = alone;
            let (count, next) = if alone && sqlite3.is_some() {
                (&mut foreign, Running::sqlite3(path)?)
            } else if passing.is_empty() {
                (&mut shells, Running::start("files-shell", path, HOLDERS)?)
            } else {
                (&mut started, Running::start("files-comer", path, HOLDERS)?)
            };
            passing.push(next);
            *count += 1;
        }
        for index in (0..passing.len()).rev() {
            if passing[index].ended()?.is_some() {
                drop(passing.swap_remove(index));
            }
        }
        for holder in &mut holders {
            ensure!(holder.ended()?.is_none(), "a holder went by itself");
        }
        if passing.is_empty() && !more {
            break;
        }
        pause(Duration::from_millis(1)).await;
        ensure!(
            SystemClock.elapsed() < until.plus(LONGEST),
            "{started} of {comers} comers began, and {} do not end",
            passing.len()
        );
    }
    ensure!(
        inodes(path)? == before,
        "a file was deleted under its holders"
    );
    let mut turns = started;
    let mut reads = 0;
    for holder in &mut holders {
        drop(holder.child.stdin.take());
        let mut told = String::new();
        let output = holder.child.stdout.as_mut().context("piped")?;
        output.read_to_string(&mut told)?;
        let status = holder.child.wait()?;
        ensure!(status.success(), "a holder ended with {status}: {told}");
        let (taken, read) = told.trim().split_once(' ').context("two numbers")?;
        turns += taken.parse::<u64>()?;
        reads += read.parse::<u64>()?;
    }
    let counted: u64 = fs::read_to_string(beside(path, ".count"))?.parse()?;
    ensure!(counted == turns, "{turns} turns, and {counted} counted");
    ensure!(reads > 0 && turns > started, "nobody read, or took turns");
    let took = SystemClock.elapsed().since(began).as_secs_f64();
    let of = sqlite3.map_or_else(
        || "none is installed".to_owned(),
        |version| format!("sqlite3 {version}"),
    );
    Ok(format!(
        "| files: {started} comers, {shells} shells of ours, {foreign} others ({of}), {HOLDERS} holders that read the files {reads} \
         times | {turns} turns, each counted; no second holder | {took:.0} s |"
    ))
}

fn client(path: &Path) -> Result<LockClient> {
    // As short as in the case that this is for: what is lost shows within a run.
    let policy = Policy::builder().lease_duration(Duration::from_secs(6));
    let policy = policy.wait(Duration::from_secs(60)).build()?;
    let builder = LockClient::builder(SqliteStore::open(path).map_err(leasehold::Error::from)?);
    Ok(builder.policy(policy).build())
}

/// One turn at the counter, as anybody would take it who trusts in the lock.
async fn turn(client: &LockClient, path: &Path) -> Result<()> {
    let lease = client.acquire("counter").await?;
    let inside = beside(path, ".inside");
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&inside)
        .context("a second holder")?;
    let file = beside(path, ".count");
    let count: u64 = fs::read_to_string(&file)?.parse()?;
    fs::write(&file, (count + 1).to_string())?;
    fs::remove_file(&inside)?;
    let outcome = lease.release().await?;
    ensure!(
        matches!(outcome, leasehold::ReleaseOutcome::Released),
        "a turn was another's: {outcome:?}"
    );
    Ok(())
}

/// Copies and sums up all three files until it is stopped. The sum is there so that every byte is read.
fn read_all(path: &Path, index: usize, stop: &AtomicBool, reads: &AtomicU64) -> Result<()> {
    let copy = beside(path, &format!(".copy-{index}"));
    let mut sum = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        for file in three(path) {
            fs::copy(&file, &copy)?;
            sum = fs::read(&file)?
                .iter()
                .fold(sum, |sum, byte| sum.wrapping_add(u64::from(*byte)));
        }
        reads.fetch_add(1, Ordering::Relaxed);
    }
    std::hint::black_box(sum);
    Ok(())
}

fn place(arguments: &[String]) -> Result<(PathBuf, usize)> {
    match arguments {
        [path, index] => Ok((path.into(), index.parse()?)),
        _ => bail!("started by `leasehold-chaos files`, not by people"),
    }
}

fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?
        .block_on(future)
}

/// A holder, until its standard input ends.
pub(super) fn holder(arguments: &[String]) -> Result<()> {
    let (path, index) = place(arguments)?;
    block_on(async {
        let client = client(&path)?;
        let lease = client.acquire(&format!("held-{index}")).await?;
        println!("ready");
        let stop = Arc::new(AtomicBool::new(false));
        let reads = Arc::new(AtomicU64::new(0));
        let reader = {
            let (path, stop, reads) = (path.clone(), stop.clone(), reads.clone());
            std::thread::spawn(move || read_all(&path, index, &stop, &reads))
        };
        let waiting = stop.clone();
        std::thread::spawn(move || {
            // An end or a failure: no more turns are requested.
            let _ = std::io::stdin().read(&mut [0]);
            waiting.store(true, Ordering::Relaxed);
        });
        let mut turns = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            turn(&client, &path).await?;
            turns += 1;
            ensure!(lease.is_held(), "the lease was lost");
        }
        match reader.join() {
            Ok(done) => done?,
            Err(_) => bail!("the reader panicked"),
        }
        let outcome = lease.release().await?;
        ensure!(
            outcome == leasehold::ReleaseOutcome::Released,
            "the lease was another's: {outcome:?}"
        );
        println!("{turns} {}", reads.load(Ordering::Relaxed));
        Ok(())
    })
}

/// A short process: what is held is held for it, too, and one turn.
pub(super) fn comer(arguments: &[String]) -> Result<()> {
    let (path, holders) = place(arguments)?;
    block_on(async {
        let client = client(&path)?;
        for index in 0..holders {
            let key = format!("held-{index}");
            match client.try_acquire(&key).await? {
                TryAcquireOutcome::Held(_) => {}
                TryAcquireOutcome::Acquired(_) => bail!("a second holder of {key}"),
            }
        }
        turn(&client, &path).await
    })
}

/// What `sqlite3 FILE 'SELECT ..'` does, and at its end tries to clean up.
pub(super) fn shell(arguments: &[String]) -> Result<()> {
    let (path, holders) = place(arguments)?;
    let connection = rusqlite::Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    let held: i64 = connection.query_row(
        "SELECT count(*) FROM locks WHERE key LIKE 'held-%' AND owner IS NOT NULL",
        [],
        |row| row.get(0),
    )?;
    ensure!(
        usize::try_from(held)? == holders,
        "{held} of {holders} are held"
    );
    connection.close().map_err(|(_, error)| error)?;
    Ok(())
}
