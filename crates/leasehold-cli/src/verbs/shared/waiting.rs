//! The acquisition of the lock, while signals are handled.
//!
//! A signal ends the wait with 128 + N. A request that may have acquired the lock is cleaned up before the
//! process ends ([`clean_up`]), within a bound. Without an answer by then, its lease expires.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use leasehold::clock::{Clock, SystemClock};
use leasehold::store::Store;
use leasehold::{
    Election, Error, ErrorKind, HolderInfo, Leases, LockClient, Term, TryAcquireOutcome,
};
use rustix::process::Signal;

use super::locks::Locks;
use super::nested;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::plan::{LockPlan, Wait};
use crate::process::{Signals, has_terminal, suspend_ourselves};
use crate::store::own_failure;
use crate::text::duration;
use crate::text::quoted;
use crate::text::{one_line, times};

/// How long the clean-up waits for an unanswered acquire request. Too short: the lock stays held until its
/// lease expires. Too long: the user waits after Ctrl-C.
const CLEAN_UP: Duration = Duration::from_secs(3);

/// A shorter wait has no message.
const WORTH_A_LINE: Duration = Duration::from_millis(300);

/// How the wait ended.
#[derive(Debug)]
pub(crate) enum Answer<T = Leases> {
    /// The lock was acquired.
    Lease(T),
    /// Another holds it, and the run must not wait.
    Held(HolderInfo),
    /// Another held it until the wait expired.
    Expired(Error),
    /// The store failed, or its record is unclear.
    Failed(Error),
    /// A signal came that ends this process by default.
    Interrupted(Signal),
}

impl<T> Answer<T> {
    /// What `next` makes of what was acquired; anything else stays as it is.
    pub(crate) fn and_then<U>(self, next: impl FnOnce(T) -> Answer<U>) -> Answer<U> {
        match self {
            Answer::Lease(acquired) => next(acquired),
            Answer::Held(held) => Answer::Held(held),
            Answer::Expired(error) => Answer::Expired(error),
            Answer::Failed(error) => Answer::Failed(error),
            Answer::Interrupted(signal) => Answer::Interrupted(signal),
        }
    }
}

/// Begins to listen to signals.
///
/// # Errors
///
/// When the operating system refuses a thread or a handler: without them no lock may be acquired.
pub(crate) fn signals(messages: &Messages) -> Result<Signals, Failure> {
    if !messages.is_free() {
        let refused = io::Error::from(io::ErrorKind::WouldBlock);
        return Err(own_failure("cannot start a thread", &refused));
    }
    Signals::install().map_err(|error| own_failure("cannot listen to signals", &error))
}

/// A client on the plan's store, as `wrap` wraps it.
///
/// # Errors
///
/// When the store cannot be opened, and for a run that would wait for itself.
pub(crate) async fn open(
    plan: &LockPlan,
    messages: &Arc<Messages>,
    wrap: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>,
) -> Result<LockClient, Failure> {
    let store = plan.place.store(messages).await?;
    match nested::refused(plan, &*store).await {
        Some(refused) => Err(refused),
        None => Ok(plan.client(wrap(store))),
    }
}

/// Acquires the lock, as planned.
pub(crate) async fn acquire(
    plan: &LockPlan,
    client: &LockClient,
    signals: &mut Signals,
    messages: &Messages,
) -> Answer {
    let asking = async {
        if plan.keys.are_several() {
            return all(plan, client).await;
        }
        let name = plan.keys.first.as_str();
        let mut request = match plan.slots {
            Some(limit) => client.slots(name, limit)?,
            None => client.request(name)?,
        };
        if let Some(data) = &plan.data {
            request = request.data(data);
        }
        let outcome = match plan.wait {
            Wait::No => request.try_acquire().await?,
            Wait::ByPolicy => TryAcquireOutcome::Acquired(request.acquire().await?),
        };
        Ok(match outcome {
            TryAcquireOutcome::Acquired(lease) => Ok(Leases::from(lease)),
            TryAcquireOutcome::Held(held) => Err(held),
        })
    };
    let answer = asked(plan, client, signals, messages, asking).await;
    answer.and_then(|outcome| match outcome {
        Ok(leases) => {
            acquired(client, messages, Locks::All(&leases));
            Answer::Lease(leases)
        }
        Err(held) => Answer::Held(held),
    })
}

/// Acquires all locks of the plan, or says who holds one of them if they must not be waited for.
async fn all(plan: &LockPlan, client: &LockClient) -> Result<Result<Leases, HolderInfo>, Error> {
    let mut request = client.request_all(&plan.keys.all)?;
    if let Some(limit) = plan.slots {
        request = request.slots(limit)?;
    }
    if let Some(data) = &plan.data {
        request = request.data(data);
    }
    if plan.wait == Wait::No {
        let once = plan.policy.to_builder().wait(Duration::ZERO);
        request = request.policy(once.build()?);
    }
    match request.acquire().await {
        Ok(leases) => Ok(Ok(leases)),
        Err(error) => match error.held() {
            Some(held) if plan.wait == Wait::No => Ok(Err(held.clone())),
            _ => Err(error),
        },
    }
}

/// Says that the locks were acquired.
pub(crate) fn acquired(client: &LockClient, messages: &Messages, locks: Locks<'_>) {
    for lease in locks.iter() {
        messages.detail(format_args!(
            "acquired `{}` with token {} ({})",
            lease.key(),
            lease.token(),
            client.describe_store()
        ));
    }
}

/// Does `asking`, which may wait for a holder, while signals are handled.
pub(crate) async fn asked<T>(
    plan: &LockPlan,
    client: &LockClient,
    signals: &mut Signals,
    messages: &Messages,
    asking: impl Future<Output = Result<T, Error>>,
) -> Answer<T> {
    let narrated = narrated(plan, client, messages, asking);
    let answer = or_signal(signals, messages, narrated).await;
    messages.wipe();
    match answer {
        Ok(Ok(answer)) => Answer::Lease(answer),
        Ok(Err(error)) if error.kind() == ErrorKind::WaitExpired => Answer::Expired(error),
        Ok(Err(error)) => Answer::Failed(error),
        Err(signal) => Answer::Interrupted(signal),
    }
}

/// Waits for the next term of an election; for the signal, if one comes first.
pub(crate) async fn next_term(
    plan: &LockPlan,
    client: &LockClient,
    election: &mut Election,
    signals: &mut Signals,
    messages: &Messages,
) -> Result<Result<Option<Term>, Error>, Signal> {
    let narrated = narrated(plan, client, messages, election.next_term());
    let answer = or_end(signals, messages, narrated).await;
    messages.wipe();
    answer
}

/// Does `asking`, and says meanwhile what it waits for.
async fn narrated<T>(
    plan: &LockPlan,
    client: &LockClient,
    messages: &Messages,
    asking: impl Future<Output = T>,
) -> T {
    tokio::select! {
        biased;
        answer = asking => answer,
        never = tell(plan, client, messages) => match never {},
    }
}

/// Does `work`, and drops it at a signal that ends an election. Signals for its command, such as a reload, pass while no
/// command runs: all candidates may get them.
pub(crate) async fn or_end<T>(
    signals: &mut Signals,
    messages: &Messages,
    work: impl Future<Output = T>,
) -> Result<T, Signal> {
    let mut work = pin!(work);
    loop {
        match or_signal(signals, messages, &mut work).await {
            Err(Signal::USR1 | Signal::USR2) => {}
            // Without a terminal, nothing hangs up.
            Err(Signal::HUP) if !has_terminal() => {}
            ended => return ended,
        }
    }
}

/// Does `work`, and drops it at a signal that ends this process by default. Ctrl-Z stops the process as
/// usual.
pub(crate) async fn or_signal<T>(
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

/// Waits for the clean-up of unanswered requests. A second signal ends it.
pub(crate) async fn clean_up(
    plan: &LockPlan,
    client: &LockClient,
    signals: &mut Signals,
    messages: &Messages,
) {
    let drained = or_signal(signals, messages, client.shutdown(CLEAN_UP)).await;
    if !drained.is_ok_and(|drained| drained) {
        messages.note(format_args!(
            "{} has not answered yet: `{}` may still be acquired, and its lease then expires within {}",
            client.describe_store(),
            plan.keys,
            duration::show(plan.policy.lease_duration()),
        ));
    }
}

/// The failure of a run that must not wait.
pub(crate) fn busy(plan: &LockPlan, client: &LockClient, held: &HolderInfo) -> Failure {
    let message = format!("{} ({})", holder(held), client.describe_store());
    Failure::new(plan.conflict_code, message)
        .hint("wait for it with `-w 30s`, or for ever without `-n`")
}

/// Who holds the lock, for how long, and who waits for it.
pub(crate) fn holder(held: &HolderInfo) -> String {
    let queue = match (held.place(), held.waiting()) {
        (Some(place), Some(all)) => format!(", place {place} of {all} in its queue"),
        (None, Some(all)) if all > 0 => format!(", {all} in its queue"),
        _ => String::new(),
    };
    format!("{}{queue}", since(held))
}

fn since(held: &HolderInfo) -> String {
    let since = held
        .since()
        .map_or_else(String::new, |since| format!(" for {}", times::age(since)));
    let (key, label) = (one_line(held.key()), one_line(held.label()));
    format!("`{key}` is held by {label}{since}")
}

/// The status line of a wait, with the place first: a narrow terminal cuts the end off. A renewal moves the end of
/// the lease.
fn line(waited: Duration, held: &HolderInfo) -> String {
    let waited = duration::show(waited);
    let place = match (held.place(), held.waiting()) {
        (Some(place), Some(all)) => format!(", place {place} of {all}"),
        _ => String::new(),
    };
    let until = match times::left(held.until()) {
        Some(_) => format!(", until {} unless renewed", times::of_day(held.until())),
        None => ", whose lease is over".to_owned(),
    };
    format!("waiting {waited}{place}: {}{until}", since(held))
}

/// The failure of a run whose wait expired.
pub(crate) fn expired(plan: &LockPlan, error: &Error) -> Failure {
    let name = error.key().unwrap_or(plan.keys.first.as_str());
    let mut failure = Failure::from(error).hint(format!(
        "wait longer with `-w`, or check the holder: `leasehold show {}{}`",
        quoted(name),
        plan.place.option()
    ));
    failure.code = plan.conflict_code;
    failure
}

/// Shows the holder in a status line on a terminal. Without a terminal, `-v` shows it.
async fn tell(plan: &LockPlan, client: &LockClient, messages: &Messages) -> Infallible {
    if plan.wait == Wait::No || !messages.has_line() {
        return std::future::pending().await;
    }
    let started = SystemClock.elapsed();
    SystemClock.sleep_until(started.plus(WORTH_A_LINE)).await;
    loop {
        // Of several locks, it waits for one after the other.
        let mut waits = plan.keys.all.iter().rev();
        if let Some(held) = waits.find_map(|key| client.waits_for(key)) {
            let waited = SystemClock.elapsed().since(started);
            messages.line(&line(waited, &held));
        }
        let second = SystemClock.elapsed().plus(Duration::from_secs(1));
        SystemClock.sleep_until(second).await;
    }
}
