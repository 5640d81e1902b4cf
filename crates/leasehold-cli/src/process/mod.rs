//! Processes: signals that arrive, and the command with all processes that it starts.
//!
//! It knows nothing about locks. Its invariants, cited in the code by number:
//!
//! - **P1** The command's status, its exit code or signal, is never lost and never changed.
//! - **P2** A group has ended only when no descendant of the command is left in any process group or session
//!   (Linux: we are the subreaper), and no process in its process group.
//! - **P3** A signal reaches each process of the command at most once for each time it reached us, and never us.
//! - **P4** Only processes of the command are reaped. The status of a child that other code of this process
//!   started (the AWS SDK runs `credential_process` through tokio) is left to that code.
//! - **P5** The drop of a `Group` kills its processes, and so does the end of [`Group::stop`]. A death of this process kills
//!   them too (Linux).
//! - **P6** A wait here sleeps until a signal comes. Timers serve events without a signal, and a slow timer
//!   serves lost signals: no wait depends on a wake-up alone.
//! - **P7** Nothing here needs `/proc` to end.
//! - **P8** The command starts with the signal mask and the dispositions that we were started with.
//!
//! All of it must run on the main thread, on tokio's current-thread runtime with timers.
//!
//! [`inherited`] is the signal state at our start; [`guardian`] ends the command if this process is killed, and [`relay`] keeps other
//! processes away; [`signals`] turns signals into a stream; [`command`]
//! with [`script`] and [`socket_activation`] checks and starts; [`reaper`] collects the dead; [`table`] reads who descends from whom, [`living`] who is left of the
//! command, [`remaining`] names them; [`thread`] does what may block; [`helpers`] ends what other code has started; [`terminal`] answers what a terminal asks of us; [`group`] puts them together.

mod command;
mod group;
mod guardian;
#[cfg(feature = "dynamodb")]
mod helpers;
mod inherited;
mod living;
mod numbers;
mod reaper;
#[cfg(target_os = "linux")]
mod relay;
mod remaining;
mod script;
mod signals;
mod socket_activation;
mod status;
mod table;
mod terminal;
mod thread;

use leasehold::clock::Elapsed;
use leasehold::clock::{Clock, SystemClock};

pub(crate) use command::{Command, SpawnError};
pub(crate) use group::{Change, Group, Options};
pub(crate) use guardian::{Guardian, Role, Survivor, separate};
#[cfg(feature = "dynamodb")]
pub(crate) use helpers::Helpers;
pub(crate) use inherited::{block_signals_here, output_was_closed, started_as};
pub(crate) use remaining::Remaining;
pub(crate) use signals::{Signals, named};
pub(crate) use status::{Status, Stopped};
pub(crate) use table::of_ancestors;
pub(crate) use terminal::{has_terminal, suspend_ourselves};
pub(crate) use thread::in_thread;

/// The result of `work`, if it ends before `at`. The clock counts through suspend, as the lease does: otherwise
/// a grace would go on beside the next holder.
async fn before<T>(at: Elapsed, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = SystemClock.sleep_until(at) => None,
    }
}

fn now() -> Elapsed {
    SystemClock.elapsed()
}
