//! Wrong wall clocks.
//!
//! With libfaketime (Debian: `libfaketime`) every process of a fleet, the command included, has its own wall
//! clock. It reads its offset from a file every second, so clocks can also step during a run. Elapsed clocks stay
//! right: `CLOCK_BOOTTIME` is read by a direct call of the kernel's vDSO, which a preloaded library does not see,
//! and `FAKETIME_DONT_FAKE_MONOTONIC` keeps the runtime's timers right. Both are checked: each process reports its
//! clocks at its start, and the fleet compares them.
//!
//! Without libfaketime, the library's processes get a wrong clock through the public
//! [`Clock`](leasehold::clock::Clock). It does not step, and the command's clock stays right. The report shows
//! which case it was.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use leasehold::clock::{Clock, SystemClock};
use leasehold_protocol::time::Elapsed;

use super::dice::Dice;

/// Where Debian and others put it. The variant for programs with threads.
const PLACES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
];

/// How far wall clocks are off, in seconds: not at all, by less than the expiry padding, by more than a lease, by
/// more than a signature's 15 minutes, by years.
const OFFSETS: [i64; 9] = [0, 1, -1, 4, -4, 5_400, -5_400, 86_400 * 400, -86_400 * 400];

/// libfaketime, where it is installed.
pub(super) fn library() -> Option<PathBuf> {
    PLACES.iter().map(PathBuf::from).find(|path| path.exists())
}

/// A new offset, in seconds.
pub(super) fn offset(dice: &mut Dice) -> i64 {
    *dice.pick(&OFFSETS)
}

/// The environment of a process with the clock of `file`.
pub(super) fn environment(library: &Path, file: &Path) -> Vec<(&'static str, OsString)> {
    vec![
        ("LD_PRELOAD", library.into()),
        ("FAKETIME_TIMESTAMP_FILE", file.into()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ("FAKETIME_CACHE_DURATION", "1".into()),
    ]
}

/// Atomically sets the clock of all processes that read `file`.
pub(super) fn set(file: &Path, offset: i64) -> Result<()> {
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{offset:+}\n"))
        .and_then(|()| std::fs::rename(&new, file))
        .with_context(|| format!("cannot write `{}`", file.display()))
}

/// Removes what libfaketime leaves of a process in shared memory.
pub(super) fn tidy(pid: u32) {
    for kind in ["faketime_shm_", "sem.faketime_sem_"] {
        // Most processes have left nothing.
        let _gone = std::fs::remove_file(format!("/dev/shm/{kind}{pid}"));
    }
}

/// The machine's clocks, with a wall clock that is wrong by a constant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shifted {
    pub(super) ahead: i64,
}

#[async_trait]
impl Clock for Shifted {
    fn elapsed(&self) -> Elapsed {
        SystemClock.elapsed()
    }

    fn wall_unix_ms(&self) -> i64 {
        SystemClock.wall_unix_ms() + self.ahead * 1000
    }

    async fn sleep_until(&self, at: Elapsed) {
        SystemClock.sleep_until(at).await;
    }
}

/// Waits for this long, on the elapsed clock.
pub(super) async fn pause(length: Duration) {
    SystemClock
        .sleep_until(SystemClock.elapsed().plus(length))
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shifted_clock_is_wrong_on_the_wall_only() {
        let clock = Shifted { ahead: -5_400 };
        let before = SystemClock.reading();
        let ours = clock.reading();
        let after = SystemClock.reading();
        assert!(before.elapsed <= ours.elapsed && ours.elapsed <= after.elapsed);
        let wall = ours.wall_ms + 5_400_000;
        assert!(before.wall_ms <= wall && wall <= after.wall_ms);
    }
}
