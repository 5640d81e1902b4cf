//! The command to run: whether it can be, and its start.
//!
//! [`Command::check`] answers before the lock is taken what can be answered then, so that a mistyped command costs neither a
//! request nor anybody's wait. The start itself reports the same errors, for what changed in between.
//!
//! The command inherits standard input, output and error, the directory and the environment, with ours set over it. On Linux it gets
//! `PR_SET_PDEATHSIG`: when we are killed with -9, so is it. That is an interim until the guardian process, which also takes the
//! grandchildren. The signal is tied to the *thread* that starts the command: it must be the main thread, which ends last.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process;

use rustix::fs::Access;
use rustix::io::Errno;
use rustix::process::Pid;

use crate::exit_codes;

/// Where the system looks when there is no `PATH`.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A command and what we add to its environment.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl Command {
    /// A program with its arguments; no shell looks at them.
    pub(crate) fn new(program: OsString, arguments: Vec<OsString>) -> Self {
        Self {
            program,
            arguments,
            environment: Vec::new(),
        }
    }

    /// A line for `/bin/sh`, always that one: what a line does must not depend on the shell its author likes to type in.
    pub(crate) fn shell(line: OsString) -> Self {
        Self::new("/bin/sh".into(), vec!["-c".into(), line])
    }

    /// Sets a variable of the command's environment, over an inherited one.
    pub(crate) fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        self.environment.push((name.into(), value.into()));
    }

    /// Whether the program is there and may be run. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`SpawnError::NotFound`] and [`SpawnError::NotExecutable`].
    pub(crate) fn check(&self) -> Result<(), SpawnError> {
        if self.program.as_bytes().contains(&b'/') {
            return executable(Path::new(&self.program)).map_err(|error| self.failed(error));
        }
        if self.program.is_empty() {
            return Err(self.failed(Errno::NOENT.into()));
        }
        let path = self.search_path();
        // As execvp has it: what may not be run is passed over, and told only when nothing better comes.
        let mut failure = Errno::NOENT.into();
        for directory in env::split_paths(&path) {
            match executable(&directory.join(&self.program)) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => failure = error,
                _ => {}
            }
        }
        Err(self.failed(failure))
    }

    /// Starts it, in a process group of its own if asked. Returns when the program was executed, or could not be.
    pub(super) fn start(&self, own_group: bool) -> Result<Pid, SpawnError> {
        let mut command = process::Command::new(&self.program);
        command.args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if own_group {
            command.process_group(0);
        }
        die_with_us(&mut command);
        // Dropped without a wait on purpose: the reaper collects it.
        let child = command.spawn().map_err(|error| self.failed(error))?;
        i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| self.failed(io::Error::other("the system gave a process no number")))
    }

    fn search_path(&self) -> OsString {
        let ours = self
            .environment
            .iter()
            .rev()
            .find(|(name, _)| name == "PATH")
            .map(|(_, value)| value.clone());
        ours.or_else(|| env::var_os("PATH"))
            .unwrap_or_else(|| DEFAULT_PATH.into())
    }

    fn failed(&self, source: io::Error) -> SpawnError {
        let program = PathBuf::from(&self.program);
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT) => SpawnError::NotFound { program, source },
            Some(
                Errno::ACCESS
                | Errno::PERM
                | Errno::NOEXEC
                | Errno::ISDIR
                | Errno::NOTDIR
                | Errno::TOOBIG
                | Errno::TXTBSY
                | Errno::LOOP
                | Errno::NAMETOOLONG
                | Errno::INVAL,
            ) => SpawnError::NotExecutable { program, source },
            _ => SpawnError::Other { program, source },
        }
    }
}

/// Why a command could not be started. It did not run, not even in part.
#[derive(Debug)]
pub(crate) enum SpawnError {
    /// There is no such program; or none to interpret the script, which the system reports alike.
    NotFound {
        /// As it was given.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is there, but is no program, or may not be run by us.
    NotExecutable {
        /// As it was given.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system could not start anything: out of memory, processes or descriptors.
    Other {
        /// As it was given.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl SpawnError {
    /// Our exit code for it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound { .. } => exit_codes::NOT_FOUND,
            Self::NotExecutable { .. } => exit_codes::CANNOT_RUN,
            Self::Other { .. } => exit_codes::OWN_FAILURE,
        }
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { program, .. } => write!(f, "command not found: {}", program.display()),
            Self::NotExecutable { program, .. } => {
                write!(f, "command cannot be run: {}", program.display())
            }
            Self::Other { program, .. } => write!(f, "could not start {}", program.display()),
        }
    }
}

impl Error for SpawnError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NotFound { source, .. }
            | Self::NotExecutable { source, .. }
            | Self::Other { source, .. } => Some(source),
        }
    }
}

/// Whether the file may be executed by us, with the error exec would give.
fn executable(path: &Path) -> io::Result<()> {
    let metadata = path.metadata()?;
    // A directory may well be "executable" for access(2). Exec answers EACCES for it.
    if !metadata.is_file() {
        return Err(Errno::ACCESS.into());
    }
    Ok(rustix::fs::access(path, Access::EXEC_OK)?)
}

/// Has the system kill the command when the thread that starts it ends, which is when we do.
#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "what runs between fork and exec can be given in no other way"
)]
fn die_with_us(command: &mut process::Command) {
    use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

    let parent = getpid();
    let between = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // We may have died before that call. Then nobody would tell the command, so it must not start.
        if getppid() == Some(parent) {
            Ok(())
        } else {
            Err(Errno::SRCH.into())
        }
    };
    // SAFETY: between fork and exec only what is async-signal-safe is allowed, because other threads may have held any lock at
    // the fork. The closure makes two bare system calls (prctl, getppid); it takes no lock, allocates nothing, and turns
    // an error number into an `io::Error` without allocating.
    unsafe {
        command.pre_exec(between);
    }
}

/// There is nothing like it elsewhere; the guardian process of a later version does not need it.
#[cfg(not(target_os = "linux"))]
fn die_with_us(_command: &mut process::Command) {}
