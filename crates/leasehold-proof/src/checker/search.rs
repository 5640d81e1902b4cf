//! Breadth-first search to the end, or to the first breach; and the way that led there.

use super::shape::{Breach, Shape};
use super::states::Reached;
use super::words::describe;
use super::world::{Next, World};

/// The result of a search.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) states: usize,
    pub(super) transitions: u64,
    /// The longest of the shortest ways.
    pub(super) depth: u32,
    pub(super) result: Result<(), Trouble>,
}

/// Why a configuration was not explored to its end.
#[derive(Debug)]
pub(super) enum Trouble {
    /// A promise was broken; the shortest way to it, in words.
    Breach { breach: Breach, trace: Vec<String> },
    /// The bound on states was met.
    TooMany,
}

/// Explores a configuration. More states than `limit` are a failure, not a result.
pub(super) fn explore(shape: Shape, limit: usize) -> Found {
    let mut world = World::new(shape);
    let mut reached = Reached::new();
    for state in world.beginnings() {
        // Each beginning is its own parent.
        let own = reached.len();
        reached.add(&state, own);
    }
    let mut next: Vec<Next> = Vec::new();
    let (mut index, mut depth, mut transitions) = (0, 0, 0);
    let mut level_ends = reached.len();
    let mut result = Ok(());
    'search: while index < reached.len() {
        if index == level_ends {
            depth += 1;
            level_ends = reached.len();
        }
        let state = reached.state(index);
        world.successors(&state, &mut next);
        transitions += next.len() as u64;
        for (action, after, breach) in &next {
            let new = reached.add(after, index);
            let breach = breach.or_else(|| if new { world.judge(after) } else { None });
            if let Some(breach) = breach {
                let mut trace = way_to(&mut world, &reached, index);
                trace.extend(describe(&world, &state, *action, after));
                result = Err(Trouble::Breach { breach, trace });
                depth += 1;
                break 'search;
            }
        }
        if reached.len() > limit {
            result = Err(Trouble::TooMany);
            break;
        }
        index += 1;
    }
    Found {
        states: reached.len(),
        transitions,
        depth,
        result,
    }
}

/// The steps from a beginning to a state, in words: made again from each state's parent.
fn way_to(world: &mut World, reached: &Reached, index: usize) -> Vec<String> {
    let mut path = vec![index];
    while let Some(parent) = reached.parent(path[path.len() - 1]) {
        path.push(parent);
    }
    path.reverse();
    let mut trace = Vec::new();
    let mut next = Vec::new();
    for pair in path.windows(2) {
        let (from, to) = (reached.state(pair[0]), reached.state(pair[1]));
        world.successors(&from, &mut next);
        if let Some((action, after, _)) = next.iter().find(|(_, after, _)| *after == to) {
            trace.extend(describe(world, &from, *action, after));
        }
    }
    trace
}
