//! The experiment of Jepsen's lock-set.
//!
//! Five processes add elements to one shared set on DynamoDB, under a lock with a lease of 2 s: each reads the
//! set, waits, and writes it. Every 5 s a process between its read and its write is stopped for twice the
//! lease. An acknowledged element that is not in the set at the end is lost.
//!
//! With the lock alone, updates **are** lost: a stopped process continues, and overwrites later updates. No lease
//! lock can prevent that. A run without such a loss fails, because it does not test the fences. With either fence
//! no update is lost. A round that tests nothing yet, on a busy machine, is followed by another, six in all.

pub(super) mod adder;
mod protection;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use leasehold::store::dynamodb::DynamoDbStore;

use self::adder::{Job, Sets};
use self::protection::Protection;
use super::event::{Event, now};
use super::guardian::Guardian;
use super::history::Kind;
use super::member::{Ear, Member, Start, lock};
use super::options::Options;
use super::place::{Place, client};
use super::wall::pause;

const PROCESSES: usize = 5;
/// From stop to stop.
const EVERY: Duration = Duration::from_secs(5);
/// Twice the lease: others take the lock over by watching it for one.
const STOPPED: Duration = Duration::from_secs(4);
/// How often `--seconds` are added if the run tests nothing yet.
const ROUNDS: u32 = 6;

/// The events of the processes of one table.
#[derive(Debug, Default)]
struct Told {
    added: BTreeSet<String>,
    refused: u64,
    unsure: u64,
    failed: BTreeMap<String, u64>,
    /// Who is between its read and its write.
    inside: Option<usize>,
}

impl Told {
    fn hears(&mut self, who: usize, event: Event) {
        match event {
            Event::Inside { .. } => {
                self.inside = Some(who);
                return;
            }
            Event::Added { element } => {
                self.added.insert(element);
            }
            Event::Refused { .. } => self.refused += 1,
            Event::Unsure { .. } => self.unsure += 1,
            Event::Failed { kind } => *self.failed.entry(kind).or_default() += 1,
            _ => {}
        }
        if self.inside == Some(who) {
            self.inside = None;
        }
    }
}

/// One line of the table.
#[derive(Debug)]
struct Line {
    protection: Protection,
    acknowledged: usize,
    lost: usize,
    refused: u64,
    unsure: u64,
    stops: u64,
    failed: BTreeMap<String, u64>,
}

impl Line {
    /// Why it tests nothing, if that is so.
    fn idle(&self) -> Option<String> {
        let Line {
            protection,
            acknowledged,
            stops,
            ..
        } = self;
        let why = match protection {
            _ if *acknowledged == 0 || *stops < 2 => {
                format!("{acknowledged} updates and {stops} stops prove nothing")
            }
            Protection::Lock if self.lost == 0 => {
                "nothing was lost, so this experiment has no teeth".to_owned()
            }
            Protection::Column | Protection::Check if self.refused == 0 => {
                "the fence refused nothing".to_owned()
            }
            _ => return None,
        };
        Some(format!("{protection}: {why}"))
    }

    /// What is wrong with it, if anything is.
    fn verdict(&self) -> Result<(), String> {
        let Line {
            protection, lost, ..
        } = self;
        match protection {
            Protection::Column | Protection::Check if *lost > 0 => Err(format!(
                "{protection}: {lost} acknowledged updates were lost"
            )),
            _ => self.idle().map_or(Ok(()), Err),
        }
    }
}

/// All three, side by side.
pub(in super::super) async fn run(options: &Options, guardian: &Guardian) -> Result<bool> {
    let program = guardian.keep(&super::programs::own()?)?;
    let [lock, column, check] = Protection::ALL;
    let (lock, column, check) = tokio::join!(
        experiment(lock, &program, options, guardian),
        experiment(column, &program, options, guardian),
        experiment(check, &program, options, guardian),
    );
    let lines = [lock?, column?, check?];
    println!("{}", table(&lines));
    let mut good = true;
    for line in &lines {
        if let Err(wrong) = line.verdict() {
            good = false;
            println!("{wrong}");
        }
    }
    println!(
        "rounds of {} seconds: {}",
        options.seconds,
        if good { "passed" } else { "FAILED" }
    );
    Ok(good)
}

fn table(lines: &[Line]) -> String {
    let mut text = String::from(
        "| lock-set: 2 s lease, 5 processes, a 4 s SIGSTOP every 5 s | updates acknowledged | of them lost | share | refused | unknown | stops | errors of calls |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n",
    );
    for line in lines {
        let share = 100.0 * line.lost as f64 / line.acknowledged.max(1) as f64;
        let failed: Vec<_> = line
            .failed
            .iter()
            .map(|(kind, n)| format!("{n} {kind}"))
            .collect();
        text += &format!(
            "| {} | {} | {} | {share:.1} % | {} | {} | {} | {} |\n",
            line.protection,
            line.acknowledged,
            line.lost,
            line.refused,
            line.unsure,
            line.stops,
            failed.join(", ")
        );
    }
    text
}

async fn experiment(
    protection: Protection,
    program: &Path,
    options: &Options,
    guardian: &Guardian,
) -> Result<Line> {
    let table = format!("lockset-{protection}-{}", std::process::id());
    let aws = client(&options.endpoint);
    DynamoDbStore::new(aws.clone(), table.as_str())
        .create_table()
        .await
        .context("cannot create the table: is there a DynamoDB Local at the endpoint?")?;
    let told = Arc::<Mutex<Told>>::default();
    let ear = Ear::new({
        let told = told.clone();
        move |who, event| lock(&told).hears(who, event)
    });
    let mut members = Vec::new();
    for who in 0..PROCESSES {
        let job = Job {
            place: Place::DynamoDb {
                table: table.clone(),
                endpoint: options.endpoint.clone(),
            },
            protection,
            who,
        };
        let mut arguments = vec!["adder".to_owned()];
        arguments.extend(job.arguments());
        let start = Start {
            who,
            kind: Kind::Library,
            program: program.to_owned(),
            arguments,
            environment: Vec::new(),
            offsets: Arc::new(Mutex::new(vec![0])),
            ear: ear.clone(),
        };
        members.push(Member::start(start, guardian)?);
    }
    let sets = Sets::new(aws, &table);
    let mut stops = 0;
    for _ in 0..ROUNDS {
        stops += stop_whoever_is_inside(&members, &told, options.seconds).await?;
        if line(protection, &told, &sets, stops)
            .await?
            .idle()
            .is_none()
        {
            break;
        }
    }
    for member in &mut members {
        member.kill()?;
    }
    for mut member in members {
        while member.ended()?.is_none() {
            pause(Duration::from_millis(5)).await;
        }
        member.silence().await?;
    }
    line(protection, &told, &sets, stops).await
}

/// What has been shown so far. The set is read last: an update that was told before is in it, or is lost.
async fn line(protection: Protection, told: &Mutex<Told>, sets: &Sets, stops: u64) -> Result<Line> {
    let added = lock(told).added.clone();
    let there = sets.read().await?;
    ensure!(!there.is_empty() || added.is_empty(), "the set is gone");
    let told = lock(told);
    Ok(Line {
        protection,
        acknowledged: added.len(),
        lost: added.difference(&there).count(),
        refused: told.refused,
        unsure: told.unsure,
        stops,
        failed: told.failed.clone(),
    })
}

/// For so many seconds; how often.
async fn stop_whoever_is_inside(
    members: &[Member],
    told: &Mutex<Told>,
    seconds: u64,
) -> Result<u64> {
    let second = 1_000_000_000;
    let end = now() + seconds * second;
    let mut next = now() + 2 * second;
    let mut stopped = Vec::new();
    let mut stops = 0;
    while now() < end {
        pause(Duration::from_millis(2)).await;
        while let Some((who, until)) = stopped.first().copied()
            && now() >= until
        {
            let member: &Member = &members[who];
            member.thaw()?;
            stopped.remove(0);
        }
        // The process that is stopped last must continue and write before the end.
        let last = STOPPED.as_secs() * second + second;
        if now() < next || now() + last > end {
            continue;
        }
        let inside = lock(told).inside.take();
        if let Some(who) = inside
            && stopped.iter().all(|(other, _)| *other != who)
        {
            members[who].freeze(false)?;
            stopped.push((who, now() + STOPPED.as_secs() * second));
            stops += 1;
            next += EVERY.as_secs() * second;
        }
    }
    Ok(stops)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(protection: Protection, lost: usize, refused: u64) -> Line {
        Line {
            protection,
            acknowledged: 10,
            lost,
            refused,
            unsure: 0,
            stops: 3,
            failed: BTreeMap::new(),
        }
    }

    #[test]
    fn the_verdict_is_honest() {
        line(Protection::Lock, 3, 0).verdict().expect("as expected");
        line(Protection::Lock, 0, 0)
            .verdict()
            .expect_err("no teeth");
        for fence in [Protection::Column, Protection::Check] {
            line(fence, 0, 2).verdict().expect("as promised");
            line(fence, 1, 2).verdict().expect_err("lost");
            line(fence, 0, 0).verdict().expect_err("never met");
            let idle = Line {
                acknowledged: 0,
                ..line(fence, 0, 2)
            };
            idle.verdict().expect_err("nothing happened");
        }
    }

    #[test]
    fn protections_are_read_back() {
        for protection in Protection::ALL {
            assert_eq!(Protection::parse(&protection.to_string()), Some(protection));
        }
        assert_eq!(Protection::parse("hope"), None);
    }

    #[test]
    fn only_who_is_inside_is_stopped() {
        let mut told = Told::default();
        told.hears(1, Event::Inside { token: 1 });
        assert_eq!(told.inside, Some(1));
        let element = "x".to_owned();
        told.hears(2, Event::Refused { element });
        assert_eq!(told.inside, Some(1));
        let element = "y".to_owned();
        told.hears(1, Event::Added { element });
        assert_eq!(told.inside, None);
    }
}
