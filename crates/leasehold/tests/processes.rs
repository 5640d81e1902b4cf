//! Many processes, one lock, one counter: nothing is lost.
//!
//! The workers are this test binary itself, started again with a job in its environment. Each
//! increments a counter file with a read, a write and nothing that would protect it but the lock.

use crate::support;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::share;
use leasehold::clock::{Clock, SystemClock};
use leasehold::store::Store;
use leasehold::store::dynamodb::DynamoDbStore;
use leasehold::store::sqlite::SqliteStore;
use leasehold::{LockClient, Policy};

const JOB: &str = "LEASEHOLD_TEST_JOB";

/// What a worker is told, in its environment.
struct Job {
    store: String,
    counter: PathBuf,
    rounds: u64,
}

impl Job {
    fn from_environment() -> Option<Job> {
        let job = std::env::var(JOB).ok()?;
        let mut parts = job.splitn(3, '|');
        Some(Job {
            rounds: parts.next()?.parse().ok()?,
            store: parts.next()?.to_owned(),
            counter: parts.next()?.into(),
        })
    }

    fn start(&self) -> Child {
        let job = format!("{}|{}|{}", self.rounds, self.store, self.counter.display());
        Command::new(std::env::current_exe().expect("this binary"))
            .args(["processes::worker", "--exact", "--nocapture"])
            .env(JOB, job)
            .stdout(Stdio::piped())
            .spawn()
            .expect("start a worker")
    }
}

/// Not a test of its own: the entry of the worker processes.
#[tokio::test]
async fn worker() {
    let Some(job) = Job::from_environment() else {
        return;
    };
    let store: std::sync::Arc<dyn Store> = match job.store.strip_prefix("sqlite:") {
        Some(path) => std::sync::Arc::new(SqliteStore::open(path).expect("open")),
        None => {
            let client = support::client(&support::endpoint());
            std::sync::Arc::new(DynamoDbStore::new(client, job.store.as_str()))
        }
    };
    let policy = Policy::builder().wait(Duration::from_secs(240));
    let locks = LockClient::builder(store)
        .policy(policy.build().expect("adds up"))
        .build();
    let mut worst = Duration::ZERO;
    let mut last = None;
    for _ in 0..job.rounds {
        let start = SystemClock.elapsed();
        let lease = locks.acquire("counter").await.expect("acquired");
        worst = worst.max(SystemClock.elapsed().since(start));
        assert!(Some(lease.token()) > last, "S2: tokens grow");
        last = Some(lease.token());
        increment(&job.counter);
        assert!(lease.is_held());
        assert!(lease.release().await.expect("works").is_released());
    }
    println!("worst-wait-ms {}", worst.as_millis());
}

fn increment(counter: &Path) {
    let text = std::fs::read_to_string(counter).expect("read");
    let n: u64 = text.parse().expect("a number");
    std::fs::write(counter, (n + 1).to_string()).expect("write");
}

fn run(store: String, dir: &Path, processes: u64, rounds: u64) {
    let job = Job {
        store,
        counter: dir.join("counter"),
        rounds,
    };
    std::fs::write(&job.counter, "0").expect("write");
    let start = SystemClock.elapsed();
    let workers: Vec<Child> = (0..processes).map(|_| job.start()).collect();
    let mut worst = 0;
    for worker in workers {
        let output = worker.wait_with_output().expect("worker ends");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}");
        let wait = text
            .lines()
            .find_map(|line| line.split("worst-wait-ms ").nth(1)?.trim().parse().ok());
        worst = worst.max(wait.unwrap_or_else(|| panic!("no figure in: {text}")));
    }
    let total: u64 = std::fs::read_to_string(&job.counter)
        .expect("read")
        .parse()
        .expect("a number");
    assert_eq!(total, processes * rounds, "increments were lost");
    println!(
        "{processes} processes x {rounds} increments: nothing lost, {:.1?} in all, worst single wait {worst} ms",
        SystemClock.elapsed().since(start)
    );
}

#[test]
fn eight_processes_on_one_sqlite_file_lose_nothing() {
    let dir = tempfile::tempdir().expect("directory");
    let store = format!("sqlite:{}", dir.path().join("locks.db").display());
    run(store, dir.path(), 8, share(500));
}

#[tokio::test]
async fn four_processes_on_one_dynamodb_table_lose_nothing() {
    let dir = tempfile::tempdir().expect("directory");
    let store = support::dynamodb().await;
    let (table, path) = (store.table().to_owned(), dir.path().to_owned());
    tokio::task::spawn_blocking(move || run(table, &path, 4, share(100)))
        .await
        .expect("ran");
}
