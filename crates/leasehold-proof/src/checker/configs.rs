//! The configurations: what is explored to the end.
//!
//! Each has a full size and a quick one. Sizes are chosen so that every boundary is reached within few ticks. A
//! lease is one and a half ticks: a holder believes at the tick of its send and at the next one, and a contender
//! may first act at the tick after that.

use std::time::Duration;

use super::shape::{ClientShape, Faults, Kind, Shape, Stamps};

/// How much is explored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Size {
    Full,
    Quick,
}

impl Size {
    pub(super) fn of<T>(self, full: T, quick: T) -> T {
        match self {
            Size::Full => full,
            Size::Quick => quick,
        }
    }
}

/// A client of ours with a right wall clock.
pub(super) fn ours(attempts: u8, requests: u8) -> ClientShape {
    ClientShape {
        kind: Kind::Ours,
        walls_ms: &[0],
        rate: (1, 1),
        attempts,
        requests,
        joins: false,
    }
}

/// A client of ours that joins the queue.
pub(super) fn joiner(attempts: u8, requests: u8) -> ClientShape {
    ClientShape {
        joins: true,
        ..ours(attempts, requests)
    }
}

/// An F# client, its wall clock within half a second.
pub(super) fn fsharp(attempts: u8, requests: u8) -> ClientShape {
    ClientShape {
        kind: Kind::Fsharp,
        walls_ms: &[-500, 0, 500],
        ..ours(attempts, requests)
    }
}

pub(super) const HOUR: i64 = 3_600_000;
/// Behind and ahead by a lease, by half a signature's life, and by far.
const WALLS: &[i64] = &[-24 * HOUR, -1_000, 0, 1_000, 24 * HOUR];

/// As far as the service accepts a signature.
const AHEAD: [i64; 1] = [15 * 60_000];
const BEHIND: [i64; 1] = [-15 * 60_000];

/// All configurations without a queue.
pub(super) fn all(size: Size) -> Vec<Shape> {
    let mut shapes = vec![
        lease(),
        renewals(size),
        dates(),
        rates(size),
        strict(),
        walls(size),
        eager(size),
        duplicates(size),
        pauses(size),
        wall_steps(),
        crashes(),
        again(size),
        stale_reads(),
        three(),
        three_dates(),
        beside_fsharp(size),
        two_beside_fsharp(),
        any_clocks(size),
        next_life(size),
    ];
    if size == Size::Quick {
        for shape in &mut shapes {
            shape.prompt = shape.faults.late.is_none();
        }
    }
    shapes
}

fn lease() -> Shape {
    let clients = vec![ours(1, 3), ours(1, 2)];
    Shape::new(
        "lease",
        "acquire, renew, release, take over; exact stamps",
        clients,
        3,
    )
}

fn renewals(size: Size) -> Shape {
    let clients = vec![ours(1, size.of(4, 3)), ours(1, size.of(3, 2))];
    let mut shape = Shape::new(
        "renewals",
        "several renewals under way; answers are prompt or lost",
        clients,
        size.of(4, 3),
    );
    shape.prompt = true;
    shape
}

fn dates() -> Shape {
    let clients = vec![ours(1, 2), ours(1, 2)];
    let mut shape = Shape::new(
        "dates",
        "service time by floored dates of hosts that disagree",
        clients,
        3,
    );
    by_dates(&mut shape);
    shape
}

/// Dates of hosts that are up to 300 ms apart from the true time. The first tick falls where a host
/// that is behind shows the second before, the next one where a host that is ahead shows the one after.
pub(super) fn by_dates(shape: &mut Shape) {
    shape.tick_ms = 750;
    shape.phase_ms = 100;
    shape.terms.lease = Duration::from_millis(870);
    shape.stamps = Stamps::Dates { error_ms: 300 };
    shape.assume(300, 0);
}

/// A slow holder and a fast contender, or the other way round, at the bounds of 25 %.
pub(super) fn with_rates(shape: &mut Shape) {
    shape.tick_ms = 600;
    shape.terms.lease = Duration::from_millis(1_200);
    shape.assume(0, 250_000);
    for (client, rate) in shape.clients.iter_mut().zip([(4, 5), (4, 3), (1, 1)]) {
        client.rate = rate;
    }
}

fn rates(size: Size) -> Shape {
    let clients = vec![ours(1, 2), ours(1, 2)];
    let mut shape = Shape::new(
        "rates",
        "elapsed clocks at the bounds of their rates",
        clients,
        size.of(4, 3),
    );
    with_rates(&mut shape);
    shape
}

fn strict() -> Shape {
    let clients = vec![ours(1, 2), ours(1, 3)];
    let mut shape = Shape::new(
        "strict",
        "take over by observation alone; rates at their bounds",
        clients,
        3,
    );
    with_rates(&mut shape);
    shape.rules.strict = true;
    shape
}

fn walls(size: Size) -> Shape {
    let mut clients = vec![ours(1, 2), ours(1, 2)];
    for client in &mut clients {
        client.walls_ms = size.of(WALLS, &[-24 * HOUR, -1_000, 1_000]);
    }
    Shape::new(
        "walls",
        "wall clocks off by a lease and by a day, each way",
        clients,
        3,
    )
}

fn eager(size: Size) -> Shape {
    let clients = vec![ours(1, 2), ours(1, 2)];
    let mut shape = Shape::new(
        "eager",
        "requests are sent again within the same tick",
        clients,
        size.of(4, 3),
    );
    shape.eager = true;
    shape
}

fn duplicates(size: Size) -> Shape {
    let clients = vec![ours(1, 2), ours(1, 2)];
    let mut shape = Shape::new(
        "duplicates",
        "the service carries out requests twice",
        clients,
        3,
    );
    shape.faults.duplicates = size.of(2, 1);
    shape
}

fn pauses(size: Size) -> Shape {
    let clients = vec![ours(1, 2), ours(1, 2)];
    let mut shape = Shape::new(
        "pauses",
        "machine pauses that only the wall clock shows",
        clients,
        size.of(4, 3),
    );
    shape.faults.pauses = size.of(2, 1);
    shape
}

fn wall_steps() -> Shape {
    let clients = vec![ours(1, 2), ours(1, 2)];
    let mut shape = Shape::new(
        "wall steps",
        "wall clocks are set forward and back while locks are held",
        clients,
        3,
    );
    shape.faults = Faults {
        wall_steps: 1,
        wall_step_ms: 1_000,
        ..Faults::default()
    };
    shape
}

fn crashes() -> Shape {
    let clients = vec![ours(2, 3), ours(1, 2)];
    let mut shape = Shape::new("crashes", "processes crash and start again", clients, 3);
    shape.faults.crashes = 1;
    shape
}

fn again(size: Size) -> Shape {
    let clients = vec![ours(2, size.of(3, 2)), ours(1, 2)];
    let mut shape = Shape::new(
        "again",
        "calls are given up, and the process acquires again while its past is under way",
        clients,
        3,
    );
    shape.gives_up = true;
    shape
}

fn stale_reads() -> Shape {
    let clients = vec![ours(1, 2), ours(1, 3)];
    let mut shape = Shape::new(
        "stale reads",
        "reads show the record before its last change; strict",
        clients,
        3,
    );
    shape.stale_reads = true;
    shape.rules.strict = true;
    shape
}

fn three() -> Shape {
    let clients = vec![ours(1, 2); 3];
    Shape::new("three", "three clients", clients, 2)
}

fn three_dates() -> Shape {
    let clients = vec![ours(1, 2), ours(1, 2), ours(1, 1)];
    let mut shape = Shape::new("three dates", "three clients by floored dates", clients, 2);
    by_dates(&mut shape);
    shape
}

fn beside_fsharp(size: Size) -> Shape {
    let clients = vec![ours(1, 3), fsharp(1, 3)];
    let mut shape = Shape::new(
        "beside F#",
        "an F# client beside ours, its wall clock within the expiry_padding",
        clients,
        size.of(4, 3),
    );
    shape.expiry_padding(500);
    shape.s2 = false;
    shape
}

fn two_beside_fsharp() -> Shape {
    let clients = vec![ours(1, 2), ours(1, 2), fsharp(1, 2)];
    let mut shape = Shape::new("two beside F#", "two of ours and an F# client", clients, 2);
    shape.expiry_padding(500);
    shape.s2 = false;
    shape
}

/// No assumption about clocks holds, and holders write to a fenced register.
fn any_clocks(size: Size) -> Shape {
    let mut clients = vec![ours(1, 2), ours(1, 2)];
    for (client, rate) in clients.iter_mut().zip([(1, 4), (3, 1)]) {
        client.walls_ms = size.of(&[-24 * HOUR, 0, 24 * HOUR], &[0, 24 * HOUR]);
        client.rate = rate;
    }
    let mut shape = Shape::new(
        "any clocks",
        "clocks outside of all bounds; a fenced register that gets late writes",
        clients,
        3,
    );
    shape.register = true;
    shape.gives_up = true;
    shape.s1 = false;
    shape
}

/// Records are deleted by TTL. A tick is 5 minutes, a retention 31.
pub(super) fn by_minutes(shape: &mut Shape) {
    shape.tick_ms = 300_000;
    shape.phase_ms = 500;
    shape.terms.lease = Duration::from_secs(450);
    shape.terms.retention = Duration::from_secs(31 * 60);
    shape.signature_life_ms = Some(15 * 60_000);
    shape.ttl = true;
}

/// Records are deleted by TTL and start again.
fn next_life(size: Size) -> Shape {
    let mut clients = vec![ours(1, 2), ours(1, 2)];
    for (client, quick) in clients.iter_mut().zip([&AHEAD, &BEHIND]) {
        client.walls_ms = size.of(&[-15 * 60_000, 0, 15 * 60_000], quick);
    }
    let mut shape = Shape::new(
        "next life",
        "records are deleted by TTL, tokens start again; wall clocks off by 15 min",
        clients,
        7,
    );
    by_minutes(&mut shape);
    shape.prompt = true;
    shape
}
