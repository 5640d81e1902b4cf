//! The file with the id of a grant: one line, which only its owner may read. The ids of several locks are lines.
//!
//! It appears complete or not at all. Nothing but ids of the same locks is replaced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use leasehold::LeaseId;
use rustix::fs::{Access, access};

use crate::exit_codes;
use crate::failure::Failure;
use crate::plan::Keys;

/// More than any id has: a key has at most 1024 bytes.
const MOST: u64 = 4_096;

/// The contents of an id file.
#[derive(Debug)]
pub(crate) enum Contents {
    /// There is no file, or nothing in it.
    Nothing,
    /// An id, or those of several locks.
    Ids(Vec<LeaseId>),
    /// Something else.
    Other,
}

impl Contents {
    /// Whether it has exactly these ids.
    pub(crate) fn is(&self, wanted: &[LeaseId]) -> bool {
        matches!(self, Contents::Ids(ids) if ids == wanted)
    }
}

/// Reads the id file of these locks. Of one, the whole file is its id; of several, each line is an id.
///
/// # Errors
///
/// When it cannot be read.
pub(crate) fn read_all(path: &Path, keys: &Keys) -> io::Result<Contents> {
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Contents::Nothing),
        Err(error) => return Err(error),
        // A pipe might never answer.
        Ok(file) if !file.is_file() => return Ok(Contents::Other),
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    let most = MOST * keys.all.len() as u64;
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).unwrap_or_default();
    Ok(match text.trim() {
        "" if text.is_empty() => Contents::Nothing,
        // A key may end with blanks, but the line ends with one line break.
        _ => {
            let text = text.strip_suffix('\n').unwrap_or(&text);
            let ids: Result<Vec<LeaseId>, _> = match keys.are_several() {
                true => text.split('\n').map(str::parse).collect(),
                false => text.parse().map(|id| vec![id]),
            };
            ids.map_or(Contents::Other, Contents::Ids)
        }
    })
}

/// Refuses a file that could not be written later, or that has something else in it, before anything is locked.
///
/// # Errors
///
/// 64, with the reason.
pub(crate) fn check(path: &Path, keys: &Keys) -> Result<(), Failure> {
    let refused = |why: String| {
        let message = format!(
            "the id of `{keys}` cannot be written to `{}`: {why}",
            path.display()
        );
        Err(Failure::new(exit_codes::USAGE, message)
            .hint("give `--id-file` a new file in a directory that exists"))
    };
    match read_all(path, keys) {
        Ok(Contents::Nothing) => {}
        Ok(Contents::Ids(ids)) => {
            if let Some(id) = ids.iter().find(|id| !keys.all.contains(id.key())) {
                return refused(format!("it has the id of another lock, `{}`", id.key()));
            }
        }
        Ok(Contents::Other) => return refused("it is something else than an id".to_owned()),
        Err(error) => return refused(error.to_string()),
    }
    match access(directory(path), Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Ok(()),
        Err(error) => refused(error.to_string()),
    }
}

/// Writes an id file in one step, with each id on a line.
///
/// # Errors
///
/// When it cannot be written. There is then no file, or the former one.
pub(crate) fn write(path: &Path, ids: &[LeaseId]) -> io::Result<()> {
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
    let lines: String = ids.iter().map(|id| format!("{id}\n")).collect();
    file.write_all(lines.as_bytes())?;
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
