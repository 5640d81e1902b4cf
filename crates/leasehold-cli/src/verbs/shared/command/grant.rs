//! What a run has acquired: a lock, or the right to do work once.

use std::time::Duration;

use leasehold::{Done, Leases, LockClient, OnceRun, Started};
use serde::{Deserialize, Serialize};

use super::output::{Keeping, Kept};
use crate::exit_codes;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::plan::{OncePlan, RunPlan, Wait};
use crate::process::Signals;
use crate::text::{one_line, quoted, times};
use crate::verbs::shared::locks::Locks;
use crate::verbs::shared::output;
use crate::verbs::shared::release::{self, ReleaseResult};
use crate::verbs::shared::waiting::{self, Answer};

/// What was acquired.
#[derive(Debug)]
pub(crate) enum Grant {
    /// A lock, or several.
    Locks(Leases),
    /// A run that is to be remembered.
    Once(OnceRun),
}

/// The first line of a remembered result. The output follows, if it is kept.
#[derive(Serialize, Deserialize, Debug)]
struct Head {
    exit_code: u8,
}

impl Grant {
    /// Acquires the lock as planned, or finds out what was done.
    pub(crate) async fn acquire(
        plan: &RunPlan,
        client: &LockClient,
        signals: &mut Signals,
        messages: &Messages,
    ) -> Answer<Result<Grant, Done>> {
        let Some(once) = &plan.once else {
            let answer = waiting::acquire(&plan.lock, client, signals, messages).await;
            return answer.and_then(|leases| Answer::Lease(Ok(Grant::Locks(leases))));
        };
        let asking = async {
            let mut request = client
                .once(plan.lock.keys.first.as_str())?
                .keep(once.keep)
                .remember_failures(once.remember_failures)
                .patient(once.patient);
            if let Some(data) = &plan.lock.data {
                request = request.data(data);
            }
            if plan.lock.wait == Wait::No {
                request = request.wait(Duration::ZERO);
            }
            match request.start().await? {
                Started::Run(run) => {
                    waiting::acquired(client, messages, Locks::One(run.lease()));
                    Ok(Ok(Grant::Once(run)))
                }
                Started::Done(done) => Ok(Err(done)),
            }
        };
        match waiting::asked(&plan.lock, client, signals, messages, asking).await {
            Answer::Expired(error) if plan.lock.wait == Wait::No => match error.held() {
                Some(held) => Answer::Held(held.clone()),
                None => Answer::Expired(error),
            },
            answer => answer,
        }
    }

    /// Its leases.
    pub(crate) fn locks(&self) -> Locks<'_> {
        match self {
            Grant::Locks(leases) => Locks::All(leases),
            Grant::Once(run) => Locks::One(run.lease()),
        }
    }

    /// Leaves it to expire: a process may still work under it.
    pub(crate) async fn leave(self, messages: &Messages) -> ReleaseResult {
        match self {
            Grant::Locks(leases) => release::leave(messages, leases).await,
            Grant::Once(run) => release::leave(messages, run.into_lease().into()).await,
        }
    }

    /// Releases the lock, or remembers the run of a command that ended by itself with `code`. The failure is that of
    /// a run that is not remembered.
    pub(crate) async fn end(
        self,
        plan: &RunPlan,
        client: &LockClient,
        signals: &mut Signals,
        messages: &Messages,
        ended: Option<(u8, Option<Keeping>)>,
    ) -> (ReleaseResult, Option<Failure>) {
        let run = match self {
            Grant::Locks(leases) => {
                let released = release::release(&plan.lock, messages, signals, client, leases);
                return (released.await, None);
            }
            Grant::Once(run) => run,
        };
        let failures = plan.once.is_some_and(|once| once.remember_failures);
        let (code, kept) = match ended {
            Some((code, kept)) if code == 0 || failures => (code, kept),
            // Nothing is to be remembered: the work is free to run again.
            _ => {
                let lease = run.into_lease().into();
                let released = release::release(&plan.lock, messages, signals, client, lease);
                return (released.await, None);
            }
        };
        let ending = async {
            let kept = match kept {
                Some(kept) => kept.end(messages).await,
                None => Kept::No,
            };
            let result = result(code, kept);
            match code {
                0 => run.complete(&result).await,
                _ => run.fail(&result).await,
            }
        };
        let (key, store) = (&plan.lock.keys.first, client.describe_store());
        let error = match release::patiently(signals, messages, ending).await {
            Some(Ok(())) => return (ReleaseResult::Remembered, None),
            Some(Err(error)) => error,
            None => {
                let message = format!("`{key}` ran, and {store} has not confirmed its record");
                let failure = Failure::new(exit_codes::UNAVAILABLE, message)
                    .hint(format!("see whether it is done: `leasehold show {key}`"));
                return (ReleaseResult::Unknown, Some(failure));
            }
        };
        let mut failure = Failure::from(&error);
        failure.message = format!("`{key}` ran and is not remembered ({store}): {error}");
        let failure = failure
            .hint("another process may run it: have the changed resource check LEASEHOLD_TOKEN");
        (ReleaseResult::Failed(error), Some(failure))
    }
}

fn result(code: u8, kept: Kept) -> Vec<u8> {
    let head = Head { exit_code: code };
    // A number needs no more than this.
    let mut result = serde_json::to_vec(&head).unwrap_or_default();
    if let Kept::All(output) = kept {
        result.push(b'\n');
        result.extend(output);
    }
    result
}

/// Says that the work is done, and returns the exit code. With `--replay` it prints what the run has printed.
///
/// # Errors
///
/// When standard output cannot be written.
pub(crate) async fn duplicate(
    plan: &RunPlan,
    once: &OncePlan,
    done: &Done,
    signals: &mut Signals,
    messages: &Messages,
) -> Result<u8, Failure> {
    let result = done.result().unwrap_or_default();
    let (head, printed) = match result.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&result[..end], Some(&result[end + 1..])),
        None => (result, None),
    };
    let code = serde_json::from_slice::<Head>(head).map(|head| head.exit_code);
    let by = format!(
        "by {}, {}{}",
        one_line(done.runner()),
        times::relative(done.at()),
        match done.until() {
            Some(until) => format!(", remembered until {}", times::local(until)),
            None => ", remembered until it is forgotten".to_owned(),
        }
    );
    if once.replay {
        // What another program has left is not what was printed.
        match printed.filter(|_| code.is_ok()) {
            Some(printed) => {
                match waiting::or_signal(signals, messages, output::write(printed)).await {
                    Ok(written) => written.map_err(|error| output::failed(&error))?,
                    Err(signal) => return Ok(exit_codes::signalled(signal.as_raw())),
                }
            }
            None => {
                messages.note("its output was not kept: it was too large, or ran without --replay")
            }
        }
    }
    let as_it_ended = once.replay || done.is_failed();
    let code = match (code, as_it_ended) {
        (Ok(code), true) => code,
        // Another program ran it, through the library.
        (Err(_), true) if done.is_failed() => exit_codes::OWN_FAILURE,
        _ => once.duplicate_code.unwrap_or(0),
    };
    let key = &plan.lock.keys.first;
    if done.is_failed() {
        let failure = Failure::new(code, format!("`{key}` failed before, {by}"));
        messages.note_failure(&failure.hint(format!(
            "let it run again: `leasehold forget {}{}`",
            quoted(key.as_str()),
            plan.lock.place.option()
        )));
    } else {
        messages.note(format_args!("`{key}` is done already, {by}"));
    }
    Ok(code)
}
