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
    /// A number of a configuration is wrong: its expiry padding, its retention, its bounds.
    Numbers,
}
