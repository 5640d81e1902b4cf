//! The checker of the checker: configurations with one rule removed, each of which must yield its
//! counterexample.

use std::time::Duration;

use super::broken::Broken;
use super::configs::{HOUR, Size, by_dates, fsharp, ours, with_rates};
use super::shape::{Faults, Property, Shape};

/// A configuration with one rule removed.
#[derive(Clone, Debug)]
pub(super) struct Variant {
    /// What is removed, in words.
    pub(super) rule: &'static str,
    /// Which promise must break.
    pub(super) breaks: Property,
    pub(super) shape: Shape,
}

pub(super) fn variant(
    rule: &'static str,
    breaks: Property,
    broken: Broken,
    change: impl FnOnce(&mut Shape),
) -> Variant {
    let clients = vec![ours(1, 3), ours(1, 2)];
    let mut shape = Shape::new(rule, rule, clients, 3);
    shape.broken = Some(broken);
    change(&mut shape);
    Variant {
        rule,
        breaks,
        shape,
    }
}

/// All but those of the queue. In the quick size answers are prompt or lost, never late.
pub(super) fn all(size: Size) -> Vec<Variant> {
    let mut all = time();
    all.extend(identity());
    all.extend(fsharp_and_holders());
    all.extend(tokens());
    if size == Size::Quick {
        // This one breaks by a late answer only.
        all.retain(|variant| variant.shape.broken != Some(Broken::DeadlineFromAnswer));
        for variant in &mut all {
            variant.shape.prompt = variant.shape.faults.late.is_none();
        }
    }
    all
}

/// Deadlines, observations and samples.
fn time() -> Vec<Variant> {
    use Property::S1;
    vec![
        variant(
            "a renewal may move the expiry back",
            S1,
            Broken::RenewalNotMonotone,
            |_| {},
        ),
        variant(
            "the deadline counts from the answer",
            S1,
            Broken::DeadlineFromAnswer,
            |_| {},
        ),
        variant(
            "the deadline counts from the latest send",
            S1,
            Broken::DeadlineFromLatestSend,
            |_| {},
        ),
        variant(
            "an observation counts from the request",
            S1,
            Broken::ObservedFromSend,
            observing,
        ),
        variant(
            "an observation goes on over renewals",
            S1,
            Broken::RenewalsUnseen,
            |shape| {
                observing(shape);
                shape.horizon = 2;
                shape.prompt = true;
            },
        ),
        variant(
            "`earliest` and `latest` are swapped for contenders",
            S1,
            Broken::BoundsSwapped,
            by_dates,
        ),
        variant(
            "contenders judge by their wall clock",
            S1,
            Broken::WallClockJudges,
            |shape| shape.clients[1].walls_ms = &[0, 1_000],
        ),
        variant(
            "a sample is timed from the wrong end",
            S1,
            Broken::SampleFromWrongEnd,
            |_| {},
        ),
        variant(
            "nobody allows for the rates of clocks",
            S1,
            Broken::Numbers,
            |shape| {
                observing(shape);
                with_rates(shape);
                shape.assume(0, 0);
            },
        ),
        variant(
            "nobody allows for the disagreement of the service's hosts",
            S1,
            Broken::Numbers,
            |shape| {
                by_dates(shape);
                shape.assume(0, 0);
            },
        ),
        variant(
            "a pause that the wall clock shows is not looked at",
            S1,
            Broken::PauseUnseen,
            |shape| {
                shape.faults = Faults {
                    pauses: 1,
                    ..Faults::default()
                };
            },
        ),
    ]
}

fn observing(shape: &mut Shape) {
    shape.clients = vec![ours(1, 2), ours(1, 3)];
    shape.rules.strict = true;
    shape.horizon = 4;
}

/// Whose record a write changes.
fn identity() -> Vec<Variant> {
    use Property::S4;
    vec![
        variant(
            "one id per process",
            Property::S5,
            Broken::OneIdPerProcess,
            |shape| {
                shape.clients[0].attempts = 2;
                shape.gives_up = true;
            },
        ),
        variant(
            "a release leaves ClientId in the record",
            S4,
            Broken::TombstoneKeepsOwner,
            |_| {},
        ),
        variant(
            "a take-over is not a compare-and-set",
            S4,
            Broken::TakeOverBlind,
            |_| {},
        ),
        variant(
            "a release does not ask whose grant it is",
            S4,
            Broken::ReleaseWithoutOwner,
            |_| {},
        ),
    ]
}

/// Beside F# clients, and what a holder is told.
fn fsharp_and_holders() -> Vec<Variant> {
    let beside = |shape: &mut Shape| {
        shape.clients = vec![ours(1, 2), fsharp(1, 2)];
        shape.expiry_padding(500);
        shape.s2 = false;
    };
    vec![
        variant(
            "no expiry_padding for records of F# clients",
            Property::S1,
            Broken::Numbers,
            |shape| {
                beside(shape);
                shape.rules.expiry_padding = Duration::ZERO;
            },
        ),
        variant(
            "no expiry_padding in what is published to F# clients",
            Property::S1,
            Broken::Numbers,
            |shape| {
                beside(shape);
                shape.terms.expiry_padding = Duration::ZERO;
            },
        ),
        variant(
            "a holder believes in the expiry_padding",
            Property::S1,
            Broken::HolderTrustsPad,
            |shape| {
                beside(shape);
                shape.clients[0].walls_ms = &[-500];
            },
        ),
        variant(
            "a lease is given of which nothing is left",
            Property::S5,
            Broken::WorthlessHandedOver,
            |_| {},
        ),
        variant("`lost` un-fires", Property::S6, Broken::LostUnfires, |_| {}),
    ]
}

/// Tokens and the next life of a record.
fn tokens() -> Vec<Variant> {
    use Property::{S2, S3};
    let next_life = |shape: &mut Shape, walls: &'static [i64], retention: Duration| {
        shape.clients = vec![ours(1, 2), ours(1, 2)];
        for (client, walls) in shape.clients.iter_mut().zip(walls.chunks(1)) {
            client.walls_ms = walls;
        }
        shape.tick_ms = 300_000;
        shape.phase_ms = 500;
        shape.horizon = 7;
        shape.terms.lease = Duration::from_secs(450);
        shape.terms.retention = retention;
        shape.ttl = true;
        shape.prompt = true;
    };
    vec![
        variant(
            "a grant does not raise the token",
            S2,
            Broken::TokenStandsStill,
            |_| {},
        ),
        variant(
            "a grant does not raise the token; the register judges",
            S3,
            Broken::TokenStandsStill,
            |shape| {
                shape.s2 = false;
                shape.register = true;
            },
        ),
        variant("the retention is too short", S2, Broken::Numbers, |shape| {
            next_life(shape, &[900_000, -900_000], Duration::from_secs(1_500));
            shape.signature_life_ms = Some(900_000);
        }),
        variant("TTL is rounded down", S2, Broken::TtlRoundedDown, |shape| {
            next_life(shape, &[900_000, -900_000], Duration::from_secs(1_800));
            shape.signature_life_ms = Some(900_000);
        }),
        variant(
            "an impossible seed is not withdrawn",
            S2,
            Broken::SeedUnchecked,
            |shape| next_life(shape, &[24 * HOUR, 0], Duration::from_secs(1_860)),
        ),
    ]
}
