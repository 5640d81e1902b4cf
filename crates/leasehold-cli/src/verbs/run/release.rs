//! Letting go of the lock, after the command.
//!
//! Invariant: nothing here changes the command's exit code; a release that fails is a warning, and the lock runs out by itself.

use std::fmt;
use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use leasehold::clock::Elapsed;
use leasehold::clock::{Clock, SystemClock};
use leasehold::{Error, Lease, LockClient, ReleaseOutcome};
use rustix::process::Signal;

use crate::messages::Messages;
use crate::plan::RunPlan;
use crate::process::{Signals, suspend_ourselves};
use crate::text::duration;

/// How long a release may still take once a signal has come.
const AFTER_A_SIGNAL: Duration = Duration::from_secs(3);

/// What came of it.
#[derive(Debug)]
pub(super) enum LetGo {
    /// The store answered.
    Answered(ReleaseOutcome),
    /// It did not, or refused.
    Failed(Error),
    /// Nobody waited for the answer.
    Unknown,
    /// The lock was left to run out.
    Left,
}

impl LetGo {
    /// Another had got the lock, or it was taken from us.
    pub(super) fn was_too_late(&self) -> bool {
        match self {
            LetGo::Answered(outcome) => !outcome.is_released(),
            _ => false,
        }
    }
}

impl fmt::Display for LetGo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LetGo::Answered(outcome) => outcome.fmt(f),
            LetGo::Failed(error) => write!(f, "failed: {error}"),
            LetGo::Unknown => f.write_str("sent, but nobody waited for the answer"),
            LetGo::Left => f.write_str("left to run out"),
        }
    }
}

/// Keeps the lock until `until` (`--hold-at-least`); false when a signal came before.
pub(super) async fn keep(
    plan: &RunPlan,
    messages: &Messages,
    signals: &mut Signals,
    lease: &Lease,
    until: Elapsed,
) -> bool {
    let left = until.since(SystemClock.elapsed());
    if left.is_zero() || !lease.is_held() {
        return true;
    }
    messages.detail(format_args!(
        "the command has ended, keeping `{}` for another {}",
        plan.key,
        duration::show(left)
    ));
    let mut pressed = false;
    loop {
        let received = tokio::select! {
            biased;
            loss = lease.lost() => {
                messages.note(format_args!("lost the lock `{}` after the command had ended: {loss}", plan.key));
                return true;
            }
            () = SystemClock.sleep_until(until) => return true,
            received = signals.next() => received,
        };
        match received.signal {
            _ if received.suspends() => {
                messages.pause();
                suspend_ourselves();
            }
            Signal::CONT | Signal::WINCH => {}
            // The key press that ended the command, and that only reaches us now.
            _ if received.from_terminal && !pressed => pressed = true,
            _ => {
                messages.note(format_args!(
                    "interrupted before `--hold-at-least` was over: `{}` is left to run out within {}",
                    plan.key,
                    duration::show(plan.policy.lease_duration())
                ));
                return false;
            }
        }
    }
}

/// Releases it, and warns of everything but a clean release.
pub(super) async fn release(
    plan: &RunPlan,
    messages: &Messages,
    signals: &mut Signals,
    client: &LockClient,
    lease: Lease,
) -> LetGo {
    let let_go = match patiently(signals, messages, lease.release()).await {
        Some(Ok(outcome)) => LetGo::Answered(outcome),
        Some(Err(error)) => LetGo::Failed(error),
        None => LetGo::Unknown,
    };
    let (name, store) = (&plan.key, client.describe_store());
    let by_itself = format!(
        "it ends by itself within {}",
        duration::show(plan.policy.lease_duration())
    );
    match &let_go {
        LetGo::Answered(ReleaseOutcome::Released | ReleaseOutcome::HandedOff) => {
            messages.detail(format_args!("released `{name}`"))
        }
        LetGo::Answered(outcome) => messages.note(format_args!(
            "the lock `{name}` ({store}) had ended before its release: {outcome}"
        )),
        LetGo::Failed(error) => {
            messages.note(format_args!(
                "could not release `{name}`, {by_itself}: {error}"
            ));
        }
        LetGo::Unknown | LetGo::Left => messages.note(format_args!(
            "{store} has not confirmed the release of `{name}`: {by_itself}"
        )),
    }
    let_go
}

/// Waits for a release. The key press that ended the command often reaches us only now: the first
/// signal bounds the wait, only a second one ends it.
async fn patiently<T>(
    signals: &mut Signals,
    messages: &Messages,
    release: impl Future<Output = T>,
) -> Option<T> {
    let mut release = pin!(release);
    let mut limit = Elapsed::NEVER;
    loop {
        let bound = async {
            if limit == Elapsed::NEVER {
                pending::<()>().await;
            }
            SystemClock.sleep_until(limit).await;
        };
        let received = tokio::select! {
            biased;
            done = &mut release => return Some(done),
            () = bound => return None,
            received = signals.next() => received,
        };
        match received.signal {
            _ if received.suspends() => {
                messages.wipe();
                messages.pause();
                suspend_ourselves();
            }
            Signal::CONT | Signal::WINCH => {}
            _ if limit == Elapsed::NEVER => limit = SystemClock.elapsed().plus(AFTER_A_SIGNAL),
            _ => return None,
        }
    }
}

/// Leaves it to run out: somebody may still be working under it.
pub(super) async fn leave(messages: &Messages, lease: Lease) -> LetGo {
    if let Err(error) = lease.detach().await {
        messages.detail(error);
    }
    LetGo::Left
}
