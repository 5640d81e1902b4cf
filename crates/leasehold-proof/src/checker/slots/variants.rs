//! The cases that hold, and those with a rule removed.

use leasehold_protocol::lens::Want;

/// A rule of slots that is removed, in what the service does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::checker) enum Broken {
    /// A slot is taken whatever the number that is held.
    NoSize,
    /// The whole key does not keep slots out.
    NotExclusive,
    /// A slot is taken over as it is, not as it was seen.
    OverBlind,
    /// A renewal finds its entry by its name alone, or makes it anew.
    RenewalRevives,
    /// The limit is changed under holders.
    LimitChanges,
    /// A slot is given up for the whole key while others are held.
    WholeBesideOthers,
    /// Slots are handed over whatever their number.
    GivenBeyondLimit,
}

/// A small world.
#[derive(Clone, Debug)]
pub(in crate::checker) struct Case {
    pub(in crate::checker) name: &'static str,
    pub(in crate::checker) wants: Vec<Want>,
    /// Whether slots of the key were held before.
    pub(in crate::checker) used: bool,
    /// Reads of each client.
    pub(in crate::checker) polls: u8,
    /// Writes of each client.
    pub(in crate::checker) requests: u8,
    pub(in crate::checker) ticks: u8,
    pub(in crate::checker) faults: u8,
    pub(in crate::checker) deaths: u8,
    /// A read may show the record before its last change.
    pub(in crate::checker) old_reads: bool,
    pub(in crate::checker) stamped: bool,
    pub(in crate::checker) strict: bool,
    pub(in crate::checker) broken: Option<Broken>,
}

impl Case {
    pub(in crate::checker) fn limit(&self) -> u32 {
        self.wants.iter().find_map(|want| want.limit()).unwrap_or(1)
    }
}

fn case(name: &'static str, wants: &[Want]) -> Case {
    Case {
        name,
        wants: wants.to_vec(),
        used: true,
        polls: 2,
        requests: 2,
        ticks: 5,
        faults: 0,
        deaths: 0,
        old_reads: false,
        stamped: true,
        strict: false,
        broken: None,
    }
}

const WHOLE: Want = Want::Whole;
const ONE: Want = Want::Slot(1);
const TWO: Want = Want::Slot(2);

/// The cases in which S8 holds.
pub(in crate::checker) fn cases(quick: bool) -> Vec<Case> {
    let small = case("slots: two for one slot", &[ONE, ONE]);
    if quick {
        return vec![small];
    }
    vec![
        small,
        Case {
            used: false,
            faults: 1,
            ..case("slots: the first of a key, a fault", &[ONE, ONE])
        },
        Case {
            faults: 1,
            ..case("slots: two for one slot, a fault", &[ONE, ONE])
        },
        Case {
            faults: 1,
            deaths: 1,
            ..case(
                "slots: a slot and the whole key, a fault and a death",
                &[ONE, WHOLE],
            )
        },
        Case {
            ticks: 2,
            ..case("slots: three for two", &[TWO, TWO, TWO])
        },
        Case {
            deaths: 1,
            polls: 1,
            ..case(
                "slots: two readers and a writer, a death",
                &[TWO, WHOLE, TWO],
            )
        },
        Case {
            stamped: false,
            deaths: 1,
            ..case("slots: without dates, a death", &[ONE, WHOLE])
        },
        Case {
            strict: true,
            deaths: 1,
            ticks: 9,
            ..case("slots: strict, a death", &[ONE, ONE])
        },
        Case {
            old_reads: true,
            deaths: 1,
            ..case("slots: old reads, a death", &[ONE, ONE])
        },
        Case {
            ticks: 2,
            ..case("slots: two limits", &[ONE, TWO, TWO])
        },
    ]
}

/// The same with a rule removed: each breaks S8.
pub(in crate::checker) fn removed() -> Vec<Case> {
    let without = |broken, name, wants: &[Want]| Case {
        broken: Some(broken),
        ..case(name, wants)
    };
    vec![
        without(
            Broken::NoSize,
            "the size is not in the condition",
            &[ONE, ONE],
        ),
        without(
            Broken::NotExclusive,
            "the whole key is taken beside slots",
            &[ONE, WHOLE],
        ),
        Case {
            old_reads: true,
            ..without(
                Broken::OverBlind,
                "a slot is taken over as it is, not as it was seen",
                &[ONE, ONE],
            )
        },
        Case {
            faults: 1,
            ..without(
                Broken::RenewalRevives,
                "a renewal makes an entry that is gone",
                &[ONE, ONE],
            )
        },
        without(
            Broken::LimitChanges,
            "the limit is changed under holders",
            &[ONE, TWO],
        ),
        Case {
            requests: 3,
            ticks: 0,
            ..without(
                Broken::WholeBesideOthers,
                "the whole key is handed over beside slots",
                &[TWO, TWO, WHOLE],
            )
        },
        Case {
            requests: 3,
            ticks: 0,
            ..without(
                Broken::GivenBeyondLimit,
                "slots are handed over beyond the limit",
                &[ONE, ONE, ONE],
            )
        },
    ]
}
