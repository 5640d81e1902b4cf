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

/// The identity of a process, unique within one boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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

impl Identity {
    /// This process, if the platform has the facts.
    pub(super) fn of_this_process() -> Option<Identity> {
        platform::this_process()
    }

    /// Whether the process is certainly dead. `observer` is the calling process.
    pub(super) fn is_dead(&self, observer: &Identity) -> bool {
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
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // `rest` starts with field 3 of proc(5).
        let number = |field: usize| fields.get(field - 3)?.parse().ok();
        Some(Stat {
            pid,
            state: fields.first()?.chars().next()?,
            threads: number(20)?,
            started: number(22)?,
        })
    }
}

#[cfg(target_os = "linux")]
mod platform {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

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

    pub(super) fn find(pid: i64) -> Found {
        let Some(target) = i32::try_from(pid)
            .ok()
            .filter(|pid| *pid > 0)
            .and_then(Pid::from_raw)
        else {
            return Found::Something;
        };
        let exists = || !matches!(test_kill_process(target), Err(Errno::SRCH));
        if !exists() {
            return Found::Nothing;
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
            .ok()
            .and_then(|line| Stat::parse(&line));
        match stat {
            Some(stat) if stat.pid == pid => Found::Process(stat),
            // It ended in between, or is hidden.
            _ if exists() => Found::Something,
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
}
