//! The acquisition of a lock for a verb without a command, with its messages and exit codes.

use std::sync::Arc;

use leasehold::{Leases, LockClient};
use rustix::process::Signal;

use super::waiting::{self, Answer};
use crate::exit_codes;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::plan::LockPlan;
use crate::process::Signals;

/// What the work under the lock has at hand.
pub(crate) struct Held<'a> {
    pub(crate) plan: &'a LockPlan,
    pub(crate) messages: &'a Arc<Messages>,
    pub(crate) signals: &'a mut Signals,
    pub(crate) client: &'a LockClient,
}

/// Acquires the lock as planned, and does `work` with it. Returns the exit code.
///
/// # Errors
///
/// When the store fails, or the work does.
pub(crate) fn under_lock(
    plan: &LockPlan,
    messages: &Arc<Messages>,
    work: impl AsyncFnOnce(Held<'_>, Leases) -> Result<u8, Failure>,
) -> Result<u8, Failure> {
    let mut signals = waiting::signals(messages)?;
    let runtime = plan.place.runtime()?;
    let code = runtime.block_on(acquired(plan, messages, &mut signals, work));
    // Not dropped: the drop would wait for a name lookup.
    runtime.shutdown_background();
    code
}

async fn acquired(
    plan: &LockPlan,
    messages: &Arc<Messages>,
    signals: &mut Signals,
    work: impl AsyncFnOnce(Held<'_>, Leases) -> Result<u8, Failure>,
) -> Result<u8, Failure> {
    let opened = waiting::open(plan, messages, |store| store);
    let client = match waiting::or_signal(signals, messages, opened).await {
        Ok(client) => client?,
        Err(signal) => return Ok(ended_by(signal)),
    };
    let code = match waiting::acquire(plan, &client, signals, messages).await {
        Answer::Lease(leases) => {
            let held = Held {
                plan,
                messages,
                signals,
                client: &client,
            };
            return work(held, leases).await;
        }
        Answer::Held(held) => {
            messages.note_failure(&waiting::busy(plan, &client, &held));
            Ok(plan.conflict_code)
        }
        Answer::Expired(error) => {
            messages.note_failure(&waiting::expired(plan, &error));
            Ok(plan.conflict_code)
        }
        Answer::Failed(error) => Err(plan.place.explain(error.into())),
        Answer::Interrupted(signal) => Ok(ended_by(signal)),
    };
    waiting::clean_up(plan, &client, signals, messages).await;
    code
}

/// The exit code after a signal that ended the wait.
pub(crate) fn ended_by(signal: Signal) -> u8 {
    exit_codes::signalled(signal.as_raw())
}
