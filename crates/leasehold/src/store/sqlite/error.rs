//! What SQLite's errors mean for a lock.
//!
//! One place classifies them. Invariant: [`Effect::NotApplied`] is claimed only where the
//! transaction certainly did not commit; a failed `COMMIT` is [`Effect::Unknown`], because a frame
//! that could not be synced may still be found by the next recovery.

use std::path::Path;

use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_LOCK;

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

/// Whether to wait and try again.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// What a failure before `COMMIT` means.
pub(super) fn classify(path: &Path, error: rusqlite::Error) -> StoreError {
    let file = path.display();
    let error_of = |kind, message: String| StoreError::new(kind, Effect::NotApplied, message);
    let classified = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => error_of(
            StoreErrorKind::Unavailable,
            format!("the lock file `{file}` was locked by another process for too long"),
        )
        .with_hint(format!(
            "find who keeps a transaction open on it (`fuser {file}`): no leasehold process does for longer than a write"
        )),
        Some(ErrorCode::NotADatabase) => configuration(format!("`{file}` is not a SQLite database"))
            .with_hint("name another file; leasehold creates it"),
        Some(ErrorCode::DatabaseCorrupt) => {
            configuration(format!("the lock file `{file}` is damaged"))
                .with_hint("stop every process that uses it, then delete it: a new one is created")
        }
        Some(ErrorCode::DiskFull) => {
            configuration(format!("the disk of the lock file `{file}` is full"))
                .with_hint("free some space, or name a file on another disk")
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            denied(format!("the lock file `{file}` cannot be written"))
        }
        Some(ErrorCode::AuthorizationForStatementDenied) => {
            denied(format!("the lock file `{file}` cannot be written"))
        }
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
            format!("the lock file `{file}` answered with something unexpected"),
        ),
    };
    classified.with_source(error)
}

/// What a failed `COMMIT` means.
pub(super) fn classify_commit(path: &Path, error: rusqlite::Error) -> StoreError {
    let busy = is_busy(&error);
    let mut classified = classify(path, error);
    if !busy {
        classified.effect = Effect::Unknown;
    }
    classified
}

/// SQLite says no more than "unable to open": look for the reason.
fn cannot_open(path: &Path) -> StoreError {
    let file = path.display();
    let parent = path.parent().unwrap_or(path);
    #[cfg(unix)]
    {
        use rustix::fs::{Access, access};
        let refused = |place: &Path, how| access(place, how).is_err();
        if path.exists() && refused(path, Access::READ_OK | Access::WRITE_OK) {
            return denied(format!("the lock file `{file}` cannot be read and written"));
        }
        if refused(parent, Access::WRITE_OK | Access::EXEC_OK) {
            return denied(format!(
                "the directory `{}` of the lock file cannot be written",
                parent.display()
            ));
        }
    }
    configuration(format!(
        "the lock file `{file}` cannot be opened in `{}`",
        parent.display()
    ))
    .with_hint("name a file in a local directory that this user may write")
}
