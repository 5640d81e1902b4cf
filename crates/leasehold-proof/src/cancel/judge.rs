//! One case: a call, where it is dropped, what its requests meet; and what must hold afterwards.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use leasehold::clock::Clock;
use leasehold::{Effect, ErrorKind, Lease, ReleaseOutcome};
use leasehold_protocol::attempt::SEED_TOLERANCE;
use leasehold_protocol::record::Record;
use leasehold_protocol::time::{ClockBounds, ServiceTime};

use super::call::{CALL_TIMEOUT, Call, KEY, LEASE, POLL};
use super::cast::{Cast, LEFT};
use super::gave::Gave;
use super::once::{judge_run, judge_work};
use super::slots::take_all;
use super::stage::{Fortune, SLOW, Stage};

/// After this nothing of a dropped call may be left: the store's own bound of a request, and what is
/// given back after it.
const DRAINED: Duration = Duration::from_secs(40);
/// After this whatever a dropped acquire was granted has been given back.
const SETTLED: Duration = Duration::from_secs(20);
/// How long the rival holds the key, while requests in flight land.
const RIVAL_HOLDS: Duration = Duration::from_secs(12);
/// Where every request is answered in the end, what was acquired is given back within this: two
/// request time-outs, late answers, back-offs.
const GIVEN_BACK: Duration = Duration::from_millis(4_500);
/// Clocks have a grain.
const GRAIN: Duration = Duration::from_millis(20);

/// Where a future is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cut {
    /// After so many polls; after none, it was never started.
    Polls(usize),
    /// When the library comes to its so manyeth await of the clock or the store, in whichever task.
    Gate(usize),
}

/// The result of a case.
#[derive(Debug)]
pub(super) struct Shown {
    /// The outcomes that its requests met, by number.
    pub(super) taken: Vec<usize>,
    /// Whether the call ended before its cut.
    pub(super) ended: bool,
    pub(super) wrong: Vec<String>,
}

/// Runs a case in a runtime of its own, in virtual time.
pub(super) fn run(call: Call, cut: Cut, script: &[usize], depth: usize) -> anyhow::Result<Shown> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    let script = script.to_vec();
    let shown = runtime.block_on(async move {
        let stage = Stage::new(script, depth, call);
        case(call, cut, stage).await
    })?;
    Ok(shown)
}

async fn case(call: Call, cut: Cut, stage: Stage) -> anyhow::Result<Shown> {
    let mut cast = Cast::new(call, stage.clone()).await?;
    stage.arm(match cut {
        Cut::Gate(number) => Some(number),
        Cut::Polls(_) => None,
    });
    let started = cast.clock.elapsed();
    let gave = {
        let mut future = cast.call(call);
        match cut {
            Cut::Polls(polls) => cut_after(polls, future.as_mut()).await,
            Cut::Gate(_) => tokio::select! {
                biased;
                gave = future.as_mut() => Some(gave),
                () = stage.reached() => None,
            },
        }
        // The future is dropped here, while the task that reached the gate still waits there.
    };
    stage.open();
    let took = cast.clock.elapsed().since(started);
    let ended = gave.is_some();
    let fortunes = stage.fortunes();
    let kept = cast.lease.take();
    let mut wrong = Vec::new();
    if let Some(gave) = gave {
        judge_answer(
            call,
            gave,
            kept.as_ref(),
            took,
            &fortunes,
            &cast,
            &mut wrong,
        )
        .await;
    }
    drop(kept);
    // A call that was not polled is the drop of its lease.
    let keeps_data = call == Call::ReleaseKeepingData && cut != Cut::Polls(0);
    judge_aftermath(call, keeps_data, &mut cast, &mut wrong).await;
    wrong.extend(stage.violations());
    Ok(Shown {
        taken: stage.taken(),
        ended,
        wrong,
    })
}

/// Polls a future at most `polls` times.
async fn cut_after<T: Send>(
    polls: usize,
    mut future: Pin<&mut (dyn Future<Output = T> + Send + '_)>,
) -> Option<T> {
    let mut polled = 0;
    std::future::poll_fn(|context| {
        if polled == polls {
            return Poll::Ready(None);
        }
        polled += 1;
        match future.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if polled == polls => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Judges the result of a call that was not dropped.
async fn judge_answer(
    call: Call,
    gave: Gave,
    kept: Option<&Lease>,
    took: Duration,
    fortunes: &[Fortune],
    cast: &Cast,
    wrong: &mut Vec<String>,
) {
    // What fails at once is tried again at once, within every bound here.
    let brief =
        |fortune: &Fortune| matches!(fortune, Fortune::Ok | Fortune::Error | Fortune::ErrorBefore);
    let harmless = fortunes.iter().all(brief);
    match gave {
        Gave::Lease(lease) => {
            let record = cast.stage.record(KEY);
            let attempt = lease.id().attempt();
            let is_its = |record: &Record| {
                record.slot_of(attempt).is_some() || record.owner == Some(attempt.to_string())
            };
            if !lease.is_held() || !record.as_ref().is_some_and(is_its) {
                wrong.push(format!("S5: a lease that is not held: {record:?}"));
            }
            let watched = ClockBounds::default().at_most(LEASE);
            if call == Call::AcquireDeadStrict && took < watched {
                wrong.push(format!(
                    "S1: strict took over after {took:?}, not {watched:?}"
                ));
            }
        }
        Gave::Held => {
            if !matches!(call, Call::TryAcquireHeld | Call::TrySlotFull) {
                wrong.push("held by somebody, though nobody holds it".to_owned());
            }
        }
        Gave::Failed(error) => {
            let in_vain = call == Call::AcquireInVain && error.kind() == ErrorKind::WaitExpired;
            let late = matches!(
                call,
                Call::RenewLate | Call::RenewStopped | Call::RenewReleased
            ) && error.kind() == ErrorKind::Lost;
            // It renews three times at most.
            let detaches = matches!(call, Call::Detach | Call::DetachSlot);
            let exhausted = detaches && fortunes.len() >= 3;
            if harmless && !in_vain && !late && !exhausted {
                wrong.push(format!("failed although it can be tried again: {error}"));
            }
            if error.kind() == ErrorKind::WaitExpired && !in_vain && cast.theirs.is_none() {
                wrong.push(format!("waited for nobody: {error}"));
            }
            if error.effect() == Effect::NotApplied {
                // To be kept until the end of the case.
                cast.stage.expect_no_grant();
            }
            if let Some(lease) = kept.filter(|_| error.kind() == ErrorKind::Lost) {
                stays_lost(lease, cast, wrong).await;
            }
        }
        Gave::Lost => {
            let unlucky = |fortune: &Fortune| {
                matches!(
                    fortune,
                    Fortune::Slow | Fortune::Never | Fortune::NeverBefore
                )
            };
            let expected = match call {
                // No answer in time to any of the renewals that fit into this short lease.
                Call::LostRenewing => fortunes.len() >= 3 && fortunes.iter().all(unlucky),
                // Less than a third of its lease is left, and it must still be renewed.
                Call::LostBehind | Call::LeadLong => fortunes.iter().any(unlucky),
                Call::Lead => false,
                _ => true,
            };
            if !expected {
                wrong.push(format!("lost after {took:?}"));
            }
            let lead = cast.ours.policy().safety_margin();
            if call == Call::Lost && took > LEASE - lead + GRAIN {
                wrong.push(format!("S6: lost only after {took:?}"));
            }
            if let Some(lease) = kept {
                stays_lost(lease, cast, wrong).await;
            }
        }
        Gave::Listed(keys) => {
            if keys != 1 {
                wrong.push(format!("{keys} keys are listed, not 1"));
            }
        }
        Gave::Forced(outcome) => {
            // The silent holder's lease ends meanwhile, unless a request was slow or silent.
            let ended = outcome.is_released() || !harmless;
            if !ended {
                wrong.push(format!("a grant was not ended by force: {outcome:?}"));
            }
        }
        Gave::Wrote(data) => {
            let shown = cast.stage.record(KEY).and_then(|record| record.data);
            if shown.as_deref() != Some(data.as_bytes()) {
                wrong.push(format!("the payload is {shown:?}, not {data}"));
            }
        }
        Gave::Ran => judge_run(cast, Ok(()), wrong),
        Gave::Unrecorded(error) => {
            if harmless {
                wrong.push(format!("a run is not remembered: {error}"));
            }
            judge_run(cast, Err(&error), wrong);
        }
        Gave::Done(done) => {
            if done.result() != Some(b"rival") || call != Call::OnceHeld {
                wrong.push(format!("S7: {done}, and not by the rival"));
            }
        }
        Gave::StillHeld => {
            if call == Call::Lost || !kept.is_some_and(Lease::is_held) {
                wrong.push("S6: over, and `lost` has not fired".to_owned());
            }
        }
        Gave::Nothing => {
            if matches!(call, Call::Detach | Call::DetachSlot) && cast.stage.is_bound() {
                wrong.push("a detached grant is bound to its process".to_owned());
            }
            if call == Call::RenewStopped && kept.is_some_and(Lease::is_held) {
                wrong.push("rule 4: over while the process was stopped, and held again".to_owned());
            }
            if call == Call::RenewReleased {
                wrong.push("rule 3: a lease that somebody released was renewed".to_owned());
            }
        }
    }
}

/// Holder rule 4: `lost` never un-fires, and nothing is renewed after it.
async fn stays_lost(lease: &Lease, cast: &Cast, wrong: &mut Vec<String>) {
    cast.stage.forbid_renewals();
    for _ in 0..20 {
        if lease.is_held() {
            wrong.push("rule 4: a lost lease is held again".to_owned());
            return;
        }
        cast.sleep(Duration::from_millis(100)).await;
    }
}

/// The key comes free, nothing lands on its next holder, nothing is left.
async fn judge_aftermath(call: Call, keeps_data: bool, cast: &mut Cast, wrong: &mut Vec<String>) {
    let since = cast.clock.elapsed();
    if let Some(waiter) = cast.waiter.take() {
        match waiter.await {
            Ok(Ok(lease)) => {
                let blocked = cast.clock.elapsed().since(since);
                let bound = longest_block(call, &cast.stage.fortunes());
                if blocked > bound {
                    wrong.push(format!("a place waited {blocked:?}, more than {bound:?}"));
                }
                cast.sleep(RIVAL_HOLDS).await;
                cast.theirs = Some(lease);
            }
            other => wrong.push(format!("who waited got {other:?}")),
        }
    }
    if let Some(theirs) = cast.theirs.take() {
        let outcome = theirs.release().await;
        let forced = call == Call::ForceReleaseHeld && outcome.is_ok();
        if !forced && !matches!(outcome, Ok(ReleaseOutcome::Released)) {
            wrong.push(format!("the holder that was waited for: {outcome:?}"));
        }
    }
    if call == Call::RunImpatient {
        // So that the first try lands before the rival comes.
        cast.sleep(SLOW).await;
    }
    if call.has_wrong_clock() {
        // A client that takes such a grant over within its round trip continues its token, which is not
        // judged here.
        cast.sleep(SETTLED).await;
    }
    let bound = longest_block(call, &cast.stage.fortunes());
    if let Some(blocked) = judge_work(call, cast, wrong).await
        && blocked > bound
    {
        wrong.push(format!("the work waited {blocked:?}, more than {bound:?}"));
    }
    let waited = cast.clock.elapsed();
    let got = take_all(call, &cast.rival).await;
    let blocked = cast.clock.elapsed().since(waited);
    match got {
        Ok(leases) => {
            let bound = longest_block(call, &cast.stage.fortunes());
            if blocked > bound {
                wrong.push(format!(
                    "the key was held for {blocked:?}, more than {bound:?}"
                ));
            }
            for lease in &leases {
                if keeps_data && lease.previous_data() != Some(LEFT.as_bytes()) {
                    let found = lease.previous_data();
                    wrong.push(format!("the payload that was kept is lost: {found:?}"));
                }
                let token = i64::try_from(lease.token().stored()).unwrap_or(i64::MAX);
                let off = ServiceTime(token).distance(cast.stage.now());
                if call.has_wrong_clock() && off > SEED_TOLERANCE {
                    wrong.push(format!("S2: a token by a wrong clock has stayed: {token}"));
                }
            }
            cast.sleep(RIVAL_HOLDS).await;
            for lease in leases {
                // The clocks of both stop together, and perhaps while a grant has no more than its claim.
                if !lease.is_held() && call != Call::RenewStopped {
                    wrong.push("S4: the next holder lost its lease".to_owned());
                }
                let outcome = lease.release().await;
                let stopped = call == Call::RenewStopped && outcome.is_ok();
                if !stopped && !matches!(outcome, Ok(ReleaseOutcome::Released)) {
                    wrong.push(format!("S4: the next holder's release: {outcome:?}"));
                }
            }
        }
        Err(error) => wrong.push(format!("the key never came free: {error}")),
    }
    cast.clock.sleep_until(since.plus(DRAINED)).await;
    if !cast.ours.shutdown(Duration::ZERO).await {
        wrong.push(format!("tasks are left after {DRAINED:?}"));
    }
    if cast.stage.has_place() {
        wrong.push("a place is left in the queue".to_owned());
    }
    if cast.stage.slots() > 0 {
        wrong.push("S8: a slot is left".to_owned());
    }
    for owner in cast.stage.owners() {
        wrong.push(format!("a record is left in the name of {owner}"));
    }
}

/// How long the next acquire may wait.
fn longest_block(call: Call, fortunes: &[Fortune]) -> Duration {
    let silent = |fortune: &Fortune| matches!(fortune, Fortune::Never | Fortune::NeverBefore);
    let orphan = LEASE + POLL + GRAIN;
    match call {
        // The grant is left to itself, a lease after the last try to renew it.
        Call::Detach | Call::DetachSlot => CALL_TIMEOUT + orphan,
        // Its grant was left to itself before the call.
        Call::Adopt | Call::AdoptSlot | Call::ReleaseById | Call::ReleaseSlotById => orphan,
        Call::RenewById | Call::RenewSlotById => CALL_TIMEOUT + orphan,
        Call::RenewByIdLonger => CALL_TIMEOUT + orphan + LEASE,
        // What took the grant over may be left to itself, too.
        Call::ForceRelease | Call::ForceReleaseHeld => orphan,
        // The process may be stopped once more while it releases.
        Call::RenewStopped => orphan,
        _ if fortunes.iter().any(silent) => orphan,
        _ => GIVEN_BACK,
    }
}
