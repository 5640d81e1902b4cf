use std::cell::Cell;
use std::time::Duration;

use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::write::{Grant, Left};
use rusqlite::ffi;

use super::*;
use crate::clock::{Clock, SystemClock};
use crate::store::StoreErrorKind;

fn within(ms: u64) -> Elapsed {
    SystemClock.elapsed().plus(Duration::from_millis(ms))
}

/// An open lock file.
fn lock_file() -> (tempfile::TempDir, PathBuf, Database) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("locks.db");
    let database = Database::open(&path, within(30_000)).expect("opens");
    (directory, path, database)
}

fn attempt(n: u8) -> AttemptId {
    AttemptId::from_random([n; 16])
}

fn acquire(attempt: AttemptId) -> Write {
    let now = ServiceTime(SystemClock.wall_unix_ms());
    Write::Acquire(Grant {
        key: "k".into(),
        attempt,
        expires_at: now.plus(Duration::from_secs(3_600)),
        ttl_seconds: 4_000_000_000,
        ttl_is_guess: false,
        lease: Duration::from_secs(3_600),
        seed: now,
        acquired_at: now,
        holder: "test".into(),
        data: None,
        force: None,
        bound_to_process: true,
    })
}

fn failure(code: std::ffi::c_int) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
}

#[test]
fn what_passes_is_told_from_what_does_not() {
    for code in [ffi::SQLITE_BUSY, ffi::SQLITE_LOCKED, ffi::SQLITE_PROTOCOL] {
        assert!(is_transient(&failure(code)), "{code}");
    }
    for code in [ffi::SQLITE_NOTADB, ffi::SQLITE_CORRUPT, ffi::SQLITE_FULL] {
        assert!(!is_transient(&failure(code)), "{code}");
    }
}

#[test]
fn an_opening_waits_to_its_limit_for_a_file_that_is_in_use() {
    let (_directory, path, database) = lock_file();
    drop(database);
    // Without a log, and used by another program: nobody can give it one.
    let other = Connection::open(&path).expect("opened");
    other
        .pragma_update(None, "journal_mode", "DELETE")
        .expect("alone");
    // SQLite waits for a reader itself, but not for a writer.
    for begin in ["BEGIN IMMEDIATE", "BEGIN; SELECT count(*) FROM locks"] {
        other.execute_batch(begin).expect("free");
        let limit = within(100);
        let error = Database::open(&path, limit).expect_err("in use");
        assert!(SystemClock.elapsed() >= limit, "{error}");
        assert_eq!(error.kind, StoreErrorKind::Unavailable);
        other.execute_batch("ROLLBACK").expect("over");
    }
    assert!(Database::open(&path, within(30_000)).is_ok());
}

#[test]
fn an_opening_does_not_wait_for_what_does_not_pass() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("locks.db");
    std::fs::write(&path, "dear diary, ".repeat(1_000)).expect("written");
    let limit = within(10_000);
    let error = Database::open(&path, limit).expect_err("no database");
    assert!(error.message.contains("not a SQLite database"), "{error}");
    assert!(SystemClock.elapsed() < limit);
}

/// This process may have lost the locks of its reads, and see an old record.
#[test]
fn only_the_refusal_of_a_contender_is_made_without_the_gate() {
    let (_directory, path, mut database) = lock_file();
    database
        .write(acquire(attempt(1)), within(30_000))
        .expect("a write");
    let other = Database::open(&path, within(30_000)).expect("opens");
    let _gate = other.gate().expect("free");
    let refused = database.write(acquire(attempt(2)), within(30_000));
    assert!(matches!(
        refused.expect("at once").value,
        Outcome::Refused(Some(_))
    ));
    let release = Write::Release {
        key: "k".into(),
        attempt: attempt(2),
        token: None,
        ttl_seconds: None,
        passed: Vec::new(),
        held: None,
        left: Left::Nothing,
    };
    let error = database
        .write(release, within(50))
        .expect_err("the gate is taken");
    assert_eq!(error.kind, StoreErrorKind::Unavailable);
}

#[test]
fn a_damaged_read_is_repeated_and_no_other() {
    let (_directory, _, database) = lock_file();
    for (code, reads) in [
        (ffi::SQLITE_CORRUPT, 2),
        (ffi::SQLITE_NOTADB, 2),
        (ffi::SQLITE_IOERR, 1),
        (ffi::SQLITE_FULL, 1),
    ] {
        let read = Cell::new(0);
        let answer = database.reading(|_| {
            read.set(read.get() + 1);
            match read.get() {
                1 => Err(Problem::Sqlite(failure(code))),
                _ => Ok(()),
            }
        });
        assert_eq!((read.get(), answer.is_ok()), (reads, reads == 2), "{code}");
    }
}

#[test]
fn a_page_has_a_next_one_if_there_is_more() {
    let (_directory, _, mut database) = lock_file();
    let mut add = |count: u32| {
        let insert = "INSERT INTO locks (key, expires_ms, token, lease_ms, renew_count)
                      VALUES ('k' || (SELECT count(*) FROM locks), 0, 1, 1, 1)";
        for _ in 0..count {
            database.connection.execute(insert, []).expect("written");
        }
        let page = database
            .list("", None, within(30_000))
            .expect("a page")
            .value;
        (page.records.len(), page.next.is_some())
    };
    assert_eq!(add(PAGE), (PAGE as usize, false));
    assert_eq!(add(1), (PAGE as usize, true));
}

#[test]
fn the_token_of_a_first_grant_is_no_floor_when_it_is_withdrawn() {
    let (_directory, _, mut database) = lock_file();
    let granted = database.write(acquire(attempt(1)), within(30_000));
    let Outcome::Applied(Some(mut record)) = granted.expect("a write").value else {
        panic!("it is free");
    };
    let floor_after = |record: &Record| -> u64 {
        delete(&database.connection, record).expect("deleted");
        let floor = "SELECT value FROM meta WHERE name = 'token_floor'";
        let floor = database
            .connection
            .query_row(floor, [], |row| row.get::<_, i64>(0));
        u64::try_from(floor.expect("there is one")).expect("a token")
    };
    assert_eq!(floor_after(&record), 0);
    // Once it was renewed, its holder has used it.
    record.native.as_mut().expect("ours").renew_count += 1;
    assert_eq!(Some(floor_after(&record)), record.token());
}

#[test]
fn what_is_committed_is_on_the_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("locks.db");
    let soon = SystemClock
        .elapsed()
        .plus(std::time::Duration::from_secs(30));
    let database = Database::open(&path, soon).expect("opens");
    let synchronous: i64 = database
        .connection
        .query_row("PRAGMA synchronous", [], |row| row.get(0))
        .expect("a pragma");
    assert_eq!(
        synchronous, 2,
        "FULL: with less a power cut can hand a token out twice"
    );
}

#[test]
fn the_log_stays_short_and_is_not_emptied_at_the_end() {
    for writes_each in [1, 2] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("locks.db");
        let length = || std::fs::metadata(beside(&path, "-wal")).map_or(0, |log| log.len());
        let mut longest = 0;
        for n in 0..400 / writes_each {
            // No other process has the file open, so the next one reads the log again.
            let soon = SystemClock
                .elapsed()
                .plus(std::time::Duration::from_secs(30));
            let database = Database::open(&path, soon).expect("opens");
            for part in 0..writes_each {
                let token = n * writes_each + part + 1;
                schema::raise_floor(&database.connection, token).expect("writes");
            }
            drop(database);
            assert!(length() > 0, "left to the next");
            longest = longest.max(length());
        }
        assert!(
            longest < u64::from(3 * LOG_BYTES),
            "{longest} with {writes_each} each"
        );
        // A short one is left alone: to copy it costs more than a write.
        let copied_at = u64::from(2 * LOG_BYTES);
        assert!(writes_each > 1 || longest > copied_at, "{longest}");
    }
}
