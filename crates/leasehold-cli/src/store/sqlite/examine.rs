//! `doctor` for a lock file: its place, rights, names, side files, disk and clock.
//!
//! It creates no lock file and writes no lock record. The checks of the files run on a thread of their own: a disk may never
//! answer. They read metadata only, except for the opening by the library.

use std::fs::{self, Metadata, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use leasehold::clock::{Clock, SystemClock};
use leasehold::store::sqlite::SqliteStore;
use leasehold::store::{Consistency, Store};
use rustix::fs::{Access, AtFlags, CWD, accessat, statvfs};
use tokio::sync::mpsc::{Sender, channel};

use super::mounts;
use crate::exit_codes;
use crate::failure::Failure;
use crate::finding::Finding;
use crate::store::latency::{Latency, SAMPLES};
use crate::store::url::is_missing;
use crate::text::quoted;

/// How long the disk has for the next finding.
const PATIENCE: Duration = Duration::from_secs(10);

/// Below this, writes may soon fail. The file and its log stay below 10 MB with thousands of locks.
const LITTLE_SPACE: u64 = 50 << 20;

/// A log of this size means that something keeps SQLite from emptying it.
const LONG_LOG: u64 = 64 << 20;

/// An fsync above this makes short leases risky.
const SLOW_FSYNC: Duration = Duration::from_millis(200);

/// A lock name for reads. Nothing is written to it.
const PROBE: &str = "leasehold-doctor";

/// What the thread reports.
enum Step {
    Found(Finding),
    Opened(SqliteStore),
}

/// Checks a lock file, which need not exist.
pub(in crate::store) async fn examine(path: &Path, of_user: bool) -> Vec<Finding> {
    let (sender, mut steps) = channel(1);
    let file = path.to_owned();
    let started = thread::Builder::new()
        .name("doctor".to_owned())
        .spawn(move || check(&file, of_user, &sender));
    if let Err(error) = started {
        return vec![Finding::unknown("file", format!("no thread: {error}"))];
    }
    let mut findings = Vec::new();
    loop {
        let late = SystemClock.elapsed().plus(PATIENCE);
        tokio::select! {
            step = steps.recv() => match step {
                Some(Step::Found(finding)) => findings.push(finding),
                Some(Step::Opened(store)) => findings.extend(reads(&store).await),
                None => return findings,
            },
            () = SystemClock.sleep_until(late) => {
                findings.push(no_answer(path));
                return findings;
            }
        }
    }
}

fn no_answer(path: &Path) -> Finding {
    let message = format!(
        "the disk of `{}` did not answer within {PATIENCE:?}",
        path.display()
    );
    Finding::failed(
        "disk",
        Failure::new(exit_codes::UNAVAILABLE, message).hint(format!(
            "check whether it answers: `ls -l {}`, `dmesg`",
            quoted(&path.to_string_lossy())
        )),
    )
}

/// Sends all findings. A receiver that has given up is no error.
fn check(path: &Path, of_user: bool, steps: &Sender<Step>) {
    let send = |finding| {
        let _gone = steps.blocking_send(Step::Found(finding));
    };
    let Some(directory) = existing_directory(path, of_user) else {
        send(match SqliteStore::check_place(path) {
            Err(error) => Finding::failed("place", error.into()),
            Ok(_) => Finding::unknown("place", "the directory cannot be read"),
        });
        return;
    };
    // Directories that are still to be made are in the same file system.
    if path.parent() == Some(&directory)
        && let Err(error) = SqliteStore::check_place(path)
    {
        send(Finding::failed("place", error.into()));
        return;
    }
    let missing = is_missing(path);
    send(existence(path, missing));
    send(file_system(&directory));
    send(directory_rights(&directory));
    if !missing {
        send(file_rights(path));
        send(links(path));
        for finding in side_files(path) {
            send(finding);
        }
    }
    send(space(&directory));
    send(fsync(&directory));
    if missing {
        return;
    }
    match SqliteStore::open(path) {
        Ok(store) => {
            let _gone = steps.blocking_send(Step::Opened(store));
        }
        Err(error) => send(Finding::failed("open", error.into())),
    }
}

/// The directory of the file. The default one is made at the first use, so its nearest ancestor counts.
fn existing_directory(path: &Path, of_user: bool) -> Option<PathBuf> {
    let ancestors = if of_user { usize::MAX } else { 1 };
    let parent = path.parent()?;
    let found = parent.ancestors().take(ancestors).find(|d| d.is_dir());
    found.map(Path::to_owned)
}

fn existence(path: &Path, missing: bool) -> Finding {
    match fs::metadata(path) {
        _ if missing => Finding::ok(
            "file",
            format!(
                "`{}` does not exist yet: the first lock creates it",
                path.display()
            ),
        ),
        Ok(file) => Finding::ok(
            "file",
            format!("`{}` has {} bytes", path.display(), file.len()),
        ),
        Err(error) => Finding::unknown("file", format!("`{}`: {error}", path.display())),
    }
}

fn file_system(directory: &Path) -> Finding {
    match mounts::kind(directory) {
        Some(kind) => Finding::ok("place", format!("a file system of this machine ({kind})")),
        None => Finding::unknown(
            "place",
            "the type of the file system; it must not be one that other machines share",
        ),
    }
}

fn may(path: &Path, access: Access) -> bool {
    accessat(CWD, path, access, AtFlags::EACCESS).is_ok()
}

fn directory_rights(directory: &Path) -> Finding {
    let here = directory.display();
    if !may(directory, Access::WRITE_OK | Access::EXEC_OK) {
        let message = format!(
            "this user may not write to the directory `{here}`, where SQLite keeps two more files"
        );
        return Finding::failed(
            "directory",
            Failure::new(exit_codes::NO_PERMISSION, message).hint(format!(
                "let this user write: `ls -ld {}`, then `chgrp` and `chmod g+ws`",
                quoted(&directory.to_string_lossy())
            )),
        );
    }
    let Ok(meta) = fs::metadata(directory) else {
        return Finding::unknown("directory", format!("the rights of `{here}`"));
    };
    let mode = meta.mode() & 0o7777;
    if mode & 0o1000 != 0 && mode & 0o022 != 0 {
        return Finding::warning(
            "directory",
            format!(
                "`{here}` has the sticky bit (mode {mode:04o}): other users cannot open this user's lock file"
            ),
            "for several users: `install -d -m 2775 -g GROUP DIRECTORY`, and keep the lock file there",
        );
    }
    Finding::ok(
        "directory",
        format!("`{here}` may be written (mode {mode:04o})"),
    )
}

fn file_rights(path: &Path) -> Finding {
    let Ok(meta) = fs::metadata(path) else {
        return Finding::unknown("rights", format!("those of `{}`", path.display()));
    };
    let mode = meta.mode() & 0o7777;
    let shell = quoted(&path.to_string_lossy());
    if !may(path, Access::READ_OK | Access::WRITE_OK) {
        let message = format!(
            "this user may not read and write the lock file (mode {mode:04o}, user {}, group {})",
            meta.uid(),
            meta.gid()
        );
        let failure = Failure::new(exit_codes::NO_PERMISSION, message);
        return Finding::failed(
            "rights",
            failure.hint(format!("let this user: `ls -l {shell}`, then `chmod g+rw`")),
        );
    }
    if mode & 0o002 != 0 {
        return Finding::warning(
            "rights",
            format!("every user may write the lock file (mode {mode:04o})"),
            format!("`chmod o-w {shell}*`"),
        );
    }
    Finding::ok(
        "rights",
        format!("may be read and written (mode {mode:04o})"),
    )
}

/// Hard links and bind mounts are refused with the place.
fn links(path: &Path) -> Finding {
    match fs::canonicalize(path) {
        Ok(real) if real == path => Finding::ok(
            "links",
            "one name: no symbolic link, hard link or bind mount",
        ),
        Ok(real) => Finding::ok(
            "links",
            format!(
                "a symbolic link leads to `{}`, beside which the other two files are",
                real.display()
            ),
        ),
        Err(error) => Finding::unknown("links", error.to_string()),
    }
}

/// The log and the shared memory beside the file.
fn side_files(path: &Path) -> Vec<Finding> {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let beside = |suffix: &str| {
        let mut name = real.clone().into_os_string();
        name.push(suffix);
        PathBuf::from(name)
    };
    let mut findings = Vec::new();
    let meta = |suffix: &str| fs::metadata(beside(suffix)).ok();
    for suffix in ["-wal", "-shm"] {
        let beside = beside(suffix);
        if meta(suffix).is_some() && !may(&beside, Access::READ_OK | Access::WRITE_OK) {
            let message = format!("this user may not read and write `{}`", beside.display());
            let shell = quoted(&beside.to_string_lossy());
            findings.push(Finding::failed(
                "side files",
                Failure::new(exit_codes::NO_PERMISSION, message).hint(format!(
                    "let this user: `ls -l {shell}`, then `chmod g+rw`; use the umask 002"
                )),
            ));
        }
    }
    if !findings.is_empty() {
        return findings;
    }
    let size = |meta: &Metadata| meta.len();
    vec![match (meta("-wal"), meta("-shm")) {
        (Some(log), _) if size(&log) > LONG_LOG => Finding::warning(
            "side files",
            format!(
                "`-wal` has {} MB: a program keeps SQLite from emptying it",
                size(&log) >> 20
            ),
            format!(
                "see who has it open: `fuser -v {}`",
                quoted(&path.to_string_lossy())
            ),
        ),
        (Some(log), Some(_)) => Finding::ok(
            "side files",
            format!(
                "`-wal` ({} bytes) and `-shm` are there, and belong to the lock file",
                size(&log)
            ),
        ),
        (Some(log), None) => Finding::ok(
            "side files",
            format!(
                "`-wal` ({} bytes) is there; `-shm` is made at the next use",
                size(&log)
            ),
        ),
        (None, _) => Finding::warning(
            "side files",
            "`-wal` is missing: if it was deleted or not copied, the latest locks and tokens went with it",
            "keep the three files together, in a directory without automatic clean-up",
        ),
    }]
}

fn space(directory: &Path) -> Finding {
    let Ok(found) = statvfs(directory) else {
        return Finding::unknown("space", "the free space of the disk");
    };
    let bytes = found.f_bavail.saturating_mul(found.f_frsize);
    let no_names = found.f_files > 0 && found.f_favail == 0;
    if bytes < LITTLE_SPACE || no_names {
        let what = if no_names {
            "the disk has no free inodes".to_owned()
        } else {
            format!("the disk has {} MB free", bytes >> 20)
        };
        return Finding::warning(
            "space",
            what,
            format!(
                "make room: `df -h {}`",
                quoted(&directory.to_string_lossy())
            ),
        );
    }
    Finding::ok("space", format!("{} MB free", bytes >> 20))
}

/// How long the disk needs to keep a write, measured on a file of its own that is deleted again.
fn fsync(directory: &Path) -> Finding {
    let path = directory.join(format!(".leasehold-doctor-{}", std::process::id()));
    let measured = timed_writes(&path);
    let _gone = fs::remove_file(&path);
    match measured.map(Latency::of) {
        Ok(Some(latency)) if latency.p90 > SLOW_FSYNC => Finding::warning(
            "fsync",
            format!("slow: {latency}; each acquire and renewal waits for one"),
            "use a faster disk, or leases of a minute and more: `--lease 1m`",
        ),
        Ok(Some(latency)) => Finding::ok("fsync", latency.to_string()),
        Ok(None) => Finding::unknown("fsync", "nothing was measured"),
        Err(error) => Finding::unknown(
            "fsync",
            format!("no file can be made in `{}`: {error}", directory.display()),
        ),
    }
}

fn timed_writes(path: &Path) -> std::io::Result<Vec<Duration>> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    let mut samples = Vec::new();
    for _ in 0..SAMPLES {
        file.write_all(&[0; 4096])?;
        let start = SystemClock.elapsed();
        file.sync_data()?;
        samples.push(SystemClock.elapsed().since(start));
    }
    Ok(samples)
}

/// Reads a key, which shows the clock of the store, too.
async fn reads(store: &SqliteStore) -> Vec<Finding> {
    let mut samples = Vec::new();
    let mut stamp = None;
    for _ in 0..SAMPLES {
        let start = SystemClock.elapsed();
        match store.read(PROBE, Consistency::Strong).await {
            Ok(reply) => stamp = reply.stamp,
            Err(error) => return vec![Finding::failed("read", error.into())],
        }
        samples.push(SystemClock.elapsed().since(start));
    }
    let mut findings = vec![match Latency::of(samples) {
        Some(latency) => Finding::ok("read", latency.to_string()),
        None => Finding::unknown("read", "nothing was measured"),
    }];
    findings.push(if stamp.is_some() {
        Finding::ok(
            "clock",
            "the kernel's clock since the boot, which nobody can set; wall clocks play no part",
        )
    } else {
        Finding::warning(
            "clock",
            "the id of this boot is hidden: a dead holder is watched for its lease, as on a network",
            "show `/proc/sys/kernel/random/boot_id` to this process",
        )
    });
    findings
}
