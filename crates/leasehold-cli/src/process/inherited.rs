//! The signals that were blocked or ignored when this process was started.
//!
//! A terminal, a service manager or a parent with threads may start us with blocked signals, and `nohup` or a
//! shell with ignored ones. This process must not depend on that: without SIGCHLD the end of the command is
//! never seen. The command gets the mask and the dispositions exactly as inherited.
//!
//! The Rust runtime ignores SIGPIPE and opens closed standard files before `main`, so an initializer that runs earlier reads the state. It
//! does not use `/proc`, which may be missing or belong to another namespace.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use rustix::process::{Pid, getppid};

/// The highest signal, and the width of the sets below.
#[cfg(target_os = "linux")]
const LAST: i32 = 64;
#[cfg(not(target_os = "linux"))]
const LAST: i32 = 31;

/// Bit 0 is signal 1. Written once, before `main`.
static IGNORED: AtomicU64 = AtomicU64::new(0);
static BLOCKED: AtomicU64 = AtomicU64::new(0);

/// The pid of the started process, and of its parent. The work may go on in another process.
static STARTED_AS: AtomicU32 = AtomicU32::new(0);
static STARTED_BY: AtomicU32 = AtomicU32::new(0);

/// The guardian of this worker, or 0.
static GUARDIAN: AtomicU32 = AtomicU32::new(0);

/// Whether standard output was closed. The runtime then opens `/dev/null` in its place, which takes everything.
static OUTPUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// Signals whose disposition this process always changes. CHLD and CONT have handlers. PIPE and XFSZ are
/// ignored, so that a closed pipe or a file size limit is an error of a write.
const OURS: [i32; 4] = [libc::SIGCHLD, libc::SIGCONT, libc::SIGPIPE, libc::SIGXFSZ];

#[used]
#[cfg_attr(
    target_vendor = "apple",
    expect(unsafe_code, reason = "nothing else runs before the runtime"),
    unsafe(link_section = "__DATA,__mod_init_func")
)]
#[cfg_attr(
    not(target_vendor = "apple"),
    expect(unsafe_code, reason = "nothing else runs before the runtime"),
    unsafe(link_section = ".init_array")
)]
static BEFORE_MAIN: extern "C" fn() = read;

#[expect(
    unsafe_code,
    reason = "std and rustix read neither a mask nor a disposition"
)]
extern "C" fn read() {
    let (mut ignored, mut blocked) = (0, 0);
    // SAFETY: the process has one thread and none of our code has run. Each call gets a valid signal number and memory of the right
    // type, which is read only after the call has succeeded. Nothing is changed: the new values are null.
    unsafe {
        let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
        if libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), mask.as_mut_ptr()) == 0 {
            blocked = set_of(|signal| libc::sigismember(mask.as_ptr(), signal) == 1);
        }
        let mut action = MaybeUninit::<libc::sigaction>::uninit();
        ignored |= set_of(|signal| {
            libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) == 0
                && (*action.as_ptr()).sa_sigaction == libc::SIG_IGN
        });
        let closed = libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) == -1;
        OUTPUT_CLOSED.store(closed, Ordering::Relaxed);
    }
    STARTED_AS.store(std::process::id(), Ordering::Relaxed);
    STARTED_BY.store(std::os::unix::process::parent_id(), Ordering::Relaxed);
    IGNORED.store(ignored, Ordering::Relaxed);
    BLOCKED.store(blocked, Ordering::Relaxed);
}

fn set_of(mut has: impl FnMut(i32) -> bool) -> u64 {
    (1..=LAST)
        .filter(|signal| has(*signal))
        .fold(0, |set, signal| set | bit(signal))
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// Whether the signal was ignored at the start.
pub(super) fn is_ignored(signal: i32) -> bool {
    IGNORED.load(Ordering::Relaxed) & bit(signal) != 0
}

/// Whether standard output was closed at the start.
pub(crate) fn output_was_closed() -> bool {
    OUTPUT_CLOSED.load(Ordering::Relaxed)
}

/// The pid at the start.
pub(crate) fn started_as() -> u32 {
    STARTED_AS.load(Ordering::Relaxed)
}

/// Records the guardian of this process.
#[cfg(target_os = "linux")]
pub(super) fn guarded_by(guardian: Pid) {
    let number = guardian.as_raw_pid().unsigned_abs();
    GUARDIAN.store(number, Ordering::Relaxed);
}

/// The guardian, while it is our parent.
pub(super) fn guardian() -> Option<Pid> {
    let known = GUARDIAN.load(Ordering::Relaxed);
    getppid().filter(|parent| parent.as_raw_pid().unsigned_abs() == known)
}

/// The process that has started us, if this namespace has it.
pub(super) fn started_by() -> Option<Pid> {
    let parent = i32::try_from(STARTED_BY.load(Ordering::Relaxed));
    parent.ok().and_then(Pid::from_raw)
}

/// Unblocks these signals in this thread and in those that it starts. Their handlers must be installed:
/// pending signals arrive at once. XFSZ is ignored from here on.
pub(super) fn unblock(signals: &[i32]) {
    disposition(libc::SIGXFSZ, true);
    let set = signals.iter().fold(0, |set, signal| set | bit(*signal));
    change_mask(libc::SIG_UNBLOCK, set);
}

/// Makes the system keep the statuses of children if CHLD was ignored at the start.
#[cfg(target_os = "linux")]
pub(super) fn keep_statuses() {
    disposition(libc::SIGCHLD, false);
}

/// Blocks every signal in this thread: other threads take them.
pub(crate) fn block_signals_here() {
    change_mask(libc::SIG_SETMASK, u64::MAX);
}

/// Restores the inherited mask and dispositions between fork and exec, where std has emptied the mask and set
/// PIPE to its default. Async-signal-safe.
pub(super) fn restore() {
    for signal in OURS {
        disposition(signal, is_ignored(signal));
    }
    restore_mask();
}

/// Restores the mask alone.
pub(super) fn restore_mask() {
    change_mask(libc::SIG_SETMASK, BLOCKED.load(Ordering::Relaxed));
}

#[expect(unsafe_code, reason = "std and rustix change no mask")]
fn change_mask(how: i32, signals: u64) {
    // SAFETY: the set is initialized by `sigemptyset`, numbers that are no signal are refused by `sigaddset`, and both as well as
    // `pthread_sigmask` are async-signal-safe. Blocking or letting through a signal breaks no memory.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        for signal in (1..=LAST).filter(|signal| signals & bit(*signal) != 0) {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(how, set.as_ptr(), ptr::null_mut());
    }
}

#[expect(unsafe_code, reason = "std and rustix change no disposition")]
fn disposition(signal: i32, ignored: bool) {
    // SAFETY: no handler is installed, only one of the two built-in dispositions; `signal` is async-signal-safe.
    unsafe {
        libc::signal(
            signal,
            if ignored {
                libc::SIG_IGN
            } else {
                libc::SIG_DFL
            },
        );
    }
}
