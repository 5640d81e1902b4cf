//! What the tests of lock files share.

use std::path::{Path, PathBuf};
use std::time::Duration;

use leasehold::clock::{Clock, OsRandom, Random, SystemClock};
use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::write::{Grant, Write};

pub(crate) fn attempt() -> AttemptId {
    AttemptId::from_random(OsRandom.attempt_bits())
}

/// A grant for an hour.
pub(crate) fn grant(key: &str, attempt: AttemptId, bound_to_process: bool) -> Grant {
    let now = ServiceTime(SystemClock.wall_unix_ms());
    Grant {
        key: key.into(),
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
        bound_to_process,
    }
}

pub(crate) fn acquire(key: &str) -> Write {
    Write::Acquire(grant(key, attempt(), true))
}

/// A directory, and a path in it.
pub(crate) fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("locks.db");
    (directory, path)
}

/// The path of a file that SQLite keeps beside another.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
