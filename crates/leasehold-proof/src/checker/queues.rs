//! The configurations with a queue: contenders join, are handed the key, leave and take over by place.

use std::time::Duration;

use super::configs::{HOUR, Size, by_dates, joiner, ours, with_rates};
use super::shape::{Shape, Stamps};

pub(super) fn all(size: Size) -> Vec<Shape> {
    let mut shapes = vec![
        hand_over(size),
        receiver(size),
        claims(size),
        newcomer(size),
        leave(size),
        races(size),
        crashes(size),
        ends(size),
        duplicates(size),
        stale(size),
        strict(size),
        no_dates(),
        dates(size),
        late(),
        chain(size),
        pauses(size),
    ];
    // All other messages are delivered at once.
    for shape in &mut shapes {
        shape.faults.late.get_or_insert(size.of(2, 1));
    }
    shapes
}

fn hand_over(size: Size) -> Shape {
    let clients = vec![ours(1, 3), joiner(1, size.of(4, 3))];
    Shape::new("queue", "join, poll, hand over, renew after it", clients, 3)
}

/// The old holder comes back as a contender.
fn receiver(size: Size) -> Shape {
    let clients = vec![ours(2, size.of(5, 4)), joiner(1, 4)];
    Shape::new(
        "queue: receiver",
        "the old holder contends with the receiver",
        clients,
        3,
    )
}

fn claims(size: Size) -> Shape {
    let clients = vec![
        ours(1, 1),
        joiner(1, size.of(4, 3)),
        joiner(1, size.of(4, 3)),
    ];
    Shape::new(
        "queue: claims",
        "the holder dies; two places let their claims pass",
        clients,
        3,
    )
}

fn newcomer(size: Size) -> Shape {
    let clients = vec![ours(1, 1), joiner(1, 3), ours(1, size.of(3, 2))];
    Shape::new(
        "queue: newcomer",
        "the holder dies; one has a place and one has none",
        clients,
        3,
    )
}

fn leave(size: Size) -> Shape {
    let clients = vec![ours(1, 3), joiner(1, 3), joiner(1, size.of(3, 2))];
    let mut shape = Shape::new(
        "queue: leave",
        "calls are given up, their places and grants given back",
        clients,
        1,
    );
    shape.gives_up = true;
    shape
}

fn races(size: Size) -> Shape {
    let clients = vec![ours(1, size.of(4, 3)), joiner(1, 3), joiner(1, 2)];
    let mut shape = Shape::new(
        "queue: races",
        "hand-overs that are sent again race with those of the receiver, and with a leave",
        clients,
        1,
    );
    shape.gives_up = true;
    shape.eager = true;
    shape
}

fn crashes(size: Size) -> Shape {
    let clients = vec![ours(1, 3), joiner(2, size.of(5, 4))];
    let mut shape = Shape::new(
        "queue: crashes",
        "processes crash at every step, and start again",
        clients,
        3,
    );
    shape.faults.crashes = 1;
    shape
}

fn ends(size: Size) -> Shape {
    let clients = vec![ours(1, 3), joiner(1, 3), joiner(1, size.of(3, 2))];
    let mut shape = Shape::new(
        "queue: ends",
        "waits end, and holders pass over those places",
        clients,
        2,
    );
    shape.queueing.wait_ms = Some(400);
    shape
}

fn duplicates(size: Size) -> Shape {
    let clients = vec![ours(1, 3), joiner(1, size.of(4, 3))];
    let mut shape = Shape::new(
        "queue: duplicates",
        "the service carries out joins, leaves and hand-overs twice",
        clients,
        2,
    );
    shape.gives_up = true;
    shape.faults.duplicates = 1;
    shape
}

fn stale(size: Size) -> Shape {
    let clients = vec![ours(1, 3), joiner(1, size.of(5, 4))];
    let mut shape = Shape::new(
        "queue: stale reads",
        "polls show the record before its last change",
        clients,
        2,
    );
    shape.stale_reads = true;
    shape.queueing.weak = true;
    shape
}

fn strict(size: Size) -> Shape {
    let clients = vec![ours(2, 5), joiner(1, 4)];
    let mut shape = Shape::new(
        "queue: strict",
        "take over by observation alone; rates at their bounds",
        clients,
        size.of(3, 2),
    );
    with_rates(&mut shape);
    shape.rules.strict = true;
    shape.queueing.claim_ms = 1_100;
    shape
}

/// Only then is the deadline of a receiver its lease alone.
pub(super) fn without_dates(shape: &mut Shape) {
    shape.stamps = Stamps::None;
    // Not the lease: else P of a hand-over is often that of an earlier request of the receiver.
    shape.queueing.claim_ms = 700;
    for client in &mut shape.clients {
        client.walls_ms = &[24 * HOUR];
    }
}

fn no_dates() -> Shape {
    let clients = vec![ours(2, 6), joiner(1, 4)];
    let mut shape = Shape::new(
        "queue: no dates",
        "the service shows no time, wall clocks are a day ahead; polls overtake each other",
        clients,
        2,
    );
    without_dates(&mut shape);
    shape.queueing.reads = 2;
    shape
}

fn dates(size: Size) -> Shape {
    let clients = vec![ours(2, 4), joiner(1, size.of(4, 3))];
    let mut shape = Shape::new(
        "queue: dates",
        "service time by floored dates of hosts that disagree",
        clients,
        2,
    );
    by_dates(&mut shape);
    shape.queueing.claim_ms = 800;
    shape.terms.lease = Duration::from_millis(870);
    shape
}

/// A first request of a clock that is ahead lands unnoticed, and is taken over before its sender joins.
pub(super) fn landed_first(shape: &mut Shape) {
    shape.clients[0].walls_ms = &[600_000];
    shape.horizon = 2;
    shape.open = 3;
    shape.queueing.weak = true;
    shape.stale_reads = true;
}

fn late() -> Shape {
    let mut shape = Shape::new(
        "queue: late",
        "a grant of a lost first request shows up after its sender has joined",
        vec![joiner(1, 4), ours(1, 3)],
        2,
    );
    landed_first(&mut shape);
    shape.faults.late = Some(2);
    shape
}

fn chain(size: Size) -> Shape {
    let clients = vec![ours(1, 3), joiner(1, 4), joiner(1, size.of(4, 3))];
    let mut shape = Shape::new(
        "queue: chain",
        "the key is handed over twice, or three times with a late place",
        clients,
        1,
    );
    shape.faults.late = Some(1);
    shape
}

fn pauses(size: Size) -> Shape {
    let clients = vec![ours(2, size.of(5, 4)), joiner(1, size.of(4, 3))];
    let mut shape = Shape::new(
        "queue: pauses",
        "machine pauses that only the wall clock shows",
        clients,
        3,
    );
    shape.faults.pauses = 1;
    shape.faults.late = Some(1);
    shape
}
