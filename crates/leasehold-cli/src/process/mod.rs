//! The room for processes: signals that arrive, and the command with everything it starts.
//!
//! It knows nothing about locks. Its invariants, cited in the code by number:
//!
//! - **P1** The command's status is never lost and never changed: its exit code, or the signal that ended it.
//! - **P2** A group counts as gone only when no process is left that descends from the command, whatever
//!   process group or session it moved to (Linux: we are the subreaper), and none in its process group.
//! - **P3** A signal reaches each process of the command at most once for each time it reached us, and never us.
//! - **P4** What we reap is the command's. The status of a child that other code of this process started (the AWS
//!   SDK runs `credential_process` through tokio) is left to that code.
//! - **P5** A `Group` that is dropped takes its processes with it, and so does the end of [`Group::stop`].
//! - **P6** Whoever waits here sleeps until a signal comes. There are timers only for what sends none.
//!
//! All of it belongs on the main thread, on tokio's current-thread runtime with its timer enabled.
//!
//! [`signals`] turns signals into a stream; [`command`] checks and starts; [`reaper`] collects the dead; [`table`] reads
//! who descends from whom; [`terminal`] answers what a terminal asks of us; [`group`] puts them together.

mod command;
mod group;
mod reaper;
mod signals;
mod status;
mod table;
mod terminal;

pub(crate) use command::{Command, SpawnError};
pub(crate) use group::{Group, Options};
pub(crate) use signals::{Signals, named};
pub(crate) use status::{Status, Stopped};
pub(crate) use terminal::suspend_ourselves;

/// The time for patience with processes. It stands still while the machine sleeps, and so do they.
#[expect(
    clippy::disallowed_methods,
    reason = "no lease is judged by it: it paces looks at processes and KILL after TERM"
)]
fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}
