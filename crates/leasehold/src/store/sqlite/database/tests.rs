use super::*;
use crate::clock::{Clock, SystemClock};

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
    }
}
