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
//! [`waiting`] acquires the lock, [`command`] runs the command under it, and [`report`] writes the report.

mod report;

use std::slice;
use std::sync::Arc;

use self::report::Report;
use super::shared::command::grant::{Grant, duplicate};
use super::shared::command::survivor::{self, Left};
use super::shared::command::{self, Ended, Site};
use super::shared::waiting;
use super::shared::waiting::Answer;
use crate::args::{Memory, RunArgs};
use crate::failure::Failure;
use crate::messages::Messages;
use crate::plan::RunPlan;
use crate::process::{Guardian, Survivor};
use leasehold::clock::{Clock, SystemClock};

/// Carries out the verb, and returns the exit code.
/// `once` is how the run is remembered, if it is.
pub(crate) fn run(
    args: RunArgs,
    once: Option<Memory>,
    guardian: &Arc<Guardian>,
    messages: &Arc<Messages>,
) -> u8 {
    let names = [slice::from_ref(&args.name), &args.keys].concat();
    let path = args.report.clone();
    let mut report = Report::new(&args);
    let trouble = path.as_deref().and_then(report::trouble);
    if let Some(trouble) = &trouble {
        messages.note(trouble);
    }
    let ended =
        RunPlan::new(args, once).and_then(|plan| carry_out(&plan, guardian, messages, &mut report));
    let code = ended.unwrap_or_else(|failure| {
        let failure = failure.about_one_of(&names);
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
    command::start(plan, guardian, messages, async |mut site| {
        under_lock(&mut site, report).await
    })
}

async fn under_lock(site: &mut Site<'_>, report: &mut Report) -> Result<u8, Failure> {
    let client = match command::open(site).await {
        Ok(client) => client?,
        Err(signal) => return Ok(report.interrupted(signal)),
    };
    let (plan, messages) = (site.plan, site.messages);
    let asked = SystemClock.elapsed();
    let answer = Grant::acquire(plan, &client, site.signals, messages).await;
    report.waited(SystemClock.elapsed().since(asked));
    let code = match answer {
        Answer::Lease(Ok(grant)) => {
            report.acquired(grant.locks());
            let ended = command::under(site, &client, grant).await;
            recorded(ended, report)
        }
        Answer::Lease(Err(done)) => {
            report.done_before();
            match &plan.once {
                Some(once) => duplicate(plan, once, &done, site.signals, messages).await,
                None => Ok(plan.lock.conflict_code),
            }
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
        waiting::clean_up(&plan.lock, &client, site.signals, messages).await;
    }
    report.usage(plan, client.usage());
    code
}

fn recorded(ended: Ended, report: &mut Report) -> Result<u8, Failure> {
    if let Ok(end) = &ended.end {
        report.ended(end);
    }
    report.held(ended.held);
    report.released(&ended.release);
    if ended.lost_unseen {
        report.lost_unseen();
    }
    ended.code()
}

/// The guardian's part after the worker was killed. Returns the exit code.
pub(crate) fn survived(args: RunArgs, survivor: &Survivor, messages: &Arc<Messages>) -> u8 {
    let mut report = Report::of_survivor(&args, survivor);
    let left = Left {
        name: &args.name,
        more: &args.keys,
        store: args.store.store,
        keep: args.hold.hold_at_least.is_some(),
    };
    let given_back = survivor::survived(left, survivor, messages);
    report.given_back(given_back.locks);
    if let Some(path) = args.report {
        report.save(&path, messages);
    }
    given_back.code
}
