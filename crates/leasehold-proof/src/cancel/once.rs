//! What must hold after a call of `once`: its run is remembered, or another runs, and nothing replaces a result.

use std::time::Duration;

use leasehold::clock::Clock;
use leasehold::{Error, Started};

use super::call::{Call, KEY, LEASE};
use super::cast::{Cast, KEEP};

/// How long the rival's run takes, while requests in flight land.
const RIVAL_RUNS: Duration = Duration::from_secs(12);

/// Runs the work for the rival, unless a run is remembered. Then the key forgets. Gives how long the rival waited.
pub(super) async fn judge_work(
    call: Call,
    cast: &mut Cast,
    wrong: &mut Vec<String>,
) -> Option<Duration> {
    if !call.is_once() {
        return None;
    }
    if let Some(run) = cast.run.take()
        && let Err(error) = run.complete(b"rival").await
    {
        wrong.push(format!("the rival's run: {error}"));
    }
    let waited = cast.clock.elapsed();
    let begun = match cast.rival.once(KEY) {
        Ok(request) => request.keep(KEEP).wait(LEASE * 4).start().await,
        Err(error) => Err(error),
    };
    let blocked = cast.clock.elapsed().since(waited);
    match begun {
        Ok(Started::Run(run)) => {
            if call != Call::Forget && !cast.stage.completed().is_empty() {
                wrong.push("S7: work that is done runs again".to_owned());
            }
            cast.sleep(RIVAL_RUNS).await;
            if let Err(error) = run.complete(b"rival").await {
                wrong.push(format!("S7: the rival's run was not completed: {error}"));
            }
        }
        Ok(Started::Done(done)) => {
            let completed = cast.stage.completed();
            let last = completed.last().and_then(|(_, result)| result.as_deref());
            if completed.is_empty() || done.result() != last {
                wrong.push(format!("S7: {done}, with another result: {completed:?}"));
            }
            cast.sleep(RIVAL_RUNS).await;
        }
        Err(error) => wrong.push(format!("the work never came free: {error}")),
    }
    let remembered = cast.stage.completed();
    let result = remembered.last().and_then(|(_, result)| result.clone());
    cast.stage.may_forget();
    match cast.rival.forget(KEY).await {
        Ok(Some(done)) if done.result() == result.as_deref() => {}
        // The call has made it forget by now.
        Ok(None) if call == Call::Forget => {}
        other => wrong.push(format!("S7: remembered {other:?}, and not {result:?}")),
    }
    Some(blocked)
}

/// The answer that a caller got about its own run.
pub(super) fn judge_run(cast: &Cast, answer: Result<(), &Error>, wrong: &mut Vec<String>) {
    let completed = cast.stage.completed();
    let ours = completed.last().and_then(|(_, result)| result.as_deref()) == Some(b"ours");
    match answer {
        Ok(()) if !ours => wrong.push(format!(
            "S7: a run was said to be remembered, and is not: {completed:?}"
        )),
        Err(error) if error.effect() == leasehold::Effect::NotApplied => {
            // To be kept until the end of the case.
            cast.stage.expect_no_completion();
        }
        _ => {}
    }
}
