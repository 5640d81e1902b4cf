//! The module for processes: signals that arrive, and the command with everything it starts.
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
//! - **P6** Whoever waits here sleeps until a signal comes. There are timers for what sends none, and a slow one for a signal that
//!   never came: nothing waits for ever on a wake-up alone.
//! - **P7** Nothing here needs `/proc` to come to an end.
//! - **P8** The command starts with the signal mask and the dispositions that we were started with.
//!
//! All of it belongs on the main thread, on tokio's current-thread runtime with its timer enabled.
//!
//! [`inherited`] is the signal state at our start; [`relay`] keeps other processes away; [`signals`] turns signals into a stream; [`command`]
//! with [`script`] and [`socket_activation`] checks and starts; [`reaper`] collects the dead; [`table`] reads who descends from whom, [`living`] who is left of the
//! command, [`remaining`] names them; [`helpers`] ends what other code has started; [`terminal`] answers what a terminal asks of us; [`group`] puts them together.

mod command;
mod group;
#[cfg(feature = "dynamodb")]
mod helpers;
mod inherited;
mod living;
mod numbers;
mod reaper;
mod relay;
mod remaining;
mod script;
mod signals;
mod socket_activation;
mod status;
mod table;
mod terminal;

use leasehold::clock::Elapsed;
use leasehold::clock::{Clock, SystemClock};

pub(crate) use command::{Command, SpawnError};
pub(crate) use group::{Change, Group, Options};
#[cfg(feature = "dynamodb")]
pub(crate) use helpers::Helpers;
pub(crate) use inherited::block_signals_here;
pub(crate) use relay::separate;
pub(crate) use remaining::Remaining;
pub(crate) use signals::{Signals, named};
pub(crate) use status::{Status, Stopped};
pub(crate) use table::of_ancestors;
pub(crate) use terminal::suspend_ourselves;

/// What `work` comes to, if it does so before `at`. On the clock that counts while the machine sleeps, as the lease does: a grace that stood
/// still would go on beside the next holder.
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
