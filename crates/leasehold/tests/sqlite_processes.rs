//! Real processes on one lock file: who died is seen at once, who lives is never taken for dead,
//! and nobody loses a write.
//!
//! The test binary runs itself again as the worker; what a worker is to do stands in
//! `LEASEHOLD_TEST_ROLE`. Processes talk over pipes, so that nothing is left to timing.

use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::support::file::{attempt, grant, place};
use leasehold::clock::{Clock, OsRandom, Random, SystemClock};
use leasehold::store::sqlite::SqliteStore;
use leasehold::store::{Consistency, Outcome, Store};
use leasehold::{LockClient, ReleaseOutcome};
use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::queue::Place;
use leasehold_protocol::record::{Record, Seen, State};
use leasehold_protocol::time::{ServiceTime, Stamp};
use leasehold_protocol::write::{Grant, Left, Write};
use rusqlite::Connection;

const PROCESSES: usize = 8;

fn release(key: &str, attempt: AttemptId) -> Write {
    Write::Release {
        left: Left::Nothing,
        held: None,
        key: key.into(),
        attempt,
        token: None,
        ttl_seconds: Some(4_000_000_000),
        passed: Vec::new(),
    }
}

/// A worker, killed and waited for when the test is over, however it ends.
struct Worker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Worker {
    fn start(role: &str, path: &Path) -> Worker {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["sqlite_processes::worker", "--exact", "--nocapture"])
            .env("LEASEHOLD_TEST_ROLE", role)
            .env("LEASEHOLD_TEST_FILE", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a worker");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Worker {
            child,
            input,
            output,
        }
    }

    /// Reads until the worker says `word`; the rest of that line.
    fn says(&mut self, word: &str) -> String {
        let mut line = String::new();
        while self.output.read_line(&mut line).expect("a line") > 0 {
            // The test harness prints on the same line.
            if let Some((_, rest)) = line.split_once(&format!("<{word}>")) {
                return rest.trim().to_owned();
            }
            line.clear();
        }
        panic!("the worker ended and never said `{word}`");
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("told");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(word: &str, rest: impl std::fmt::Display) {
    println!("<{word}>{rest}");
    std::io::stdout().flush().expect("flushed");
}

fn wait_for_a_line() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("a line");
}

#[test]
fn worker() {
    let Ok(role) = std::env::var("LEASEHOLD_TEST_ROLE") else {
        return;
    };
    let path = std::env::var_os("LEASEHOLD_TEST_FILE").expect("a file");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    match role.as_str() {
        "hold bound" | "hold unbound" => {
            let store = SqliteStore::open(path).expect("opened");
            let write = Write::Acquire(grant("k", attempt(), role == "hold bound"));
            let reply = runtime.block_on(store.write(write)).expect("a write");
            assert!(matches!(reply.value, Outcome::Applied(_)));
            say("held", "");
            wait_for_a_line();
        }
        "open" => {
            say("ready", "");
            wait_for_a_line();
            let store = SqliteStore::open(path).expect("opened");
            let me = attempt();
            let key = me.to_string();
            let reply = runtime
                .block_on(store.write(Write::Acquire(grant(&key, me, true))))
                .expect("a write");
            assert!(matches!(reply.value, Outcome::Applied(_)));
            let Some(Stamp::Host(now)) = reply.stamp else {
                panic!("no stamp of this host: {:?}", reply.stamp)
            };
            say("time", now.0);
            wait_for_a_line();
        }
        "wait" => {
            let store = SqliteStore::open(path).expect("opened");
            let reply = runtime.block_on(store.write(join(attempt(), true)));
            let reply = reply.expect("a write");
            assert!(matches!(reply.value, Outcome::Applied(_)));
            say("waits", "");
            wait_for_a_line();
        }
        "adopt" => {
            let store = SqliteStore::open(path).expect("opened");
            let held = runtime.block_on(record(&store));
            let adopted = runtime.block_on(store.write(renewal(&held, 1, true)));
            assert!(matches!(
                adopted.expect("a write").value,
                Outcome::Applied(_)
            ));
            say("adopted", "");
            wait_for_a_line();
        }
        "exec" => {
            let store = SqliteStore::open(path).expect("opened");
            let client = LockClient::builder(store.clone()).build();
            let detached = runtime.block_on(async {
                let write = Write::Acquire(grant("k", attempt(), true));
                store.write(write).await.expect("a write");
                let lease = client.acquire("service").await.expect("a lease");
                lease.detach().await.expect("detached")
            });
            say("held", std::process::id());
            let error = Command::new(std::env::current_exe().expect("this test"))
                .args(["sqlite_processes::worker", "--exact", "--nocapture"])
                .env("LEASEHOLD_TEST_ROLE", "new image")
                .env("LEASEHOLD_TEST_LEASE", detached.to_string())
                .exec();
            panic!("cannot replace itself: {error}");
        }
        "new image" => {
            let store = SqliteStore::open(path).expect("opened");
            let dead = runtime.block_on(in_the_way(&store)).holder_is_dead;
            say("dead", dead);
            let lease = std::env::var("LEASEHOLD_TEST_LEASE").expect("a lease");
            let client = LockClient::builder(store).build();
            let lease = runtime
                .block_on(client.adopt(&lease.parse().expect("an identity")))
                .expect("adopted at once");
            assert!(lease.is_held());
            say("adopted", std::process::id());
            let released = runtime.block_on(lease.release()).expect("released");
            assert!(matches!(released, ReleaseOutcome::Released));
        }
        "count" => {
            let store = SqliteStore::open(&path).expect("opened");
            let counter = Path::new(&path).with_extension("count");
            say("ready", "");
            wait_for_a_line();
            let worst = runtime.block_on(count(&store, &counter));
            say("worst", worst.as_millis());
        }
        other => panic!("unknown role {other}"),
    }
}

const EACH: usize = 500;

async fn count(store: &SqliteStore, counter: &Path) -> Duration {
    let mut worst = Duration::ZERO;
    for _ in 0..EACH {
        let me = attempt();
        let begun = SystemClock.elapsed();
        loop {
            let write = Write::Acquire(grant("counter", me, true));
            match store.write(write).await.expect("a write").value {
                Outcome::Applied(_) => break,
                Outcome::Refused(_) => {
                    let waited = SystemClock.elapsed().since(begun);
                    assert!(waited < Duration::from_secs(30), "starved");
                    // As a client does: between `check_delay` and a few of it.
                    let delay = Duration::from_millis(1).mul_f64(1.0 + 4.0 * OsRandom.fraction());
                    let until = SystemClock.elapsed().plus(delay);
                    SystemClock.sleep_until(until).await;
                }
            }
        }
        worst = worst.max(SystemClock.elapsed().since(begun));
        let before: usize = std::fs::read_to_string(counter)
            .expect("read")
            .parse()
            .expect("a number");
        std::fs::write(counter, (before + 1).to_string()).expect("written");
        let done = store.write(release("counter", me)).await.expect("a write");
        assert!(matches!(done.value, Outcome::Applied(_)));
    }
    worst
}

async fn record(store: &SqliteStore) -> Record {
    let reply = store.read("k", Consistency::Strong).await.expect("a read");
    reply.value.expect("a record")
}

/// The record that a refused acquire shows.
async fn in_the_way(store: &SqliteStore) -> Record {
    let write = Write::Acquire(grant("k", attempt(), true));
    match store.write(write).await.expect("a write").value {
        Outcome::Refused(Some(record)) => record,
        other => panic!("held by somebody: {other:?}"),
    }
}

#[tokio::test]
async fn a_killed_holder_is_dead_at_once() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).expect("opened");
    let mut holder = Worker::start("hold bound", &path);
    holder.says("held");
    assert!(!in_the_way(&store).await.holder_is_dead, "it lives");

    holder.child.kill().expect("killed");
    // Nobody has waited for it: it becomes a zombie, and that is dead enough.
    let killed = SystemClock.elapsed();
    loop {
        if in_the_way(&store).await.holder_is_dead {
            break;
        }
        let waited = SystemClock.elapsed().since(killed);
        assert!(waited < Duration::from_secs(10), "a zombie holds the lock");
    }
    println!("dead after {:?}", SystemClock.elapsed().since(killed));
    holder.child.wait().expect("waited");
    let dead = in_the_way(&store).await;
    assert!(dead.holder_is_dead, "a process that is gone holds the lock");
    let page = store.list("", None).await.expect("a page").value;
    assert!(
        page.records
            .iter()
            .all(|r| r.as_ref().is_ok_and(|r| r.holder_is_dead))
    );

    // And it can be taken over, by which it is alive again.
    let State::Granted(seen) = dead.state() else {
        panic!("granted")
    };
    assert!(matches!(seen, Seen::Native { .. }));
    let me = attempt();
    let done = store
        .write(Write::TakeOver(grant("k", me, true), seen, Vec::new()))
        .await;
    assert!(matches!(done.expect("a write").value, Outcome::Applied(Some(r)) if me.owns(&r)));
    assert!(!record(&store).await.holder_is_dead);
}

#[tokio::test]
async fn a_grant_that_is_not_bound_outlives_its_process() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).expect("opened");
    let mut holder = Worker::start("hold unbound", &path);
    holder.says("held");
    drop(holder);
    assert!(!in_the_way(&store).await.holder_is_dead);
    assert!(!record(&store).await.holder_is_dead);
}

fn join(attempt: AttemptId, bound_to_process: bool) -> Write {
    let (lease, claim) = (Duration::from_secs(60), Duration::from_secs(3));
    Write::Join {
        key: "k".into(),
        place: Place::new(attempt, lease, claim, ServiceTime(i64::MAX)),
        limit: None,
        most: 24,
        bound_to_process,
    }
}

/// A key that this process holds and another waits for, and that other process.
async fn waited_for(path: &Path) -> (SqliteStore, AttemptId, Worker) {
    let store = SqliteStore::open(path).expect("opened");
    let me = attempt();
    let write = Write::Acquire(grant("k", me, true));
    store.write(write).await.expect("a write");
    let mut waiter = Worker::start("wait", path);
    waiter.says("waits");
    (store, me, waiter)
}

#[tokio::test]
async fn the_place_of_a_killed_process_is_gone() {
    let (_directory, path) = place();
    let (store, me, waiter) = waited_for(&path).await;
    let ours = store.write(join(attempt(), true)).await.expect("a write");
    assert!(matches!(ours.value, Outcome::Applied(Some(record)) if record.queue.len() == 2));
    drop(waiter);
    let left = record(&store).await.queue;
    assert_eq!(left.len(), 1, "that of this process: {left:?}");
    let page = store.list("", None).await.expect("a page").value;
    assert!(matches!(&page.records[..], [Ok(record)] if record.queue == left));
    // A release that knows of nobody else is refused by the living one alone.
    let refused = store.write(release("k", me)).await.expect("a write");
    assert!(matches!(refused.value, Outcome::Refused(Some(record)) if record.queue == left));
}

#[tokio::test]
async fn a_grant_that_is_handed_over_is_bound_to_the_process_that_waited() {
    let (_directory, path) = place();
    let (store, me, waiter) = waited_for(&path).await;
    let held = record(&store).await;
    let hand_over = Write::HandOver {
        left: Left::Nothing,
        held: None,
        key: "k".into(),
        attempt: me,
        token: held.token(),
        next: held.queue[0],
        passed: Vec::new(),
        expires_at: held.expires_at,
        ttl_seconds: 4_000_000_000,
        acquired_at: held.expires_at,
    };
    let reply = store.write(hand_over).await.expect("a write");
    assert!(matches!(reply.value, Outcome::Applied(_)));
    assert_eq!(bound_pid(&path), Some(waiter.child.id()));
    assert!(!record(&store).await.holder_is_dead);
    drop(waiter);
    assert!(record(&store).await.holder_is_dead);
}

/// Renews what `before` shows.
fn renewal(before: &Record, by_ms: i64, bound_to_process: bool) -> Write {
    Write::Renew {
        key: "k".into(),
        attempt: before.owner.as_ref().expect("held").parse().expect("an id"),
        token: before.token().expect("ours"),
        expires_at: ServiceTime(before.expires_at.0 + by_ms),
        ttl_seconds: 4_000_000_000,
        bound_to_process,
        lease: None,
        description: None,
    }
}

fn bound_pid(path: &Path) -> Option<u32> {
    Connection::open(path)
        .and_then(|c| c.query_row("SELECT pid FROM locks", [], |row| row.get(0)))
        .expect("asked")
}

#[tokio::test]
async fn b6_a_grant_that_another_process_adopts_is_bound_to_nobody() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).expect("opened");
    let write = Write::Acquire(grant("k", attempt(), true));
    store.write(write).await.expect("a write");
    let held = record(&store).await;
    // Its own renewals leave it bound.
    store.write(renewal(&held, 1, true)).await.expect("a write");
    assert_eq!(bound_pid(&path), Some(std::process::id()));

    let mut adopter = Worker::start("adopt", &path);
    adopter.says("adopted");
    adopter.child.kill().expect("killed");
    adopter.child.wait().expect("waited");
    // The guard in this process lives, so the adopter's death says nothing.
    assert!(!in_the_way(&store).await.holder_is_dead);
    // Nor does this process's, from here on: the adopter might live.
    let renewed = renewal(&held, 10_000, true);
    let done = store.write(renewed).await.expect("a write").value;
    assert!(matches!(done, Outcome::Applied(_)), "{done:?}");
    assert_eq!(bound_pid(&path), None);
}

#[tokio::test]
async fn a_grant_that_was_adopted_outlives_its_first_process() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).expect("opened");
    let mut holder = Worker::start("hold bound", &path);
    holder.says("held");
    let before = record(&store).await;
    store
        .write(renewal(&before, 1, true))
        .await
        .expect("a write");
    drop(holder);
    assert!(!record(&store).await.holder_is_dead);
}

#[test]
fn u7_a_process_that_replaces_itself_hands_its_lease_to_its_new_image() {
    let (_directory, path) = place();
    let mut service = Worker::start("exec", &path);
    let pid = service.says("held");
    // Rule 4 says nothing of the former image: the process lives.
    assert_eq!(service.says("dead"), "false");
    assert_eq!(service.says("adopted"), pid);
    assert!(service.child.wait().expect("waited").success());
}

#[tokio::test]
async fn a_grant_of_an_earlier_boot_is_dead() {
    let (_directory, path) = place();
    let me = attempt();
    let before = {
        let store = SqliteStore::open(&path).expect("opened");
        let write = Write::Acquire(grant("k", me, false));
        store.write(write).await.expect("a write").stamp
    };
    let other = Connection::open(&path).expect("opened");
    other
        .execute_batch("UPDATE locks SET boot_id = 'another'; UPDATE clock SET boot_id = 'another'")
        .expect("spoiled");
    let store = SqliteStore::open(&path).expect("opened");
    assert!(record(&store).await.holder_is_dead);
    // Released, there is no holder to be dead.
    store.write(release("k", me)).await.expect("a write");
    assert!(!record(&store).await.holder_is_dead);
    let after = store
        .read("k", Consistency::Strong)
        .await
        .expect("a read")
        .stamp;
    assert!(before.is_some() && after.is_some());
    let boots: i64 = other
        .query_row("SELECT count(*) FROM clock", [], |row| row.get(0))
        .expect("asked");
    assert_eq!(boots, 1, "earlier boots are forgotten");
}

#[tokio::test]
async fn tokens_grow_past_those_of_deleted_records_whatever_the_clock() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).expect("opened");
    let me = attempt();
    let high = Grant {
        seed: ServiceTime(5_000_000_000_000),
        ..grant("k", me, false)
    };
    store.write(Write::Acquire(high)).await.expect("a write");
    store.write(release("k", me)).await.expect("a write");
    let me = attempt();
    store
        .write(Write::Acquire(grant("k", me, false)))
        .await
        .expect("a write");
    let held = record(&store).await.token().expect("ours");
    assert_eq!(held, 5_000_000_000_002);
    let withdrawn = Write::Withdraw {
        key: "k".into(),
        attempt: me,
        token: held,
    };
    let done = store.write(withdrawn).await.expect("a write").value;
    assert_eq!(done, Outcome::Applied(None));
    // The clock went back; tokens do not.
    store
        .write(Write::Acquire(grant("k", attempt(), false)))
        .await
        .expect("a write");
    assert_eq!(record(&store).await.token(), Some(held + 1));
}

#[test]
fn eight_processes_open_a_new_file_at_once() {
    for round in 0..5 {
        let (_directory, path) = place();
        let mut workers: Vec<Worker> = (0..PROCESSES)
            .map(|_| Worker::start("open", &path))
            .collect();
        for worker in &mut workers {
            worker.says("ready");
        }
        for worker in &mut workers {
            worker.tell("go");
        }
        let times: Vec<i64> = workers
            .iter_mut()
            .map(|w| w.says("time").parse().expect("a time"))
            .collect();
        let spread = times
            .iter()
            .max()
            .zip(times.iter().min())
            .map(|(a, b)| a - b);
        assert!(
            spread < Some(10_000),
            "round {round}: one clock for all: {times:?}"
        );
        for worker in &mut workers {
            worker.tell("end");
            assert!(worker.child.wait().expect("waited").success());
        }
        let keys: i64 = Connection::open(&path)
            .and_then(|c| c.query_row("SELECT count(*) FROM locks", [], |row| row.get(0)))
            .expect("asked");
        assert_eq!(keys, 8, "round {round}");
    }
}

#[test]
fn eight_processes_count_and_lose_nothing() {
    let (_directory, path) = place();
    let counter = path.with_extension("count");
    std::fs::write(&counter, "0").expect("written");
    let mut workers: Vec<Worker> = (0..PROCESSES)
        .map(|_| Worker::start("count", &path))
        .collect();
    for worker in &mut workers {
        worker.says("ready");
    }
    let begun = SystemClock.elapsed();
    for worker in &mut workers {
        worker.tell("go");
    }
    let worst = workers
        .iter_mut()
        .map(|w| w.says("worst").parse::<u64>().expect("milliseconds"))
        .max();
    let took = SystemClock.elapsed().since(begun);
    let counted = std::fs::read_to_string(&counter).expect("read");
    assert_eq!(counted, (PROCESSES * EACH).to_string());
    println!("{counted} in {took:?}, the longest wait was {worst:?} ms");
}
