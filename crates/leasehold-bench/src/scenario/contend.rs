//! Ten contenders that hold one lock for 20 ms each, in one process and in ten.

use std::time::Duration;

use anyhow::Result;
use futures_util::future::try_join_all;
use serde_json::json;

use crate::choice::Choice;
use crate::driver::Job;
use crate::fleet::{Fleet, Outcome};
use crate::lineup::{Lineup, Subject, defaults, tuned};
use crate::plot;
use crate::report::{Report, as_ms, counted, dollars, dollars_per_million, short_ms, who};
use crate::scenario::uncontended::short_round_trip;
use crate::scenario::{REGION, ROUND_TRIPS, ms, present, remarks, with_lineup};
use crate::stats::Times;
use crate::turns::Turns;

const CONTENDERS: u32 = 10;
const HOLD: Duration = ms(20);

/// Where and how often.
#[derive(Clone, Copy, Debug)]
struct Place {
    round_trip: Duration,
    processes: u32,
    repeats: usize,
    limit: Duration,
}

impl Place {
    /// What nobody can beat: the holds, and between processes a round trip for each hand-over.
    fn ideal(self) -> Duration {
        let hand_overs = if self.processes == 1 {
            0
        } else {
            CONTENDERS - 1
        };
        HOLD * CONTENDERS + self.round_trip * hand_overs
    }
}

pub(crate) fn run(choice: &Choice) -> Result<()> {
    let quick = choice.quick;
    with_lineup(choice, async |lineup| {
        let mut report = Report::new(
            "contend",
            &[
                "processes",
                "round trip",
                "lock",
                "settings",
                "wall",
                "wall / ideal",
                "longest wait",
                "requests",
                "write units",
                "read units",
                "$ per million acquisitions",
                "remarks",
            ],
        );
        report.note(
            "10 contenders, 20 ms each. The ideal: 200 ms in one process; in ten, a round trip more for \
             each of the 9 hand-overs. Wall: median of the runs; requests and units: mean of a run. \
             Those that sleep for seconds run at 5 ms only, once.",
        );
        let all = defaults().into_iter().chain(tuned());
        let subjects = present(&lineup, &mut report, all, |one| one).await?;
        let mut drawn = Vec::new();
        for processes in [1, CONTENDERS] {
            for round_trip in ROUND_TRIPS {
                if quick && round_trip != REGION {
                    continue;
                }
                let place = Place {
                    round_trip,
                    processes,
                    repeats: if quick { 1 } else { 3 },
                    limit: if quick { ms(4_000) } else { ms(12_000) },
                };
                let found = everybody(&lineup, &mut report, &subjects, place).await?;
                if round_trip == REGION {
                    drawn.push((processes, found));
                }
            }
        }
        for (processes, found) in &drawn {
            let place = if *processes == 1 {
                "one process"
            } else {
                "ten processes"
            };
            plot::waits::draw(
                &format!("waits-{processes}.svg"),
                &format!("10 contenders in {place}, 20 ms each, 5 ms round trip"),
                CONTENDERS as usize,
                found,
            )?;
            plot::timeline::draw(
                &format!("timeline-{processes}.svg"),
                &format!("Who held when: 10 contenders in {place}, 20 ms each, 5 ms round trip"),
                CONTENDERS as usize,
                found,
            )?;
        }
        report.finish()?;
        Ok(lineup)
    })
}

async fn everybody(
    lineup: &Lineup,
    report: &mut Report,
    subjects: &[Subject],
    place: Place,
) -> Result<Vec<(Subject, Turns)>> {
    let (slow, quick): (Vec<Subject>, Vec<Subject>) =
        subjects.iter().cloned().partition(|subject| subject.slow);
    let mut found = Vec::new();
    for subject in quick {
        let outcomes = measure(lineup, &subject, place).await?;
        found.push((subject, outcomes));
    }
    if place.round_trip == REGION {
        let once = Place {
            repeats: 1,
            ..place
        };
        let measuring = slow.into_iter().map(|subject| async move {
            let outcomes = measure(lineup, &subject, once).await?;
            anyhow::Ok((subject, outcomes))
        });
        found.extend(try_join_all(measuring).await?);
    }
    found.sort_by_key(|(subject, _)| subject.who);
    let mut drawn = Vec::new();
    for (subject, outcomes) in found {
        add(report, &subject, &outcomes, place);
        drawn.extend(
            outcomes
                .into_iter()
                .next()
                .map(|first| (subject, first.turns)),
        );
    }
    Ok(drawn)
}

async fn measure(lineup: &Lineup, subject: &Subject, place: Place) -> Result<Vec<Outcome>> {
    let mut fleet =
        Fleet::start(lineup, subject, place.round_trip, place.processes as usize).await?;
    let key = format!(
        "contend/{}/{}",
        place.processes,
        place.round_trip.as_millis()
    );
    fleet.warm_up(CONTENDERS / place.processes).await?;
    let mut outcomes = Vec::new();
    for repeat in 0..place.repeats {
        let tasks = CONTENDERS / place.processes;
        let job = Job::new(
            &format!("{key}/{}/{repeat}", subject.variant),
            tasks,
            1,
            HOLD,
        );
        let outcome = fleet.run(&job, place.limit).await?;
        let complete = outcome.complete;
        outcomes.push(outcome);
        if !complete {
            break;
        }
    }
    Ok(outcomes)
}

fn add(report: &mut Report, subject: &Subject, outcomes: &[Outcome], place: Place) {
    let mut walls = Times::default();
    let mut longest = Times::default();
    let mut remark = String::new();
    for outcome in outcomes {
        let said = remarks(outcome, CONTENDERS as usize, place.limit);
        if said.is_empty() {
            walls.add(outcome.turns.wall());
            longest.add(outcome.turns.waits().quantile(1.0));
        } else {
            remark = said;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let runs = outcomes.len().max(1) as f64;
    let mean = |of: fn(&Outcome) -> f64| outcomes.iter().map(of).sum::<f64>() / runs;
    let granted: usize = outcomes.iter().map(|outcome| outcome.turns.granted()).sum();
    let spent: f64 = outcomes
        .iter()
        .map(|outcome| outcome.counts.dollars())
        .sum();
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let price = (granted > 0).then(|| spent / granted as f64 * 1e6);
    let ideal = place.ideal();
    let timed = walls.len() > 0;
    let if_timed = |text: String| if timed { text } else { "–".to_owned() };
    let over_ideal = walls.p50().as_secs_f64() / ideal.as_secs_f64();
    report.add(
        vec![
            place.processes.to_string(),
            short_round_trip(place.round_trip),
            subject.who.label().to_owned(),
            subject.variant.to_owned(),
            if_timed(short_ms(walls.p50())),
            if_timed(format!("{over_ideal:.2} x")),
            if_timed(short_ms(longest.p50())),
            format!("{:.0}", mean(|o| f64::from(o.counts.requests()))),
            format!("{:.1}", mean(|o| o.counts.write_units())),
            format!("{:.1}", mean(|o| o.counts.read_units())),
            dollars(price),
            remark.clone(),
        ],
        json!({
            "who": who(subject),
            "processes": place.processes,
            "round_trip_ms": as_ms(place.round_trip),
            "ideal_ms": as_ms(ideal),
            "runs": outcomes.iter().map(|outcome| json!({
                "complete": outcome.complete,
                "granted": outcome.turns.granted(),
                "wall_ms": as_ms(outcome.turns.wall()),
                "longest_wait_ms": as_ms(outcome.turns.waits().quantile(1.0)),
                "counts": counted(&outcome.counts),
                "dollars_per_million": dollars_per_million(&outcome.counts, outcome.turns.granted()),
            })).collect::<Vec<_>>(),
            "dollars_per_million": price,
            "remarks": remark,
        }),
    );
}
