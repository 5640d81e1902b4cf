//! The rules of the queue, each removed once.

use super::broken::Broken;
use super::configs::{joiner, ours};
use super::queues::{landed_first, without_dates};
use super::shape::{ClientShape, Property, Shape};
use super::variants::{Variant, variant};

/// All of them. Messages are delivered at once, but for those that a counterexample needs late.
pub(super) fn all() -> Vec<Variant> {
    let mut all = deadlines();
    all.extend(grants());
    all.extend(order());
    all
}

fn queue(
    rule: &'static str,
    breaks: Property,
    broken: Broken,
    clients: Vec<ClientShape>,
    change: impl FnOnce(&mut Shape),
) -> Variant {
    variant(rule, breaks, broken, |shape| {
        shape.clients = clients;
        shape.faults.late = Some(0);
        change(shape);
    })
}

/// Until when the receiver of a hand-over believes in its grant.
fn deadlines() -> Vec<Variant> {
    use Property::S1;
    // The old holder is the contender that watches the grant that it handed over.
    let back = |requests| vec![ours(2, 6), joiner(1, requests)];
    let watched = |shape: &mut Shape| {
        without_dates(shape);
        shape.horizon = 2;
    };
    let overtaken = |shape: &mut Shape| {
        watched(shape);
        shape.queueing.reads = 2;
        shape.faults.late = Some(1);
    };
    vec![
        queue(
            "a receiver counts from the poll that shows the grant",
            S1,
            Broken::ReceivedFromPoll,
            back(3),
            watched,
        ),
        queue(
            "a receiver counts from the latest poll without the grant by its send, even if its answer came later",
            S1,
            Broken::ReceivedFromLatest,
            back(4),
            overtaken,
        ),
        queue(
            "a receiver counts from polls that were answered at the instant of the send",
            S1,
            Broken::SameInstantCounts,
            back(4),
            overtaken,
        ),
        queue(
            "a receiver counts from reads that may be old",
            S1,
            Broken::StaleReadsCount,
            back(4),
            |shape| {
                watched(shape);
                shape.stale_reads = true;
                shape.queueing.weak = true;
            },
        ),
        queue(
            "a waiter counts a grant of its own request from its join",
            S1,
            Broken::OwnGrantFromJoin,
            vec![joiner(1, 4), ours(1, 3)],
            |shape| {
                landed_first(shape);
                shape.faults.late = Some(2);
            },
        ),
        queue(
            "a receiver believes in its grant for a lease, whatever its expiry",
            S1,
            Broken::ReceiverTrustsLease,
            back(3),
            |_| {},
        ),
    ]
}

/// What a hand-over makes of the record.
fn grants() -> Vec<Variant> {
    let pair = || vec![ours(1, 3), joiner(1, 3)];
    vec![
        queue(
            "a hand-over leaves the token as it is",
            Property::S2,
            Broken::HandOverKeepsToken,
            pair(),
            |_| {},
        ),
        queue(
            "a hand-over does not ask whose grant it is",
            Property::S4,
            Broken::HandOverWithoutOwner,
            vec![ours(1, 3), joiner(1, 3), ours(1, 2)],
            |shape| shape.faults.late = Some(1),
        ),
        queue(
            "a join is taken by a record without a holder",
            Property::S4,
            Broken::JoinOfFree,
            pair(),
            |shape| shape.faults.late = Some(1),
        ),
    ]
}

/// Who is granted the key.
fn order() -> Vec<Variant> {
    use Property::S9;
    let three = || vec![ours(1, 3), joiner(1, 3), joiner(1, 3)];
    let dies = |last: ClientShape| vec![ours(1, 1), joiner(1, 3), last];
    vec![
        queue(
            "a hand-over names an index and does not compare the place",
            S9,
            Broken::HandOverByIndex,
            three(),
            |shape| shape.gives_up = true,
        ),
        queue(
            "a release does not ask who waits",
            S9,
            Broken::ReleaseIgnoresQueue,
            vec![ours(1, 2), joiner(1, 3)],
            |_| {},
        ),
        queue(
            "a take-over without a place does not wait for the claims",
            S9,
            Broken::ClaimsUnwaited,
            dies(ours(1, 3)),
            |_| {},
        ),
        queue(
            "a take-over from behind does not wait for the claims",
            S9,
            Broken::ClaimsUnwaited,
            dies(joiner(1, 4)),
            |_| {},
        ),
        queue(
            "a leave names an index and does not compare the place",
            S9,
            Broken::LeaveByIndex,
            three(),
            |shape| shape.gives_up = true,
        ),
        queue(
            "a join that is sent again adds a place",
            S9,
            Broken::SecondPlace,
            vec![ours(1, 1), joiner(1, 3)],
            |shape| shape.faults.late = Some(1),
        ),
        queue(
            "a take-over leaves its own place in the queue",
            S9,
            Broken::TakeOverKeepsPlace,
            vec![ours(1, 1), joiner(1, 4)],
            |_| {},
        ),
        queue(
            "a holder hands the key to a place of its own, of a join that came late",
            S9,
            Broken::OwnPlaceHanded,
            vec![ours(1, 2), joiner(1, 5)],
            |shape| shape.faults.late = Some(1),
        ),
    ]
}
