//! The release of the lock, after the command.
//!
//! Invariant: nothing here changes the command's exit code. A failed release is a warning, and the lease
//! expires.

use std::fmt;
use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use leasehold::clock::Elapsed;
use leasehold::clock::{Clock, SystemClock};
use leasehold::{Error, Leases, LockClient, ReleaseOutcome};
use rustix::process::Signal;

use super::locks::Locks;
use crate::messages::Messages;
use crate::plan::LockPlan;
use crate::process::{Signals, suspend_ourselves};
use crate::text::duration;

/// How long a release may still take after a signal.
const AFTER_A_SIGNAL: Duration = Duration::from_secs(3);

/// The result of the release.
#[derive(Debug)]
pub(crate) enum ReleaseResult {
    /// The store answered. Of several locks, the outcome of one that had ended before, if there is one.
    Answered(ReleaseOutcome),
    /// The store did not answer, or refused.
    Failed(Error),
    /// The wait for the answer was cut short.
    Unknown,
    /// The lease was left to expire.
    Left,
    /// The grant ended with a run that is remembered, or was freed without one.
    Remembered,
}

impl ReleaseResult {
    /// Whether the lease had ended before the release.
    pub(crate) fn was_too_late(&self) -> bool {
        match self {
            ReleaseResult::Answered(outcome) => !outcome.is_released(),
            _ => false,
        }
    }
}

impl fmt::Display for ReleaseResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReleaseResult::Answered(outcome) => outcome.fmt(f),
            ReleaseResult::Failed(error) => write!(f, "failed: {error}"),
            ReleaseResult::Unknown => f.write_str("sent, but nobody waited for the answer"),
            ReleaseResult::Left => f.write_str("left to run out"),
            ReleaseResult::Remembered => f.write_str("recorded"),
        }
    }
}

/// Keeps the lock until `until` (`--hold-at-least`); false when a signal came before.
pub(crate) async fn keep(
    plan: &LockPlan,
    messages: &Messages,
    signals: &mut Signals,
    locks: Locks<'_>,
    until: Elapsed,
) -> bool {
    let left = until.since(SystemClock.elapsed());
    if left.is_zero() || !locks.are_held() {
        return true;
    }
    messages.detail(format_args!(
        "the command has ended, keeping `{}` for another {}",
        plan.keys,
        duration::show(left)
    ));
    let mut pressed = false;
    loop {
        let received = tokio::select! {
            biased;
            (key, loss) = locks.lost() => {
                messages.note(format_args!("lost the lock `{key}` after the command had ended: {loss}"));
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
            // The key press that ended the command may reach this process only now.
            _ if received.from_terminal && !pressed => pressed = true,
            _ => {
                messages.note(format_args!(
                    "interrupted before the end of `--hold-at-least`: the lease of `{}` expires within {}",
                    plan.keys,
                    duration::show(plan.policy.lease_duration())
                ));
                return false;
            }
        }
    }
}

/// Releases the locks, and warns of everything but a clean release.
pub(crate) async fn release(
    plan: &LockPlan,
    messages: &Messages,
    signals: &mut Signals,
    client: &LockClient,
    leases: Leases,
) -> ReleaseResult {
    let release_result = match patiently(signals, messages, leases.release()).await {
        Some(Ok(outcomes)) => {
            let late = plan.keys.all.iter().zip(&outcomes);
            let late = late.filter(|(_, outcome)| !matches!(outcome, ReleaseOutcome::Released));
            let store = client.describe_store();
            for (name, outcome) in
                late.filter(|(_, outcome)| **outcome != ReleaseOutcome::HandedOff)
            {
                messages.note(format_args!(
                    "the lock `{name}` ({store}) had ended before its release: {outcome}"
                ));
            }
            let worst = outcomes.iter().find(|outcome| !outcome.is_released());
            let worst = worst.or_else(|| outcomes.iter().find(|o| **o != ReleaseOutcome::Released));
            ReleaseResult::Answered(worst.cloned().unwrap_or(ReleaseOutcome::Released))
        }
        Some(Err(error)) => ReleaseResult::Failed(error),
        None => ReleaseResult::Unknown,
    };
    let (name, store) = (&plan.keys, client.describe_store());
    let by_itself = format!(
        "its lease expires within {}",
        duration::show(plan.policy.lease_duration())
    );
    match &release_result {
        ReleaseResult::Answered(ReleaseOutcome::Released | ReleaseOutcome::HandedOff) => {
            messages.detail(format_args!("released `{name}`"))
        }
        ReleaseResult::Answered(_) => {}
        ReleaseResult::Failed(error) => {
            // Of several locks, the others are released.
            let name = error.key().unwrap_or(name.first.as_str());
            messages.note(format_args!(
                "could not release `{name}`, {by_itself}: {error}"
            ));
        }
        ReleaseResult::Unknown | ReleaseResult::Left | ReleaseResult::Remembered => messages.note(
            format_args!("{store} has not confirmed the release of `{name}`: {by_itself}"),
        ),
    }
    release_result
}

/// Waits until `time`, which may be never.
pub(crate) async fn at(time: Elapsed) {
    if time == Elapsed::NEVER {
        pending::<()>().await;
    }
    SystemClock.sleep_until(time).await;
}

/// Waits for a release. The key press that ended the command often reaches this process only now. So the
/// first signal bounds the wait, and only a second one ends it.
pub(crate) async fn patiently<T>(
    signals: &mut Signals,
    messages: &Messages,
    release: impl Future<Output = T>,
) -> Option<T> {
    let mut release = pin!(release);
    let mut limit = Elapsed::NEVER;
    loop {
        let received = tokio::select! {
            biased;
            done = &mut release => return Some(done),
            () = at(limit) => return None,
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

/// Leaves the leases to expire: a process may still work under them.
pub(crate) async fn leave(messages: &Messages, leases: Leases) -> ReleaseResult {
    for lease in leases.into_leases() {
        if let Err(error) = lease.detach().await {
            messages.detail(error);
        }
    }
    ReleaseResult::Left
}
