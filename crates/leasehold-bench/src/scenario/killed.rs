//! A holder is killed: when the next one has the key, counted from the end of the dead holder's lease.
//!
//! This is measured for a waiter, and for a client that first asks when the lease ends. A lease ends one
//! lease duration after the last write of the holder that the service applied, as the proxy saw it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use serde_json::{Value, json};

use crate::choice::Choice;
use crate::count::Written;
use crate::drive::monotonic_ns;
use crate::driver::{Driver, Job};
use crate::fleet::Fleet;
use crate::lineup::{Lineup, Subject};
use crate::report::{Report, as_ms, short_ms, who};
use crate::scenario::{REGION, ms, present, with_lineup};
use crate::stopwatch::pause;
use crate::who::Who;

/// Eight keys each, acquired an eighth of a second apart: dates are in whole seconds.
const KEYS: u32 = 8;
const APART: Duration = ms(125);
/// How long after its lease a dead holder may block before we stop looking.
const PATIENCE: Duration = ms(25_000);

#[derive(Clone, Debug)]
struct Entry {
    subject: Subject,
    lease: Duration,
}

fn entries(quick: bool) -> Vec<Entry> {
    let entry = |lease_ms: u64, who, variant, settings: Value| Entry {
        subject: Subject::new(who, variant, settings),
        lease: ms(lease_ms),
    };
    const HOUR_MS: u64 = 3_600_000;
    let mut entries = vec![
        entry(
            10_000,
            Who::Ours,
            "lease 10 s",
            json!({ "lease_ms": 10_000 }),
        ),
        entry(
            10_000,
            Who::FSharp,
            "20 ms, lease 10 s",
            json!({ "lease_ms": 10_000, "poll_ms": 20 }),
        ),
        entry(
            10_000,
            Who::DLock,
            "20 ms, lease 10 s",
            json!({ "lease_ms": 10_000, "poll_ms": 20 }),
        ),
        entry(
            10_000,
            Who::DynamoDbLease,
            "20 ms, lease 10 s",
            json!({ "lease_ms": 10_000, "poll_ms": 20 }),
        ),
        entry(
            10_000,
            Who::DynamoDbLock,
            "20 ms, lease 10 s",
            json!({ "lease_ms": 10_000, "poll_ms": 20, "wait_ms": HOUR_MS }),
        ),
        entry(
            10_000,
            Who::Node,
            "fail open, 10 s, trusts local time",
            json!({ "trust": true, "retries": 1_000_000, "keep_alive": true }),
        ),
        entry(
            10_000,
            Who::Python,
            "20 ms, lease 10 s",
            json!({
                "lease_ms": 10_000, "heartbeat_ms": 2_500, "safe_ms": 7_500, "poll_ms": 20,
                "wait_ms": HOUR_MS, "connections": 50,
            }),
        ),
    ];
    for who in [Who::Java, Who::Go] {
        let settings = json!({
            "lease_ms": 10_000, "heartbeat_ms": 2_500, "poll_ms": 20, "wait_ms": HOUR_MS,
        });
        entries.push(entry(10_000, who, "20 ms, lease 10 s", settings));
    }
    if !quick {
        entries.extend([
            entry(20_000, Who::Ours, "defaults (20 s)", json!({})),
            entry(
                20_000,
                Who::FSharp,
                "README (20 s)",
                json!({ "poll_ms": 20 }),
            ),
            entry(60_000, Who::DynamoDbLease, "defaults (60 s)", json!({})),
            entry(10_000, Who::Node, "README (fail open, 10 s)", json!({})),
            entry(30_000, Who::Python, "defaults (30 s)", json!({})),
            entry(20_000, Who::Java, "defaults (20 s)", json!({})),
            entry(20_000, Who::Go, "defaults (20 s)", json!({})),
        ]);
    }
    entries
}

/// The subjects of this scenario: a lease of 10 s, and defaults.
pub(crate) fn subjects_with_leases(quick: bool) -> Vec<Subject> {
    entries(quick)
        .into_iter()
        .map(|entry| entry.subject)
        .collect()
}

pub(crate) fn run(choice: &Choice) -> Result<()> {
    let quick = choice.quick;
    with_lineup(choice, async |lineup| {
        let mut report = Report::new(
            "killed",
            &[
                "lock",
                "settings",
                "who",
                "granted",
                "p50 after the lease's end",
                "longest",
                "remarks",
            ],
        );
        report.note(format!(
            "The holder is killed with -9; 5 ms round trip; {KEYS} keys each, a client of its own for each. \
             Below zero: granted before the lease had ended, as seen by the service. Ours publishes an expiry padding \
             of 1 s for F# clients; targets: the padding + 0.6 s and the padding + 1.5 s."
        ));
        let entries = present(&lineup, &mut report, entries(quick), |entry| &entry.subject).await?;
        let measuring = entries
            .into_iter()
            .enumerate()
            .map(|(n, entry)| measure(&lineup, entry, n));
        for (entry, waiting, newcomers) in try_join_all(measuring).await? {
            add(&mut report, &entry, "was waiting", &waiting);
            add(&mut report, &entry, "newcomer", &newcomers);
        }
        report.finish()?;
        Ok(lineup)
    })
}

/// Signed milliseconds after the lease's end, and what went wrong.
#[derive(Debug, Default)]
struct Grants {
    after_ms: Vec<f64>,
    failures: Vec<String>,
    missing: usize,
}

async fn measure(lineup: &Lineup, entry: Entry, n: usize) -> Result<(Entry, Grants, Grants)> {
    let label = entry.subject.label();
    let job = |role: &str| {
        let mut job = Job::new(&format!("killed/{n}/{role}"), KEYS, 1, Duration::ZERO);
        job.keys = KEYS;
        job
    };
    let mut holders = Fleet::start(lineup, &entry.subject, REGION, 2).await?;
    let contender = entry.subject.clone().each();
    let mut waiter = Fleet::start(lineup, &contender, REGION, 1).await?;
    waiter.warm_up(KEYS).await?;
    for (driver, role) in holders.drivers.iter_mut().zip(["waiter", "newcomer"]) {
        let mut job = job(role);
        job.hold = None;
        job.start_step = APART;
        job.start_ns = monotonic_ns() + 200_000_000;
        driver.begin(&job).await?;
    }
    for driver in &mut holders.drivers {
        ensure!(
            driver.grants(KEYS as usize, ms(15_000)).await?,
            "{label} could not acquire free locks"
        );
    }
    waiter.drivers[0].begin(&job("waiter")).await?;
    pause(ms(1_000)).await;
    for driver in &mut holders.drivers {
        driver.kill().await?;
    }
    // Requests of the killed holder may still be in flight.
    pause(REGION * 2).await;
    let written = holders.proxy.written();
    let lease_ns = i64::try_from(entry.lease.as_nanos())?;
    let ends = |role: &str| ends(&written, &format!("killed/{n}/{role}/"), lease_ns);
    let (waited, new) = (ends("waiter"), ends("newcomer"));

    let mut newcomer = Fleet::start(lineup, &contender, REGION, 1).await?;
    newcomer.warm_up(KEYS).await?;
    let mut job = job("newcomer");
    job.start_ns = new.values().copied().min().unwrap_or_else(monotonic_ns);
    job.start_step = APART;
    newcomer.drivers[0].begin(&job).await?;
    let last = waited
        .values()
        .chain(new.values())
        .copied()
        .max()
        .unwrap_or(0);
    let until = Duration::from_nanos(u64::try_from(last - monotonic_ns()).unwrap_or(0)) + PATIENCE;
    let (one, two) = tokio::join!(
        waiter.drivers[0].finish(until),
        newcomer.drivers[0].finish(until)
    );
    one?;
    two?;
    let waiting = grants(&waiter.drivers[0], &waited);
    let newcomers = grants(&newcomer.drivers[0], &new);
    Ok((entry, waiting, newcomers))
}

/// When the lease of each task's key ends.
fn ends(written: &BTreeMap<String, Written>, prefix: &str, lease_ns: i64) -> BTreeMap<u32, i64> {
    written
        .iter()
        .filter_map(|(key, written)| {
            let task = key.strip_prefix(prefix)?.parse().ok()?;
            Some((task, written.last + lease_ns))
        })
        .collect()
}

fn grants(driver: &Driver, ends: &BTreeMap<u32, i64>) -> Grants {
    let mut grants = Grants::default();
    for turn in driver.turns() {
        let Some(end) = ends.get(&turn.task) else {
            continue;
        };
        if let Some(granted) = turn.granted {
            #[expect(clippy::cast_precision_loss, reason = "seconds, not eons")]
            grants.after_ms.push((granted - end) as f64 / 1e6);
        }
        grants.failures.extend(turn.failure);
    }
    grants.after_ms.sort_unstable_by(f64::total_cmp);
    grants.missing = KEYS as usize - grants.after_ms.len();
    grants
}

fn add(report: &mut Report, entry: &Entry, role: &str, grants: &Grants) {
    let remark = match (grants.missing, grants.failures.first()) {
        (0, None) => String::new(),
        (_, Some(failure)) => {
            let failure: String = failure.chars().take(80).collect();
            format!("{} failed: {failure}", grants.failures.len())
        }
        (missing, None) => format!(
            "{missing} still hung {} s after the lease's end",
            PATIENCE.as_secs()
        ),
    };
    let text = |ms: Option<&f64>| {
        ms.map_or_else(
            || "–".to_owned(),
            |ms| {
                let sign = if *ms < 0.0 { "-" } else { "" };
                format!(
                    "{sign}{}",
                    short_ms(Duration::from_secs_f64(ms.abs() / 1e3))
                )
            },
        )
    };
    let middle = grants
        .after_ms
        .get(grants.after_ms.len().saturating_sub(1) / 2);
    report.add(
        vec![
            entry.subject.who.label().to_owned(),
            entry.subject.variant.to_owned(),
            role.to_owned(),
            format!("{} of {KEYS}", grants.after_ms.len()),
            text(middle),
            text(grants.after_ms.last()),
            remark.clone(),
        ],
        json!({
            "who": who(&entry.subject),
            "role": role,
            "lease_ms": as_ms(entry.lease),
            "after_lease_ms": grants.after_ms,
            "remarks": remark,
        }),
    );
}
