//! A command under a lock: [`start`] prepares the process, [`open`] opens the store, and [`under`] runs the command with a
//! lease until that is released.
//!
//! [`environment`] has the command's variables, [`holding`] is the time while it runs, [`announced`] tells the guardian of
//! requests, and [`survivor`] is the guardian's part after the worker was killed.

mod announced;
mod environment;
pub(crate) mod holding;
pub(crate) mod survivor;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use leasehold::clock::{Clock, SystemClock};
use leasehold::{Lease, LockClient};
use rustix::process::Signal;

use self::announced::Announced;
use self::holding::End;
use super::release::{self, ReleaseResult};
use super::waiting;
use crate::args::OnLost;
use crate::exit_codes;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::plan::RunPlan;
use crate::process::{Group, Guardian, Signals, SpawnError};
use crate::store::own_failure;

/// What the command runs with.
pub(crate) struct Site<'a> {
    pub(crate) plan: &'a RunPlan,
    pub(crate) guardian: &'a Arc<Guardian>,
    pub(crate) messages: &'a Arc<Messages>,
    pub(crate) signals: &'a mut Signals,
}

/// Refuses what can be refused without a request, listens to signals, and does `work`. Returns the exit code.
///
/// # Errors
///
/// When the command cannot be found, the operating system refuses something, or `work` fails.
pub(crate) fn start(
    plan: &RunPlan,
    guardian: &Arc<Guardian>,
    messages: &Arc<Messages>,
    work: impl AsyncFnOnce(Site<'_>) -> Result<u8, Failure>,
) -> Result<u8, Failure> {
    plan.command
        .check()
        .map_err(|error| Failure::from(&error))?;
    enough_descriptors()?;
    let mut signals = waiting::signals(messages)?;
    guardian
        .when_dead(signals.killed())
        .map_err(|error| own_failure("cannot watch the guardian", &error))?;
    let runtime = plan.lock.place.runtime()?;
    let code = runtime.block_on(work(Site {
        plan,
        guardian,
        messages,
        signals: &mut signals,
    }));
    // Not dropped: the drop would wait for a name lookup.
    runtime.shutdown_background();
    code
}

/// More files than a run opens at once: the store and its side files, signals, an event loop, the process
/// table.
const DESCRIPTORS: usize = 16;

/// Refuses a run that would run out of file descriptors under the lock.
fn enough_descriptors() -> Result<(), Failure> {
    let free: Result<Vec<_>, _> = (0..DESCRIPTORS / 2).map(|_| io::pipe()).collect();
    free.map(drop)
        .map_err(|error| own_failure("too few files may be opened", &error))
}

/// A client on the plan's store, whose requests the guardian knows of.
///
/// # Errors
///
/// As [`waiting::open`]; the signal, if one came first.
pub(crate) async fn open(site: &mut Site<'_>) -> Result<Result<LockClient, Failure>, Signal> {
    let opened = waiting::open(&site.plan.lock, site.messages, |store| {
        Arc::new(Announced::new(store, site.guardian))
    });
    waiting::or_signal(site.signals, site.messages, opened).await
}

/// What became of a command under a lock, and of the lock.
#[derive(Debug)]
pub(crate) struct Ended {
    /// How the command ended, if it was started.
    pub(crate) end: Result<End, SpawnError>,
    /// How long the lock was held.
    pub(crate) held: Duration,
    /// How it was released.
    pub(crate) release: ReleaseResult,
    /// The lease had ended before the command, as only the release has shown.
    pub(crate) lost_unseen: bool,
}

impl Ended {
    /// The exit code.
    ///
    /// # Errors
    ///
    /// When the command could not be started.
    pub(crate) fn code(&self) -> Result<u8, Failure> {
        let end = self.end.as_ref().map_err(Failure::from)?;
        Ok(match end {
            _ if self.lost_unseen => exit_codes::LOST,
            End::Finished { status, .. } => status.exit_code(),
            End::Lost { .. } => exit_codes::LOST,
            End::MaxHold { .. } => exit_codes::MAX_HOLD,
            End::Killed { .. } => exit_codes::signalled(Signal::KILL.as_raw()),
        })
    }
}

/// Runs the command under the lease, and releases it when no process of the command is left.
pub(crate) async fn under(site: &mut Site<'_>, client: &LockClient, lease: Lease) -> Ended {
    let acquired = SystemClock.elapsed();
    let (plan, messages) = (site.plan, site.messages);
    let command = environment::with_lock(plan, &lease);
    messages.pause();
    let spawned = Group::spawn(&command, plan.options, site.signals, site.guardian);
    let mut group = match spawned {
        Ok(group) => group,
        Err(error) => {
            // The command did not run, so the lock is not kept.
            let release = release::release(&plan.lock, messages, site.signals, client, lease).await;
            return Ended {
                end: Err(error),
                held: SystemClock.elapsed().since(acquired),
                release,
                lost_unseen: false,
            };
        }
    };
    let watch = holding::Watch {
        plan,
        messages,
        client,
        lease: &lease,
        acquired,
    };
    let end = watch.over(&mut group, site.signals).await;
    // Processes that outlived KILL still work under the lock, so its lease must expire.
    let release = if end.has_survivors() {
        release::leave(messages, lease).await
    } else {
        drop(group);
        let keep_until = acquired.plus(plan.hold_at_least);
        if release::keep(&plan.lock, messages, site.signals, &lease, keep_until).await {
            release::release(&plan.lock, messages, site.signals, client, lease).await
        } else {
            release::leave(messages, lease).await
        }
    };
    // This process did not run when the lease ended, and the command may have worked beside another holder.
    let unprotected = matches!(
        end,
        End::Finished {
            protected: false,
            ..
        }
    );
    Ended {
        lost_unseen: unprotected && release.was_too_late() && plan.on_lost == OnLost::Kill,
        end: Ok(end),
        held: SystemClock.elapsed().since(acquired),
        release,
    }
}
