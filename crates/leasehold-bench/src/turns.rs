//! The evaluation of many turns under one lock: the total time, the waits, and whether two tasks ever held the
//! lock together.

use std::time::Duration;

use crate::driver::Turn;
use crate::stats::Times;

/// The turns of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns(pub(crate) Vec<Turn>);

impl Turns {
    /// How many were granted the lock and have let it go, or still hold it.
    pub(crate) fn granted(&self) -> usize {
        self.0.iter().filter(|turn| turn.granted.is_some()).count()
    }

    /// The first failure, and how many there were.
    pub(crate) fn failures(&self) -> (usize, Option<&str>) {
        let mut failures = self.0.iter().filter_map(|turn| turn.failure.as_deref());
        let first = failures.next();
        (failures.count() + usize::from(first.is_some()), first)
    }

    /// From the first who asked to the last who let go.
    pub(crate) fn wall(&self) -> Duration {
        let first = self.0.iter().map(|turn| turn.asked).min();
        let last = self.0.iter().filter_map(|turn| turn.letting).max();
        between(first.unwrap_or(0), last.unwrap_or(0))
    }

    /// From asking to the grant.
    pub(crate) fn waits(&self) -> Times {
        let mut times = Times::default();
        for turn in &self.0 {
            if let Some(granted) = turn.granted {
                times.add(between(turn.asked, granted));
            }
        }
        times
    }

    /// From asking to the end of the release, less the time inside.
    pub(crate) fn cycles(&self) -> Times {
        let mut times = Times::default();
        for turn in &self.0 {
            if let (Some(granted), Some(letting), Some(released)) =
                (turn.granted, turn.letting, turn.released)
            {
                times.add(between(turn.asked, granted) + between(letting, released));
            }
        }
        times
    }

    /// How many held it together at most.
    pub(crate) fn most_at_once(&self) -> i32 {
        let mut steps: Vec<(i64, i32)> = Vec::new();
        for turn in &self.0 {
            if let Some(granted) = turn.granted {
                steps.push((granted, 1));
                steps.extend(turn.letting.map(|letting| (letting, -1)));
            }
        }
        // At the same moment, who lets go is first.
        steps.sort_unstable();
        let held = steps.iter().scan(0, |held, (_, step)| {
            *held += step;
            Some(*held)
        });
        held.max().unwrap_or(0)
    }

    /// How often the lock was granted before the one before had let go. All turns are of one key.
    pub(crate) fn overlaps(&self) -> usize {
        let mut held: Vec<(i64, i64)> = self
            .0
            .iter()
            .filter_map(|turn| Some((turn.granted?, turn.letting.unwrap_or(i64::MAX))))
            .collect();
        held.sort_unstable();
        let mut overlaps = 0;
        let mut free = i64::MIN;
        for (granted, letting) in held {
            overlaps += usize::from(granted < free);
            free = free.max(letting);
        }
        overlaps
    }
}

/// Zero where the end is before the start.
pub(crate) fn between(start: i64, end: i64) -> Duration {
    Duration::from_nanos(u64::try_from(end.saturating_sub(start)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(asked: i64, granted: i64, letting: i64, released: i64) -> Turn {
        Turn {
            process: 0,
            task: 0,
            asked,
            granted: Some(granted),
            letting: Some(letting),
            released: Some(released),
            failure: None,
        }
    }

    #[test]
    fn times_are_between_the_right_instants() {
        let turns = Turns(vec![turn(10, 20, 50, 60), turn(15, 55, 80, 90)]);
        assert_eq!(turns.wall(), Duration::from_nanos(70));
        assert_eq!(turns.waits().quantile(1.0), Duration::from_nanos(40));
        assert_eq!(turns.cycles().quantile(0.0), Duration::from_nanos(20));
        assert_eq!(turns.overlaps(), 0);
        assert_eq!(Turns::default().wall(), Duration::ZERO);
    }

    #[test]
    fn holders_at_the_same_time_are_seen() {
        let turns = |two| Turns(vec![two, turn(0, 10, 50, 60)]).overlaps();
        assert_eq!(turns(turn(0, 49, 51, 52)), 1);
        assert_eq!(turns(turn(0, 20, 30, 40)), 1);
        assert_eq!(turns(turn(0, 50, 51, 52)), 0);
        let mut open = turn(0, 5, 0, 0);
        (open.letting, open.released) = (None, None);
        assert_eq!(turns(open.clone()), 1, "held until the end");

        let most = |turns: Vec<Turn>| Turns(turns).most_at_once();
        assert_eq!(most(vec![]), 0);
        let three = vec![
            turn(0, 10, 50, 60),
            turn(0, 20, 30, 31),
            turn(0, 30, 40, 41),
        ];
        assert_eq!(most(three), 2, "one has let go when the next enters");
        assert_eq!(
            most(vec![open, turn(0, 10, 50, 60), turn(0, 20, 30, 31)]),
            3
        );
    }
}
