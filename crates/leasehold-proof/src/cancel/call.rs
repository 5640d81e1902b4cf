//! The public futures of the library, and what their cases are timed by.

use std::time::Duration;

/// The key of every case.
pub(super) const KEY: &str = "k";
/// The key before it, of calls with two keys.
pub(super) const FIRST_KEY: &str = "first";
/// L of every grant here.
pub(super) const LEASE: Duration = Duration::from_secs(6);
/// The longest pause between two polls of a held key.
pub(super) const POLL: Duration = Duration::from_millis(200);
/// The bound of calls that wait for no holder.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(4);
/// L of the lease whose renewals get no answer: three of them fit into it.
pub(super) const SHORT_LEASE: Duration = Duration::from_secs(3);
/// A request time-out shorter than the way of a slow request.
pub(super) const IMPATIENT: Duration = Duration::from_millis(300);
/// One public future.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Call {
    TryAcquireFree,
    TryAcquireHeld,
    TryAcquireDead,
    AcquireFree,
    /// On a host whose wall clock is days ahead: the first token is seeded wrong.
    AcquireAhead,
    /// On a host whose wall clock is days behind.
    AcquireBehind,
    AcquireHeld,
    /// The same, by asking in place of looking.
    AcquireHeldByWriting,
    /// Behind a holder of the same client, who hands the key on.
    AcquireInLine,
    /// The holder goes on for longer than the caller waits.
    AcquireInVain,
    /// The dead holder's lease has yet to end.
    AcquireDead,
    /// By watching it for a lease.
    AcquireDeadStrict,
    Run,
    /// The work takes longer than the lease.
    RunLong,
    /// The work ends by itself before it is awaited.
    RunBrief,
    /// The same, and a request is tried again before a slow one lands: that one grants once more.
    RunImpatient,
    Release,
    /// While a renewal is on its way.
    ReleaseRenewing,
    /// The payload stays for the next holder.
    ReleaseKeepingData,
    Renew,
    /// Of a lease without renewals, so late that `lost` may come before the answer.
    RenewLate,
    /// The process is stopped before the answer is read, past `lost`.
    RenewStopped,
    /// Of a lease that was released by its identity, and whose key another has taken since.
    RenewReleased,
    /// `renew` while the one before is still on its way.
    RenewTwice,
    SetData,
    /// `set_data` while the one before is still on its way.
    SetDataTwice,
    /// Of a lease of which too little is left.
    Ensure,
    Detach,
    Adopt,
    ReleaseById,
    RenewById,
    /// For twice the lease.
    RenewByIdLonger,
    /// Of a dead holder.
    ForceRelease,
    /// Of a holder that goes on until it notices.
    ForceReleaseHeld,
    Inspect,
    List,
    ReadAll,
    /// All entries, as a stream.
    Stream,
    /// Of a lease without renewals.
    Lost,
    /// Of a lease that is renewed in the background.
    LostRenewing,
    /// The same, first published by a wall clock that is behind.
    LostBehind,
    /// While a dropped guard is being released, and a lease is held.
    Shutdown,
    /// A term that nobody else wants.
    Elect,
    /// Behind a holder who lets go.
    ElectHeld,
    /// A term whose work ends by itself.
    Lead,
    /// A term whose work takes longer than the lease.
    LeadLong,
    /// The first two changes that an observer sees: a holder, and its release.
    Observe,
    /// Work that is to run once.
    Once,
    /// The work fails.
    OnceFails,
    /// The work fails, and that is remembered.
    OnceFailsForGood,
    /// While the rival runs it.
    OnceHeld,
    /// The rival dies in its run.
    OnceDead,
    /// The work is done elsewhere.
    OnceStart,
    /// Of work that the rival has done.
    Forget,
    /// Of two keys, the second behind a holder who lets go.
    AcquireAllHeld,
    /// One of two slots, both free.
    TrySlot,
    /// One of two, beside another holder.
    TrySlotBeside,
    /// The only one, which another holds.
    TrySlotFull,
    AcquireSlot,
    AcquireSlotBeside,
    /// Behind a holder who lets go.
    AcquireSlotFull,
    /// The dead holder's lease has yet to end.
    AcquireSlotDead,
    /// Beside another holder.
    ReleaseSlot,
    /// While another waits for it.
    ReleaseSlotAhead,
    RenewSlot,
    DetachSlot,
    AdoptSlot,
    ReleaseSlotById,
    RenewSlotById,
    /// Beside another reader.
    AcquireShared,
    /// Behind a writer who lets go.
    AcquireSharedHeld,
    /// Behind a reader who lets go.
    AcquireExclusiveHeld,
    /// Behind a dead reader, whose lease has yet to end.
    AcquireExclusiveDead,
    /// While a reader waits.
    ReleaseExclusiveAhead,
}

/// All of them.
pub(super) const CALLS: [Call; 74] = [
    Call::TryAcquireFree,
    Call::TryAcquireHeld,
    Call::TryAcquireDead,
    Call::AcquireFree,
    Call::AcquireAhead,
    Call::AcquireBehind,
    Call::AcquireHeld,
    Call::AcquireHeldByWriting,
    Call::AcquireInLine,
    Call::AcquireInVain,
    Call::AcquireDead,
    Call::AcquireDeadStrict,
    Call::Run,
    Call::RunLong,
    Call::RunBrief,
    Call::RunImpatient,
    Call::Release,
    Call::ReleaseRenewing,
    Call::ReleaseKeepingData,
    Call::Renew,
    Call::RenewLate,
    Call::RenewStopped,
    Call::RenewReleased,
    Call::RenewTwice,
    Call::SetData,
    Call::SetDataTwice,
    Call::Ensure,
    Call::Detach,
    Call::Adopt,
    Call::ReleaseById,
    Call::RenewById,
    Call::RenewByIdLonger,
    Call::ForceRelease,
    Call::ForceReleaseHeld,
    Call::Inspect,
    Call::List,
    Call::ReadAll,
    Call::Stream,
    Call::Lost,
    Call::LostRenewing,
    Call::LostBehind,
    Call::Shutdown,
    Call::Elect,
    Call::ElectHeld,
    Call::Lead,
    Call::LeadLong,
    Call::Observe,
    Call::Once,
    Call::OnceFails,
    Call::OnceFailsForGood,
    Call::OnceHeld,
    Call::OnceDead,
    Call::OnceStart,
    Call::Forget,
    Call::AcquireAllHeld,
    Call::TrySlot,
    Call::TrySlotBeside,
    Call::TrySlotFull,
    Call::AcquireSlot,
    Call::AcquireSlotBeside,
    Call::AcquireSlotFull,
    Call::AcquireSlotDead,
    Call::ReleaseSlot,
    Call::ReleaseSlotAhead,
    Call::RenewSlot,
    Call::DetachSlot,
    Call::AdoptSlot,
    Call::ReleaseSlotById,
    Call::RenewSlotById,
    Call::AcquireShared,
    Call::AcquireSharedHeld,
    Call::AcquireExclusiveHeld,
    Call::AcquireExclusiveDead,
    Call::ReleaseExclusiveAhead,
];

impl Call {
    /// How far the wall clock of the host is ahead.
    pub(super) fn wall_ahead_ms(self) -> i64 {
        const DAYS: i64 = 9 * 86_400_000;
        match self {
            Call::AcquireAhead => DAYS,
            Call::AcquireBehind => -DAYS,
            Call::LostBehind => -3_500,
            _ => 0,
        }
    }

    /// Whether it is about work that runs once.
    pub(super) fn is_once(self) -> bool {
        matches!(
            self,
            Call::Once
                | Call::OnceFails
                | Call::OnceFailsForGood
                | Call::OnceHeld
                | Call::OnceDead
                | Call::OnceStart
                | Call::Forget
        )
    }

    /// Whether its seed is impossible.
    pub(super) fn has_wrong_clock(self) -> bool {
        matches!(self, Call::AcquireAhead | Call::AcquireBehind)
    }

    /// How long a request of its lease is waited for.
    pub(super) fn request_timeout(self) -> Duration {
        match self {
            Call::LostRenewing => SHORT_LEASE / 6,
            Call::RunImpatient => IMPATIENT,
            _ => LEASE / 6,
        }
    }
}
