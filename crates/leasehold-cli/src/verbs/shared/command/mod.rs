//! A command under a lock: [`start`] prepares the process, [`open`] opens the store, and [`under`] runs the command with a
//! lease until that is released.
//!
//! [`environment`] has the command's variables, [`holding`] is the time while it runs, [`announced`] tells the guardian of
//! requests, and [`survivor`] is the guardian's part after the worker was killed.

mod announced;
mod environment;
pub(crate) mod grant;
pub(crate) mod holding;
mod output;
pub(crate) mod survivor;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use leasehold::LockClient;
use leasehold::clock::{Clock, SystemClock};
use rustix::process::Signal;

use self::announced::Announced;
use self::grant::Grant;
use self::holding::End;
use self::output::{Keeping, PassedOn};
use super::release::{self, ReleaseResult};
use super::waiting;
use crate::args::OnLost;
use crate::exit_codes;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::plan::RunPlan;
use crate::process::{Group, Guardian, Signals};
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
        Arc::new(Announced::new(store, site.guardian, &site.plan.lock.keys))
    });
    waiting::or_signal(site.signals, site.messages, opened).await
}

/// What became of a command under a lock, and of the lock.
#[derive(Debug)]
pub(crate) struct Ended {
    /// How the command ended, if it was started.
    pub(crate) end: Result<End, Failure>,
    /// How long the command ran.
    pub(crate) ran: Duration,
    /// How long the lock was held.
    pub(crate) held: Duration,
    /// How it was released.
    pub(crate) release: ReleaseResult,
    /// The lease had ended before the command, as only the release has shown.
    pub(crate) lost_unseen: bool,
    /// Why a run that was to be remembered is not.
    pub(crate) not_remembered: Option<Failure>,
}

impl Ended {
    /// The exit code.
    ///
    /// # Errors
    ///
    /// When the command could not be started, or its run is not remembered.
    pub(crate) fn code(self) -> Result<u8, Failure> {
        let end = self.end?;
        match self.not_remembered {
            _ if self.lost_unseen => Ok(exit_codes::LOST),
            Some(failure) => Err(failure),
            None => Ok(exit_code(&end)),
        }
    }
}

fn exit_code(end: &End) -> u8 {
    match end {
        End::Finished { status, .. } => status.exit_code(),
        End::Lost { .. } => exit_codes::LOST,
        End::MaxHold { .. } => exit_codes::MAX_HOLD,
        End::Killed { .. } => exit_codes::signalled(Signal::KILL.as_raw()),
    }
}

/// Starts the command, with what is kept of its output.
fn spawn(site: &Site<'_>, grant: &Grant) -> Result<(Group, Option<(Keeping, PassedOn)>), Failure> {
    let plan = site.plan;
    // The output ends with the command, and not with its description, which is dropped here.
    let mut command = environment::with_locks(plan, grant.locks());
    site.messages.pause();
    let output = match plan.once.is_some_and(|once| once.replay) {
        true => Some(
            output::of(&mut command)
                .map_err(|error| own_failure("cannot keep the output", &error))?,
        ),
        false => None,
    };
    let group = Group::spawn(&command, plan.options, site.signals, site.guardian)
        .map_err(|error| Failure::from(&error))?;
    Ok((group, output))
}

/// Runs the command under the grant, and ends that when no process of the command is left.
pub(crate) async fn under(site: &mut Site<'_>, client: &LockClient, grant: Grant) -> Ended {
    let acquired = SystemClock.elapsed();
    let (plan, messages) = (site.plan, site.messages);
    let (mut group, keeping, passed_on) = match spawn(site, &grant) {
        Ok((group, output)) => {
            let (keeping, passed_on) = output.unzip();
            (group, keeping, passed_on)
        }
        Err(failure) => {
            // The command did not run, so the lock is not kept.
            let (release, _) = grant.end(plan, client, site.signals, messages, None).await;
            return Ended {
                end: Err(failure),
                ran: Duration::ZERO,
                held: SystemClock.elapsed().since(acquired),
                release,
                lost_unseen: false,
                not_remembered: None,
            };
        }
    };
    let watch = holding::Watch {
        plan,
        messages,
        client,
        locks: grant.locks(),
        acquired,
    };
    let end = watch.over(&mut group, site.signals).await;
    let ran = SystemClock.elapsed().since(acquired);
    // Processes that outlived KILL still work under the lock, so its lease must expire.
    let (release, not_remembered) = if end.has_survivors() {
        (grant.leave(messages).await, None)
    } else {
        drop(group);
        let keep_until = acquired.plus(plan.hold_at_least);
        let by_itself = matches!(end, End::Finished { .. } | End::MaxHold { .. });
        let ended = by_itself.then_some((exit_code(&end), keeping));
        let kept = release::keep(
            &plan.lock,
            messages,
            site.signals,
            grant.locks(),
            keep_until,
        );
        if kept.await {
            grant.end(plan, client, site.signals, messages, ended).await
        } else {
            (grant.leave(messages).await, None)
        }
    };
    if let Some(passed_on) = passed_on {
        // Its reader may be slow. A signal ends the wait.
        let _passed = waiting::or_signal(site.signals, messages, passed_on).await;
    }
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
        ran,
        held: SystemClock.elapsed().since(acquired),
        release,
        not_remembered,
    }
}
