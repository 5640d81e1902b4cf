//! The command to run: whether it can be, and its start.
//!
//! [`Command::check`] finds errors before the lock is acquired, so that a mistyped command costs no request
//! and no wait. The start itself reports the same errors, since files may change in between.
//!
//! The command inherits standard input, output and error, the directory, the environment with the lock's
//! variables, and the signal state that we were started with (P8). If `LISTEN_PID` and `WATCHDOG_PID` of
//! systemd name this process, they are set to the command's pid, which is known only between fork and exec.
//! On Linux the command gets `PR_SET_PDEATHSIG`: it is killed when we are killed, but its own children are
//! not. The signal is bound to the *thread* that starts the command: it must be the main thread, which ends
//! last.

use std::env;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, PipeWriter};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;

use rustix::fs::Access;
use rustix::io::Errno;
use rustix::process::{Pid, getpid};

use super::inherited;
use super::script::{self, Missing};
use super::socket_activation::{self, Exec};
use crate::exit_codes;
use crate::text::{plain, quoted};

/// The search path of the system without `PATH`.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A command, and the variables that are added to its environment.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    output: Option<Arc<PipeWriter>>,
}

impl Command {
    /// A program with its arguments, without a shell.
    pub(crate) fn new(program: OsString, arguments: Vec<OsString>) -> Self {
        Self {
            program,
            arguments,
            environment: Vec::new(),
            output: None,
        }
    }

    /// A line for `/bin/sh`. Its meaning must not depend on the user's shell.
    pub(crate) fn shell(line: OsString) -> Self {
        Self::new("/bin/sh".into(), vec!["-c".into(), line])
    }

    /// Sets a variable of the command's environment, over an inherited one.
    pub(crate) fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        self.environment.push((name.into(), value.into()));
    }

    /// Sends its standard output into this pipe. The pipe ends when all copies of this command are dropped, and all
    /// processes that inherit the output have ended.
    pub(crate) fn pipe_output(&mut self, pipe: PipeWriter) {
        self.output = Some(Arc::new(pipe));
    }

    /// Checks that the program exists and may be run. It changes nothing.
    ///
    /// # Errors
    ///
    /// [`SpawnError::NotFound`], [`SpawnError::NotExecutable`] and [`SpawnError::NoInterpreter`].
    pub(crate) fn check(&self) -> Result<(), SpawnError> {
        let program = self
            .find(&self.program)
            .map_err(|error| self.failed(error))?;
        match script::missing(&program, |name| self.find(name).is_ok()) {
            Some(missing) => Err(SpawnError::NoInterpreter { missing }),
            None => Ok(()),
        }
    }

    /// The file that a name runs.
    fn find(&self, name: &OsStr) -> io::Result<PathBuf> {
        if name.as_bytes().contains(&b'/') {
            return executable(Path::new(name)).map(|()| name.into());
        }
        if name.is_empty() {
            return Err(Errno::NOENT.into());
        }
        // Like execvp: a file that may not be run is skipped, and is the error only if there is no other.
        let mut failure = Errno::NOENT.into();
        for directory in env::split_paths(&self.search_path()) {
            let path = directory.join(name);
            match executable(&path) {
                Ok(()) => return Ok(path),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => failure = error,
                _ => {}
            }
        }
        Err(failure)
    }

    /// Starts it, with `own_group` in its own process group. It returns when the program was executed, or
    /// could not be.
    pub(super) fn start(&self, own_group: bool) -> Result<Pid, SpawnError> {
        let mut command = process::Command::new(&self.program);
        command.args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if own_group {
            command.process_group(0);
        }
        if let Some(pipe) = &self.output {
            command.stdout(pipe.try_clone().map_err(|error| self.failed(error))?);
        }
        let path = self
            .find(&self.program)
            .map_err(|error| self.failed(error))?;
        let (arguments, set) = (&self.arguments, &self.environment);
        let exec = socket_activation::exec(&path, &self.program, arguments, set)
            .map_err(|error| self.failed(error))?;
        before_exec(&mut command, exec);
        // Dropped without a wait: the reaper collects it.
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
    /// It is a script, and the interpreter in its first line does not exist.
    NoInterpreter {
        /// The missing interpreter.
        missing: Missing,
    },
    /// There is no such program, or its loader is missing, which the system reports in the same way.
    NotFound {
        /// As it was given.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It exists, but is no program, or this user may not run it.
    NotExecutable {
        /// As it was given.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system has no memory, processes or descriptors left.
    Other {
        /// As it was given.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl SpawnError {
    /// The exit code of `leasehold`.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            // Like `env` and the shells.
            Self::NotFound { .. } | Self::NoInterpreter { .. } => exit_codes::NOT_FOUND,
            Self::NotExecutable { .. } => exit_codes::CANNOT_RUN,
            Self::Other { .. } => exit_codes::OWN_FAILURE,
        }
    }

    /// The hint for a message.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::NoInterpreter { missing } if missing.is_crlf() => format!(
                "its lines end as on Windows: run `sed -i 's/\\r$//' {}`",
                quoted(&missing.script.to_string_lossy())
            ),
            Self::NoInterpreter { .. } => {
                "install the interpreter, or correct the first line of the script".to_owned()
            }
            Self::Other { .. } => "check the limits of this process: `ulimit -a`".to_owned(),
            Self::NotFound { .. } | Self::NotExecutable { .. } => {
                "check its path and its permissions; for a line of shell use `-c 'LINE'`".to_owned()
            }
        }
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoInterpreter { missing } => write!(
                f,
                "command cannot be run: the interpreter `{}` of the script `{}` does not exist",
                plain(&missing.interpreter.to_string_lossy()),
                missing.script.display()
            ),
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
            Self::NoInterpreter { .. } => None,
            Self::NotFound { source, .. }
            | Self::NotExecutable { source, .. }
            | Self::Other { source, .. } => Some(source),
        }
    }
}

/// Whether this user may execute the file, with the error that exec would return.
fn executable(path: &Path) -> io::Result<()> {
    let metadata = path.metadata()?;
    // A directory may be "executable" for access(2). Exec returns EACCES for it.
    if !metadata.is_file() {
        return Err(Errno::ACCESS.into());
    }
    Ok(rustix::fs::access(path, Access::EXEC_OK)?)
}

/// Sets the steps between fork and exec. The system is asked to kill the command when the thread that starts
/// it ends. The signal state is restored. `exec`, if there is one, replaces std's exec.
#[expect(
    unsafe_code,
    reason = "std has no other way to run code between fork and exec"
)]
fn before_exec(command: &mut process::Command, mut exec: Option<Exec>) {
    let parent = getpid();
    let between = move || {
        die_with(parent)?;
        inherited::restore();
        exec.as_mut().map_or(Ok(()), |exec| Err(exec.run()))
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed, because other threads may have held any lock at
    // the fork. The closure makes bare system calls (prctl, getppid, sigaction, sigprocmask, execve). It takes no lock, allocates
    // nothing, and turns an error number into an `io::Error` without an allocation.
    unsafe {
        command.pre_exec(between);
    }
}

#[cfg(target_os = "linux")]
fn die_with(parent: Pid) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    // The parent may have died before that call. The signal would never come, so the command must not start.
    if rustix::process::getppid() == Some(parent) {
        Ok(())
    } else {
        Err(Errno::SRCH.into())
    }
}

/// Other systems have no such signal.
#[cfg(not(target_os = "linux"))]
fn die_with(_parent: Pid) -> io::Result<()> {
    Ok(())
}
