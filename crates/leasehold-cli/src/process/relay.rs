//! A process between us and children that are not the command's.
//!
//! As process 1 of a container we would inherit every orphan in it, those of `docker exec` included, and nothing tells them from what the
//! command has left behind. The same holds for a shell that starts something in the background and then becomes us by `exec`. So in both
//! cases the work moves into a child, which is a subreaper: what becomes its child is the command's. The first process stays behind as a
//! small init: it passes signals on, collects whatever ends, and ends as the child does.

#[cfg(target_os = "linux")]
pub(crate) use linux::separate;

/// There is no subreaper elsewhere, so no orphan ever becomes ours.
#[cfg(not(target_os = "linux"))]
pub(crate) fn separate() -> std::io::Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::mem::MaybeUninit;
    use std::process::exit;

    use rustix::io::Errno;
    use rustix::process::{
        Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpid, getppid, kill_process,
        set_parent_process_death_signal, wait, waitid,
    };

    use crate::process::inherited;
    use crate::process::status::Status;

    /// Goes on in a child where other processes than the command's would become ours; the caller then is that child. Call it before
    /// anything starts a thread.
    ///
    /// # Errors
    ///
    /// When the system refuses a process.
    pub(crate) fn separate() -> io::Result<()> {
        if getpid() != Pid::INIT && !has_children() {
            return Ok(());
        }
        // None may be lost between the fork and the first wait for one.
        inherited::block_signals_here();
        // Where a parent left CHLD ignored the system would throw the statuses away.
        inherited::keep_statuses();
        let relay = getpid();
        match fork()? {
            Some(worker) => exit(i32::from(pass_on(worker))),
            None => {
                set_parent_process_death_signal(Some(Signal::KILL))?;
                inherited::restore_mask();
                // It may have died before that call.
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

    /// Until the worker has ended; its exit code.
    fn pass_on(worker: Pid) -> u8 {
        loop {
            // Before the first wait, too: it may have ended already.
            while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                match pid == worker {
                    // A shell looks at us to see its job stopped. As process 1 this does nothing.
                    true if status.stopped() => {
                        let _stopped = kill_process(getpid(), Signal::STOP);
                    }
                    true => return Status::from(status).exit_code(),
                    false => {}
                }
            }
            let Some((signal, by_kernel)) = next_signal() else {
                continue;
            };
            // The worker is in our process group, and the terminal driver sends to groups.
            if let Some(signal) = Signal::from_named_raw(signal)
                && signal != Signal::CHILD
                && !by_kernel
            {
                let _sent = kill_process(worker, signal);
            }
        }
    }

    #[expect(unsafe_code, reason = "std and rustix have no stable fork")]
    fn fork() -> io::Result<Option<Pid>> {
        // SAFETY: there is no other thread that could hold a lock at the fork: the caller promises it, and nothing before it starts one.
        let pid = unsafe { libc::fork() };
        match pid {
            -1 => Err(io::Error::last_os_error()),
            pid => Ok(Pid::from_raw(pid)),
        }
    }

    /// The next signal, and whether the kernel itself sent it. All are blocked in this process.
    #[expect(unsafe_code, reason = "std and rustix do not wait for signals")]
    fn next_signal() -> Option<(i32, bool)> {
        // SAFETY: the set is initialized before it is read, and the information only after the call has succeeded.
        unsafe {
            let mut all = MaybeUninit::<libc::sigset_t>::uninit();
            libc::sigfillset(all.as_mut_ptr());
            let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
            let signal = libc::sigwaitinfo(all.as_ptr(), info.as_mut_ptr());
            (signal > 0).then(|| (signal, info.assume_init_ref().si_code == libc::SI_KERNEL))
        }
    }
}
