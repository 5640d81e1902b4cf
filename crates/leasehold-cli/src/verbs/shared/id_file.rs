//! The file with the id of a grant: one line, which only its owner may read.
//!
//! It appears complete or not at all. Nothing but an id of the same lock is replaced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use leasehold::{Key, LeaseId};
use rustix::fs::{Access, access};

use crate::exit_codes;
use crate::failure::Failure;

/// More than any id has: a key has at most 1024 bytes.
const MOST: u64 = 4_096;

/// The contents of an id file.
#[derive(Debug)]
pub(crate) enum Contents {
    /// There is no file, or nothing in it.
    Nothing,
    /// An id.
    Id(LeaseId),
    /// Something else.
    Other,
}

/// Reads an id file.
///
/// # Errors
///
/// When it cannot be read.
pub(crate) fn read(path: &Path) -> io::Result<Contents> {
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Contents::Nothing),
        Err(error) => return Err(error),
        // A pipe might never answer.
        Ok(file) if !file.is_file() => return Ok(Contents::Other),
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST).read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).unwrap_or_default();
    Ok(match text.trim() {
        "" if text.is_empty() => Contents::Nothing,
        // A key may end with blanks, but the line ends with one line break.
        _ => match text.strip_suffix('\n').unwrap_or(&text).parse() {
            Ok(id) => Contents::Id(id),
            Err(_) => Contents::Other,
        },
    })
}

/// Refuses a file that could not be written later, or that has something else in it, before anything is locked.
///
/// # Errors
///
/// 64, with the reason.
pub(crate) fn check(path: &Path, key: &Key) -> Result<(), Failure> {
    let refused = |why: String| {
        let message = format!(
            "the id of `{key}` cannot be written to `{}`: {why}",
            path.display()
        );
        Err(Failure::new(exit_codes::USAGE, message)
            .hint("give `--id-file` a new file in a directory that exists"))
    };
    match read(path) {
        Ok(Contents::Nothing) => {}
        Ok(Contents::Id(id)) if id.key() == key => {}
        Ok(Contents::Id(id)) => {
            return refused(format!("it has the id of another lock, `{}`", id.key()));
        }
        Ok(Contents::Other) => return refused("it is something else than an id".to_owned()),
        Err(error) => return refused(error.to_string()),
    }
    match access(directory(path), Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Ok(()),
        Err(error) => refused(error.to_string()),
    }
}

/// Writes an id file in one step.
///
/// # Errors
///
/// When it cannot be written. There is then no file, or the former one.
pub(crate) fn write(path: &Path, id: &LeaseId) -> io::Result<()> {
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    let beside = Beside(directory(path).join(hidden));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside.0)?;
    file.write_all(format!("{id}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside.0, path)
}

/// A file beside the id file, which is gone after the rename. What is left after a failure is removed.
struct Beside(PathBuf);

impl Drop for Beside {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.0);
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
