//! The call itself.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream;
use leasehold::clock::Clock;
use leasehold::{CheckDelay, Started, TermEnd, TryAcquireOutcome};

use super::call::{Call, FIRST_KEY, IMPATIENT, KEY, LEASE, POLL};
use super::cast::{Cast, KEEP, LEFT, WORK};
use super::gave::{Gave, leased, nothing, ran, wrote};

/// How long the holder that is waited for goes on.
pub(super) const HELD_FOR: Duration = Duration::from_millis(1_500);
/// What is missing of a lease.
const MOMENT: Duration = Duration::from_millis(1);

impl Cast {
    /// The future of the call. It owns the values that it took from the cast.
    pub(super) fn call(&mut self, call: Call) -> Pin<Box<dyn Future<Output = Gave> + Send + '_>> {
        let lease = self.lease.take();
        let theirs = &mut self.theirs;
        let run = &mut self.run;
        let (ours, clock, id) = (self.ours.clone(), self.clock.clone(), self.id.clone());
        let pause = move |by: Duration| {
            let clock = clock.clone();
            async move { clock.sleep_until(clock.elapsed().plus(by)).await }
        };
        // A call that only reads a lease returns it at its end or drop.
        let kept = &mut self.lease;
        match call {
            Call::TryAcquireFree
            | Call::TryAcquireHeld
            | Call::TryAcquireDead
            | Call::TrySlot
            | Call::TrySlotBeside
            | Call::TrySlotFull => Box::pin(async move {
                let tried = match call.request(&ours) {
                    Ok(request) => request.try_acquire().await,
                    Err(error) => Err(error),
                };
                match tried {
                    Ok(TryAcquireOutcome::Acquired(lease)) => Gave::Lease(lease),
                    Ok(TryAcquireOutcome::Held(_)) => Gave::Held,
                    Err(error) => Gave::Failed(error),
                }
            }),
            Call::AcquireFree
            | Call::AcquireAhead
            | Call::AcquireBehind
            | Call::AcquireDead
            | Call::AcquireSlot
            | Call::AcquireSlotBeside
            | Call::AcquireSlotDead
            | Call::AcquireShared
            | Call::AcquireExclusiveDead => Box::pin(async move {
                match call.request(&ours) {
                    Ok(request) => leased(request.acquire().await),
                    Err(error) => Gave::Failed(error),
                }
            }),
            Call::AcquireHeld
            | Call::AcquireHeldByWriting
            | Call::AcquireSlotFull
            | Call::AcquireSharedHeld
            | Call::AcquireExclusiveHeld => Box::pin(async move {
                let mut request = match call.request(&ours) {
                    Ok(request) => request,
                    Err(error) => return Gave::Failed(error),
                };
                if call == Call::AcquireHeldByWriting {
                    request = request.check_delay(CheckDelay::ByAcquire(POLL));
                }
                let holder = async {
                    pause(HELD_FOR).await;
                    drop(theirs.take());
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    biased;
                    answer = request.acquire() => leased(answer),
                    () = holder => Gave::Nothing,
                }
            }),
            Call::AcquireAllHeld => Box::pin(async move {
                let holder = async {
                    pause(HELD_FOR).await;
                    drop(theirs.take());
                    std::future::pending::<()>().await;
                };
                let all = tokio::select! {
                    biased;
                    all = ours.acquire_all([KEY, FIRST_KEY]) => all,
                    () = holder => return Gave::Nothing,
                };
                // The lease of the first key is dropped.
                match all.map(|all| all.into_leases().pop()) {
                    Ok(Some(lease)) => Gave::Lease(lease),
                    Ok(None) => Gave::Nothing,
                    Err(error) => Gave::Failed(error),
                }
            }),
            Call::AcquireInLine => Box::pin(async move {
                let mut holder = lease;
                let hands_on = async {
                    pause(HELD_FOR).await;
                    drop(holder.take());
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    biased;
                    answer = ours.acquire(KEY) => leased(answer),
                    () = hands_on => Gave::Nothing,
                }
            }),
            Call::AcquireDeadStrict => Box::pin(async move {
                match (
                    ours.request(KEY),
                    ours.policy().to_builder().strict(true).build(),
                ) {
                    (Ok(request), Ok(strict)) => leased(request.policy(strict).acquire().await),
                    (Err(error), _) | (_, Err(error)) => Gave::Failed(error),
                }
            }),
            Call::AcquireInVain => Box::pin(async move {
                match ours.request(KEY) {
                    Ok(request) => leased(request.wait(Duration::from_secs(2)).acquire().await),
                    Err(error) => Gave::Failed(error),
                }
            }),
            Call::Run | Call::RunLong | Call::RunBrief => Box::pin(async move {
                let work = match call {
                    Call::Run => Duration::from_millis(300),
                    Call::RunLong => LEASE + LEASE / 4,
                    _ => Duration::ZERO,
                };
                nothing(ours.run(KEY, |_| pause(work)).await)
            }),
            Call::RunImpatient => Box::pin(async move {
                let policy = ours.policy().to_builder().request_timeout(IMPATIENT);
                match (ours.request(KEY), policy.build()) {
                    (Ok(request), Ok(policy)) => {
                        nothing(request.policy(policy).run(async |_| ()).await)
                    }
                    (Err(error), _) | (_, Err(error)) => Gave::Failed(error),
                }
            }),
            Call::Release
            | Call::ReleaseSlot
            | Call::ReleaseSlotAhead
            | Call::ReleaseExclusiveAhead => Box::pin(async move {
                let Some(lease) = lease else {
                    return Gave::Nothing;
                };
                nothing(lease.release().await)
            }),
            Call::ReleaseRenewing => Box::pin(async move {
                let Some(lease) = lease else {
                    return Gave::Nothing;
                };
                {
                    // Requested, but not awaited.
                    let asked = std::pin::pin!(lease.renew());
                    let moment = pause(Duration::from_millis(1));
                    tokio::select! { biased; _ = asked => {}, () = moment => {} }
                }
                nothing(lease.release().await)
            }),
            Call::ReleaseKeepingData => Box::pin(async move {
                let Some(lease) = lease else {
                    return Gave::Nothing;
                };
                wrote(LEFT, lease.release_keeping_data().await)
            }),
            Call::SetData | Call::SetDataTwice | Call::Ensure => {
                let lease = &*kept.insert(match lease {
                    Some(lease) => lease,
                    None => return Box::pin(std::future::ready(Gave::Nothing)),
                });
                Box::pin(async move {
                    match call {
                        Call::SetData => wrote("new", lease.set_data("new").await),
                        Call::SetDataTwice => {
                            let (first, second) =
                                tokio::join!(biased; lease.set_data("old"), lease.set_data("new"));
                            wrote("new", first.and(second))
                        }
                        // A little more than is left.
                        _ => nothing(lease.ensure(lease.remaining() + MOMENT).await),
                    }
                })
            }
            Call::Renew
            | Call::RenewLate
            | Call::RenewStopped
            | Call::RenewReleased
            | Call::RenewSlot => {
                let lease = &*kept.insert(match lease {
                    Some(lease) => lease,
                    None => return Box::pin(std::future::ready(Gave::Nothing)),
                });
                Box::pin(async move { nothing(lease.renew().await) })
            }
            Call::RenewTwice => {
                let lease = &*kept.insert(match lease {
                    Some(lease) => lease,
                    None => return Box::pin(std::future::ready(Gave::Nothing)),
                });
                Box::pin(async move {
                    let (first, second) = tokio::join!(biased; lease.renew(), lease.renew());
                    nothing(first.and(second))
                })
            }
            Call::Detach | Call::DetachSlot => Box::pin(async move {
                let Some(lease) = lease else {
                    return Gave::Nothing;
                };
                nothing(lease.detach().await)
            }),
            Call::Adopt | Call::AdoptSlot => Box::pin(async move {
                let Some(id) = id else { return Gave::Nothing };
                leased(ours.adopt(&id).await)
            }),
            Call::ReleaseById | Call::ReleaseSlotById => Box::pin(async move {
                let Some(id) = id else { return Gave::Nothing };
                nothing(ours.release(&id).await)
            }),
            Call::RenewById | Call::RenewByIdLonger | Call::RenewSlotById => Box::pin(async move {
                let Some(id) = id else { return Gave::Nothing };
                let longer = (call == Call::RenewByIdLonger).then_some(LEASE * 2);
                nothing(ours.renew(&id, longer).await)
            }),
            Call::Inspect => Box::pin(async move { nothing(ours.inspect(KEY).await) }),
            Call::List => Box::pin(async move { nothing(ours.list().next_page().await) }),
            Call::ReadAll => Box::pin(async move {
                match ours.list().read_all().await {
                    Ok(entries) => Gave::Listed(entries.len()),
                    Err(error) => Gave::Failed(error),
                }
            }),
            Call::Stream => Box::pin(async move {
                let mut list = ours.list();
                let mut entries = Pin::new(&mut list);
                let mut count = 0;
                while let Some(entry) = poll_fn(|context| entries.as_mut().poll_next(context)).await
                {
                    match entry {
                        Ok(_) => count += 1,
                        Err(error) => return Gave::Failed(error),
                    }
                }
                Gave::Listed(count)
            }),
            Call::ForceRelease | Call::ForceReleaseHeld => {
                let forced = self.forced;
                Box::pin(async move {
                    let Some(token) = forced else {
                        return Gave::Nothing;
                    };
                    match ours.force_release(KEY, token, "stuck").await {
                        Ok(outcome) => Gave::Forced(outcome),
                        Err(error) => Gave::Failed(error),
                    }
                })
            }
            Call::Lost | Call::LostRenewing | Call::LostBehind => {
                let lease = &*kept.insert(match lease {
                    Some(lease) => lease,
                    None => return Box::pin(std::future::ready(Gave::Nothing)),
                });
                Box::pin(async move {
                    tokio::select! {
                        biased;
                        _ = lease.lost() => Gave::Lost,
                        () = pause(LEASE + LEASE / 2) => Gave::StillHeld,
                    }
                })
            }
            Call::Elect | Call::ElectHeld | Call::Lead | Call::LeadLong => Box::pin(async move {
                let mut election = match ours.elect(KEY) {
                    Ok(election) => election,
                    Err(error) => return Gave::Failed(error),
                };
                let lets_go = async {
                    pause(HELD_FOR).await;
                    drop(theirs.take());
                    std::future::pending::<()>().await;
                };
                let term = tokio::select! {
                    biased;
                    term = election.next_term() => term,
                    () = lets_go => return Gave::Nothing,
                };
                let work = match (call, term) {
                    (Call::Lead, Ok(Some(term))) => (term, Duration::from_millis(300)),
                    (Call::LeadLong, Ok(Some(term))) => (term, LEASE + LEASE / 4),
                    (_, Ok(Some(term))) => return Gave::Lease(term.into_lease()),
                    (_, Ok(None)) => return Gave::Nothing,
                    (_, Err(error)) => return Gave::Failed(error),
                };
                match work.0.lead(|_| pause(work.1)).await {
                    TermEnd::Done(()) => Gave::Nothing,
                    TermEnd::Lost(_) => Gave::Lost,
                }
            }),
            Call::Observe => Box::pin(async move {
                let mut leaders = match ours.observe(KEY) {
                    Ok(leaders) => leaders.every(POLL),
                    Err(error) => return Gave::Failed(error),
                };
                let first = leaders.next_change().await;
                drop(theirs.take());
                nothing(first.and(leaders.next_change().await))
            }),
            Call::Once | Call::OnceFails | Call::OnceFailsForGood | Call::OnceDead => {
                let fails = matches!(call, Call::OnceFails | Call::OnceFailsForGood);
                let for_good = call == Call::OnceFailsForGood;
                Box::pin(async move {
                    let request = match ours.once(KEY) {
                        Ok(request) => request.keep(KEEP).remember_failures(for_good),
                        Err(error) => return Gave::Failed(error),
                    };
                    ran(request.run(|_| work(pause(WORK), fails)).await)
                })
            }
            Call::OnceHeld => Box::pin(async move {
                let request = match ours.once(KEY) {
                    Ok(request) => request.keep(KEEP),
                    Err(error) => return Gave::Failed(error),
                };
                let holder = async {
                    pause(HELD_FOR).await;
                    if let Some(run) = run.take() {
                        drop(run.complete(b"rival").await);
                    }
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    biased;
                    answer = request.run(|_| work(pause(WORK), false)) => ran(answer),
                    () = holder => Gave::Nothing,
                }
            }),
            Call::OnceStart => Box::pin(async move {
                let begun = match ours.once(KEY) {
                    Ok(request) => request.keep(KEEP).start().await,
                    Err(error) => Err(error),
                };
                match begun {
                    Ok(Started::Run(run)) => {
                        pause(WORK).await;
                        match run.complete(b"ours").await {
                            Ok(()) => Gave::Ran,
                            Err(error) => Gave::Unrecorded(error),
                        }
                    }
                    Ok(Started::Done(done)) => Gave::Done(done),
                    Err(error) => Gave::Failed(error),
                }
            }),
            Call::Forget => Box::pin(async move { nothing(ours.forget(KEY).await) }),
            Call::Shutdown => Box::pin(async move {
                // Its guard is dropped by the caller when the call is over.
                let held = lease;
                match ours.acquire(KEY).await {
                    Ok(dropped) => drop(dropped),
                    Err(error) => return Gave::Failed(error),
                }
                ours.shutdown(Duration::from_secs(2)).await;
                drop(held);
                Gave::Nothing
            }),
        }
    }
}

/// Work that runs once.
async fn work(pause: impl Future<Output = ()>, fails: bool) -> Result<Vec<u8>, &'static str> {
    pause.await;
    match fails {
        true => Err("ours"),
        false => Ok(b"ours".to_vec()),
    }
}
