//! Forty processes share three slots and are killed at random: never more than three work at once, and the slots of
//! the dead come back.
//!
//! The workers are this test binary itself, started again with a job in its environment. The witness is outside of the
//! locks: a worker sits on one of three files, each locked by the kernel for as long as the process lives. A worker
//! that finds no free file is a fourth.
#![expect(clippy::disallowed_methods, reason = "real processes need real time")]

use crate::support;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::support::share;
use leasehold::clock::{Clock, SystemClock};
use leasehold::store::Store;
use leasehold::store::dynamodb::DynamoDbStore;
use leasehold::store::sqlite::SqliteStore;
use leasehold::{LockClient, Policy};

const JOB: &str = "LEASEHOLD_TEST_SLOTS_JOB";
const KEY: &str = "export";
const SLOTS: u32 = 3;
const PROCESSES: u64 = 40;
/// Of a whole run.
const TAKES: u64 = 2_000;
/// Long beside what a busy machine stops a process for.
const LEASE: Duration = Duration::from_secs(10);
/// What a lease is published longer than it is, for clocks of other hosts.
const PADDING: Duration = Duration::from_secs(1);
/// A whole run takes one to two minutes on two idle cores.
const BOUND: Duration = Duration::from_secs(300);
/// A line of the log: a token of at most 20 digits.
const LINE: u64 = 21;

/// Eighty processes at once would be too many.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The job of a worker, in its environment.
#[derive(Clone)]
struct Job {
    number: u64,
    /// Whether it holds its slot until it is killed.
    holds: bool,
    store: String,
    directory: PathBuf,
}

impl Job {
    fn from_environment() -> Option<Job> {
        let job = std::env::var(JOB).ok()?;
        let mut parts = job.splitn(4, '|');
        Some(Job {
            number: parts.next()?.parse().ok()?,
            holds: parts.next()? == "holds",
            store: parts.next()?.to_owned(),
            directory: parts.next()?.into(),
        })
    }

    fn start(&self) -> Worker {
        let way = if self.holds { "holds" } else { "works" };
        let (number, store) = (self.number, &self.store);
        let job = format!("{number}|{way}|{store}|{}", self.directory.display());
        let mut worker = Command::new(std::env::current_exe().expect("this binary"));
        worker
            .args(["slots_processes::worker", "--exact", "--nocapture"])
            .env(JOB, job);
        worker.stdout(Stdio::piped()).stderr(Stdio::inherit());
        Worker(worker.spawn().expect("start a worker"))
    }

    fn log(&self) -> PathBuf {
        self.directory.join("tokens")
    }

    fn is_done(&self) -> bool {
        std::fs::metadata(self.log()).is_ok_and(|log| log.len() >= share(TAKES) * LINE)
    }

    /// A file to sit on, which nobody alive sits on.
    fn seat(&self) -> Option<File> {
        (0..SLOTS).find_map(|seat| {
            let path = self.directory.join(format!("seat {seat}"));
            let file = OpenOptions::new().create(true).append(true).open(path);
            let file = file.expect("a file");
            file.try_lock().is_ok().then_some(file)
        })
    }
}

/// A worker, which no failed test leaves behind.
struct Worker(Child);

impl Worker {
    /// Ends it as `kill -9` does. It is gone afterwards.
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    fn has_failed(&mut self) -> bool {
        let ended = self.0.try_wait().expect("a child");
        ended.is_some_and(|status| !status.success())
    }

    /// Waits until it holds a slot.
    fn holds(&mut self) {
        let output = BufReader::new(self.0.stdout.take().expect("piped"));
        let mut lines = output.lines().map_while(Result::ok);
        assert!(lines.any(|line| line.ends_with("holds")), "it ended");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

fn client(store: &str) -> LockClient {
    let store: Arc<dyn Store> = match store.strip_prefix("sqlite:") {
        Some(path) => Arc::new(SqliteStore::open(path).expect("open")),
        None => {
            let client = support::client(&support::endpoint());
            Arc::new(DynamoDbStore::new(client, store))
        }
    };
    let policy = Policy::builder().lease_duration(LEASE).wait(BOUND);
    LockClient::builder(store)
        .policy(policy.build().expect("adds up"))
        .build()
}

/// Not a test of its own: the entry of the worker processes.
#[tokio::test]
async fn worker() {
    let Some(job) = Job::from_environment() else {
        return;
    };
    let locks = client(&job.store);
    let mut log = OpenOptions::new().create(true).append(true).open(job.log());
    let log = log.as_mut().expect("a file");
    while !job.is_done() || job.holds {
        let slot = locks.slots(KEY, SLOTS).expect("valid");
        let slot = slot.acquire().await.expect("within the bound");
        let seat = job.seat().expect("S8: a fourth works");
        if job.holds {
            println!("holds");
            std::future::pending::<()>().await;
        }
        // One write of the system for each line: a killed worker leaves no half of one.
        let line = format!("{:>20}\n", slot.token().get());
        log.write_all(line.as_bytes()).expect("written");
        tokio::time::sleep(Duration::from_millis(slot.token().get() % 5)).await;
        assert!(slot.is_held(), "the lease is 10 s");
        drop(seat);
        assert!(slot.release().await.expect("works").is_released());
    }
}

/// What a run has shown.
struct Shown {
    tokens: usize,
    kills: u64,
}

/// Forty workers, of which one is killed and replaced after each so many takes.
fn run(job: &Job, takes_per_kill: u64) -> Shown {
    let began = SystemClock.elapsed();
    let mut job = job.clone();
    let mut workers: Vec<Worker> = (0..PROCESSES)
        .map(|number| {
            job.number = number;
            job.start()
        })
        .collect();
    let takes = |job: &Job| std::fs::metadata(job.log()).map_or(0, |log| log.len() / LINE);
    let mut kills = 0;
    while !job.is_done() {
        let took = SystemClock.elapsed().since(began);
        assert!(took < BOUND, "{} takes in {took:?}", takes(&job));
        std::thread::sleep(Duration::from_millis(5));
        for worker in &mut workers {
            assert!(!worker.has_failed(), "a worker failed, after {kills} kills");
        }
        if takes(&job) < (kills + 1) * takes_per_kill {
            continue;
        }
        // Each in its turn; what it does at this moment is random.
        let victim = usize::try_from(kills % PROCESSES).expect("small");
        workers[victim].kill();
        kills += 1;
        job.number = PROCESSES + kills;
        workers[victim] = job.start();
    }
    let took = SystemClock.elapsed().since(began);
    for worker in &mut workers {
        let status = worker.0.wait().expect("worker ends");
        assert!(status.success(), "{status}");
    }
    let log = std::fs::read_to_string(job.log()).expect("it was written");
    let lines: Vec<&str> = log.lines().collect();
    let tokens: BTreeSet<&str> = lines.iter().copied().collect();
    assert_eq!(tokens.len(), lines.len(), "S2: each take has its own token");
    println!("{} takes and {kills} kills in {took:.1?}", tokens.len());
    Shown {
        tokens: tokens.len(),
        kills,
    }
}

/// Kills the holders of all slots at once. Returns how long it takes until all slots are held again.
async fn all_come_back(job: &Job) -> Duration {
    let locks = client(&job.store);
    let job = Job {
        holds: true,
        ..job.clone()
    };
    let mut holders: Vec<Worker> = (0..SLOTS).map(|_| job.start()).collect();
    let holding = tokio::task::spawn_blocking(move || {
        holders.iter_mut().for_each(Worker::holds);
        holders
    });
    let mut holders = holding.await.expect("all hold");
    let slot = || locks.slots(KEY, SLOTS).expect("valid");
    let refused = slot().try_acquire().await.expect("answered");
    assert!(refused.into_lease().is_none(), "all are held");
    let began = SystemClock.elapsed();
    holders.iter_mut().for_each(Worker::kill);
    let mut slots = Vec::new();
    for _ in 0..SLOTS {
        slots.push(slot().acquire().await.expect("it comes back"));
    }
    let took = SystemClock.elapsed().since(began);
    println!("all slots were back after {took:.1?}");
    let refused = slot().try_acquire().await.expect("answered");
    assert!(refused.into_lease().is_none(), "no more than before");
    for slot in slots {
        assert!(slot.release().await.expect("works").is_released());
    }
    took
}

async fn show(store: String, directory: &Path, takes_per_kill: u64) -> (Shown, Duration) {
    let job = Job {
        number: 0,
        holds: false,
        store,
        directory: directory.to_owned(),
    };
    let running = job.clone();
    let shown = tokio::task::spawn_blocking(move || run(&running, takes_per_kill));
    (shown.await.expect("ran"), all_come_back(&job).await)
}

#[tokio::test]
async fn forty_processes_share_three_slots_of_a_sqlite_file() {
    let _alone = ALONE.lock().await;
    let directory = tempfile::tempdir().expect("directory");
    let store = format!("sqlite:{}", directory.path().join("locks.db").display());
    let (shown, back) = show(store, directory.path(), 20).await;
    assert!(shown.tokens as u64 >= share(TAKES) && shown.kills >= share(TAKES) / 20 - 1);
    // At once: the processes are dead. A lease that has to end takes longer.
    assert!(back < LEASE, "{back:?}");
}

#[tokio::test]
async fn forty_processes_share_three_slots_of_a_dynamodb_table() {
    let _alone = ALONE.lock().await;
    let directory = tempfile::tempdir().expect("directory");
    let store = support::dynamodb().await.table().to_owned();
    let (shown, back) = show(store, directory.path(), 80).await;
    assert!(shown.tokens as u64 >= share(TAKES) && shown.kills > 0);
    // A second after the leases have ended. A busy machine gets two more.
    assert!(back < LEASE + PADDING + Duration::from_secs(3), "{back:?}");
}
