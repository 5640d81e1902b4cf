//! Getting the lock, while signals are listened to.
//!
//! A signal ends the wait with 128 + N. Whatever may have been claimed by then is given back before we end ([`clean_up`]), within a
//! bound: a claim that is still without an answer then ends with its lease.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use leasehold::clock::{Clock, SystemClock};
use leasehold::{Error, ErrorKind, HolderInfo, Lease, LockClient, LockState, TryAcquireOutcome};
use rustix::process::Signal;

use crate::failure::Failure;
use crate::messages::Messages;
use crate::plan::{RunPlan, Wait};
use crate::process::{Signals, suspend_ourselves};
use crate::text::duration;
use crate::text::quoted;
use crate::text::times;

/// How long a claim whose answer is outstanding is waited for. Too short leaves the lock to run out; too long keeps whoever
/// pressed Ctrl-C, who may press it again.
const CLEAN_UP: Duration = Duration::from_secs(3);

/// A wait that is shorter is not talked about.
const WORTH_A_LINE: Duration = Duration::from_millis(300);

/// How often the line asks who holds the lock: one read unit each.
const ASK: Duration = Duration::from_secs(5);

/// How the wait ended.
#[derive(Debug)]
pub(super) enum Answer {
    /// We hold it.
    Lease(Lease),
    /// Another does, and we were not to wait.
    Held(HolderInfo),
    /// Another did until the wait was over.
    Expired(Error),
    /// The store, or what it holds, is not as it should be.
    Failed(Error),
    /// A signal came that would have ended us.
    Interrupted(Signal),
}

/// Gets the lock, as the plan says.
pub(super) async fn acquire(
    plan: &RunPlan,
    client: &LockClient,
    signals: &mut Signals,
    messages: &Messages,
) -> Answer {
    let asking = async {
        let request = client.request(plan.key.as_str())?;
        match plan.wait {
            Wait::No => request.try_acquire().await,
            Wait::ByPolicy => request.acquire().await.map(TryAcquireOutcome::Acquired),
        }
    };
    let narrated = async {
        tokio::select! {
            biased;
            answer = asking => answer,
            never = tell(plan, client, messages) => match never {},
        }
    };
    let answer = or_signal(signals, messages, narrated).await;
    messages.wipe();
    match answer {
        Ok(Ok(TryAcquireOutcome::Acquired(lease))) => Answer::Lease(lease),
        Ok(Ok(TryAcquireOutcome::Held(held))) => Answer::Held(held),
        Ok(Err(error)) if error.kind() == ErrorKind::WaitExpired => Answer::Expired(error),
        Ok(Err(error)) => Answer::Failed(error),
        Err(signal) => Answer::Interrupted(signal),
    }
}

/// Does `work`, unless a signal comes that would have ended us: then `work` is dropped. Ctrl-Z stops us as usual.
pub(super) async fn or_signal<T>(
    signals: &mut Signals,
    messages: &Messages,
    work: impl Future<Output = T>,
) -> Result<T, Signal> {
    let mut work = pin!(work);
    loop {
        let received = tokio::select! {
            biased;
            received = signals.next() => received,
            done = &mut work => return Ok(done),
        };
        match received.signal {
            _ if received.suspends() => {
                messages.wipe();
                messages.pause();
                suspend_ourselves();
            }
            Signal::CONT | Signal::WINCH => {}
            signal => return Err(signal),
        }
    }
}

/// Gives back what may have been claimed. A second signal cuts it short.
pub(super) async fn clean_up(
    plan: &RunPlan,
    client: &LockClient,
    signals: &mut Signals,
    messages: &Messages,
) {
    let drained = or_signal(signals, messages, client.shutdown(CLEAN_UP)).await;
    if !drained.is_ok_and(|drained| drained) {
        messages.note(format_args!(
            "{} has not answered yet: a claim on `{}` may still land, and then ends by itself within {}",
            client.describe_store(),
            plan.key,
            duration::show(plan.policy.lease_duration()),
        ));
    }
}

/// Why nothing was run, where we were not to wait.
pub(super) fn busy(plan: &RunPlan, client: &LockClient, held: &HolderInfo) -> Failure {
    let since = held
        .since()
        .map_or_else(String::new, |since| format!(" for {}", times::age(since)));
    let message = format!("{held}{since} ({})", client.describe_store());
    Failure::new(plan.conflict_code, message)
        .hint("wait for it with `-w 30s`, or for ever without `-n`")
}

/// Why nothing was run, where the wait is over.
pub(super) fn expired(plan: &RunPlan, error: &Error) -> Failure {
    let mut failure = Failure::from(error).hint(format!(
        "wait longer with `-w`, or look at the holder: `leasehold show {}{}`",
        quoted(plan.key.as_str()),
        plan.place.option()
    ));
    failure.code = plan.conflict_code;
    failure
}

/// Says who is waited for, in a line that passes, on a terminal. Without one the requests say it, with `-v`.
async fn tell(plan: &RunPlan, client: &LockClient, messages: &Messages) -> Infallible {
    if plan.wait == Wait::No || !messages.has_line() {
        return std::future::pending().await;
    }
    let started = SystemClock.elapsed();
    SystemClock.sleep_until(started.plus(WORTH_A_LINE)).await;
    let mut known: Option<HolderInfo> = None;
    let mut ask_at = SystemClock.elapsed();
    loop {
        let now = SystemClock.elapsed();
        if now >= ask_at {
            ask_at = now.plus(ASK);
            // It is only a line: what is wrong with the store is told by the acquisition.
            known = match client.inspect(plan.key.as_str()).await {
                Ok(status) => match status.state() {
                    LockState::Held(held) | LockState::Expired(held) => Some(held.clone()),
                    _ => None,
                },
                Err(_) => None,
            };
        }
        if let Some(held) = &known {
            let since = held
                .since()
                .map_or_else(String::new, |since| format!(" for {}", times::age(since)));
            let waited = SystemClock.elapsed().since(started);
            messages.line(&format!(
                "waiting {}: {held}{since}",
                duration::show(waited)
            ));
        }
        let second = SystemClock.elapsed().plus(Duration::from_secs(1));
        SystemClock.sleep_until(second).await;
    }
}
