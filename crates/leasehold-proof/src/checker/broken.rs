//! Rules that are removed to check the checker.
//!
//! Production code knows nothing of them. The checker changes the input of the real code, or its result; see the
//! uses of [`Broken`].

/// A rule that is removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Broken {
    /// A renewal may move the expiry back.
    RenewalNotMonotone,
    /// The deadline counts from the answer.
    DeadlineFromAnswer,
    /// A refusal that shows our id counts from the latest send.
    DeadlineFromLatestSend,
    /// All acquire calls of a process use one id.
    OneIdPerProcess,
    /// A release leaves `ClientId` in the record.
    TombstoneKeepsOwner,
    /// The observation counts from the request.
    ObservedFromSend,
    /// The observation goes on over renewals.
    RenewalsUnseen,
    /// A contender judges by `latest`.
    BoundsSwapped,
    /// A contender judges by its own wall clock.
    WallClockJudges,
    /// A sample's lower bound counts from the request, its upper one from the answer.
    SampleFromWrongEnd,
    /// The holder believes in the expiry padding.
    HolderTrustsPad,
    /// A take-over takes whatever is there.
    TakeOverBlind,
    /// A release does not ask whose grant it is.
    ReleaseWithoutOwner,
    /// A lease that is lost may be held again.
    LostUnfires,
    /// A machine pause that only the wall clock shows is ignored.
    PauseUnseen,
    /// A lease is given although nothing is left of it.
    WorthlessHandedOver,
    /// A grant does not raise the token.
    TokenStandsStill,
    /// An impossible seed is not withdrawn.
    SeedUnchecked,
    /// TTL is rounded down.
    TtlRoundedDown,
    /// A receiver counts from the send of the poll that shows its grant.
    ReceivedFromPoll,
    /// A receiver counts from the latest send whose answer did not show the grant, whenever that came.
    ReceivedFromLatest,
    /// A receiver counts from answers that came at the instant at which it sent the poll.
    SameInstantCounts,
    /// A receiver counts from answers that may be old.
    StaleReadsCount,
    /// A receiver counts a grant by its own request from its join.
    OwnGrantFromJoin,
    /// A receiver does not look at the expiry that was published for it.
    ReceiverTrustsLease,
    /// A hand-over leaves the token as it is.
    HandOverKeepsToken,
    /// A hand-over does not ask whose grant it is.
    HandOverWithoutOwner,
    /// A hand-over names an index, and does not compare the place.
    HandOverByIndex,
    /// A release does not ask who waits.
    ReleaseIgnoresQueue,
    /// A join that is sent again adds a place.
    SecondPlace,
    /// A join does not ask for a holder.
    JoinOfFree,
    /// A leave names an index, and does not compare the place.
    LeaveByIndex,
    /// A take-over does not wait for the claims of the places before.
    ClaimsUnwaited,
    /// A take-over leaves its own place in the queue.
    TakeOverKeepsPlace,
    /// A release hands the key to a place of the holder itself.
    OwnPlaceHanded,
    /// A completion does not ask whose grant it is.
    CompletionWithoutOwner,
    /// A completion leaves `ClientId` in the record.
    CompletionKeepsOwner,
    /// A completion leaves `ClientId` and the renew count in the record.
    CompletionKeepsGrant,
    /// A completion leaves the lease in the record.
    CompletionKeepsLease,
    /// A completion leaves the published expiry in the record.
    CompletionKeepsExpiry,
    /// Any refusal of a completion counts as its success.
    RefusalCompletes,
    /// A keep counts from the earliest that the beginning can have been.
    KeepFromEarliest,
    /// A keep counts from before the acquire.
    KeepFromAcquire,
    /// A done record may be deleted a retention after its completion.
    DoneTtlFromNow,
    /// A record whose work is done is taken by the rule for dead processes.
    DoneByDeath,
    /// A number of a configuration is wrong: its expiry padding, its retention, its bounds.
    Numbers,
}
