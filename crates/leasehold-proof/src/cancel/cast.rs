//! The state of the key in which a call is made.

use std::time::Duration;

use leasehold::clock::Clock;
use leasehold::{
    CheckDelay, Error, FencingToken, Lease, LeaseId, LockClient, OnceRun, Policy, Started,
};
use leasehold_protocol::record::{Native, Record};
use leasehold_protocol::slots::MOST;
use leasehold_protocol::time::ServiceTime;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::call::{CALL_TIMEOUT, Call, KEY, LEASE, POLL, SHORT_LEASE};
use super::seat::Seat;
use super::stage::{Party, Stage};

/// When a late renewal is sent: a slow one lands in time, its answer comes after `lost`.
const LATE: Duration = Duration::from_millis(4_200);
/// How long work that runs once is remembered: longer than any case.
pub(super) const KEEP: Duration = Duration::from_secs(3_600);

/// How long that work takes.
pub(super) const WORK: Duration = Duration::from_millis(300);
/// How long the lease of a dead holder of a slot goes on.
const DEAD_FOR: Duration = Duration::from_secs(2);

/// The payload that a release keeps.
pub(super) const LEFT: &str = "left";

/// Both clients, and the values that a call needs.
#[derive(Debug)]
pub(super) struct Cast {
    pub(super) stage: Stage,
    pub(super) ours: LockClient,
    pub(super) rival: LockClient,
    pub(super) clock: Seat,
    pub(super) lease: Option<Lease>,
    pub(super) theirs: Option<Lease>,
    /// The rival, in the queue.
    pub(super) waiter: Option<JoinHandle<Result<Lease, Error>>>,
    /// The rival's run.
    pub(super) run: Option<OnceRun>,
    pub(super) id: Option<LeaseId>,
    /// Of the grant that is ended by force.
    pub(super) forced: Option<FencingToken>,
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
            waiter: None,
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
            | Call::Observe
            | Call::TrySlotBeside
            | Call::TrySlotFull
            | Call::AcquireSlotBeside
            | Call::AcquireSlotFull
            | Call::AcquireShared
            | Call::AcquireSharedHeld
            | Call::AcquireExclusiveHeld => {
                let request = call.rivals_request(&cast.rival)?;
                cast.theirs = Some(request.acquire().await?);
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
            | Call::Detach
            | Call::RenewSlot
            | Call::DetachSlot => cast.lease = Some(call.request(&cast.ours)?.acquire().await?),
            Call::ReleaseSlot => {
                cast.lease = Some(call.request(&cast.ours)?.acquire().await?);
                cast.theirs = Some(call.rivals_request(&cast.rival)?.acquire().await?);
            }
            Call::ReleaseSlotAhead | Call::ReleaseExclusiveAhead => {
                cast.lease = Some(call.request(&cast.ours)?.acquire().await?);
                let waits = call.rivals_request(&cast.rival)?.acquire();
                cast.waiter = Some(Handle::current().spawn(waits));
                cast.sleep(WORK).await;
            }
            Call::AcquireSlotDead | Call::AcquireExclusiveDead => {
                cast.plant_dead_slot(call.slots().unwrap_or(MOST), DEAD_FOR);
            }
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
            Call::Adopt
            | Call::ReleaseById
            | Call::RenewById
            | Call::RenewByIdLonger
            | Call::AdoptSlot
            | Call::ReleaseSlotById
            | Call::RenewSlotById => {
                let lease = call.request(&cast.ours)?.acquire().await?;
                cast.id = Some(lease.detach().await?);
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
            last_force: None,
            holder_is_dead: false,
        });
    }

    /// Waits.
    pub(super) async fn sleep(&self, by: Duration) {
        self.clock.sleep_until(self.clock.elapsed().plus(by)).await;
    }
}
