//! What a lock file takes from its process, and what happens when the process or the disk has no
//! more to give.

use crate::support;
use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::support::file::{acquire, place};
use async_trait::async_trait;
use leasehold::clock::{Clock, SystemClock};
use leasehold::store::sqlite::SqliteStore;
use leasehold::store::{Consistency, Outcome, Store, StoreError, StoreErrorKind};
use leasehold::{Effect, LockClient, Policy, ReleaseOutcome};
use leasehold_protocol::time::Elapsed;
use rustix::process::{Resource, Rlimit, setrlimit};

/// This process's descriptors of files below a directory.
fn descriptors(directory: &Path) -> usize {
    let open = fs::read_dir("/proc/self/fd").expect("procfs");
    let links = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.filter(|link| link.starts_with(directory)).count()
}

/// Waits on this thread, so that nothing of a runtime on it goes on meanwhile.
#[track_caller]
fn blocking_until(what: &str, condition: impl Fn() -> bool) {
    let limit = SystemClock.elapsed().plus(Duration::from_secs(10));
    while !condition() {
        assert!(SystemClock.elapsed() < limit, "{what}");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn u4_a_dropped_store_leaves_no_descriptor() {
    let (directory, path) = place();
    for round in 0..50 {
        let store = SqliteStore::open(&path).expect("opened");
        let done = store.write(acquire(&format!("k{round}"))).await;
        assert!(matches!(done.expect("a write").value, Outcome::Applied(_)));
        drop(store);
        blocking_until("still open", || descriptors(directory.path()) == 0);
    }
}

#[tokio::test]
async fn u4_a_dropped_client_is_gone_with_its_last_handle() {
    let (directory, path) = place();
    for _ in 0..20 {
        let client = LockClient::new(SqliteStore::open(&path).expect("opened"));
        let lease = client.acquire("k").await.expect("a lease");
        let released = lease.release().await.expect("released");
        assert!(matches!(released, ReleaseOutcome::Released));
        // What has been told to end ends; nothing waits for a time.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        drop(client);
        blocking_until("still open", || descriptors(directory.path()) == 0);
    }
}

/// Runs a test of this file in a process of its own, which a limit is for.
fn child(test: &str, user: Option<u32>) -> String {
    let (directory, path) = place();
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command
        .args([&format!("sqlite_limits::{test}"), "--exact", "--nocapture"])
        .env("LEASEHOLD_TEST_FILE", &path)
        .current_dir("/");
    if let Some(user) = user.filter(|_| rustix::process::geteuid().is_root()) {
        std::os::unix::fs::chown(directory.path(), Some(user), Some(user)).expect("given");
        command.uid(user).gid(user);
    }
    let output = command.output().expect("a child");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{wrong}");
    said
}

fn limited(resource: Resource, to: u64) {
    let limit = Rlimit {
        current: Some(to),
        maximum: Some(to),
    };
    setrlimit(resource, limit).expect("lowered");
}

fn described(error: &StoreError) -> String {
    format!(
        "<{:?} {:?}> {error} / {:?}",
        error.kind, error.effect, error.hint
    )
}

#[test]
fn u4_too_many_open_files_are_named() {
    let said = child("child_without_descriptors", None);
    for words in [
        "Unavailable NotApplied",
        "too many open files",
        "ulimit -n",
        "locks.db",
    ] {
        // Wherever the last one is missing: at our descriptors or at SQLite's.
        for line in said.lines().filter(|line| line.contains('<')) {
            assert!(line.contains(words), "`{words}` is missing in: {line}");
        }
    }
    assert!(said.matches("too many open files").count() >= 4, "{said}");
}

#[test]
fn child_without_descriptors() {
    let Some(path) = std::env::var_os("LEASEHOLD_TEST_FILE") else {
        return;
    };
    drop(SqliteStore::open(&path).expect("opened"));
    let directory = Path::new(&path).parent().expect("a directory");
    blocking_until("still open", || descriptors(directory) == 0);
    limited(Resource::Nofile, 64);
    let mut taken = Vec::new();
    while let Ok(file) = fs::File::open("/dev/null") {
        taken.push(file);
    }
    loop {
        match SqliteStore::open(&path) {
            Ok(_) => break,
            Err(error) => println!("{}", described(&error)),
        }
        taken.pop().expect("some will do");
    }
}

#[test]
fn u4_too_many_threads_are_named() {
    let said = child("child_without_threads", Some(54_005));
    for words in [
        "Unavailable NotApplied",
        "too many threads",
        "ulimit -u",
        "locks.db",
    ] {
        assert!(said.contains(words), "`{words}` is missing in: {said}");
    }
}

#[test]
fn child_without_threads() {
    let Some(path) = std::env::var_os("LEASEHOLD_TEST_FILE") else {
        return;
    };
    limited(Resource::Nproc, 1);
    let error = SqliteStore::open(&path).expect_err("no thread");
    println!("{}", described(&error));
}

/// The host's clock, and a wall clock that can be stepped.
#[derive(Debug, Default)]
struct Stepped {
    by_ms: AtomicI64,
}

#[async_trait]
impl Clock for Stepped {
    fn elapsed(&self) -> Elapsed {
        SystemClock.elapsed()
    }

    fn wall_unix_ms(&self) -> i64 {
        SystemClock.wall_unix_ms() + self.by_ms.load(Ordering::Relaxed)
    }

    fn is_of_host(&self) -> bool {
        true
    }

    async fn sleep_until(&self, at: Elapsed) {
        SystemClock.sleep_until(at).await;
    }
}

#[tokio::test]
async fn b10_a_wall_clock_that_is_stepped_by_an_hour_ends_no_lease() {
    let (_directory, store) = support::sqlite();
    let clock = Arc::new(Stepped::default());
    let policy = Policy::builder().lease_duration(Duration::from_secs(4));
    let client = LockClient::builder(store.clone())
        .clock(clock.clone())
        .policy(policy.build().expect("adds up"))
        .build();
    let lease = client.acquire("k").await.expect("a lease");
    let renewals = async || {
        let reply = store.read("k", Consistency::Strong).await.expect("a read");
        let record = reply.value.expect("a record");
        record.native.expect("ours").renew_count
    };
    for hours in [1, -1] {
        clock.by_ms.fetch_add(hours * 3_600_000, Ordering::Relaxed);
        assert!(lease.is_held(), "after a step of {hours} hours");
        // And it goes on: the renewals, and the once-a-second comparison of the clocks.
        let before = renewals().await;
        while renewals().await < before + 2 {
            assert!(lease.is_held(), "after a step of {hours} hours");
            let soon = SystemClock.elapsed().plus(Duration::from_millis(20));
            SystemClock.sleep_until(soon).await;
        }
    }
    assert!(lease.is_held());
}

/// A file system of its own that can be frozen. It thaws when this is dropped, and when this process
/// ends in any way.
struct Disk {
    directory: tempfile::TempDir,
    thaws: Option<Child>,
}

fn root(script: &str, directory: &Path) -> Command {
    let mut command = if rustix::process::geteuid().is_root() {
        Command::new("sh")
    } else {
        let mut command = Command::new("sudo");
        command.args(["--non-interactive", "sh"]);
        command
    };
    command.args(["-e", "-c", script]).arg(directory);
    command
}

impl Disk {
    fn new() -> Disk {
        let directory = tempfile::tempdir().expect("a directory");
        let make = "cd \"$0\"; truncate -s 32M image; mkfs.ext4 -q image; mkdir disk; \
                    mount -o loop image disk; chmod 777 disk";
        let status = root(make, directory.path()).status().expect("a shell");
        assert!(status.success(), "no disk of our own: {status}");
        Disk {
            directory,
            thaws: None,
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("disk/locks.db")
    }

    fn freeze(&mut self) {
        let freeze = "cd \"$0\"; trap 'fsfreeze -u disk' EXIT; fsfreeze -f disk; echo; read _ || :";
        let mut child = root(freeze, self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let frozen = child.stdout.as_mut().expect("piped").read_exact(&mut [0]);
        self.thaws = Some(child);
        frozen.expect("frozen");
    }

    fn thaw(&mut self) {
        if let Some(mut child) = self.thaws.take() {
            drop(child.stdin.take());
            child.wait().expect("waited");
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.thaw();
        // Who has it open may need a moment yet.
        let _ = root("umount --lazy \"$0\"/disk", self.directory.path()).status();
    }
}

#[tokio::test]
async fn u9_a_disk_that_does_not_answer_takes_few_calls_and_for_a_bounded_time() {
    const CALLS: usize = 5_000;
    let mut disk = Disk::new();
    let store = SqliteStore::open(disk.path()).expect("opened");
    store.write(acquire("before")).await.expect("a write");
    disk.freeze();
    let begun = SystemClock.elapsed();
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..CALLS {
        let store = store.clone();
        calls.spawn(async move { store.write(acquire(&format!("k{n}"))).await });
    }
    let (mut throttled, mut late, mut unknown) = (0, 0, 0);
    while let Some(answer) = calls.join_next().await {
        let error = answer.expect("no panic").expect_err("the disk hangs");
        match (error.kind, error.effect) {
            (StoreErrorKind::Throttled, Effect::NotApplied) => throttled += 1,
            (StoreErrorKind::Unavailable, Effect::NotApplied) => late += 1,
            (StoreErrorKind::Unavailable, Effect::Unknown) => unknown += 1,
            _ => panic!("{}", described(&error)),
        }
    }
    let took = SystemClock.elapsed().since(begun);
    assert!(took < Duration::from_secs(30), "every call ends: {took:?}");
    assert_eq!((throttled + late, unknown), (CALLS - 1, 1), "one had begun");
    assert!(
        throttled > 0 && late > throttled,
        "{throttled} at once, {late} later"
    );
    // The thread may have begun later than all of them; a call more outlasts its patience.
    let one_more = store.read("before", Consistency::Strong).await;
    one_more.expect_err("the disk hangs");
    // From now on at once, and as a test that waits for nothing: polled once.
    let refused = tokio::select! {
        biased;
        answer = store.read("before", Consistency::Strong) => answer,
        () = std::future::ready(()) => panic!("it waits"),
    };
    let error = refused.expect_err("the disk hangs");
    assert!(error.message.contains("has not answered for"), "{error}");
    assert_eq!(error.effect, Effect::NotApplied);

    disk.thaw();
    let limit = SystemClock.elapsed().plus(Duration::from_secs(30));
    while let Err(error) = store.write(acquire("after")).await {
        assert!(SystemClock.elapsed() < limit, "{}", described(&error));
        tokio::task::yield_now().await;
    }
    let page = store.list("", None).await.expect("a page").value;
    // The one of unknown effect may be there, and none of those that were refused.
    assert!((2..=3).contains(&page.records.len()), "{:?}", page.records);
}
