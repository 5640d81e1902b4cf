//! The processes between the one that was started and the one that runs the command.
//!
//! The first process is the [`guardian`](super::guardian), and its child is the worker, which does everything else.
//!
//! As process 1 of a container the guardian would inherit every orphan in it, those of `docker exec` included, and
//! could not distinguish them from the command's processes. The same holds after the `exec` of a shell that has
//! background jobs. Then the first process is a relay, a small init: it forwards signals, collects ended processes,
//! and ends as its child does, which is the guardian.

use std::io;
use std::mem::MaybeUninit;
use std::process::exit;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpid, getppid, kill_process,
    set_parent_process_death_signal, wait, waitid,
};

use super::inherited;
use super::numbers::{group_of, our_group};
use super::status::Status;

/// Forks if processes that were not started here could become ours, and returns in the child. It must be called before any
/// thread starts.
///
/// # Errors
///
/// When the operating system refuses a process.
pub(super) fn keep_others_away() -> io::Result<()> {
    if getpid() != Pid::INIT && !has_children() {
        return Ok(());
    }
    let relay = getpid();
    match fork()? {
        Some(child) => exit(i32::from(pass_on(child).exit_code())),
        None => {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have ended before that call.
            if getppid() == Some(relay) {
                Ok(())
            } else {
                Err(Errno::SRCH.into())
            }
        }
    }
}

fn has_children() -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::All, look).is_ok()
}

/// Forwards signals until the child has ended, and returns how. All signals are blocked in this process.
pub(super) fn pass_on(child: Pid) -> Status {
    loop {
        // Also before the first wait for a signal: the child may have ended already.
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
            match pid == child {
                // The shell must see that its job is stopped. As process 1 this has no effect.
                true if status.stopped() => {
                    // A stop discards a CONT that has come since.
                    let (target, signal) = match continued() {
                        true => (child, Signal::CONT),
                        false => (getpid(), Signal::STOP),
                    };
                    let _sent = kill_process(target, signal);
                }
                true => return Status::from(status),
                false => {}
            }
        }
        let Some(info) = next_signal() else {
            continue;
        };
        // The terminal driver signals groups: if the child is in ours, it got the signal, too.
        let by_kernel = info.si_code == libc::SI_KERNEL
            && group_of(Some(child)).is_ok_and(|group| group == our_group());
        if let Some(signal) = Signal::from_named_raw(info.si_signo)
            && signal != Signal::CHILD
            && !by_kernel
            && !is_from(&info, child)
        {
            let _sent = kill_process(child, signal);
        }
    }
}

/// Forks, and returns the child in the parent. No other thread may run.
#[expect(unsafe_code, reason = "std and rustix have no stable fork")]
pub(super) fn fork() -> io::Result<Option<Pid>> {
    // No signal may be lost between the fork and the parent's first wait.
    inherited::block_signals_here();
    // If a parent left CHLD ignored, the system would discard the statuses.
    inherited::keep_statuses();
    // SAFETY: no other thread could hold a lock at the fork: the caller guarantees that there is none.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// The next signal. All are blocked in this process.
#[expect(unsafe_code, reason = "std and rustix do not wait for signals")]
fn next_signal() -> Option<libc::siginfo_t> {
    // SAFETY: the set is initialized before it is read, and the information only after the call has succeeded.
    unsafe {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(all.as_mut_ptr());
        let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
        let signal = libc::sigwaitinfo(all.as_ptr(), info.as_mut_ptr());
        (signal > 0).then(|| info.assume_init())
    }
}

/// Takes a pending CONT, and returns whether there was one.
#[expect(unsafe_code, reason = "std and rustix do not wait for signals")]
fn continued() -> bool {
    let at_once = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the set is initialized before it is read; the information is not asked for.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCONT);
        libc::sigtimedwait(set.as_ptr(), std::ptr::null_mut(), &at_once) == libc::SIGCONT
    }
}

/// Whether a process sent it with `kill`.
#[expect(unsafe_code, reason = "the sender is in a union")]
fn is_from(info: &libc::siginfo_t, sender: Pid) -> bool {
    // SAFETY: with this code the field of the sender is the one in use.
    info.si_code == libc::SI_USER && unsafe { info.si_pid() } == sender.as_raw_pid()
}
