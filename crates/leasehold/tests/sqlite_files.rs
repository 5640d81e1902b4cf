//! One lock file, one log: other paths to the same file, files that vanish, and several users.
//!
//! What another user or another mount namespace sees is seen by this binary, run again; what it is
//! to open stands in `LEASEHOLD_TEST_OPEN`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::file::{acquire, beside};
use leasehold::clock::{Clock, SystemClock};
use leasehold::store::sqlite::SqliteStore;
use leasehold::store::{Outcome, Store, StoreError, StoreErrorKind};
use leasehold_protocol::record::Record;
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::write::Write;
use rusqlite::Connection;

async fn acquired(store: &SqliteStore, key: &str) -> Record {
    match store.write(acquire(key)).await.expect("a write").value {
        Outcome::Applied(Some(record)) => record,
        other => panic!("not granted: {other:?}"),
    }
}

/// A directory that every user may enter, with two in it.
fn places() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(directory.path(), open).expect("permitted");
    let [here, there] = ["here", "there"].map(|name| directory.path().join(name));
    for place in [&here, &there] {
        fs::create_dir(place).expect("made");
    }
    (directory, here, there)
}

#[track_caller]
fn refused<T>(answer: Result<T, StoreError>, words: &str) {
    let error = answer.err().expect("must be refused");
    assert_eq!(error.kind, StoreErrorKind::Configuration, "{error:?}");
    assert!(error.message.contains(words), "{error}");
    assert!(error.hint.is_some(), "{error:?}");
}

/// Root does it itself, others by `sudo`: what only root can do is never left out.
fn as_root(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["--non-interactive", "--preserve-env", program]);
    command
}

/// Runs this binary as `child_opens`, through what `command` does last; what it says.
fn child(mut command: Command, path: &Path) -> String {
    let output = command
        .arg(std::env::current_exe().expect("this test"))
        .args(["sqlite_files::child_opens", "--exact", "--nocapture"])
        .env("LEASEHOLD_TEST_OPEN", path)
        .current_dir("/")
        .output()
        .expect("a child");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{wrong}");
    said
}

#[tokio::test]
async fn child_opens() {
    let Some(path) = std::env::var_os("LEASEHOLD_TEST_OPEN") else {
        return;
    };
    let store = match SqliteStore::open(path) {
        Ok(store) => store,
        Err(error) => return println!("refused {:?}: {error} / {:?}", error.kind, error.hint),
    };
    match store.write(acquire("k")).await.expect("a write").value {
        Outcome::Applied(_) => println!("a lock"),
        Outcome::Refused(_) => println!("no lock"),
    }
}

/// The program may have the file open by SQLite itself. Our descriptors drop its locks when they are
/// closed, and the next of us believes to be the first one.
#[tokio::test]
async fn u1_a_connection_of_the_same_program_outlives_stores() {
    let (_directory, here, _) = places();
    let path = here.join("locks.db");
    drop(SqliteStore::open(&path).expect("opened"));
    let own = Connection::open(&path).expect("opened");
    let count = || -> i64 {
        own.query_row("SELECT count(*) FROM locks", [], |row| row.get(0))
            .expect("asked")
    };
    for n in 0..20 {
        assert_eq!(count(), n);
        let store = SqliteStore::open(&path).expect("opened");
        acquired(&store, &format!("k{n}")).await;
        drop(store);
        // A moment in which nobody holds any lock.
        for suffix in ["", "-wal", "-shm"] {
            fs::read(beside(&path, suffix)).expect("read");
        }
    }
}

/// What is left in `-shm` is of no boot that anybody knows.
#[tokio::test]
async fn u1_shared_memory_that_was_left_is_not_believed() {
    let (_directory, here, _) = places();
    let path = here.join("locks.db");
    let store = SqliteStore::open(&path).expect("opened");
    acquired(&store, "k1").await;
    let old = fs::read(beside(&path, "-shm")).expect("read");
    acquired(&store, "k2").await;
    drop(store);
    // The thread that closes it may need a moment.
    let limit = SystemClock.elapsed().plus(Duration::from_secs(10));
    let is_open = |path: &Path| {
        let open = fs::read_dir("/proc/self/fd").expect("procfs");
        let mut links = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        links.any(|link| link == path)
    };
    while is_open(&path) {
        assert!(SystemClock.elapsed() < limit, "still open");
        std::thread::yield_now();
    }
    // As it was on the disk when the power went.
    fs::write(beside(&path, "-shm"), old).expect("written");
    let store = SqliteStore::open(&path).expect("opened");
    let seen = store.write(acquire("k2")).await.expect("a write").value;
    assert!(matches!(seen, Outcome::Refused(Some(_))), "{seen:?}");
}

#[tokio::test]
async fn b9_a_bind_mount_of_the_file_alone_is_refused() {
    let (_directory, here, there) = places();
    let path = here.join("locks.db");
    let store = SqliteStore::open(&path).expect("opened");
    acquired(&store, "k").await;
    let other = there.join("locks.db");
    fs::write(&other, "").expect("a place to mount on");
    let seen = |from: &Path, to: &Path| {
        let mut command = as_root("unshare");
        command.args(["--mount", "sh", "-c"]);
        command.arg("mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"");
        command.arg("sh").arg(from).arg(to);
        child(command, &other)
    };
    // The whole directory has the log, too.
    let said = seen(&here, &there);
    assert!(said.contains("no lock"), "{said}");
    // The file alone has not, also while nobody has it open.
    for store in [Some(store), None] {
        let said = seen(&path, &other);
        assert!(said.contains("refused Configuration"), "{said}");
        assert!(said.contains("is itself a mount point"), "{said}");
        drop(store);
    }
}

#[tokio::test]
async fn b9_a_hard_link_is_refused() {
    let (_directory, here, there) = places();
    let (path, other) = (here.join("locks.db"), there.join("locks.db"));
    let store = SqliteStore::open(&path).expect("opened");
    let held = acquired(&store, "k").await;
    fs::hard_link(&path, &other).expect("linked");
    for name in [&path, &other] {
        refused(SqliteStore::open(name), "a second name");
    }
    refused(store.write(acquire("k2")).await, "a second name");
    // Nobody can come in by the other name, so what is held may be kept.
    let renewal = Write::Renew {
        key: "k".into(),
        attempt: held.owner.as_ref().expect("held").parse().expect("an id"),
        token: held.token().expect("ours"),
        expires_at: ServiceTime(held.expires_at.0 + 1),
        ttl_seconds: 4_000_000_000,
        bound_to_process: true,
        lease: None,
        description: None,
    };
    let renewed = store.write(renewal).await.expect("a write").value;
    assert!(matches!(renewed, Outcome::Applied(_)), "{renewed:?}");
    fs::remove_file(&other).expect("removed");
    acquired(&store, "k2").await;
}

#[tokio::test]
async fn b9_a_directory_link_that_is_flipped_is_noticed() {
    let (directory, here, there) = places();
    let current = directory.path().join("current");
    symlink(&here, &current).expect("linked");
    let path = current.join("locks.db");
    let store = SqliteStore::open(&path).expect("opened");
    acquired(&store, "k").await;
    // By another name and the same directory it is the same file.
    let by_name = SqliteStore::open(here.join("locks.db")).expect("opened");
    let seen = by_name.write(acquire("k")).await.expect("a write").value;
    assert!(matches!(seen, Outcome::Refused(Some(_))), "{seen:?}");

    fs::remove_file(&current).expect("removed");
    symlink(&there, &current).expect("linked");
    acquired(&SqliteStore::open(&path).expect("another file"), "k").await;
    refused(store.write(acquire("k2")).await, "moved, replaced");
    acquired(&by_name, "k2").await;
}

#[tokio::test]
async fn b9_a_file_in_use_by_another_path_is_refused() {
    let (_directory, here, there) = places();
    let (path, other) = (here.join("locks.db"), there.join("locks.db"));
    let store = SqliteStore::open(&path).expect("opened");
    acquired(&store, "k").await;
    fs::rename(&path, &other).expect("moved");
    refused(SqliteStore::open(&other), "in use by another path");
    let said = child(Command::new("env"), &other);
    assert!(said.contains("in use by another path"), "{said}");
    refused(store.write(acquire("k2")).await, "moved, replaced");
    fs::rename(&other, &path).expect("moved back");
    acquired(&store, "k2").await;
}

#[tokio::test]
async fn b9_a_deleted_log_is_noticed() {
    for gone in [&["-wal", "-shm"][..], &["-wal"], &["-shm"]] {
        let (_directory, here, _) = places();
        let path = here.join("locks.db");
        let store = SqliteStore::open(&path).expect("opened");
        acquired(&store, "k").await;
        for suffix in gone {
            fs::remove_file(beside(&path, suffix)).expect("removed");
        }
        refused(store.write(acquire("k2")).await, gone[0]);
    }
}

fn as_user(user: u32, group: u32) -> Command {
    let mut command = as_root("setpriv");
    command
        .args([format!("--reuid={user}"), format!("--regid={user}")])
        .arg(format!("--groups={group}"))
        .args(["sh", "-c", "umask 002; exec \"$@\"", "sh"]);
    command
}

/// Runs as root, whoever runs the tests.
fn root(program: &str, arguments: &[&str]) {
    let status = as_root(program).args(arguments).status().expect("started");
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

#[test]
fn c17_two_users_share_a_file_in_a_directory_of_their_group() {
    const GROUP: u32 = 54_001;
    let (_directory, here, _) = places();
    // As docs/operating.md says.
    let place = here.to_str().expect("readable");
    root("chgrp", &[&GROUP.to_string(), place]);
    root("chmod", &["2775", place]);
    let path = here.join("locks.db");
    let first = child(as_user(54_002, GROUP), &path);
    assert!(first.contains("a lock"), "{first}");
    for suffix in ["", "-wal", "-shm"] {
        let file = fs::metadata(beside(&path, suffix)).expect("there");
        assert_eq!(
            (file.mode() & 0o777, file.gid()),
            (0o664, GROUP),
            "{suffix}"
        );
    }
    // The first one is gone, and its lock with it; the next one may write all three.
    for user in [54_003, 54_002] {
        let next = child(as_user(user, GROUP), &path);
        assert!(next.contains("no lock"), "{next}");
    }
    for suffix in ["-wal", "-shm"] {
        root("rm", &[beside(&path, suffix).to_str().expect("readable")]);
    }
    let anew = child(as_user(54_003, GROUP), &path);
    assert!(!anew.contains("refused"), "{anew}");
    let file = fs::metadata(beside(&path, "-wal")).expect("there");
    assert_eq!((file.mode() & 0o777, file.uid()), (0o664, 54_003));
    // An empty `-shm` of the other user, who was killed in between, is right as it is.
    for suffix in ["-wal", "-shm"] {
        root("rm", &[beside(&path, suffix).to_str().expect("readable")]);
    }
    let mut touch = as_user(54_002, GROUP);
    let touched = touch.arg("touch").arg(beside(&path, "-shm")).status();
    assert!(touched.expect("started").success());
    let next = child(as_user(54_003, GROUP), &path);
    assert!(!next.contains("refused"), "{next}");
}

/// The kernel's setting, put back when the test is over.
struct Protected(String);

const SETTING: &str = "/proc/sys/fs/protected_regular";

impl Protected {
    fn on() -> Protected {
        let before = fs::read_to_string(SETTING).expect("Linux 4.19 or later");
        root("sh", &["-c", &format!("echo 1 > {SETTING}")]);
        Protected(before)
    }
}

impl Drop for Protected {
    fn drop(&mut self) {
        root(
            "sh",
            &["-c", &format!("echo {} > {SETTING}", self.0.trim())],
        );
    }
}

#[test]
fn c18_a_file_that_the_kernel_protects_in_a_sticky_directory_is_named() {
    let _on = Protected::on();
    let (_directory, here, _) = places();
    let place = here.to_str().expect("readable");
    root("chown", &["root", place]);
    root("chmod", &["1777", place]);
    let path = here.join("locks.db");
    let of_user = child(as_user(54_004, 54_004), &path);
    assert!(of_user.contains("a lock"), "{of_user}");
    let of_root = child(as_root("env"), &path);
    for words in [
        "refused AccessDenied",
        "user 54004",
        "fs.protected_regular",
        "/var/lib",
    ] {
        assert!(
            of_root.contains(words),
            "`{words}` is missing in: {of_root}"
        );
    }
}
