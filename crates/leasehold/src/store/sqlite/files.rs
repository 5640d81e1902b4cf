//! The three files of a lock file, held open by this process beside SQLite.
//!
//! SQLite's locks belong to the process: the close of any descriptor of one of the files, after a copy
//! or a backup, drops all of them. Then other processes delete the log of a file in use, or truncate
//! its shared memory (SIGBUS). So this module holds additional locks ([`ofd`]) on the bytes that SQLite
//! uses:
//!
//! | bytes | held | keeps others from |
//! |---|---|---|
//! | [`SHARED`] of the database | shared, while it is open | deleting `-wal` and `-shm`, leaving the log mode |
//! | [`DMS`] of `-shm` | shared, while it is open | truncating `-shm` |
//! | [`GATE`] of the database | exclusive, for one write or opening | writing at the same time |
//!
//! Only leasehold uses the gate. SQLite's own write lock can also be dropped during a transaction. So
//! every write, checkpoint and opening of every leasehold process takes the gate, and none depends on
//! that lock. One case is left: another program *writes* to the file, or empties its log, during a
//! commit of a process that closes a descriptor at the same moment.
//!
//! A forked child shares the descriptors. If its parent is killed behind the gate, the gate stays
//! locked until the child ends or calls `exec`. That costs time, but no safety.
//!
//! A read needs no gate. A damaged read is repeated behind it. A read that lost its locks may be stale,
//! which is safe: it never ends a grant.
//!
//! Invariants:
//! - The locks are taken before SQLite opens a file, and outlive every connection of this process to
//!   it. Their descriptors are shared, and closed after the last connection.
//! - All processes that have the database open have the same `-shm` open. A second path with another
//!   log (a bind mount of the file, a hard link, a moved file) is refused.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::beside::beside;
use super::error::{configuration, locked, of_io};
use super::ofd::{self, Bytes, Mode};
use super::schema::{APPLICATION, Problem};
use crate::store::StoreError;

/// What SQLite locks to read a database (`SHARED_FIRST` and `SHARED_SIZE`).
const SHARED: Bytes = Bytes {
    start: 0x4000_0002,
    length: 510,
};
/// The byte of `-shm` that every process with the file open locks (`UNIX_SHM_DMS`). The first process
/// invalidates the file, which may be from an earlier boot.
const DMS: Bytes = Bytes {
    start: 128,
    length: 1,
};
/// `WALINDEX_HDR_SIZE`.
const SHM_HEADER: usize = 136;
/// The first byte after the bytes that SQLite locks in a database.
const GATE: Bytes = Bytes {
    start: 0x4000_0200,
    length: 1,
};

/// The files that this process has open. A second opening would share these descriptors.
static OPEN: Mutex<Vec<Open>> = Mutex::new(Vec::new());

#[derive(Debug)]
struct Open {
    files: Arc<Files>,
    connections: usize,
}

fn open_files() -> MutexGuard<'static, Vec<Open>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The identity of a file, independent of its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(file: &fs::Metadata) -> FileId {
        FileId {
            device: file.dev(),
            inode: file.ino(),
        }
    }

    /// The file at a path now.
    pub(super) fn at(path: &Path) -> io::Result<FileId> {
        fs::metadata(path).map(|file| FileId::of(&file))
    }
}

#[derive(Debug)]
struct Files {
    /// Without symbolic links: SQLite puts the other two files beside the real file.
    real: PathBuf,
    database: File,
    id: FileId,
    /// Held open for its lock.
    _shm: File,
    shm_id: FileId,
    /// Whether a thread of this process is behind the gate: they share the descriptor of its lock.
    gate: AtomicBool,
}

/// The open files, for one connection. It must be dropped after the connection.
#[derive(Debug)]
pub(super) struct Held(Arc<Files>);

/// The right to write, until it is dropped.
#[derive(Debug)]
pub(super) struct Gate(Arc<Files>);

/// Opens and locks the files, and creates the database if there is none. It does not wait:
/// [`Problem::Busy`] may pass. `prepare` makes a lock file in log mode from the file at a path, or
/// returns why not.
pub(super) fn enter(
    path: &Path,
    prepare: impl FnOnce(&Path) -> Result<(), Problem>,
) -> Result<(Held, Gate), Problem> {
    let failed = |error| Problem::Fatal(of_io(path, error));
    let meta = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // With the mode of the umask, which the other two files get as well.
            let mut options = OpenOptions::new();
            let made = options.write(true).create(true).truncate(false).open(path);
            made.and_then(|file| file.metadata())
        }
        other => other,
    }
    .map_err(failed)?;
    let real = fs::canonicalize(path).map_err(failed)?;
    check_one_name(path, &real, &meta)?;
    if let Some(held) = Held::known(FileId::of(&meta)) {
        if FileId::at(&beside(&real, "-shm")).ok() != Some(held.0.shm_id) {
            return Err(Problem::Fatal(elsewhere(path)));
        }
        let Some(gate) = held.gate().map_err(failed)? else {
            return Err(Problem::Busy(locked(path)));
        };
        return Ok((held, gate));
    }
    let files = Arc::new(open(path, real, prepare)?);
    let mut open = open_files();
    if open.iter().any(|other| other.files.id == files.id) {
        // Another thread was first.
        return Err(Problem::Busy(locked(path)));
    }
    open.push(Open {
        files: files.clone(),
        connections: 1,
    });
    Ok((Held(files.clone()), Gate(files)))
}

/// Opens the files behind the gate.
fn open(
    path: &Path,
    real: PathBuf,
    prepare: impl FnOnce(&Path) -> Result<(), Problem>,
) -> Result<Files, Problem> {
    let failed = |error| Problem::Fatal(of_io(path, error));
    let busy = || Problem::Busy(locked(path));
    let mut options = OpenOptions::new();
    let database = options.read(true).write(true).open(&real).map_err(failed)?;
    let meta = database.metadata().map_err(failed)?;
    let id = FileId::of(&meta);
    if !ofd::try_lock(&database, GATE, Mode::Exclusive).map_err(failed)? {
        return Err(busy());
    }
    let others = ofd::locked_by_others(&database, SHARED).map_err(failed)?;
    if others == Some(Mode::Exclusive) || FileId::at(&real).ok() != Some(id) {
        return Err(busy());
    }
    // Recovery of a rollback journal needs the whole file: SQLite would wait for our locks.
    let left_over = others.is_none() && beside(&real, "-journal").exists();
    if left_over || !is_in_log_mode(&database).map_err(failed)? {
        prepare(&real)?;
        if !is_in_log_mode(&database).map_err(failed)? {
            return Err(busy());
        }
    }
    // From here on no process deletes the other two files.
    if !ofd::try_lock(&database, SHARED, Mode::Shared).map_err(failed)? {
        return Err(busy());
    }
    let shm_path = beside(&real, "-shm");
    let shm = open_shm(&shm_path, &meta).map_err(failed)?;
    // As in SQLite, the first process locks the byte alone, and then shares it. SQLite truncates
    // the file, which would kill a connection of this program that has lost its locks. An invalid
    // header is enough.
    let granted = match ofd::locked_by_others(&shm, DMS).map_err(failed)? {
        Some(Mode::Exclusive) => false,
        Some(Mode::Shared) => true,
        // A process has the database open, but not this `-shm`. It may be about to close it.
        None if others.is_some() => return Err(Problem::Busy(elsewhere(path))),
        None if ofd::try_lock(&shm, DMS, Mode::Exclusive).map_err(failed)? => {
            shm.write_all_at(&[0; SHM_HEADER], 0).map_err(failed)?;
            true
        }
        None => false,
    };
    let shm_id = FileId::of(&shm.metadata().map_err(failed)?);
    if !granted
        || !ofd::try_lock(&shm, DMS, Mode::Shared).map_err(failed)?
        || FileId::at(&shm_path).ok() != Some(shm_id)
    {
        return Err(busy());
    }
    Ok(Files {
        real,
        database,
        id,
        _shm: shm,
        shm_id,
        gate: AtomicBool::new(true),
    })
}

/// Opens `-shm` with the mode and, as root, the owner of the database: users of the database must be
/// able to write this file, too.
fn open_shm(path: &Path, database: &fs::Metadata) -> io::Result<File> {
    let mode = database.mode() & 0o777;
    let shm = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(mode)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    let meta = shm.metadata()?;
    if meta.len() == 0 && meta.mode() & 0o777 != mode {
        shm.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    if rustix::process::geteuid().is_root() {
        fchown(&shm, Some(database.uid()), Some(database.gid()))?;
    }
    Ok(shm)
}

/// Whether a file is marked as a lock file in log mode.
fn is_in_log_mode(database: &File) -> io::Result<bool> {
    let mut header = [0; 100];
    match database.read_exact_at(&mut header, 0) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
        other => other?,
    }
    let application = [header[68], header[69], header[70], header[71]];
    let ours = i64::from(u32::from_be_bytes(application)) == APPLICATION;
    Ok(ours && header[18] == 2 && header[19] == 2)
}

/// Refuses an existing file with two names.
pub(super) fn check_names(path: &Path) -> Result<(), StoreError> {
    match (fs::metadata(path), fs::canonicalize(path)) {
        (Ok(file), Ok(real)) => check_one_name(path, &real, &file),
        // Missing, or for the opening to report.
        _ => Ok(()),
    }
}

/// Refuses a file with two names, which would have two logs.
fn check_one_name(path: &Path, real: &Path, file: &fs::Metadata) -> Result<(), StoreError> {
    if file.nlink() > 1 {
        return Err(linked(path));
    }
    if is_mount_point(real) {
        return Err(configuration(format!(
            "the lock file `{}` is itself a mount point: by another path it has another `-wal` beside it",
            path.display()
        ))
        .with_hint("mount the directory that has the file, not the file"));
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn is_mount_point(path: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    statx(CWD, path, AtFlags::empty(), StatxFlags::empty())
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

#[cfg(not(target_os = "linux"))]
fn is_mount_point(_path: &Path) -> bool {
    false
}

fn linked(path: &Path) -> StoreError {
    configuration(format!(
        "the lock file `{}` has a second name (a hard link), which has another `-wal` beside it",
        path.display()
    ))
    .with_hint(format!(
        "remove the other one (`find / -xdev -samefile {}`), or use a symbolic link",
        path.display()
    ))
}

fn elsewhere(path: &Path) -> StoreError {
    configuration(format!(
        "the lock file `{}` is in use by another path, with another `-wal` beside it",
        path.display()
    ))
    .with_hint("use it by one path everywhere: a bind mount has the whole directory; do not move or link the file")
}

impl Held {
    /// The open files, if this process has the file open already.
    fn known(id: FileId) -> Option<Held> {
        let mut open = open_files();
        let known = open.iter_mut().find(|open| open.files.id == id)?;
        known.connections += 1;
        Some(Held(known.files.clone()))
    }

    /// The database, without symbolic links.
    pub(super) fn real(&self) -> &Path {
        &self.0.real
    }

    /// Takes the gate, if no other thread or process has it.
    pub(super) fn gate(&self) -> io::Result<Option<Gate>> {
        Gate::of(&self.0)
    }

    /// Fails unless the paths still lead to the three open files, so that new processes use the same.
    pub(super) fn check(&self, path: &Path, wal: FileId, acquires: bool) -> Result<(), StoreError> {
        let files = &self.0;
        let gone = |which: &str| {
            configuration(format!(
                "{which} `{}` was moved, replaced or deleted while in use",
                path.display()
            ))
            .with_hint("restart the processes that use it, and keep it in a directory without automatic clean-up")
        };
        match fs::metadata(path) {
            Ok(file) if FileId::of(&file) != files.id => return Err(gone("the lock file")),
            Ok(file) if acquires && file.nlink() > 1 => return Err(linked(path)),
            Ok(_) => {}
            Err(_) => return Err(gone("the lock file")),
        }
        for (suffix, id) in [("-wal", wal), ("-shm", files.shm_id)] {
            if FileId::at(&beside(&files.real, suffix)).ok() != Some(id) {
                return Err(gone(&format!("the `{suffix}` file of the lock file")));
            }
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut open = open_files();
        if let Some(known) = open.iter_mut().find(|o| Arc::ptr_eq(&o.files, &self.0)) {
            known.connections -= 1;
        }
        open.retain(|open| open.connections > 0);
    }
}

impl Gate {
    fn of(files: &Arc<Files>) -> io::Result<Option<Gate>> {
        if files.gate.swap(true, Ordering::Acquire) {
            return Ok(None);
        }
        // From here on the drop resets the flag, also if the lock is refused.
        let gate = Gate(files.clone());
        let granted = ofd::try_lock(&files.database, GATE, Mode::Exclusive)?;
        Ok(granted.then_some(gate))
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Err(error) = ofd::unlock(&self.0.database, GATE) {
            tracing::error!(%error, "the gate of a lock file cannot be unlocked");
        }
        self.0.gate.store(false, Ordering::Release);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
