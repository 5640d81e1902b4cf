//! `leasehold run`: a command under a lock.
//!
//! The order is guaranteed:
//!
//! 1. Everything that can be refused without a request is refused.
//! 2. Signals are handled before anything waits.
//! 3. The command starts only under the lock, and on the main thread, to which the system binds it.
//! 4. The lock is released only when no process of the command is left.
//! 5. The report is written, however the run ended.
//!
//! [`waiting`] acquires the lock, [`holding`] runs the
//! command, and [`release`] releases the lock. [`report`]
//! writes the report, and [`survivor`] is the guardian's part after the worker was killed.

mod report;
mod survivor;

use std::io;
use std::sync::Arc;

use leasehold::clock::{Clock, SystemClock};
use leasehold::{Lease, LockClient};
use rustix::process::Signal;

use self::report::Report;
pub(crate) use self::survivor::survived;
use super::shared::command::announced::Announced;
use super::shared::command::environment;
use super::shared::command::holding::{self, End};
use super::shared::waiting::Answer;
use super::shared::{release, waiting};
use crate::args::{OnLost, RunArgs};
use crate::exit_codes;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::plan::RunPlan;
use crate::process::{Group, Guardian, Signals};
use crate::store::own_failure;

/// Carries out the verb, and returns the exit code.
pub(crate) fn run(args: RunArgs, guardian: &Arc<Guardian>, messages: &Arc<Messages>) -> u8 {
    let (name, path) = (args.name.clone(), args.report.clone());
    let mut report = Report::new(&args);
    let trouble = path.as_deref().and_then(report::trouble);
    if let Some(trouble) = &trouble {
        messages.note(trouble);
    }
    let ended =
        RunPlan::new(args).and_then(|plan| carry_out(&plan, guardian, messages, &mut report));
    let code = ended.unwrap_or_else(|failure| {
        let failure = failure.about(&name);
        messages.failure(&failure);
        report.failed(&failure);
        failure.code
    });
    report.exit_code = code;
    match path {
        // One message about the report is enough.
        Some(path) if trouble.is_some() => drop(report.write(&path)),
        Some(path) => report.save(&path, messages),
        None => {}
    }
    code
}

fn carry_out(
    plan: &RunPlan,
    guardian: &Arc<Guardian>,
    messages: &Arc<Messages>,
    report: &mut Report,
) -> Result<u8, Failure> {
    report.leased(plan);
    plan.command
        .check()
        .map_err(|error| Failure::from(&error))?;
    enough_descriptors()?;
    let mut signals = waiting::signals(messages)?;
    guardian
        .when_dead(signals.killed())
        .map_err(|error| own_failure("cannot watch the guardian", &error))?;
    let runtime = plan.lock.place.runtime()?;
    let code = runtime.block_on(under_lock(plan, guardian, messages, &mut signals, report));
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

async fn under_lock(
    plan: &RunPlan,
    guardian: &Arc<Guardian>,
    messages: &Arc<Messages>,
    signals: &mut Signals,
    report: &mut Report,
) -> Result<u8, Failure> {
    let opened = waiting::open(&plan.lock, messages, |store| {
        Arc::new(Announced::new(store, guardian))
    });
    let client = match waiting::or_signal(signals, messages, opened).await {
        Ok(client) => client?,
        Err(signal) => return Ok(report.interrupted(signal)),
    };
    let asked = SystemClock.elapsed();
    let answer = waiting::acquire(&plan.lock, &client, signals, messages).await;
    report.waited(SystemClock.elapsed().since(asked));
    let code = match answer {
        Answer::Lease(lease) => {
            with_lease(plan, guardian, messages, signals, report, &client, lease).await
        }
        Answer::Held(held) => {
            report.not_acquired(&held);
            messages.note_failure(&waiting::busy(&plan.lock, &client, &held));
            Ok(plan.lock.conflict_code)
        }
        Answer::Expired(error) => {
            if let Some(held) = error.held() {
                report.not_acquired(held);
            }
            messages.note_failure(&waiting::expired(&plan.lock, &error));
            Ok(plan.lock.conflict_code)
        }
        Answer::Failed(error) => Err(plan.lock.place.explain(error.into())),
        Answer::Interrupted(signal) => Ok(report.interrupted(signal)),
    };
    if report.token.is_none() {
        waiting::clean_up(&plan.lock, &client, signals, messages).await;
    }
    report.usage(plan, client.usage());
    code
}

async fn with_lease(
    plan: &RunPlan,
    guardian: &Arc<Guardian>,
    messages: &Arc<Messages>,
    signals: &mut Signals,
    report: &mut Report,
    client: &LockClient,
    lease: Lease,
) -> Result<u8, Failure> {
    let acquired = SystemClock.elapsed();
    report.acquired(&lease);
    let command = environment::with_lock(plan, &lease);
    messages.pause();
    let mut group = match Group::spawn(&command, plan.options, signals, guardian) {
        Ok(group) => group,
        Err(error) => {
            // The command did not run, so the lock is not kept.
            let release_result =
                release::release(&plan.lock, messages, signals, client, lease).await;
            report.released(&release_result);
            report.held(SystemClock.elapsed().since(acquired));
            return Err((&error).into());
        }
    };
    let watch = holding::Watch {
        plan,
        messages,
        client,
        lease: &lease,
        acquired,
    };
    let end = watch.over(&mut group, signals).await;
    report.ended(&end);
    let code = match &end {
        End::Finished { status, .. } => status.exit_code(),
        End::Lost { .. } => exit_codes::LOST,
        End::MaxHold { .. } => exit_codes::MAX_HOLD,
        End::Killed { .. } => exit_codes::signalled(Signal::KILL.as_raw()),
    };
    // Processes that outlived KILL still work under the lock, so its lease must expire.
    let release_result = if end.has_survivors() {
        release::leave(messages, lease).await
    } else {
        drop(group);
        let keep_until = acquired.plus(plan.hold_at_least);
        if release::keep(&plan.lock, messages, signals, &lease, keep_until).await {
            release::release(&plan.lock, messages, signals, client, lease).await
        } else {
            release::leave(messages, lease).await
        }
    };
    report.held(SystemClock.elapsed().since(acquired));
    report.released(&release_result);
    if let End::Finished {
        protected: false, ..
    } = end
        && release_result.was_too_late()
        && plan.on_lost == OnLost::Kill
    {
        // This process did not run when the lease ended, and the command may have worked beside another
        // holder.
        report.lost_unseen();
        return Ok(exit_codes::LOST);
    }
    Ok(code)
}
