//! A lock file that will not do is refused when it is opened, with an error that names the path
//! and says what to change; one that goes wrong later loses nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use crate::support::file::{acquire, place};
use leasehold::Effect;
use leasehold::clock::{Clock, SystemClock};
use leasehold::store::sqlite::SqliteStore;
use leasehold::store::{Consistency, Outcome, Store, StoreError, StoreErrorKind};
use leasehold_protocol::write::{Grant, Left, Write};
use rusqlite::Connection;

#[track_caller]
fn refused(path: &Path, kind: StoreErrorKind, words: &[&str]) -> StoreError {
    let error = SqliteStore::open(path).expect_err("must be refused");
    assert_eq!(error.kind, kind, "{error}");
    assert_eq!(error.effect, Effect::NotApplied);
    let said = format!("{error} / {}", error.hint.as_deref().unwrap_or("no hint"));
    for word in words.iter().chain([&&*path.display().to_string()]) {
        assert!(said.contains(word), "`{word}` is missing in: {said}");
    }
    error
}

#[test]
fn a_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    refused(
        directory.path(),
        StoreErrorKind::Configuration,
        &["is a directory", "locks.db"],
    );
}

#[test]
fn a_missing_directory() {
    let (directory, _) = place();
    let path = directory.path().join("no/such/locks.db");
    let parent = directory.path().join("no/such").display().to_string();
    let error = SqliteStore::open(&path).expect_err("must be refused");
    assert!(error.message.contains(&parent) && error.message.contains("does not exist"));
    assert!(error.hint.expect("a hint").contains("mkdir -p"));
}

#[test]
fn not_a_database() {
    let (_directory, path) = place();
    let text = "dear diary, ".repeat(1_000);
    fs::write(&path, &text).expect("written");
    refused(
        &path,
        StoreErrorKind::Configuration,
        &["is not a SQLite database"],
    );
    assert_eq!(
        fs::read_to_string(&path).expect("read"),
        text,
        "and nothing was changed"
    );
}

#[test]
fn the_database_of_another_program() {
    let (_directory, path) = place();
    let other = Connection::open(&path).expect("opened");
    other
        .execute_batch("CREATE TABLE bookmarks (url TEXT)")
        .expect("made");
    refused(&path, StoreErrorKind::Configuration, &["another program"]);
    let mode: String = other
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .expect("asked");
    assert_eq!(mode, "delete", "and nothing was changed");
}

#[test]
fn a_file_of_a_newer_version() {
    let (_directory, path) = place();
    drop(SqliteStore::open(&path).expect("opened"));
    Connection::open(&path)
        .and_then(|c| c.pragma_update(None, "user_version", 99))
        .expect("marked");
    refused(
        &path,
        StoreErrorKind::Configuration,
        &["newer leasehold", "format 99", "update"],
    );
}

#[test]
fn a_file_of_an_older_version() {
    let (_directory, path) = place();
    drop(SqliteStore::open(&path).expect("opened"));
    Connection::open(&path)
        .and_then(|c| c.pragma_update(None, "user_version", 1))
        .expect("marked");
    refused(
        &path,
        StoreErrorKind::Configuration,
        &["older leasehold", "format 1,", "move the file away"],
    );
}

#[test]
fn a_special_file() {
    refused(
        Path::new("/dev/null"),
        StoreErrorKind::Configuration,
        &["not a regular file"],
    );
}

/// Root may write anywhere, so these run in a child that is somebody else.
#[test]
fn what_may_not_be_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let open_to_all = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permitted");
    };
    open_to_all(directory.path(), 0o755);

    // A file that may only be read, in a directory where anyone may write.
    let free = directory.path().join("free");
    fs::create_dir(&free).expect("made");
    open_to_all(&free, 0o777);
    let read_only = free.join("locks.db");
    drop(SqliteStore::open(&read_only).expect("opened"));
    open_to_all(&read_only, 0o444);

    // A directory where nobody may write, with and without a file.
    let closed = directory.path().join("closed");
    fs::create_dir(&closed).expect("made");
    let in_closed = closed.join("locks.db");
    drop(SqliteStore::open(&in_closed).expect("opened"));
    for entry in fs::read_dir(&closed).expect("listed") {
        let path = entry.expect("an entry").path();
        if path != in_closed {
            fs::remove_file(path).expect("removed");
        }
    }
    open_to_all(&in_closed, 0o666);
    open_to_all(&closed, 0o555);

    // A directory below one that nobody may enter.
    let sealed = directory.path().join("sealed");
    fs::create_dir_all(sealed.join("inside")).expect("made");
    open_to_all(&sealed, 0o000);

    for path in [
        read_only,
        in_closed,
        closed.join("new.db"),
        sealed.join("inside/new.db"),
    ] {
        let mut child = Command::new(std::env::current_exe().expect("this test"));
        child
            .args(["sqlite_errors::child_is_denied", "--exact", "--nocapture"])
            .env("LEASEHOLD_TEST_DENIED", &path)
            .current_dir("/");
        if rustix::process::geteuid().is_root() {
            child.uid(65_534).gid(65_534);
        }
        let output = child.output().expect("a child");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}: {said}", path.display());
        assert!(said.contains("denied as it should be"), "{said}");
    }
    open_to_all(&closed, 0o755);
    open_to_all(&sealed, 0o755);
}

#[test]
fn child_is_denied() {
    let Some(path) = std::env::var_os("LEASEHOLD_TEST_DENIED") else {
        return;
    };
    let error = SqliteStore::open(&path).expect_err("must be refused");
    assert_eq!(error.kind, StoreErrorKind::AccessDenied, "{error:?}");
    let parent = Path::new(&path).parent().expect("a parent");
    assert!(
        error.message.contains(&parent.display().to_string()),
        "{error}"
    );
    assert!(
        error.hint.as_deref().is_some_and(|h| h.contains("-wal")),
        "{error:?}"
    );
    println!("denied as it should be");
}

#[tokio::test]
async fn locked_for_too_long() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).expect("opened");
    store.write(acquire("held")).await.expect("a write");
    let other = Connection::open(&path).expect("opened");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");

    let begun = SystemClock.elapsed();
    let error = store.write(acquire("free")).await.expect_err("locked");
    let waited = SystemClock.elapsed().since(begun);
    assert_eq!(
        (error.kind, error.effect),
        (StoreErrorKind::Unavailable, Effect::NotApplied)
    );
    assert!(
        error.message.contains("locked by another process"),
        "{error}"
    );
    assert!(
        error.message.contains(&path.display().to_string()),
        "{error}"
    );
    assert!(error.hint.expect("a hint").contains("fuser"));
    assert!(
        waited >= Duration::from_secs(5) && waited < Duration::from_secs(10),
        "{waited:?}"
    );

    // Reads and refusals need no lock.
    let read = store
        .read("held", Consistency::Strong)
        .await
        .expect("a read");
    assert!(read.value.is_some());
    let refused = store.write(acquire("held")).await.expect("a refusal");
    assert!(matches!(refused.value, Outcome::Refused(Some(_))));

    other.execute_batch("ROLLBACK").expect("unlocked");
    let done = store.write(acquire("free")).await.expect("a write");
    assert!(matches!(done.value, Outcome::Applied(_)));
}

#[tokio::test]
async fn a_full_disk_loses_nothing() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).expect("opened");
    store.write(acquire("before")).await.expect("a write");
    // A file that may not grow is a full disk as far as SQLite is concerned; the limit is of the
    // whole process, so a child does it.
    let output = Command::new("sh")
        .arg("-c")
        .arg("ulimit -f 64; trap '' XFSZ; exec \"$0\" sqlite_errors::child_on_a_full_disk --exact --nocapture")
        .arg(std::env::current_exe().expect("this test"))
        .env("LEASEHOLD_TEST_FULL", &path)
        .output()
        .expect("a child");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("full as it should be"), "{said}");
    let read = store
        .read("before", Consistency::Strong)
        .await
        .expect("a read");
    assert!(read.value.is_some());
    store.write(acquire("after")).await.expect("a write");
}

#[tokio::test]
async fn child_on_a_full_disk() {
    let Some(path) = std::env::var_os("LEASEHOLD_TEST_FULL") else {
        return;
    };
    let store = SqliteStore::open(&path).expect("opened");
    for i in 0..1_000 {
        let Write::Acquire(grant) = acquire(&format!("k{i}")) else {
            unreachable!()
        };
        let large = Write::Acquire(Grant {
            data: Some(vec![1; 4_000].into()),
            ..grant
        });
        if let Err(error) = store.write(large).await {
            let said = format!("{error}: {:?}", error.source);
            assert!(
                said.contains(&Path::new(&path).display().to_string()),
                "{said}"
            );
            assert!(
                matches!(
                    error.kind,
                    StoreErrorKind::Configuration | StoreErrorKind::Unavailable
                ),
                "{said}"
            );
            // It still answers.
            let read = store
                .read("before", Consistency::Strong)
                .await
                .expect("a read");
            assert!(read.value.is_some());
            println!("full as it should be: {said}");
            return;
        }
    }
    panic!("the disk never filled");
}

#[tokio::test]
async fn a_file_deleted_under_us() {
    let (directory, path) = place();
    let store = SqliteStore::open(&path).expect("opened");
    store.write(acquire("k")).await.expect("a write");
    fs::remove_file(&path).expect("removed");
    let newcomer = SqliteStore::open(directory.path().join("locks.db"));
    let error = store.write(acquire("k2")).await.expect_err("deleted");
    assert_eq!(error.kind, StoreErrorKind::Configuration);
    assert!(error.message.contains("deleted while in use"), "{error}");
    assert!(
        error.message.contains(&path.display().to_string()),
        "{error}"
    );
    drop(newcomer);
}

#[tokio::test]
async fn rows_that_another_program_spoiled() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).expect("opened");
    for key in ["a", "b", "c"] {
        store.write(acquire(key)).await.expect("a write");
    }
    let other = Connection::open(&path).expect("opened");
    let spoil = |sql: &str| other.execute(sql, []);
    // The types and checks keep most of it out.
    assert!(spoil("UPDATE locks SET expires_ms = 'soon' WHERE key = 'b'").is_err());
    assert!(spoil("UPDATE locks SET token = -1 WHERE key = 'b'").is_err());
    assert!(spoil("UPDATE locks SET token = NULL WHERE key = 'b'").is_err());
    spoil("UPDATE locks SET owner = CAST(x'ff' AS TEXT) WHERE key = 'b'").expect("spoiled");
    let error = store.write(acquire("b")).await.expect_err("malformed");
    assert_eq!(error.kind, StoreErrorKind::Malformed);
    assert!(
        error.message.contains("`b`") && error.message.contains("ClientId"),
        "{error}"
    );
    let page = store.list("", None).await.expect("a page").value;
    let read: Vec<_> = page.records.iter().map(Result::is_ok).collect();
    assert_eq!(read, [true, false, true]);
}

#[tokio::test]
async fn keys_with_every_byte() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).expect("opened");
    let long = "\0".repeat(1024);
    let keys = ["\0", "a\0b", "a\0c", "a", "a\nb", "\n", &long];
    for key in keys {
        let done = store.write(acquire(key)).await.expect("a write").value;
        assert!(matches!(done, Outcome::Applied(Some(record)) if record.key == key));
    }
    let page = store.list("", None).await.expect("a page").value;
    let listed: Vec<_> = page
        .records
        .into_iter()
        .map(|r| r.expect("read").key)
        .collect();
    let mut sorted = keys.map(str::to_owned).to_vec();
    sorted.sort();
    assert_eq!(listed, sorted);
    for key in ["", &"x".repeat(1025)] {
        let error = store.write(acquire(key)).await.expect_err("no key");
        assert_eq!(error.kind, StoreErrorKind::InvalidInput);
        let error = store
            .read(key, Consistency::Strong)
            .await
            .expect_err("no key");
        assert_eq!(error.kind, StoreErrorKind::InvalidInput);
    }
}

#[test]
fn one_store_serves_one_runtime_after_another() {
    let (_directory, path) = place();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path).expect("opened"));
    for round in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let done = runtime.block_on(store.write(acquire(&format!("k{round}"))));
        assert!(matches!(done.expect("a write").value, Outcome::Applied(_)));
    }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a caller beside the other")]
async fn a_release_whose_caller_has_gone_is_carried_out() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).expect("opened");
    let grant = acquire("held");
    let attempt = match &grant {
        Write::Acquire(grant) => grant.attempt,
        other => panic!("{other:?}"),
    };
    store.write(grant).await.expect("a write");
    let other = Connection::open(&path).expect("opened");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    // The thread waits for the file with this one, and the release behind it is left alone.
    let first = tokio::spawn({
        let store = store.clone();
        async move { store.write(acquire("other")).await }
    });
    tokio::task::yield_now().await;
    let mut release = store.write(Write::Release {
        left: Left::Nothing,
        held: None,
        key: "held".into(),
        attempt,
        token: None,
        ttl_seconds: None,
        passed: Vec::new(),
    });
    let mut context = Context::from_waker(Waker::noop());
    assert!(release.as_mut().poll(&mut context).is_pending());
    drop(release);
    other.execute_batch("ROLLBACK").expect("free");
    assert!(first.await.expect("no panic").is_ok());
    // Behind the release, as it came.
    let record = store
        .read("held", Consistency::Strong)
        .await
        .expect("a read");
    assert_eq!(record.value.expect("a record").owner, None);
}
