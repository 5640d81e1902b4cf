//! A SQLite file: the named one, or the default one with its directory.

mod examine;
mod mounts;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use leasehold::store::sqlite::SqliteStore;

pub(super) use self::examine::examine;
use crate::exit_codes;
use crate::failure::Failure;
use crate::store::url::is_missing;

/// Opens the file, and returns whether it is new. Only the default directory is created: a missing named
/// directory is usually a typing mistake.
pub(super) fn open(path: &Path, of_user: bool) -> Result<(SqliteStore, bool), Failure> {
    if of_user && let Some(directory) = path.parent() {
        // Other users must not read it.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| {
                let message = format!("cannot create `{}`: {error}", directory.display());
                Failure::new(exit_codes::CONFIG, message)
                    .hint("name another place with `--store sqlite:PATH` or LEASEHOLD_STORE")
            })?;
    }
    let new = is_missing(path);
    Ok((SqliteStore::open(path)?, new))
}
