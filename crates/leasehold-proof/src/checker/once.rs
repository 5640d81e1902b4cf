//! The configurations of work that runs once: holders complete their grants, keeps end, and others run again.

use super::configs::{HOUR, Size, by_dates, by_minutes, joiner, ours, with_rates};
use super::shape::{Keeping, Shape, Stamps};

/// All of them. A lease is 1.5 ticks, a keep 2.5: a run that began at tick 0 may be replaced at tick 3.
pub(super) fn all(size: Size) -> Vec<Shape> {
    vec![
        once(size),
        again(size),
        duplicates(size),
        late(size),
        dates(size),
        strict(size),
        no_dates(size),
        walls(),
        pauses(size),
        crashes(size),
        three(size),
        stale_reads(size),
        queue(size),
        any_clocks(size),
        next_life(),
    ]
}

/// Work of this shape is remembered for two and a half ticks.
pub(super) fn keeps(shape: &mut Shape) {
    shape.keeping = Some(Keeping {
        keep_ms: u64::from(shape.tick_ms) * 5 / 2,
        judged: true,
        dead: false,
    });
}

fn shape(
    name: &'static str,
    about: &'static str,
    requests: [(u8, u8); 2],
    horizon: u8,
    change: impl FnOnce(&mut Shape),
) -> Shape {
    let clients = requests.map(|(attempts, requests)| ours(attempts, requests));
    let mut shape = Shape::new(name, about, clients.to_vec(), horizon);
    // All other messages are delivered at once.
    shape.faults.late = Some(1);
    change(&mut shape);
    keeps(&mut shape);
    shape
}

fn once(size: Size) -> Shape {
    shape(
        "once",
        "runs are completed or fail, their keep ends, others run again",
        [(1, 3), (1, 4)],
        size.of(4, 3),
        |shape| shape.faults.late = Some(size.of(2, 1)),
    )
}

fn again(size: Size) -> Shape {
    shape(
        "once: again",
        "a process gives up, and runs again while its past is under way",
        [(2, size.of(4, 3)), (1, size.of(4, 3))],
        3,
        |shape| shape.gives_up = true,
    )
}

fn duplicates(size: Size) -> Shape {
    shape(
        "once: duplicates",
        "the service carries out acquires and completions twice",
        [(1, size.of(4, 3)), (1, 3)],
        3,
        |shape| shape.faults.duplicates = 1,
    )
}

fn late(size: Size) -> Shape {
    shape(
        "once: late",
        "answers come late, and out of order",
        [(1, size.of(3, 2)), (1, 2)],
        3,
        |shape| shape.faults.late = None,
    )
}

fn dates(size: Size) -> Shape {
    shape(
        "once: dates",
        "service time by floored dates of hosts that disagree",
        [(1, size.of(3, 2)), (1, 4)],
        4,
        by_dates,
    )
}

fn strict(size: Size) -> Shape {
    shape(
        "once: strict",
        "take over by observation, its rates at their bounds; done work by its keep",
        [(1, size.of(3, 2)), (1, size.of(5, 4))],
        size.of(5, 4),
        |shape| {
            with_rates(shape);
            shape.rules.strict = true;
        },
    )
}

fn no_dates(size: Size) -> Shape {
    shape(
        "once: no dates",
        "the service shows no time: what is done is watched for its keep",
        [(1, size.of(3, 2)), (1, 4)],
        size.of(5, 4),
        |shape| {
            shape.stamps = Stamps::None;
            for client in &mut shape.clients {
                client.walls_ms = &[-24 * HOUR, 24 * HOUR];
            }
        },
    )
}

fn walls() -> Shape {
    shape(
        "once: walls",
        "wall clocks off by ten minutes, set forward and back",
        [(1, 3), (1, 3)],
        3,
        |shape| {
            for client in &mut shape.clients {
                // Not by more than a seed may be off: none is withdrawn.
                client.walls_ms = &[-600_000, 600_000];
            }
            shape.faults.wall_steps = 1;
            shape.faults.wall_step_ms = 2_000;
        },
    )
}

fn pauses(size: Size) -> Shape {
    shape(
        "once: pauses",
        "machine pauses that only the wall clock shows",
        [(1, size.of(4, 3)), (1, 4)],
        size.of(4, 3),
        |shape| shape.faults.pauses = 1,
    )
}

fn crashes(size: Size) -> Shape {
    let mut crashes = shape(
        "once: crashes",
        "runners crash at every step and start again; the store shows those of done work as dead",
        [(2, size.of(4, 3)), (1, size.of(4, 3))],
        3,
        |shape| shape.faults.crashes = 1,
    );
    if let Some(keeping) = &mut crashes.keeping {
        keeping.dead = true;
    }
    crashes
}

fn three(size: Size) -> Shape {
    shape(
        "once: three",
        "three processes",
        [(1, 3), (1, 3)],
        size.of(3, 2),
        |shape| shape.clients.push(ours(1, size.of(3, 2))),
    )
}

fn stale_reads(size: Size) -> Shape {
    shape(
        "once: stale reads",
        "reads show the record before its last change",
        [(1, size.of(3, 2)), (1, 4)],
        size.of(4, 3),
        |shape| shape.stale_reads = true,
    )
}

fn queue(size: Size) -> Shape {
    shape(
        "once: queue",
        "one waits in the queue of a key that is completed",
        [(1, size.of(4, 3)), (1, 4)],
        size.of(4, 3),
        |shape| shape.clients[1] = joiner(1, 4),
    )
}

/// No assumption about clocks holds. What is done is still changed by a take-over of exactly that alone.
fn any_clocks(size: Size) -> Shape {
    let mut any = shape(
        "once: any clocks",
        "clocks outside of all bounds: nobody completes under the grant of another",
        [(1, 3), (1, size.of(4, 3))],
        3,
        |shape| {
            for (client, rate) in shape.clients.iter_mut().zip([(1, 4), (3, 1)]) {
                client.walls_ms = &[0, 24 * HOUR];
                client.rate = rate;
            }
            shape.gives_up = true;
            shape.s1 = false;
        },
    );
    if let Some(keeping) = &mut any.keeping {
        keeping.judged = false;
    }
    any
}

/// A tick is 5 minutes, a retention 31, a keep 27: the record goes 58 minutes after the beginning.
fn next_life() -> Shape {
    let mut life = shape(
        "once: next life",
        "records of done work are deleted by TTL, after their keep and a retention",
        [(1, 2), (1, 2)],
        13,
        by_minutes,
    );
    with_keep(&mut life, 27 * 60_000);
    life
}

pub(super) fn with_keep(shape: &mut Shape, keep_ms: u64) {
    if let Some(keeping) = &mut shape.keeping {
        keeping.keep_ms = keep_ms;
    }
}
