//! Where this run keeps its files, and what machine it is on.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The address of DynamoDB Local, as `cargo xtask bench` passes it.
pub(crate) fn endpoint() -> Result<String> {
    std::env::var("LEASEHOLD_TEST_DYNAMODB").context(
        "LEASEHOLD_TEST_DYNAMODB is not set: run the benchmarks with `cargo xtask bench`, \
         or start a server with `cargo xtask dynamodb` and set it to its address",
    )
}

/// Cargo's target directory, as `cargo xtask bench` passes it.
pub(crate) fn target() -> Result<PathBuf> {
    let target = std::env::var_os("LEASEHOLD_BENCH_TARGET").context(
        "LEASEHOLD_BENCH_TARGET is not set: run the benchmarks with `cargo xtask bench`",
    )?;
    Ok(target.into())
}

/// The release build of the command, which `cargo xtask bench` makes beside this program.
pub(crate) fn command() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let command = own.with_file_name("leasehold");
    if !command.is_file() {
        bail!(
            "there is no {}: build it with `cargo build --release -p leasehold-cli`",
            command.display()
        );
    }
    Ok(command)
}

/// An empty directory under the target directory, which is on a real disk where the sources are.
/// It is removed when this value is dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let path = target()?
            .join("bench")
            .join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Scratch(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind is small, under target/, and named after a process that is gone.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One line about the machine and what else it is doing.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split(' ').take(3).collect();
    let load = if load.len() == 3 {
        load.join(" ")
    } else {
        "unknown".to_owned()
    };
    let build = if cfg!(debug_assertions) {
        "DEBUG build, times mean nothing"
    } else {
        "release build"
    };
    format!("{cores} cores, load average before the run {load}, {build}.")
}

/// The type and device of the file system that holds a path.
pub(crate) fn file_system(path: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    mount_of(&mounts, &path).unwrap_or_else(|| "unknown file system".to_owned())
}

/// The last mount on the longest mount point above the path is the one that counts.
fn mount_of(mountinfo: &str, path: &Path) -> Option<String> {
    let mut best: Option<(usize, String)> = None;
    for line in mountinfo.lines() {
        let (mount, source) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?;
        let mut source = source.split(' ');
        let (kind, device) = (source.next()?, source.next()?);
        if path.starts_with(point)
            && best
                .as_ref()
                .is_none_or(|(length, _)| point.len() >= *length)
        {
            best = Some((point.len(), format!("{kind} on {device}")));
        }
    }
    best.map(|(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_counts() {
        let mounts = "\
            25 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
            26 25 0:22 / /tmp rw,nosuid - tmpfs tmpfs rw\n\
            27 25 0:22 / /tmpo rw,nosuid - xfs /dev/vdb rw\n";
        let of = |path: &str| mount_of(mounts, Path::new(path));
        assert_eq!(of("/home/x").as_deref(), Some("ext4 on /dev/vda"));
        assert_eq!(of("/tmp/x").as_deref(), Some("tmpfs on tmpfs"));
        assert_eq!(of("/tmpo/x").as_deref(), Some("xfs on /dev/vdb"));
        assert_eq!(mount_of("", Path::new("/")), None);
    }
}
