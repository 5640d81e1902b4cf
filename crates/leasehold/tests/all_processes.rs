//! Twenty processes acquire random sets of keys, all or none: no deadlock, no overlap, and nothing is left.
//!
//! The workers are this test binary itself, started again with a job in its environment. The witness of each key is
//! outside of the locks: a file that exists while a process works under the key, and a counter that only the lock
//! protects.
#![expect(clippy::disallowed_methods, reason = "real processes need real time")]

use crate::support;
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::support::share;
use leasehold::clock::{Clock, SystemClock};
use leasehold::store::Store;
use leasehold::store::dynamodb::DynamoDbStore;
use leasehold::store::sqlite::SqliteStore;
use leasehold::{Leases, LockClient, LockState, Policy};

const JOB: &str = "LEASEHOLD_TEST_ALL_JOB";
const PROCESSES: u64 = 20;
/// Of each process in a whole run: 1,000 in total.
const CALLS: u64 = 50;
const KEYS: u64 = 10;
/// Each so manyeth call is dropped early.
const DROPS: u64 = 10;
/// A call that takes longer has met a deadlock: all sets together take a minute on DynamoDB Local.
const BOUND: Duration = Duration::from_secs(240);

/// The job of a worker, in its environment.
struct Job {
    number: u64,
    store: String,
    witnesses: PathBuf,
}

impl Job {
    fn from_environment() -> Option<Job> {
        let job = std::env::var(JOB).ok()?;
        let mut parts = job.splitn(3, '|');
        Some(Job {
            number: parts.next()?.parse().ok()?,
            store: parts.next()?.to_owned(),
            witnesses: parts.next()?.into(),
        })
    }

    fn start(&self) -> Worker {
        let job = format!(
            "{}|{}|{}",
            self.number,
            self.store,
            self.witnesses.display()
        );
        let worker = Command::new(std::env::current_exe().expect("this binary"))
            .args(["all_processes::worker", "--exact", "--nocapture"])
            .env(JOB, job)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn();
        Worker(worker.expect("start a worker"))
    }
}

/// A worker, which no failed test leaves behind.
struct Worker(Child);

impl Worker {
    /// What it wrote, and how it ended.
    fn end(&mut self) -> (String, ExitStatus) {
        let mut text = String::new();
        let output = self.0.stdout.as_mut().expect("piped");
        output.read_to_string(&mut text).expect("text");
        (text, self.0.wait().expect("worker ends"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
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
    let policy = Policy::builder().wait(BOUND).build().expect("adds up");
    LockClient::builder(store).policy(policy).build()
}

/// splitmix64: small, and the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    /// Two to four of the keys, in no order.
    fn keys(&mut self) -> Vec<String> {
        let count = 2 + self.below(3);
        let mut keys: Vec<u64> = Vec::new();
        while (keys.len() as u64) < count {
            let key = self.below(KEYS);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys.iter().map(|key| format!("key {key}")).collect()
    }
}

/// Not a test of its own: the entry of the worker processes.
#[tokio::test]
async fn worker() {
    let Some(job) = Job::from_environment() else {
        return;
    };
    let locks = client(&job.store);
    let mut dice = Dice(job.number);
    let (mut worked, mut dropped) = (0, 0);
    for call in 1..=share(CALLS) {
        let keys = dice.keys();
        let acquiring = locks.acquire_all(&keys);
        let all = if call % DROPS == 0 {
            let patience = Duration::from_millis(dice.below(40));
            match tokio::time::timeout(patience, acquiring).await {
                Ok(all) => all,
                Err(_) => {
                    dropped += 1;
                    continue;
                }
            }
        } else {
            acquiring.await
        };
        let all = all.expect("within the bound");
        let held: BTreeSet<&str> = all.tokens().map(|(key, _)| key.as_str()).collect();
        assert_eq!(
            held,
            keys.iter().map(String::as_str).collect(),
            "all or none"
        );
        let pause = Duration::from_millis(dice.below(4));
        work(&all, &job.witnesses, pause).await;
        worked += 1;
        assert!(all.is_held(), "the lease is 20 s");
        let outcomes = all.release().await.expect("works");
        assert!(outcomes.iter().all(|outcome| outcome.is_released()));
    }
    // What the dropped calls have acquired.
    assert!(locks.shutdown(Duration::from_secs(60)).await, "drained");
    println!("worked {worked} dropped {dropped}");
}

/// Works under all keys at once. Another process under one of them is found by its file.
async fn work(all: &Leases, witnesses: &Path, pause: Duration) {
    for (key, token) in all.tokens() {
        let inside = witnesses.join(format!("{key} is held"));
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&inside);
        assert!(made.is_ok(), "another process works under `{key}`");
        let log = witnesses.join(key.as_str());
        let before = fs::read_to_string(&log).unwrap_or_default();
        let last = before
            .lines()
            .last()
            .map(|last| last.parse().expect("a token"));
        assert!(Some(token.get()) > last, "S2: {token} after {last:?}");
        // Without the lock, lines would be lost.
        fs::write(&log, format!("{before}{token}\n")).expect("write");
    }
    tokio::time::sleep(pause).await;
    for (key, _) in all.tokens() {
        fs::remove_file(witnesses.join(format!("{key} is held"))).expect("ours");
    }
}

/// The number behind a word of a worker's output.
fn figure(text: &str, word: &str) -> usize {
    let mut words = text.split_whitespace().skip_while(|found| *found != word);
    let number = words.nth(1).and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("no `{word}` in: {text}"))
}

fn run(store: &str, witnesses: &Path) {
    let began = SystemClock.elapsed();
    let mut workers: Vec<Worker> = (0..PROCESSES)
        .map(|number| {
            let job = Job {
                number,
                store: store.to_owned(),
                witnesses: witnesses.to_owned(),
            };
            job.start()
        })
        .collect();
    let (mut worked, mut dropped) = (0, 0);
    for worker in &mut workers {
        let (text, status) = worker.end();
        assert!(status.success(), "{text}");
        worked += figure(&text, "worked");
        dropped += figure(&text, "dropped");
    }
    let took = SystemClock.elapsed().since(began);
    println!("{worked} sets were held and {dropped} calls dropped in {took:.1?}");
    assert_eq!((worked + dropped) as u64, PROCESSES * share(CALLS));
    assert!(
        dropped as u64 > share(50) / 5,
        "{dropped} calls were dropped while they waited"
    );
    assert!(took < BOUND, "{took:?}");
}

/// Each key is free, and its witness has seen every set of it.
async fn nothing_is_left(locks: &LockClient, witnesses: &Path) {
    let mut grants = 0;
    for key in 0..KEYS {
        let key = format!("key {key}");
        let status = locks.inspect(&key).await.expect("works");
        assert_eq!(*status.state(), LockState::Free, "{status}");
        assert!(!witnesses.join(format!("{key} is held")).exists());
        let log = fs::read_to_string(witnesses.join(&key)).expect("it was held");
        grants += log.lines().count();
    }
    // At least two keys a set, of those that were not dropped.
    let least = 2 * 9 * PROCESSES * share(CALLS) / 10;
    assert!(grants as u64 >= least, "{grants} grants were seen");
    // The whole set is free at once.
    let keys: Vec<String> = (0..KEYS).map(|key| format!("key {key}")).collect();
    let now = locks.policy().to_builder().wait(Duration::ZERO);
    let request = locks.request_all(&keys).expect("keys");
    let request = request.policy(now.build().expect("adds up"));
    let all = request.acquire().await.expect("all are free");
    assert_eq!(all.iter().count(), 10);
    all.release().await.expect("works");
}

#[tokio::test]
async fn twenty_processes_share_a_sqlite_file_without_a_deadlock() {
    let dir = tempfile::tempdir().expect("directory");
    let store = format!("sqlite:{}", dir.path().join("locks.db").display());
    let (path, place) = (dir.path().to_owned(), store.clone());
    let ran = tokio::task::spawn_blocking(move || run(&place, &path)).await;
    ran.expect("ran");
    nothing_is_left(&client(&store), dir.path()).await;
}

#[tokio::test]
async fn twenty_processes_share_a_dynamodb_table_without_a_deadlock() {
    let dir = tempfile::tempdir().expect("directory");
    let store = support::dynamodb().await.table().to_owned();
    let (path, place) = (dir.path().to_owned(), store.clone());
    let ran = tokio::task::spawn_blocking(move || run(&place, &path)).await;
    ran.expect("ran");
    nothing_is_left(&client(&store), dir.path()).await;
}
