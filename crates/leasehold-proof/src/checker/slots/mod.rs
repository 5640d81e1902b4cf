//! S8: several holders of one key, by the production code, every order of their steps.
//!
//! Two or three clients share one record with slots. A step is a read, a request by the last verdict, a join, a renewal, an
//! end, a crash, or a tick. A request is carried out and answered at once, or, within a budget of faults, it is
//! carried out without an answer, later, or twice. Clients have right clocks, with exact stamps or with none.
//!
//! S8 is judged in every state. The record has no more slots than its limit, and none beside the whole key. Those who believe in their grants hold no more slots than the limit that each of them
//! knows, and none beside a holder of the whole key.
//!
//! What is not modelled: clocks that drift, TTL, F# clients. The rules that these test are those of a lock,
//! and are explored there.

mod client;
mod numbers;
mod variants;
mod world;

use std::collections::HashMap;

use self::world::{State, World};

pub(super) use self::variants::{Case, cases, removed};

/// What a search has found.
#[derive(Debug)]
pub(in crate::checker) struct Found {
    pub(in crate::checker) states: usize,
    pub(in crate::checker) steps: u64,
    /// The way to a breach, in words.
    pub(in crate::checker) breach: Option<Vec<String>>,
}

/// Explores a case to its end, or to the first breach. More states than `limit` are a failure.
pub(super) fn explore(case: &Case, limit: usize) -> Option<Found> {
    let mut world = World::new(case);
    let first = world.beginning();
    let mut known: HashMap<State, usize> = HashMap::from([(first.clone(), 0)]);
    let mut order = vec![(first, 0)];
    let (mut index, mut steps) = (0, 0);
    while index < order.len() {
        let state = order[index].0.clone();
        for (_, after) in world.successors(&state) {
            steps += 1;
            if known.contains_key(&after) {
                continue;
            }
            known.insert(after.clone(), order.len());
            order.push((after.clone(), index));
            if let Some(how) = world.judge(&after) {
                let breach = Some(way_to(&mut world, &order, how));
                return Some(Found {
                    states: order.len(),
                    steps,
                    breach,
                });
            }
        }
        if order.len() > limit {
            return None;
        }
        index += 1;
    }
    Some(Found {
        states: order.len(),
        steps,
        breach: None,
    })
}

fn way_to(world: &mut World, order: &[(State, usize)], how: String) -> Vec<String> {
    let mut way = vec![how];
    let mut at = order.len() - 1;
    while at > 0 {
        let (after, before) = &order[at];
        let steps = world.successors(&order[*before].0);
        let step = steps.into_iter().find(|(_, state)| state == after);
        way.push(step.map_or_else(|| "?".to_owned(), |(step, _)| step));
        at = *before;
    }
    way.reverse();
    way
}

#[cfg(test)]
mod tests {
    use super::variants::Broken;
    use super::*;

    const LIMIT: usize = 300_000;

    #[test]
    fn a_small_case_holds_and_is_explored() {
        let case = cases(true).swap_remove(0);
        let found = explore(&case, LIMIT).expect("small");
        assert!(found.breach.is_none(), "{found:?}");
        assert!(found.states > 1_000, "{}", found.states);
    }

    #[test]
    fn without_the_size_in_the_condition_too_many_hold() {
        let case = removed()
            .into_iter()
            .find(|case| case.broken == Some(Broken::NoSize));
        let found = explore(&case.expect("listed"), LIMIT).expect("small");
        let way = found.breach.expect("S8 is broken");
        assert!(way.last().expect("a step").contains("hold"), "{way:?}");
    }
}
