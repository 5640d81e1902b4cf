//! The state of the key in which a call is made, and the call.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream;
use leasehold::clock::Clock;
use leasehold::{
    CheckDelay, Done, Error, FencingToken, Lease, LeaseId, LockClient, Once, OnceError, OnceRun,
    Policy, ReleaseOutcome, Started, TermEnd, TryAcquireOutcome,
};
use leasehold_protocol::record::{Native, Record};
use leasehold_protocol::time::ServiceTime;

use super::call::{CALL_TIMEOUT, Call, FIRST_KEY, IMPATIENT, KEY, LEASE, POLL, SHORT_LEASE};
use super::stage::{Party, Seat, Stage};

/// When a late renewal is sent: a slow one lands in time, its answer comes after `lost`.
const LATE: Duration = Duration::from_millis(4_200);
/// How long work that runs once is remembered: longer than any case.
pub(super) const KEEP: Duration = Duration::from_secs(3_600);
/// How long that work takes.
const WORK: Duration = Duration::from_millis(300);
/// How long the holder that is waited for goes on.
const HELD_FOR: Duration = Duration::from_millis(1_500);

/// The payload that a release keeps.
pub(super) const LEFT: &str = "left";
/// What is missing of a lease.
const MOMENT: Duration = Duration::from_millis(1);

/// The result of a call.
#[derive(Debug)]
pub(super) enum Gave {
    Lease(Lease),
    Held,
    Nothing,
    Failed(Error),
    /// `lost` has not fired within 1.5 leases.
    StillHeld,
    Lost,
    /// So many keys.
    Listed(usize),
    /// A grant was ended by force.
    Forced(ReleaseOutcome),
    /// It ran, and is remembered.
    Ran,
    /// It ran, and is not remembered.
    Unrecorded(Error),
    /// Another run is remembered.
    Done(Done),
    /// This is the payload.
    Wrote(&'static str),
}

/// Both clients, and the values that a call needs.
#[derive(Debug)]
pub(super) struct Cast {
    pub(super) stage: Stage,
    pub(super) ours: LockClient,
    pub(super) rival: LockClient,
    pub(super) clock: Seat,
    pub(super) lease: Option<Lease>,
    pub(super) theirs: Option<Lease>,
    /// The rival's run.
    pub(super) run: Option<OnceRun>,
    id: Option<LeaseId>,
    /// Of the grant that is ended by force.
    forced: Option<FencingToken>,
}

/// The policy of both clients.
pub(super) fn policy() -> Result<Policy, Error> {
    Policy::builder()
        .lease_duration(LEASE)
        .call_timeout(CALL_TIMEOUT)
        .check_delay(CheckDelay::Fixed(POLL))
        .wait(LEASE * 3)
        .label("one of two")
        .build()
}

impl Cast {
    /// Prepares a call. Nothing goes wrong yet.
    pub(super) async fn new(call: Call, stage: Stage) -> Result<Cast, Error> {
        let seat = |party| Seat {
            stage: stage.clone(),
            party,
        };
        let client = |party, policy| {
            LockClient::builder(seat(party))
                .policy(policy)
                .clock(std::sync::Arc::new(seat(party)))
                .random(std::sync::Arc::new(seat(party)))
                .build()
        };
        let policy = policy()?;
        let mut cast = Cast {
            ours: client(Party::Ours, policy.clone()),
            rival: client(Party::Rival, policy),
            clock: seat(Party::Rival),
            stage,
            lease: None,
            theirs: None,
            run: None,
            id: None,
            forced: None,
        };
        match call {
            Call::TryAcquireHeld
            | Call::AcquireHeld
            | Call::AcquireHeldByWriting
            | Call::AcquireInVain
            | Call::ElectHeld
            | Call::AcquireAllHeld
            | Call::Observe => {
                cast.theirs = Some(cast.rival.acquire(KEY).await?);
            }
            Call::ForceReleaseHeld => {
                let held = cast.rival.acquire(KEY).await?;
                cast.forced = Some(held.token());
                cast.stage.give_up_grant();
                cast.theirs = Some(held);
            }
            Call::ForceRelease => {
                cast.plant_dead(2_000);
                let status = cast.ours.inspect(KEY).await?;
                cast.forced = status.holder().and_then(|held| held.token());
            }
            Call::TryAcquireDead | Call::ReadAll | Call::Stream => cast.plant_dead(-1_000),
            Call::AcquireDead | Call::AcquireDeadStrict | Call::OnceDead => cast.plant_dead(2_000),
            Call::Release
            | Call::ReleaseRenewing
            | Call::Renew
            | Call::RenewTwice
            | Call::SetData
            | Call::SetDataTwice
            | Call::AcquireInLine
            | Call::LostBehind
            | Call::Detach => cast.lease = Some(cast.ours.acquire(KEY).await?),
            Call::Ensure => {
                cast.lease = Some(cast.ours.acquire(KEY).await?);
                cast.sleep(WORK).await;
            }
            Call::ReleaseKeepingData => {
                cast.lease = Some(cast.ours.request(KEY)?.data(LEFT).acquire().await?);
            }
            Call::LostRenewing => {
                let request = cast.ours.request(KEY)?.lease_duration(SHORT_LEASE);
                cast.lease = Some(request.acquire().await?);
            }
            Call::RenewReleased => {
                let lease = cast
                    .ours
                    .request(KEY)?
                    .manual_renewal(true)
                    .acquire()
                    .await?;
                // The outcome of this release is tested elsewhere.
                let _ = cast.rival.release(lease.id()).await?;
                cast.lease = Some(lease);
                cast.theirs = Some(cast.rival.acquire(KEY).await?);
            }
            Call::Lost | Call::RenewLate | Call::RenewStopped => {
                let request = cast.ours.request(KEY)?.manual_renewal(true);
                cast.lease = Some(request.acquire().await?);
                if call != Call::Lost {
                    cast.sleep(LATE).await;
                }
                if call == Call::RenewStopped {
                    cast.stage.stop_at_renewal(LEASE / 2);
                }
            }
            Call::Adopt | Call::ReleaseById | Call::RenewById | Call::RenewByIdLonger => {
                cast.id = Some(cast.ours.acquire(KEY).await?.detach().await?);
            }
            Call::OnceHeld | Call::Forget => {
                let request = cast.rival.once(KEY)?.keep(KEEP);
                if let Started::Run(run) = request.start().await? {
                    cast.run = Some(run);
                }
                if call == Call::Forget
                    && let Some(run) = cast.run.take()
                {
                    run.complete(b"rival").await?;
                    cast.stage.may_forget();
                }
            }
            Call::Shutdown => cast.lease = Some(cast.ours.acquire("another").await?),
            _ => {}
        }
        Ok(cast)
    }

    /// A record of a dead holder, whose lease ends `ms` from now.
    fn plant_dead(&self, ms: i64) {
        let expires_at = ServiceTime(self.stage.now().0 + ms);
        self.stage.plant(Record {
            last_hold: None,
            key: KEY.to_owned(),
            owner: Some("11111111-1111-4111-8111-111111111111".to_owned()),
            expires_at,
            native: Some(Native {
                token: 1_700_000_000_000,
                lease: LEASE,
                renew_count: 3,
            }),
            ttl_seconds: None,
            holder: None,
            acquired_at: None,
            data: None,
            queue: Vec::new(),
            done: None,
            slots: None,
            holder_is_dead: false,
        });
    }

    /// Waits.
    pub(super) async fn sleep(&self, by: Duration) {
        self.clock.sleep_until(self.clock.elapsed().plus(by)).await;
    }

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
            Call::TryAcquireFree | Call::TryAcquireHeld | Call::TryAcquireDead => {
                Box::pin(async move {
                    match ours.try_acquire(KEY).await {
                        Ok(TryAcquireOutcome::Acquired(lease)) => Gave::Lease(lease),
                        Ok(TryAcquireOutcome::Held(_)) => Gave::Held,
                        Err(error) => Gave::Failed(error),
                    }
                })
            }
            Call::AcquireFree | Call::AcquireAhead | Call::AcquireBehind | Call::AcquireDead => {
                Box::pin(async move { leased(ours.acquire(KEY).await) })
            }
            Call::AcquireHeld | Call::AcquireHeldByWriting => Box::pin(async move {
                let mut request = match ours.request(KEY) {
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
            Call::Release => Box::pin(async move {
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
            Call::Renew | Call::RenewLate | Call::RenewStopped | Call::RenewReleased => {
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
            Call::Detach => Box::pin(async move {
                let Some(lease) = lease else {
                    return Gave::Nothing;
                };
                nothing(lease.detach().await)
            }),
            Call::Adopt => Box::pin(async move {
                let Some(id) = id else { return Gave::Nothing };
                leased(ours.adopt(&id).await)
            }),
            Call::ReleaseById => Box::pin(async move {
                let Some(id) = id else { return Gave::Nothing };
                nothing(ours.release(&id).await)
            }),
            Call::RenewById | Call::RenewByIdLonger => Box::pin(async move {
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

fn ran(answer: Result<Once<Vec<u8>>, OnceError<Vec<u8>, &'static str>>) -> Gave {
    match answer {
        Ok(Once::Ran(_)) => Gave::Ran,
        Ok(Once::Done(done)) | Err(OnceError::FailedBefore(done)) => Gave::Done(done),
        Err(OnceError::NotRun(error)) => Gave::Failed(error),
        Err(OnceError::Work(_)) => Gave::Nothing,
        Err(OnceError::NotRecorded { error, .. }) => Gave::Unrecorded(error),
    }
}

fn leased(answer: Result<Lease, Error>) -> Gave {
    match answer {
        Ok(lease) => Gave::Lease(lease),
        Err(error) => Gave::Failed(error),
    }
}

fn wrote<T>(data: &'static str, answer: Result<T, Error>) -> Gave {
    match answer {
        Ok(_) => Gave::Wrote(data),
        Err(error) => Gave::Failed(error),
    }
}

fn nothing<T>(answer: Result<T, Error>) -> Gave {
    match answer {
        Ok(_) => Gave::Nothing,
        Err(error) => Gave::Failed(error),
    }
}
