//! Seeds that have failed, and their findings. They run first and twice in every run.
//!
//! A change of the draws in `shape`, `workload` or `world` gives every seed another world. After such a change, run the
//! mutants, and search for new seeds of the same findings on a copy without the fix.

/// The seed, and its finding.
pub(super) const SEEDS: &[(u64, &str)] = &[
    (
        24,
        "S1: after a machine pause the client's upper bound of service time lags; its renewals publish too early an expiry",
    ),
    (44, "S1: the same, with an expiry padding of 1 s"),
    (
        13,
        "S2: a dropped acquire gives back a record with an impossible seed by a release, which keeps the token (9 days behind)",
    ),
    (
        249,
        "S2: the same, 8 days ahead: the record's next life starts below",
    ),
    (
        284,
        "S2: the acquire is dropped while its withdrawal is on its way, and the release overtakes it",
    ),
    (
        10_204,
        "S1 with F#: a first grant by a wall clock behind is believed in until P, an F# client may act at P less the expiry_padding",
    ),
    (22_647, "S1 with F#: the same"),
    (
        1_838,
        "S6: a release waits for a renewal in flight, and the signals are not told that the lease ends meanwhile",
    ),
    (
        22_046,
        "rule 4: a wall clock steps ahead and back, and a lease that its guard has seen to be over is held again",
    ),
    (
        25_451,
        "S2: a grant seeded by a clock that is behind is taken over before it is withdrawn, and its token is counted on",
    ),
    (48_196, "S2: the same"),
    (
        1_795_600_653_217,
        "S2: a first acquire by a clock two days behind shortens the TTL of a used record to the past, and it is deleted",
    ),
    (
        1_795_600_895_067,
        "S2: the same, by a request that was late",
    ),
    (
        148_319,
        "the judge of `strict`: the very same grant, made twice by a request that arrived twice, was taken for a new one",
    ),
];
