//! The classification of SQLite's errors.
//!
//! Invariant: [`Effect::NotApplied`] means that the transaction certainly did not commit. A failed
//! `COMMIT` is [`Effect::Unknown`], because the next recovery may find a frame that was not synced.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_LOCK;
use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::beside::beside;
use crate::error::Effect;
use crate::store::{StoreError, StoreErrorKind};

pub(super) fn configuration(message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Configuration, Effect::NotApplied, message)
}

pub(super) fn denied(message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::AccessDenied, Effect::NotApplied, message).with_hint(
        "let this user write to the file and to its directory, where SQLite keeps a `-wal` and a \
         `-shm` file beside it, or name another file",
    )
}

/// Another process has locked the file for too long.
pub(super) fn locked(path: &Path) -> StoreError {
    let file = path.display();
    StoreError::new(
        StoreErrorKind::Unavailable,
        Effect::NotApplied,
        format!("the lock file `{file}` was locked by another process for too long"),
    )
    .with_hint(format!(
        "find the program that keeps a transaction open on it (`fuser {file}`): leasehold locks it only for a write"
    ))
}

/// The error of a failed system call on one of the files, which wrote nothing.
pub(super) fn of_io(path: &Path, error: io::Error) -> StoreError {
    let file = path.display();
    if let Some(exhausted) = exhausted(path, &error) {
        return exhausted.with_source(error);
    }
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => cannot_open(path),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => full(path),
        ErrorKind::NotFound | ErrorKind::IsADirectory => cannot_open(path),
        _ => StoreError::new(
            StoreErrorKind::Unavailable,
            Effect::NotApplied,
            format!("reading or writing the lock file `{file}` failed"),
        ),
    }
    .with_source(error)
}

/// The error of a limit of the process or of the machine.
pub(super) fn exhausted(path: &Path, error: &io::Error) -> Option<StoreError> {
    let (what, hint) = match error.raw_os_error().map(Errno::from_raw_os_error)? {
        Errno::MFILE => (
            "this process has too many open files",
            "raise its limit (`ulimit -n`), or open one store and clone it",
        ),
        Errno::NFILE => (
            "this machine has too many open files",
            "raise `sysctl fs.file-max`, or find the programs that have them open (`lsof`)",
        ),
        Errno::AGAIN => (
            "this user or machine has too many threads",
            "raise the limit (`ulimit -u`, the cgroup's `pids.max`), or open one store and clone it",
        ),
        _ => return None,
    };
    Some(
        StoreError::new(
            StoreErrorKind::Unavailable,
            Effect::NotApplied,
            format!(
                "the lock file `{}` cannot be opened: {what}",
                path.display()
            ),
        )
        .with_hint(hint),
    )
}

fn full(path: &Path) -> StoreError {
    configuration(format!(
        "the disk of the lock file `{}` is full",
        path.display()
    ))
    .with_hint("free some space, or name a file on another disk")
}

/// Whether the call may be retried.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// Whether the read data is damaged.
pub(super) fn is_damaged(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

/// The meaning of a failure before `COMMIT`.
pub(super) fn classify(path: &Path, error: rusqlite::Error) -> StoreError {
    let file = path.display();
    let error_of = |kind, message: String| StoreError::new(kind, Effect::NotApplied, message);
    let classified = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => locked(path),
        Some(ErrorCode::NotADatabase) => {
            configuration(format!("`{file}` is not a SQLite database"))
                .with_hint("name another file; leasehold creates it")
        }
        Some(ErrorCode::DatabaseCorrupt) => {
            configuration(format!("the lock file `{file}` is damaged"))
                .with_hint("stop every process that uses it, then delete it: a new one is created")
        }
        Some(ErrorCode::DiskFull) => full(path),
        Some(
            ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::AuthorizationForStatementDenied,
        ) => refused_access(path, format!("the lock file `{file}` cannot be written")),
        Some(ErrorCode::CannotOpen) => cannot_open(path),
        Some(ErrorCode::FileLockingProtocolFailed) => error_of(
            StoreErrorKind::Unavailable,
            format!("the lock file `{file}` could not be locked in time"),
        ),
        Some(ErrorCode::SystemIoFailure)
            if error.sqlite_error().map(|e| e.extended_code) == Some(SQLITE_IOERR_LOCK) =>
        {
            configuration(format!("the file system of `{file}` cannot lock files"))
                .with_hint("put the lock file on a local disk of this machine")
        }
        Some(ErrorCode::SystemIoFailure | ErrorCode::OutOfMemory) => error_of(
            StoreErrorKind::Unavailable,
            format!("reading or writing the lock file `{file}` failed"),
        ),
        Some(ErrorCode::TooBig) => error_of(
            StoreErrorKind::InvalidInput,
            format!("the payload is too large for the lock file `{file}`"),
        ),
        Some(ErrorCode::ConstraintViolation) => error_of(
            StoreErrorKind::InvalidInput,
            format!("the lock file `{file}` does not take such a record"),
        ),
        _ => error_of(
            StoreErrorKind::Other,
            format!("the lock file `{file}` gave an unexpected answer"),
        ),
    };
    classified.with_source(error)
}

/// The meaning of a failed `COMMIT`.
pub(super) fn classify_commit(path: &Path, error: rusqlite::Error) -> StoreError {
    let busy = is_busy(&error);
    let mut classified = classify(path, error);
    if !busy {
        classified.effect = Effect::Unknown;
    }
    classified
}

/// SQLite only reports "unable to open", so this searches for the reason.
fn cannot_open(path: &Path) -> StoreError {
    let file = path.display();
    let parent = path.parent().unwrap_or(path);
    // As many as an open lock file has: the database and `-shm` twice, and `-wal`.
    let descriptors: io::Result<Vec<File>> = (0..5).map(|_| File::open("/dev/null")).collect();
    if let Err(error) = descriptors
        && let Some(exhausted) = exhausted(path, &error)
    {
        return exhausted;
    }
    let refused = |place: &Path, how| access(place, how).is_err();
    if path.exists() && refused(path, Access::READ_OK | Access::WRITE_OK) {
        return refused_access(
            path,
            format!("the lock file `{file}` cannot be read and written"),
        );
    }
    if refused(parent, Access::WRITE_OK | Access::EXEC_OK) {
        return refused_access(
            path,
            format!(
                "the directory `{}` of the lock file cannot be written",
                parent.display()
            ),
        );
    }
    let unknown = configuration(format!(
        "the lock file `{file}` cannot be opened in `{}`",
        parent.display()
    ))
    .with_hint("name a file in a local directory that this user may write");
    protected(path).unwrap_or(unknown)
}

fn refused_access(path: &Path, message: String) -> StoreError {
    protected(path).unwrap_or_else(|| denied(message))
}

/// The error if the kernel refuses this user, root included, a file of another user in a directory
/// like `/tmp` (`fs.protected_regular`).
fn protected(path: &Path) -> Option<StoreError> {
    let level = std::fs::read_to_string("/proc/sys/fs/protected_regular").ok()?;
    let level: u32 = level.trim().parse().ok()?;
    let directory = std::fs::metadata(path.parent()?).ok()?;
    let me = rustix::process::geteuid().as_raw();
    let owner = ["", "-wal", "-shm"]
        .iter()
        .filter_map(|suffix| Some(std::fs::metadata(beside(path, suffix)).ok()?.uid()))
        .find(|owner| is_protected(level, (directory.mode(), directory.uid()), *owner, me))?;
    let message = format!(
        "the lock file `{}` belongs to the user {owner}, and the kernel keeps others, root included, \
         from files in a directory where everyone may write (`fs.protected_regular`)",
        path.display()
    );
    let error = StoreError::new(StoreErrorKind::AccessDenied, Effect::NotApplied, message);
    Some(error.with_hint(
        "name a file in a directory without the sticky bit, such as one under `/var/lib`, or run \
         as the file's owner",
    ))
}

/// `may_create_in_sticky` of the kernel's fs/namei.c.
fn is_protected(level: u32, (mode, directory_owner): (u32, u32), owner: u32, me: u32) -> bool {
    const STICKY: u32 = 0o1000;
    let open_to_many = mode & 0o002 != 0 && level >= 1 || mode & 0o020 != 0 && level >= 2;
    mode & STICKY != 0 && open_to_many && owner != directory_owner && owner != me
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_that_failed_may_have_landed_unless_the_file_was_busy() {
        let failed = |code| {
            let error = rusqlite::ffi::Error::new(code);
            let error = rusqlite::Error::SqliteFailure(error, None);
            classify_commit(Path::new("locks.db"), error).effect
        };
        assert_eq!(failed(rusqlite::ffi::SQLITE_IOERR), Effect::Unknown);
        assert_eq!(failed(rusqlite::ffi::SQLITE_FULL), Effect::Unknown);
        assert_eq!(failed(rusqlite::ffi::SQLITE_BUSY), Effect::NotApplied);
    }

    #[test]
    fn what_the_kernel_protects() {
        let tmp = (0o41_777, 0);
        assert!(is_protected(1, tmp, 1000, 0), "root, too");
        assert!(!is_protected(0, tmp, 1000, 0));
        assert!(!is_protected(1, tmp, 1000, 1000), "one's own");
        assert!(!is_protected(1, tmp, 0, 1000), "the directory's owner's");
        assert!(!is_protected(2, (0o40_777, 0), 1000, 0), "not sticky");
        assert!(
            !is_protected(2, (0o41_755, 0), 1000, 0),
            "its owner's alone"
        );
        let of_a_group = (0o41_770, 0);
        assert!(!is_protected(1, of_a_group, 1000, 0) && is_protected(2, of_a_group, 1000, 0));
    }

    /// Each with its kind and what it says.
    #[test]
    fn what_sqlite_answers_is_told() {
        use StoreErrorKind::{AccessDenied, Configuration, InvalidInput, Other, Unavailable};
        use rusqlite::ffi;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("locks.db");
        for (code, kind, words) in [
            (ffi::SQLITE_BUSY, Unavailable, "locked by another process"),
            (ffi::SQLITE_LOCKED, Unavailable, "locked by another process"),
            (ffi::SQLITE_NOTADB, Configuration, "not a SQLite database"),
            (ffi::SQLITE_CORRUPT, Configuration, "is damaged"),
            (ffi::SQLITE_FULL, Configuration, "is full"),
            (ffi::SQLITE_READONLY, AccessDenied, "cannot be written"),
            (ffi::SQLITE_PERM, AccessDenied, "cannot be written"),
            (ffi::SQLITE_AUTH, AccessDenied, "cannot be written"),
            (ffi::SQLITE_CANTOPEN, Configuration, "cannot be opened in"),
            (ffi::SQLITE_PROTOCOL, Unavailable, "locked in time"),
            (SQLITE_IOERR_LOCK, Configuration, "cannot lock files"),
            (ffi::SQLITE_IOERR_READ, Unavailable, "reading or writing"),
            (ffi::SQLITE_NOMEM, Unavailable, "reading or writing"),
            (ffi::SQLITE_TOOBIG, InvalidInput, "payload is too large"),
            (ffi::SQLITE_CONSTRAINT, InvalidInput, "does not take such"),
            (ffi::SQLITE_MISMATCH, Other, "unexpected answer"),
        ] {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            let damaged = [ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB].contains(&code);
            assert_eq!(is_damaged(&error), damaged, "{code}");
            let told = classify(&path, error);
            assert_eq!(
                (told.kind, told.effect),
                (kind, Effect::NotApplied),
                "{told}"
            );
            assert!(told.message.contains(words), "{told}");
        }
    }

    #[test]
    fn what_the_system_answers_is_told() {
        use StoreErrorKind::{Configuration, Unavailable};
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("locks.db");
        for (errno, kind, words) in [
            (Errno::ACCESS, Configuration, "cannot be opened in"),
            (Errno::ROFS, Configuration, "cannot be opened in"),
            (Errno::NOENT, Configuration, "cannot be opened in"),
            (Errno::ISDIR, Configuration, "cannot be opened in"),
            (Errno::NOSPC, Configuration, "is full"),
            (Errno::DQUOT, Configuration, "is full"),
            (Errno::MFILE, Unavailable, "this process has too many"),
            (Errno::NFILE, Unavailable, "this machine has too many"),
            (Errno::AGAIN, Unavailable, "too many threads"),
            (Errno::IO, Unavailable, "reading or writing"),
        ] {
            let told = of_io(&path, errno.into());
            assert_eq!(
                (told.kind, told.effect),
                (kind, Effect::NotApplied),
                "{told}"
            );
            assert!(told.message.contains(words), "{told}");
        }
    }
}
