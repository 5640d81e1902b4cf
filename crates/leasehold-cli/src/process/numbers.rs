//! Process groups and sessions as plain numbers.
//!
//! The system returns 0 for a group or a session of another pid namespace, as after `unshare --pid`. rustix
//! does not accept that.

use std::io;

use rustix::io::Errno;
use rustix::process::Pid;

/// Our process group.
pub(super) fn our_group() -> i32 {
    group_of(None).unwrap_or_default()
}

/// Our session.
pub(super) fn our_session() -> i32 {
    session_of(None).unwrap_or_default()
}

/// The process group of a process, or of this one for `None`. A zombie has one until it is collected.
#[expect(unsafe_code, reason = "rustix does not know the group 0")]
pub(super) fn group_of(pid: Option<Pid>) -> Result<i32, Errno> {
    // SAFETY: takes and returns plain numbers.
    known(unsafe { libc::getpgid(pid.map_or(0, Pid::as_raw_pid)) })
}

/// The session of a process, or of this one for `None`.
#[expect(unsafe_code, reason = "rustix does not know the session 0")]
pub(super) fn session_of(pid: Option<Pid>) -> Result<i32, Errno> {
    // SAFETY: takes and returns plain numbers.
    known(unsafe { libc::getsid(pid.map_or(0, Pid::as_raw_pid)) })
}

fn known(number: i32) -> Result<i32, Errno> {
    if number < 0 {
        let error = io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL));
    }
    Ok(number)
}
