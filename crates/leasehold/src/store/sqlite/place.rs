//! Where a lock file may be, checked before SQLite opens it.
//!
//! Invariant: a file that two machines can reach is refused. SQLite's write-ahead log needs shared
//! memory, and the store takes a holder of another boot for dead.
//!
//! The check reads metadata only. To open and close the file would drop the POSIX locks of other
//! connections of this process.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::{configuration, denied};
use crate::store::StoreError;

/// Checks a path and makes it absolute, so that `:memory:` is a file name like any other and a
/// later change of directory changes nothing.
pub(super) fn checked(path: &Path) -> Result<PathBuf, StoreError> {
    if path.as_os_str().is_empty() {
        return Err(configuration("the path of the lock file is empty").with_hint("name a file"));
    }
    let path = std::path::absolute(path).map_err(|e| {
        configuration(format!(
            "the path `{}` cannot be made absolute",
            path.display()
        ))
        .with_source(e)
    })?;
    let here = path.display();
    let Some(parent) = path.parent() else {
        return Err(configuration(format!("`{here}` is a directory"))
            .with_hint("name a file in a local directory"));
    };
    let place = match fs::metadata(&path) {
        Ok(file) if file.is_dir() => {
            return Err(configuration(format!("`{here}` is a directory"))
                .with_hint(format!("name a file in it, such as `{here}/locks.db`")));
        }
        Ok(file) if !file.is_file() => {
            return Err(configuration(format!("`{here}` is not a regular file"))
                .with_hint("name a file in a local directory"));
        }
        Ok(_) => &path,
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            return Err(denied(format!("the lock file `{here}` cannot be accessed")).with_source(e));
        }
        Err(_) => match fs::metadata(parent) {
            Ok(directory) if directory.is_dir() => parent,
            Ok(_) => {
                return Err(
                    configuration(format!("`{}` is not a directory", parent.display()))
                        .with_hint("name a file in a local directory"),
                );
            }
            Err(e) => {
                let missing = format!(
                    "the directory `{}` of the lock file does not exist",
                    parent.display()
                );
                return Err(configuration(missing)
                    .with_hint(format!("create it: `mkdir -p {}`", parent.display()))
                    .with_source(e));
            }
        },
    };
    if let Some(kind) = shared_between_machines(place) {
        return Err(configuration(format!(
            "`{here}` is on a file system that other machines may share ({kind}): SQLite cannot lock there"
        ))
        .with_hint("put the lock file on a local disk of this machine, or use a DynamoDB table for locks between machines"));
    }
    Ok(path)
}

#[cfg(target_os = "linux")]
fn shared_between_machines(place: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;

    // A failure here is no reason to refuse: SQLite reports the problem.
    let magic = rustix::fs::statfs(place).ok()?.f_type as u32;
    match kind_of(magic) {
        Kind::Local => None,
        Kind::Shared(name) => Some(name.to_owned()),
        Kind::Fuse => {
            let device = fs::metadata(place).ok()?.dev();
            let device = (rustix::fs::major(device), rustix::fs::minor(device));
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            shared_fuse(&mounts, device)
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn shared_between_machines(_place: &Path) -> Option<String> {
    None
}

/// The kind of a file system, by its magic number.
#[cfg(any(target_os = "linux", test))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Local,
    Shared(&'static str),
    /// A user-space server, whose type must be looked up.
    Fuse,
}

/// `f_type` of statfs(2), by the numbers of linux/magic.h and of the file systems' own sources.
#[cfg(any(target_os = "linux", test))]
fn kind_of(magic: u32) -> Kind {
    match magic {
        0x6969 => Kind::Shared("nfs"),
        0x517B => Kind::Shared("smb"),
        0xFF53_4D42 => Kind::Shared("cifs"),
        0xFE53_4D42 => Kind::Shared("smb2"),
        0x0102_1997 => Kind::Shared("9p"),
        0x5346_414F | 0x6B41_4653 => Kind::Shared("afs"),
        0x00C3_6400 => Kind::Shared("ceph"),
        0x0BD0_0BD0 => Kind::Shared("lustre"),
        0x0116_1970 => Kind::Shared("gfs2"),
        0x7461_636F => Kind::Shared("ocfs2"),
        0x7375_7245 => Kind::Shared("coda"),
        0x564C => Kind::Shared("ncp"),
        0x4750_4653 => Kind::Shared("gpfs"),
        0x1983_0326 => Kind::Shared("beegfs"),
        0xAAD7_AAEA => Kind::Shared("panfs"),
        0x2003_0528 => Kind::Shared("orangefs"),
        0x786F_4256 => Kind::Shared("vboxsf"),
        0xBACB_ACBC => Kind::Shared("vmhgfs"),
        0x7C7C_6673 => Kind::Shared("prl_fs"),
        0x6573_5546 => Kind::Fuse,
        _ => Kind::Local,
    }
}

/// Whether a FUSE file system serves a local disk. virtiofs, sshfs, s3fs and others are refused:
/// another machine may be behind them.
#[cfg(any(target_os = "linux", test))]
fn is_local_fuse(kind: &str) -> bool {
    matches!(
        kind,
        "fuseblk"
            | "fuse.fuse-overlayfs"
            | "fuse.ntfs-3g"
            | "fuse.bindfs"
            | "fuse.gocryptfs"
            | "fuse.encfs"
    )
}

/// The type of a mounted FUSE file system that other machines may share.
#[cfg(any(target_os = "linux", test))]
fn shared_fuse(mountinfo: &str, device: (u32, u32)) -> Option<String> {
    let kind = type_of_mount(mountinfo, device).unwrap_or("fuse");
    (!is_local_fuse(kind)).then(|| kind.to_owned())
}

/// The file system type of a device in `/proc/self/mountinfo`.
#[cfg(any(target_os = "linux", test))]
fn type_of_mount(mountinfo: &str, (major, minor): (u32, u32)) -> Option<&str> {
    let device = format!("{major}:{minor}");
    mountinfo.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        (mount.split(' ').nth(2)? == device).then(|| source.split(' ').next())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magic_numbers() {
        for (magic, name) in [
            (0x6969, "nfs"),
            (0x517B, "smb"),
            (0xFF53_4D42, "cifs"),
            (0xFE53_4D42, "smb2"),
            (0x0102_1997, "9p"),
            (0x5346_414F, "afs"),
            (0x6B41_4653, "afs"),
            (0x00C3_6400, "ceph"),
            (0x0BD0_0BD0, "lustre"),
            (0x0116_1970, "gfs2"),
            (0x7461_636F, "ocfs2"),
            (0x7375_7245, "coda"),
            (0x564C, "ncp"),
            (0x4750_4653, "gpfs"),
            (0x1983_0326, "beegfs"),
            (0xAAD7_AAEA, "panfs"),
            (0x2003_0528, "orangefs"),
            (0x786F_4256, "vboxsf"),
            (0xBACB_ACBC, "vmhgfs"),
            (0x7C7C_6673, "prl_fs"),
        ] {
            assert_eq!(kind_of(magic), Kind::Shared(name));
        }
        // ext4, xfs, btrfs, tmpfs, overlay, zfs, f2fs.
        for local in [
            0xEF53,
            0x5846_5342,
            0x9123_683E,
            0x0102_1994,
            0x794C_7630,
            0x2FC1_2FC1,
            0xF2F5_2010,
        ] {
            assert_eq!(kind_of(local), Kind::Local);
        }
        assert_eq!(kind_of(0x6573_5546), Kind::Fuse);
    }

    #[test]
    fn fuse_is_refused_unless_it_is_known_to_be_local() {
        let mounts = "\
            25 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
            90 25 0:44 / /mnt/far rw,nosuid shared:9 - fuse.sshfs me@far:/ rw,user_id=0\n\
            91 25 0:45 / /mnt/usb rw - fuseblk /dev/sdb1 rw\n\
            92 25 0:46 / /mnt/host rw - virtiofs host rw\n";
        assert_eq!(type_of_mount(mounts, (253, 0)), Some("ext4"));
        assert_eq!(type_of_mount(mounts, (0, 44)), Some("fuse.sshfs"));
        assert_eq!(type_of_mount(mounts, (0, 4)), None);
        let shared = |device| shared_fuse(mounts, device);
        assert_eq!(shared((0, 45)), None);
        assert_eq!(shared((0, 44)).as_deref(), Some("fuse.sshfs"));
        assert_eq!(shared((0, 46)).as_deref(), Some("virtiofs"));
        assert_eq!(shared((0, 4)).as_deref(), Some("fuse"), "not listed");
    }

    #[test]
    fn paths() {
        let problem = |path: &str| {
            let error = checked(Path::new(path)).expect_err(path);
            assert_eq!(error.kind, crate::store::StoreErrorKind::Configuration);
            error.message
        };
        assert!(problem("").contains("empty"));
        assert!(problem("/").contains("`/` is a directory"));
        assert!(problem("/tmp/..").contains("`/tmp/..` is a directory"));
        let file = tempfile::NamedTempFile::new().expect("a file");
        let file = file.path().to_str().expect("readable");
        let inside = problem(&format!("{file}/x.db"));
        assert!(
            inside.contains(&format!("`{file}` is not a directory")),
            "{inside}"
        );
        assert!(problem("/nonexistent-leasehold/x.db").contains("does not exist"));
        let memory = checked(Path::new(":memory:")).expect("a file name like any other");
        assert!(memory.is_absolute());
    }
}
