//! Three slots of one key, for ten processes and for more and more contenders, and after their holders were killed.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::choice::Choice;
use crate::driver::Job;
use crate::fleet::{Fleet, Outcome};
use crate::lineup::{Lineup, Subject};
use crate::report::{Report, as_ms, counted, dollars, dollars_per_million, short_ms, who};
use crate::scenario::uncontended::short_round_trip;
use crate::scenario::{REGION, ROUND_TRIPS, ms, present, with_lineup};
use crate::stats::Times;
use crate::stopwatch::pause;
use crate::who::Who;

const SLOTS: u32 = 3;
const PROCESSES: u32 = 10;
const HOLD: Duration = ms(20);
const ROUNDS: u32 = 2;
const LEASE: Duration = ms(5_000);
/// What ours adds to a lease, and a second.
const BACK: Duration = ms(2_000);

fn subjects() -> Vec<Subject> {
    let subject = |who, variant, mut settings: Value| {
        settings["slots"] = SLOTS.into();
        Subject::new(who, variant, settings)
    };
    let mut sample = subject(Who::Semaphore, "as the sample (1 s, doubled)", json!({}));
    sample.slow = true;
    vec![
        subject(Who::Ours, "defaults", json!({})),
        subject(Who::Semaphore, "20 ms", json!({ "poll_ms": 20 })),
        sample,
    ]
}

pub(crate) fn run(choice: &Choice) -> Result<()> {
    let quick = choice.quick;
    with_lineup(choice, async |lineup| {
        let mut report = Report::new(
            "slots",
            &[
                "contenders",
                "round trip",
                "lock",
                "settings",
                "wall",
                "longest wait",
                "longest / mean",
                "most at once",
                "write units / acquisition",
                "$ per million acquisitions",
                "remarks",
            ],
        );
        report.note(format!(
            "{SLOTS} slots, 20 ms each. First {PROCESSES} processes, once each: median of the runs. Then contenders of \
             one process with a client each, {ROUNDS} times each. At last the holders of all slots are killed: the slots \
             that are to be had {} s later (lease {} s).",
            (LEASE + BACK).as_secs(),
            LEASE.as_secs(),
        ));
        for subject in present(&lineup, &mut report, subjects(), |one| one).await? {
            processes(&lineup, &mut report, &subject, quick).await?;
            contenders(&lineup, &mut report, &subject, quick).await?;
            killed(&lineup, &mut report, &subject).await?;
        }
        report.finish()?;
        Ok(lineup)
    })
}

async fn processes(
    lineup: &Lineup,
    report: &mut Report,
    subject: &Subject,
    quick: bool,
) -> Result<()> {
    for round_trip in ROUND_TRIPS {
        if (quick || subject.slow) && round_trip != REGION {
            continue;
        }
        let mut fleet = Fleet::start(lineup, subject, round_trip, PROCESSES as usize).await?;
        fleet.warm_up(1).await?;
        let mut outcomes = Vec::new();
        for repeat in 0..if quick || subject.slow { 1 } else { 5 } {
            let key = format!(
                "slots/{}/{}/{repeat}",
                subject.variant,
                round_trip.as_millis()
            );
            outcomes.push(fleet.run(&Job::new(&key, 1, 1, HOLD), ms(30_000)).await?);
        }
        let who = format!("{PROCESSES} processes");
        add(report, subject, &who, round_trip, &outcomes);
    }
    Ok(())
}

async fn contenders(
    lineup: &Lineup,
    report: &mut Report,
    subject: &Subject,
    quick: bool,
) -> Result<()> {
    let each = subject.clone().each();
    let mut fleet = Fleet::start(lineup, &each, REGION, 1).await?;
    fleet.warm_up(1).await?;
    let sizes: &[u32] = match (quick, subject.slow) {
        (true, _) => &[4],
        (_, true) => &[3, 10],
        _ => &[3, 6, 10, 30, 64],
    };
    for contenders in sizes {
        let key = format!("slots/{}/each/{contenders}", subject.variant);
        let job = Job::new(&key, *contenders, ROUNDS, HOLD);
        let outcome = fleet.run(&job, ms(30_000)).await?;
        add(report, subject, &contenders.to_string(), REGION, &[outcome]);
    }
    Ok(())
}

async fn killed(lineup: &Lineup, report: &mut Report, subject: &Subject) -> Result<()> {
    let mut subject = subject.clone();
    subject.settings["lease_ms"] = json!(LEASE.as_millis());
    let mut job = Job::new(&format!("slots/{}/killed", subject.variant), SLOTS, 1, HOLD);
    job.hold = None;
    let mut holders = Fleet::start(lineup, &subject, REGION, 1).await?;
    holders.drivers[0].begin(&job).await?;
    ensure!(
        holders.drivers[0]
            .grants(SLOTS as usize, ms(30_000))
            .await?,
        "{} could not take free slots",
        subject.label()
    );
    holders.drivers[0].kill().await?;
    let mut next = Fleet::start(lineup, &subject, REGION, 1).await?;
    next.warm_up(1).await?;
    next.drivers[0].begin(&job).await?;
    pause(LEASE + BACK).await;
    next.drivers[0].grants(SLOTS as usize, ms(100)).await?;
    let turns = next.drivers[0].turns();
    let back = turns.filter(|turn| turn.granted.is_some()).count();
    let mut row = vec!["after kill -9".to_owned(), short_round_trip(REGION)];
    row.extend([subject.who.label(), subject.variant].map(str::to_owned));
    row.extend(std::iter::repeat_n("–".to_owned(), 6));
    row.push(format!("{back} of {SLOTS} slots are back"));
    report.add(row, json!({ "who": who(&subject), "back": back }));
    Ok(())
}

fn add(
    report: &mut Report,
    subject: &Subject,
    contenders: &str,
    round_trip: Duration,
    outcomes: &[Outcome],
) {
    let (mut walls, mut waits) = (Times::default(), Times::default());
    for outcome in outcomes {
        walls.add(outcome.turns.wall());
        waits.append(outcome.turns.waits());
    }
    let granted: usize = outcomes.iter().map(|outcome| outcome.turns.granted()).sum();
    let most = outcomes.iter().map(|outcome| outcome.turns.most_at_once());
    let most = most.max().unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let per_grant = |of: fn(&Outcome) -> f64| outcomes.iter().map(of).sum::<f64>() / granted as f64;
    let price = per_grant(|outcome| outcome.counts.dollars()) * 1e6;
    let units = per_grant(|outcome| outcome.counts.write_units());
    let longest = waits.quantile(1.0);
    let unfair = longest.as_secs_f64() / waits.mean().as_secs_f64();
    let unfinished = outcomes.iter().filter(|outcome| !outcome.complete).count();
    let remark = match unfinished {
        0 => String::new(),
        _ => format!("not finished after 30 s, with {granted} granted"),
    };
    report.add(
        vec![
            contenders.to_owned(),
            short_round_trip(round_trip),
            subject.who.label().to_owned(),
            subject.variant.to_owned(),
            short_ms(walls.p50()),
            short_ms(longest),
            format!("{unfair:.1}"),
            most.to_string(),
            format!("{units:.2}"),
            dollars(Some(price)),
            remark.clone(),
        ],
        json!({
            "who": who(subject),
            "contenders": contenders,
            "round_trip_ms": as_ms(round_trip),
            "most_at_once": most,
            "runs": outcomes.iter().map(|outcome| json!({
                "complete": outcome.complete,
                "wall_ms": as_ms(outcome.turns.wall()),
                "longest_wait_ms": as_ms(outcome.turns.waits().quantile(1.0)),
                "counts": counted(&outcome.counts),
                "dollars_per_million": dollars_per_million(&outcome.counts, outcome.turns.granted()),
            })).collect::<Vec<_>>(),
            "remarks": remark,
        }),
    );
}
