//! The type of the file system of a directory.

use std::path::Path;

/// Its name, if the system tells.
#[cfg(target_os = "linux")]
pub(super) fn kind(directory: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;

    let device = std::fs::metadata(directory).ok()?.dev();
    let device = (rustix::fs::major(device), rustix::fs::minor(device));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    of_device(&mounts, device)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn kind(_: &Path) -> Option<String> {
    None
}

/// The type of a device in `/proc/self/mountinfo`.
#[cfg(any(target_os = "linux", test))]
fn of_device(mounts: &str, (major, minor): (u32, u32)) -> Option<String> {
    let device = format!("{major}:{minor}");
    mounts.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let kind = source.split(' ').next()?;
        (mount.split(' ').nth(2)? == device).then(|| kind.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_found_by_device() {
        let mounts = "25 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                      90 25 0:44 / /mnt/far rw,nosuid - fuse.sshfs me@far:/ rw\n";
        assert_eq!(of_device(mounts, (253, 0)).as_deref(), Some("ext4"));
        assert_eq!(of_device(mounts, (0, 44)).as_deref(), Some("fuse.sshfs"));
        assert_eq!(of_device(mounts, (0, 4)), None);
    }
}
