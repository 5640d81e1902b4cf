//! Which boot of the machine this is, and the clock that counts it.
//!
//! The SQLite store rests on two facts: all processes of one boot share one elapsed clock, and a
//! process of another boot is dead. [`Boot::current`] gives both or neither. It is `None` if the
//! kernel's own boot id cannot be read for certain. The store then knows neither time nor deaths, and
//! leases end by observation only.
//!
//! Invariant: two living processes that see the same file get the same id and the same reading of
//! [`Boot::elapsed_ms`], in any namespaces.
//!
//! The checks are needed: systemd-nspawn and LXC mount another boot id over the kernel's, and a time
//! namespace shifts the clocks that give the time in suspend. Either could make living holders look dead.

use crate::clock::{Clock, SystemClock};

/// The current boot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Boot {
    id: String,
    /// What a time namespace adds to the elapsed clock of this process.
    shift_nanos: i128,
}

impl Boot {
    /// The current boot, if it is known for certain.
    pub(super) fn current() -> Option<Boot> {
        let boot = platform::current();
        if boot.is_none() {
            tracing::debug!("the boot id of this machine is not known for certain");
        }
        boot
    }

    /// The boot id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Milliseconds since the boot, the same in every namespace, rounded down.
    pub(super) fn elapsed_ms(&self) -> i64 {
        let here = i128::try_from(SystemClock.elapsed().0.as_nanos()).unwrap_or(i128::MAX);
        let everywhere = here.saturating_sub(self.shift_nanos);
        i64::try_from(everywhere.div_euclid(1_000_000)).unwrap_or(i64::MAX)
    }
}

#[cfg(target_os = "linux")]
mod platform {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use super::Boot;

    const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
    const PROC_SUPER_MAGIC: u32 = 0x9fa0;
    /// `PROC_TIME_INIT_INO`: the time namespace in which nothing is shifted.
    const FIRST_TIME_NAMESPACE: u64 = 0xEFFF_FFFA;

    pub(super) fn current() -> Option<Boot> {
        read(BOOT_ID)
    }

    pub(super) fn read(path: &str) -> Option<Boot> {
        let mut file = fs::File::open(path).ok()?;
        // A file of another file system was mounted here by a container manager.
        let kind = rustix::fs::fstatfs(&file).ok()?.f_type;
        if kind as u32 != PROC_SUPER_MAGIC {
            return None;
        }
        let mut id = String::new();
        file.read_to_string(&mut id).ok()?;
        let id = id.trim();
        if id.is_empty() {
            return None;
        }
        Some(Boot {
            id: id.to_owned(),
            shift_nanos: shift_of_process(Path::new("/proc/self"))?,
        })
    }

    /// What the time namespace of a process adds, by its directory in `/proc`.
    pub(super) fn shift_of_process(process: &Path) -> Option<i128> {
        let Ok(own) = fs::metadata(process.join("ns/time")) else {
            // A kernel without time namespaces shifts nothing.
            return Some(0);
        };
        if own.ino() == FIRST_TIME_NAMESPACE {
            return Some(0);
        }
        // The offsets that /proc shows are those of the namespace for *children*.
        let children = fs::metadata(process.join("ns/time_for_children")).ok()?;
        if children.ino() != own.ino() {
            return None;
        }
        let offsets = fs::read_to_string(process.join("timens_offsets")).ok()?;
        shift_of(&offsets)
    }

    /// The shift that a namespace adds to the time in suspend, which is the difference of these clocks.
    pub(super) fn shift_of(offsets: &str) -> Option<i128> {
        Some(offset(offsets, "boottime")? - offset(offsets, "monotonic")?)
    }

    /// Reads the line `<clock> <seconds> <nanoseconds>`.
    fn offset(offsets: &str, clock: &str) -> Option<i128> {
        let mut fields = offsets
            .lines()
            .map(str::split_whitespace)
            .find_map(|mut fields| (fields.next()? == clock).then_some(fields))?;
        let seconds: i64 = fields.next()?.parse().ok()?;
        let nanos: i64 = fields.next()?.parse().ok()?;
        Some(i128::from(seconds) * 1_000_000_000 + i128::from(nanos))
    }
}

#[cfg(target_os = "macos")]
mod platform {
    use std::process::Command;

    use super::Boot;

    /// A new UUID at every boot. `kern.boottime` is unsuitable: it moves when the wall clock is set. The
    /// system's tool reads it, because a sysctl call needs unsafe code.
    pub(super) fn current() -> Option<Boot> {
        let output = Command::new("/usr/sbin/sysctl")
            .args(["-n", "kern.bootsessionuuid"])
            .output()
            .ok()?;
        let id = String::from_utf8(output.stdout).ok()?;
        let id = id.trim();
        (output.status.success() && !id.is_empty()).then(|| Boot {
            id: id.to_owned(),
            shift_nanos: 0,
        })
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
mod platform {
    use super::Boot;

    pub(super) fn current() -> Option<Boot> {
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_machine_tells_its_boot() {
        let boot = Boot::current().expect("procfs is mounted");
        assert_eq!(boot.id().len(), 36);
        let first = boot.elapsed_ms();
        assert!(first > 0 && boot.elapsed_ms() >= first);
        assert_eq!(Boot::current(), Some(boot));
    }

    #[test]
    fn an_id_that_is_not_the_kernels_is_not_believed() {
        let invented = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(&invented, "d2f0a3b2-1c1e-4ad4-9f6e-0e3f3a1b2c3d\n").expect("written");
        let path = invented.path().to_str().expect("text");
        assert_eq!(platform::read(path), None);
    }

    #[test]
    fn offsets_of_time_namespaces() {
        let shift = platform::shift_of;
        let text = "monotonic           7         0\nboottime            7         0\n";
        assert_eq!(shift(text), Some(0));
        let text = "monotonic 1 0\nboottime -5 500000000\n";
        assert_eq!(shift(text), Some(-5_500_000_000));
        assert_eq!(shift("monotonic 1 2\n"), None);
        assert_eq!(shift("monotonic 1 2\nboottime x 2\n"), None);
    }

    #[test]
    fn the_shift_of_a_process_is_that_of_its_own_time_namespace() {
        let process = tempfile::tempdir().expect("a directory");
        let shift = || platform::shift_of_process(process.path());
        assert_eq!(shift(), Some(0), "a kernel without time namespaces");
        let [own, children] = ["ns/time", "ns/time_for_children"].map(|ns| process.path().join(ns));
        std::fs::create_dir(process.path().join("ns")).expect("made");
        std::fs::write(&own, "").expect("written");
        assert_eq!(shift(), None, "it may be any");
        // The offsets are those of the namespace for children.
        std::fs::write(&children, "").expect("written");
        let offsets = process.path().join("timens_offsets");
        std::fs::write(offsets, "monotonic 1 0\nboottime 8 0\n").expect("written");
        assert_eq!(shift(), None);
        std::fs::remove_file(&children).expect("removed");
        std::fs::hard_link(&own, &children).expect("the same one");
        assert_eq!(shift(), Some(7_000_000_000));
    }

    #[test]
    fn a_shifted_clock_is_shifted_back() {
        let plain = Boot {
            id: "b".into(),
            shift_nanos: 0,
        };
        let shifted = Boot {
            id: "b".into(),
            shift_nanos: -3_600_000_000_000,
        };
        let ahead = shifted.elapsed_ms() - plain.elapsed_ms();
        assert!((3_599_000..3_660_000).contains(&ahead), "{ahead}");
    }
}
