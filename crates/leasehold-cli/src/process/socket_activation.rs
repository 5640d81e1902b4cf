//! `LISTEN_PID` and `WATCHDOG_PID`, for a command that systemd gives sockets or a watchdog.
//!
//! Both name the process that sockets and watchdog are for, and a program ignores them if they do not have its
//! own pid. systemd names us. The command's pid is known only between fork and exec, where nothing may be
//! allocated. So arguments and environment are prepared before, with space for the pid, and this exec replaces
//! std's.

use std::env;
use std::ffi::{CString, OsStr, OsString, c_char};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::ptr;
use std::sync::atomic::AtomicPtr;

use super::inherited;

/// The variables whose value is a pid.
const NUMBERS: [&str; 2] = ["LISTEN_PID", "WATCHDOG_PID"];

/// Newer systemd also identifies the process by its pidfd, which would be ours.
const HANDLES: [&str; 2] = ["LISTEN_PIDFDID", "WATCHDOG_PIDFDID"];

/// The digits of a pid, and the final NUL.
const ROOM: usize = 11;

/// An exec that sets the pid of the calling process in the environment.
#[derive(Debug)]
pub(super) struct Exec {
    program: CString,
    // Kept for the pointers into them.
    _arguments: Vec<CString>,
    environment: Vec<Vec<u8>>,
    /// Where a pid goes: the entry, and the offset in it.
    numbers: Vec<(usize, usize)>,
    /// Both end with a null pointer.
    argument_list: Vec<AtomicPtr<c_char>>,
    environment_list: Vec<AtomicPtr<c_char>>,
}

/// An exec of `program` if systemd's variables name this process, otherwise `None`.
pub(super) fn exec(
    program: &Path,
    name: &OsStr,
    arguments: &[OsString],
    set: &[(OsString, OsString)],
) -> io::Result<Option<Exec>> {
    let started_as = inherited::started_as().to_string();
    let names_us = |name: &&str| env::var_os(name).is_some_and(|value| value == *started_as);
    let numbers: Vec<&str> = NUMBERS.into_iter().filter(names_us).collect();
    if numbers.is_empty() {
        return Ok(None);
    }
    // `execvpe` does not search for a name with a slash.
    let program = Path::new(".").join(program);
    let mut all = vec![CString::new(name.as_bytes())?];
    for argument in arguments {
        all.push(CString::new(argument.as_bytes())?);
    }
    let kept = env::vars_os().filter(|(name, _)| {
        let replaced = set.iter().any(|(ours, _)| ours == name);
        !replaced && !numbers.iter().chain(&HANDLES).any(|other| name == *other)
    });
    let mut environment: Vec<Vec<u8>> = kept
        .chain(set.iter().cloned())
        .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes(), b"\0"].concat())
        .collect();
    let mut places = Vec::new();
    for number in numbers {
        let entry = [number.as_bytes(), b"=", &[0; ROOM]].concat();
        places.push((environment.len(), number.len() + 1));
        environment.push(entry);
    }
    let end = || std::iter::once(AtomicPtr::new(ptr::null_mut()));
    let argument_list = all
        .iter()
        .map(|text| AtomicPtr::new(text.as_ptr().cast_mut()));
    let argument_list = argument_list.chain(end()).collect();
    let environment_list = environment
        .iter_mut()
        .map(|text| AtomicPtr::new(text.as_mut_ptr().cast()))
        .chain(end())
        .collect();
    Ok(Some(Exec {
        program: CString::new(program.into_os_string().into_vec())?,
        _arguments: all,
        environment,
        numbers: places,
        argument_list,
        environment_list,
    }))
}

impl Exec {
    /// Becomes the program, and returns only after a failure. It is async-signal-safe like `execvp`, and allocates
    /// nothing.
    #[expect(
        unsafe_code,
        reason = "std cannot set a variable between fork and exec"
    )]
    pub(super) fn run(&mut self) -> io::Error {
        for (entry, place) in &self.numbers {
            if let Some(buffer) = self
                .environment
                .get_mut(*entry)
                .and_then(|e| e.get_mut(*place..))
            {
                write_number(buffer, std::process::id());
            }
        }
        // SAFETY: both lists end with null. Every other pointer in them leads to a text that ends with NUL and is owned by `self`.
        // Texts and lists have not grown since. An `AtomicPtr` has the layout of a pointer.
        unsafe {
            execute(
                self.program.as_ptr(),
                self.argument_list.as_ptr().cast(),
                self.environment_list.as_ptr().cast(),
            );
        }
        io::Error::last_os_error()
    }
}

/// systemd's variables come on Linux only.
#[cfg(not(target_os = "linux"))]
use libc::execve as execute;
/// A file without `#!` is run by a shell.
#[cfg(target_os = "linux")]
use libc::execvpe as execute;

/// Writes the digits at the front of `buffer`, and a NUL.
fn write_number(buffer: &mut [u8], mut number: u32) {
    let mut digits = [0; ROOM];
    let mut length = 0;
    for digit in &mut digits {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        length += 1;
        if number == 0 {
            break;
        }
    }
    for (to, from) in buffer.iter_mut().zip(digits.iter().take(length).rev()) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_no_zeros_in_front() {
        for (number, text) in [(1, "1"), (4_194_304, "4194304"), (u32::MAX, "4294967295")] {
            let mut buffer = [0; ROOM];
            write_number(&mut buffer, number);
            assert_eq!(
                buffer.split(|byte| *byte == 0).next(),
                Some(text.as_bytes())
            );
        }
    }
}
