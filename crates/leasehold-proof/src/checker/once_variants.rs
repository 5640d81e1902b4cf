//! The rules of work that runs once, each removed once.

use super::broken::Broken;
use super::configs::{by_dates, by_minutes, ours};
use super::once::{keeps, with_keep};
use super::shape::{Property, Shape};
use super::variants::{Variant, variant};

/// All of them. Answers are prompt or lost.
pub(super) fn all() -> Vec<Variant> {
    vec![
        once(
            "a completion does not ask whose grant it is",
            Broken::CompletionWithoutOwner,
            [2, 2],
            |_| {},
        ),
        once(
            "a completion leaves ClientId in the record",
            Broken::CompletionKeepsOwner,
            [3, 1],
            // A late renewal has a later P only if the keep ends before the lease.
            |shape| with_keep(shape, 500),
        ),
        once(
            "a completion leaves ClientId and the renew count in the record",
            Broken::CompletionKeepsGrant,
            // No renewal and no release of the runner is late: only the contender's take-over.
            [2, 3],
            |_| {},
        ),
        once(
            "a completion leaves the lease of the run in the record",
            Broken::CompletionKeepsLease,
            [2, 4],
            |_| {},
        ),
        once(
            "a completion leaves the published expiry in the record",
            Broken::CompletionKeepsExpiry,
            [2, 3],
            |_| {},
        ),
        once(
            "any refusal of a completion counts as its success",
            Broken::RefusalCompletes,
            [2, 2],
            |_| {},
        ),
        once(
            "a keep counts from the earliest that the beginning can have been",
            Broken::KeepFromEarliest,
            [2, 3],
            |shape| {
                by_dates(shape);
                keeps(shape);
                shape.horizon = 4;
            },
        ),
        once(
            "a keep counts from before the acquire",
            Broken::KeepFromAcquire,
            [2, 3],
            |shape| shape.horizon = 4,
        ),
        once(
            "what is done is taken when `latest` is past its keep",
            Broken::BoundsSwapped,
            [2, 3],
            |shape| {
                by_dates(shape);
                keeps(shape);
                shape.s1 = false;
            },
        ),
        once(
            "what is done is taken by the rule for dead processes",
            Broken::DoneByDeath,
            [2, 2],
            |shape| {
                if let Some(keeping) = &mut shape.keeping {
                    keeping.dead = true;
                }
            },
        ),
        once(
            "TTL counts from the completion and not from the end of the keep",
            Broken::DoneTtlFromNow,
            [2, 1],
            |shape| {
                by_minutes(shape);
                with_keep(shape, 60 * 60_000);
                shape.horizon = 8;
            },
        ),
    ]
}

fn once(
    rule: &'static str,
    broken: Broken,
    requests: [u8; 2],
    change: impl FnOnce(&mut Shape),
) -> Variant {
    variant(rule, Property::S7, broken, |shape| {
        shape.clients = requests.map(|requests| ours(1, requests)).to_vec();
        shape.prompt = true;
        keeps(shape);
        change(shape);
    })
}
