//! Whether the process that holds a lock is dead.
//!
//! A grant that is bound to its process carries the [`Identity`] of that process. If
//! [`Identity::is_dead`], a contender takes the key at once. A missed death costs one lease; a wrong
//! one costs exclusion. Invariant: a living process is never called dead.
//!
//! - A pid is valid in one pid namespace only, and the reader's time namespace shifts the start time
//!   in `/proc`. For a process of other namespaces the answer is "not dead". The kernel reuses the
//!   number of a namespace only when every process in it is dead.
//! - `kill(pid, 0)` decides whether a process exists. `/proc` may hide processes of other users
//!   (`hidepid`), or belong to another pid namespace.
//! - The start time shows that a pid was reused. A zombie is dead, unless only its main thread has
//!   ended: the number of threads shows that.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use leasehold_protocol::time::Elapsed;

/// For how long it is enough that a process exists, after all its facts were looked up. A zombie is noticed that much
/// later. Every poll of a queue asks for every process in it.
const FRESH: Duration = Duration::from_millis(100);
/// The most processes to remember: more than one key has holders and waiters.
const REMEMBERED: usize = 256;

/// The identity of a process, unique within one boot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Identity {
    /// The pid in its own pid namespace.
    pub(super) pid: i64,
    /// When it started, in clock ticks since the boot, by its own time namespace.
    pub(super) started: i64,
    /// The number of its pid namespace.
    pub(super) pid_namespace: i64,
    /// The number of its time namespace; 0 if the kernel has none.
    pub(super) time_namespace: i64,
}

/// The process of a pid, as far as it is known.
#[cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, reason = "only Linux is asked about processes")
)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Found {
    /// The kernel knows no such process.
    Nothing,
    /// There is one, but no more is known of it.
    Something,
    /// There is one, as `/proc` describes it.
    Process(Stat),
}

/// The fields of `/proc/<pid>/stat` that matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stat {
    pid: i64,
    state: char,
    threads: i64,
    started: i64,
}

/// Processes that were alive a moment ago.
#[derive(Debug, Default)]
pub(super) struct Alive(RefCell<HashMap<Identity, Elapsed>>);

impl Alive {
    /// Whether the process is certainly dead. `observer` is the calling process.
    pub(super) fn is_dead(&self, process: &Identity, observer: &Identity) -> bool {
        let now = SystemClock.elapsed();
        let mut alive = self.0.borrow_mut();
        let looked_up = alive.get(process);
        let is_fresh = looked_up.is_some_and(|at| now.since(*at) < FRESH);
        if is_fresh && platform::exists(process.pid) {
            return false;
        }
        let is_dead = process.is_dead(observer);
        if alive.len() >= REMEMBERED {
            alive.clear();
        }
        match is_dead {
            true => alive.remove(process),
            false => alive.insert(*process, now),
        };
        is_dead
    }
}

impl Identity {
    /// This process, if the platform has the facts.
    pub(super) fn of_this_process() -> Option<Identity> {
        platform::this_process()
    }

    fn is_dead(&self, observer: &Identity) -> bool {
        self.is_dead_by(observer, platform::find)
    }

    fn is_dead_by(&self, observer: &Identity, find: impl FnOnce(i64) -> Found) -> bool {
        let comparable = self.pid_namespace == observer.pid_namespace
            && self.time_namespace == observer.time_namespace;
        if !comparable || self == observer {
            return false;
        }
        match find(self.pid) {
            Found::Nothing => true,
            Found::Something => false,
            Found::Process(stat) => {
                let ended = matches!(stat.state, 'Z' | 'X' | 'x') && stat.threads <= 1;
                stat.started != self.started || ended
            }
        }
    }
}

#[cfg(any(target_os = "linux", test))]
impl Stat {
    fn parse(line: &str) -> Option<Stat> {
        // The name in parentheses may contain anything, parentheses and spaces too.
        let (start, rest) = line.rsplit_once(')')?;
        let pid = start.split_once(' ')?.0.parse().ok()?;
        // It starts with field 3 of proc(5). The threads are field 20, and the start time is field 22.
        let mut fields = rest.split_ascii_whitespace();
        Some(Stat {
            pid,
            state: fields.next()?.chars().next()?,
            threads: fields.nth(20 - 4)?.parse().ok()?,
            started: fields.nth(22 - 21)?.parse().ok()?,
        })
    }
}

#[cfg(target_os = "linux")]
mod platform {
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use rustix::io::Errno;
    use rustix::process::{Pid, test_kill_process};

    use super::{Found, Identity, Stat};

    pub(super) fn this_process() -> Option<Identity> {
        // `/proc` may have been mounted for another pid namespace, where our pid is another
        // number. `NSpid` lists our pids from that namespace down to our own: there must be one.
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let pids = status.lines().find_map(|l| l.strip_prefix("NSpid:"))?;
        if pids.split_whitespace().count() != 1 {
            return None;
        }
        let stat = Stat::parse(&fs::read_to_string("/proc/self/stat").ok()?)?;
        if stat.pid != i64::from(std::process::id()) {
            return None;
        }
        Some(Identity {
            pid: stat.pid,
            started: stat.started,
            pid_namespace: namespace("pid")?,
            time_namespace: namespace("time").unwrap_or(0),
        })
    }

    fn namespace(kind: &str) -> Option<i64> {
        let file = fs::metadata(format!("/proc/self/ns/{kind}")).ok()?;
        i64::try_from(file.ino()).ok()
    }

    /// Whether there may be a process of this pid.
    pub(super) fn exists(pid: i64) -> bool {
        let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0);
        let pid = pid.and_then(Pid::from_raw);
        pid.is_none_or(|pid| !matches!(test_kill_process(pid), Err(Errno::SRCH)))
    }

    pub(super) fn find(pid: i64) -> Found {
        find_in(Path::new("/proc"), pid)
    }

    /// The process of a pid, by the directory that describes all of them.
    pub(super) fn find_in(processes: &Path, pid: i64) -> Found {
        if !exists(pid) {
            return Found::Nothing;
        }
        let stat = fs::read_to_string(processes.join(format!("{pid}/stat")))
            .ok()
            .and_then(|line| Stat::parse(&line));
        match stat {
            Some(stat) if stat.pid == pid => Found::Process(stat),
            // It ended in between, or is hidden.
            _ if exists(pid) => Found::Something,
            _ => Found::Nothing,
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use super::{Found, Identity};

    pub(super) fn this_process() -> Option<Identity> {
        None
    }

    pub(super) fn exists(_pid: i64) -> bool {
        true
    }

    pub(super) fn find(_pid: i64) -> Found {
        Found::Something
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLDER: Identity = Identity {
        pid: 100,
        started: 5_000,
        pid_namespace: 1,
        time_namespace: 2,
    };
    const OBSERVER: Identity = Identity { pid: 200, ..HOLDER };
    const ALIVE: Stat = Stat {
        pid: 100,
        state: 'S',
        threads: 4,
        started: 5_000,
    };

    fn dead(holder: Identity, found: Found) -> bool {
        holder.is_dead_by(&OBSERVER, |_| found)
    }

    #[test]
    fn who_is_dead() {
        assert!(dead(HOLDER, Found::Nothing));
        assert!(!dead(HOLDER, Found::Something));
        assert!(!dead(HOLDER, Found::Process(ALIVE)));
        let another = Stat {
            started: 5_001,
            ..ALIVE
        };
        assert!(dead(HOLDER, Found::Process(another)));
        for state in ['Z', 'X', 'x'] {
            let ended = Stat {
                state,
                threads: 1,
                ..ALIVE
            };
            assert!(dead(HOLDER, Found::Process(ended)));
        }
        for state in ['R', 'D', 'T', 't', 'I'] {
            let stopped = Stat {
                state,
                threads: 1,
                ..ALIVE
            };
            assert!(!dead(HOLDER, Found::Process(stopped)));
        }
    }

    #[test]
    fn a_process_outlives_its_main_thread() {
        let leader_gone = Stat {
            state: 'Z',
            threads: 2,
            ..ALIVE
        };
        assert!(!dead(HOLDER, Found::Process(leader_gone)));
    }

    #[test]
    fn other_namespaces_prove_nothing() {
        for holder in [
            Identity {
                pid_namespace: 9,
                ..HOLDER
            },
            Identity {
                time_namespace: 9,
                ..HOLDER
            },
        ] {
            assert!(!dead(holder, Found::Nothing));
        }
    }

    #[test]
    fn stat_lines() {
        let tail = "Z 1 2 3 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 17 0 987654 1 2";
        let expected = Stat {
            pid: 42,
            state: 'Z',
            threads: 17,
            started: 987_654,
        };
        for name in ["cat", "a b) R 1 (", "((", ""] {
            let line = format!("42 ({name}) {tail}\n");
            assert_eq!(Stat::parse(&line), Some(expected), "{name}");
        }
        assert_eq!(Stat::parse("42 (cat) S 1"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_alive_and_knows_itself() {
        let me = Identity::of_this_process().expect("procfs is mounted");
        assert_eq!(Identity::of_this_process(), Some(me));
        assert!(!me.is_dead(&me));
        let stranger = Identity { pid: 0, ..me };
        assert!(matches!(platform::find(me.pid), Found::Process(s) if s.started == me.started));
        assert!(!me.is_dead(&stranger));
        let recycled = Identity {
            started: me.started - 1,
            ..me
        };
        assert!(recycled.is_dead(&me));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_knows_its_namespaces() {
        let me = Identity::of_this_process().expect("procfs is mounted");
        let number = |kind: &str| {
            let link = std::fs::read_link(format!("/proc/self/ns/{kind}")).ok()?;
            let number = link.to_str()?.strip_prefix(kind)?;
            number.strip_prefix(":[")?.strip_suffix(']')?.parse().ok()
        };
        assert_eq!(Some(me.pid_namespace), number("pid"));
        assert_eq!(me.time_namespace, number("time").unwrap_or(0));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_that_is_hidden_or_described_as_another_may_be_alive() {
        let processes = tempfile::tempdir().expect("a directory");
        let me = i64::from(std::process::id());
        let found = || platform::find_in(processes.path(), me);
        assert_eq!(found(), Found::Something, "hidden");
        let directory = processes.path().join(me.to_string());
        std::fs::create_dir(&directory).expect("made");
        let line = |pid: i64| {
            format!("{pid} (cat) S 1 2 3 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 17 0 987654 1 2\n")
        };
        std::fs::write(directory.join("stat"), line(me + 1)).expect("written");
        assert_eq!(found(), Found::Something, "another");
        std::fs::write(directory.join("stat"), line(me)).expect("written");
        assert!(matches!(found(), Found::Process(stat) if stat.started == 987_654));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_that_was_alive_is_dead_as_soon_as_the_kernel_has_forgotten_it() {
        let me = Identity::of_this_process().expect("procfs is mounted");
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("cat");
        let pid = i64::from(child.id());
        let Found::Process(stat) = platform::find(pid) else {
            panic!("it runs");
        };
        let started = stat.started;
        let process = Identity { pid, started, ..me };
        let alive = Alive::default();
        assert!(!alive.is_dead(&process, &me));
        assert!(!alive.is_dead(&process, &me), "from memory");
        let reused = Identity {
            started: started - 1,
            ..process
        };
        assert!(alive.is_dead(&reused, &me), "the memory is of one process");
        child.kill().expect("killed");
        child.wait().expect("ended");
        assert!(alive.is_dead(&process, &me));
        // As many as there are pids do not fill the memory.
        for other in 0..4 * i64::try_from(REMEMBERED).expect("small") {
            let other = Identity {
                pid_namespace: other,
                ..me
            };
            assert!(!alive.is_dead(
                &other,
                &Identity {
                    pid_namespace: 0,
                    ..me
                }
            ));
        }
        assert!(alive.0.borrow().len() <= REMEMBERED);
    }
}
