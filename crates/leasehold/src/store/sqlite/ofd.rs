//! Locks that belong to an open file description (`F_OFD_SETLK`).
//!
//! SQLite uses POSIX locks, which belong to the process. The kernel drops all of them when the process
//! closes *any* descriptor of the file, for example after a copy. A lock of this module lasts until it
//! is unlocked or its descriptor is closed. Both kinds exclude each other, also within one process.
//!
//! Only Linux has these locks. On other systems every lock is granted and protects nothing: the store
//! is then as safe as SQLite itself.

use std::fs::File;
use std::io;

/// A range of bytes. Locks need no content there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bytes {
    pub(super) start: i64,
    pub(super) length: i64,
}

/// How a range is locked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// Shared with other shared locks.
    Shared,
    /// Alone.
    Exclusive,
}

/// Locks a range without waiting, or changes the mode of a held lock. `false` if another lock is in the
/// way.
pub(super) fn try_lock(file: &File, bytes: Bytes, mode: Mode) -> io::Result<bool> {
    platform::try_lock(file, bytes, mode)
}

/// Unlocks a range.
pub(super) fn unlock(file: &File, bytes: Bytes) -> io::Result<()> {
    platform::unlock(file, bytes)
}

/// The mode of another lock on a part of a range, if there is one.
pub(super) fn locked_by_others(file: &File, bytes: Bytes) -> io::Result<Option<Mode>> {
    platform::locked_by_others(file, bytes)
}

#[cfg(target_os = "linux")]
mod platform {
    use std::fs::File;
    use std::io;
    use std::sync::Once;

    use nix::errno::Errno;
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;

    use super::{Bytes, Mode};

    fn description(bytes: Bytes, kind: libc::c_int) -> io::Result<libc::flock> {
        let offset = |n: i64| libc::off_t::try_from(n).map_err(io::Error::other);
        Ok(libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: offset(bytes.start)?,
            l_len: offset(bytes.length)?,
            // Must be zero for locks of this kind.
            l_pid: 0,
        })
    }

    /// Whether the kernel or sandbox does not know these locks.
    fn is_unknown(error: Errno) -> bool {
        static SAID: Once = Once::new();
        let unknown = matches!(error, Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP);
        if unknown {
            SAID.call_once(|| {
                tracing::warn!(
                    "this kernel has no locks of open file descriptions: a process that reads a \
                     lock file that it has in use can lose SQLite's locks"
                );
            });
        }
        unknown
    }

    pub(super) fn try_lock(file: &File, bytes: Bytes, mode: Mode) -> io::Result<bool> {
        let kind = match mode {
            Mode::Shared => libc::F_RDLCK,
            Mode::Exclusive => libc::F_WRLCK,
        };
        match fcntl(file, FcntlArg::F_OFD_SETLK(&description(bytes, kind)?)) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(error) if is_unknown(error) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn unlock(file: &File, bytes: Bytes) -> io::Result<()> {
        let lock = description(bytes, libc::F_UNLCK)?;
        match fcntl(file, FcntlArg::F_OFD_SETLK(&lock)) {
            Ok(_) => Ok(()),
            Err(error) if is_unknown(error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn locked_by_others(file: &File, bytes: Bytes) -> io::Result<Option<Mode>> {
        // A lock in the way of an exclusive one.
        let mut lock = description(bytes, libc::F_WRLCK)?;
        match fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)) {
            Ok(_) => {}
            Err(error) if is_unknown(error) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        Ok(match libc::c_int::from(lock.l_type) {
            libc::F_UNLCK => None,
            libc::F_RDLCK => Some(Mode::Shared),
            _ => Some(Mode::Exclusive),
        })
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::fs::File;
    use std::io;

    use super::{Bytes, Mode};

    pub(super) fn try_lock(_: &File, _: Bytes, _: Mode) -> io::Result<bool> {
        Ok(true)
    }

    pub(super) fn unlock(_: &File, _: Bytes) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn locked_by_others(_: &File, _: Bytes) -> io::Result<Option<Mode>> {
        Ok(None)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    const HERE: Bytes = Bytes {
        start: 100,
        length: 10,
    };

    #[test]
    fn a_lock_outlives_other_descriptors_of_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        let open = || {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false);
            options.open(&path).expect("opened")
        };
        let (first, second) = (open(), open());
        assert!(try_lock(&first, HERE, Mode::Exclusive).expect("locked"));
        drop(open());
        assert!(!try_lock(&second, HERE, Mode::Shared).expect("asked"));
        assert_eq!(
            locked_by_others(&second, HERE).expect("asked"),
            Some(Mode::Exclusive)
        );
        assert_eq!(locked_by_others(&first, HERE).expect("asked"), None);
        assert!(try_lock(&first, HERE, Mode::Shared).expect("downgraded"));
        assert!(try_lock(&second, HERE, Mode::Shared).expect("shared"));
        unlock(&second, HERE).expect("unlocked");
        drop(first);
        assert_eq!(locked_by_others(&second, HERE).expect("asked"), None);
    }
}
