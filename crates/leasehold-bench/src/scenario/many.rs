//! Ten thousand leases held by one process: whether they are renewed in time, what memory each
//! takes, and what the processor does meanwhile.
//!
//! All of it is measured from outside, in the same way for all subjects: memory and processor time of the
//! driver in `/proc`, renewals at the proxy.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::choice::Choice;
use crate::drive::monotonic_ns;
use crate::driver::Job;
use crate::fleet::Fleet;
use crate::lineup::{Lineup, Subject};
use crate::report::{Report, as_ms, counted, who};
use crate::scenario::{REGION, ms, present, with_lineup};
use crate::stopwatch::{Stopwatch, pause};
use crate::turns::between;
use crate::who::Who;

/// How many acquire at once.
const AT_ONCE: u32 = 64;
/// No time-out of ours: what is not acquired by then is not held.
const ACQUIRE_LIMIT: Duration = ms(60_000);

#[derive(Clone, Copy, Debug)]
struct Size {
    leases: u32,
    lease: Duration,
    /// Shorter than what is left until the first renewals are due.
    rest: Duration,
}

pub(crate) fn run(choice: &Choice) -> Result<()> {
    let quick = choice.quick;
    let size = if quick {
        Size {
            leases: 1_000,
            lease: ms(20_000),
            rest: ms(1_000),
        }
    } else {
        Size {
            leases: 10_000,
            lease: ms(60_000),
            rest: ms(4_000),
        }
    };
    with_lineup(choice, async |lineup| {
        let mut report = Report::new(
            "many",
            &[
                "lock",
                "leases held",
                "acquired in",
                "memory a lease",
                "CPU at rest",
                "CPU renewing",
                "renewals seen",
                "longest time between two writes of a lease",
                "lost",
                "remarks",
            ],
        );
        report.note(format!(
            "Leases of {} s, 5 ms round trip. Memory: resident, more than before, by lease. At rest: {} s \
             before the first renewals are due (`dlock` renews as it acquires). Renewing: until every lease \
             should have been renewed once. Percent of one core.",
            size.lease.as_secs(),
            size.rest.as_secs()
        ));
        let all = present(&lineup, &mut report, subjects(size), |(subject, _)| subject).await?;
        for (subject, renewal) in all {
            measure(&lineup, &mut report, &subject, size, renewal).await?;
        }
        let cannot = [Who::FSharp, Who::DynamoDbLock];
        for cannot in cannot.into_iter().filter(|who| lineup.includes(*who)) {
            let mut row = vec!["–".to_owned(); 10];
            row[0] = cannot.label().to_owned();
            row[9] = "renews nothing".to_owned();
            report.add(
                row,
                json!({ "lock": cannot.label(), "remarks": "renews nothing" }),
            );
        }
        report.finish()?;
        Ok(lineup)
    })
}

/// With the longest time that each leaves between two renewals.
fn subjects(size: Size) -> Vec<(Subject, Duration)> {
    let lease = u64::try_from(size.lease.as_millis()).unwrap_or(u64::MAX);
    let subject = |who, settings: Value| Subject::new(who, "", settings);
    let heartbeats =
        || json!({ "lease_ms": lease, "heartbeat_ms": lease / 4, "connections": AT_ONCE });
    vec![
        (
            subject(Who::Ours, json!({ "lease_ms": lease })),
            size.lease / 3,
        ),
        (
            subject(Who::DLock, json!({ "lease_ms": lease, "poll_ms": 20 })),
            size.lease / 3,
        ),
        (
            subject(Who::DynamoDbLease, json!({ "lease_ms": lease })),
            size.lease / 2,
        ),
        (
            subject(
                Who::Node,
                json!({ "lease_ms": lease, "heartbeat_ms": lease / 3, "keep_alive": true }),
            ),
            size.lease / 3,
        ),
        (
            subject(
                Who::Python,
                json!({
                    "lease_ms": lease, "heartbeat_ms": lease / 4, "safe_ms": lease * 3 / 4,
                    "connections": AT_ONCE,
                }),
            ),
            size.lease / 4,
        ),
        (subject(Who::Java, heartbeats()), size.lease / 4),
        (subject(Who::Go, heartbeats()), size.lease / 4),
    ]
}

async fn measure(
    lineup: &Lineup,
    report: &mut Report,
    subject: &Subject,
    size: Size,
    renewal: Duration,
) -> Result<()> {
    let mut fleet = Fleet::start(lineup, subject, REGION, 1).await?;
    let warm_up = Job::new("many-warm-up", AT_ONCE, 1, Duration::ZERO);
    let mut warm_up = Job {
        keys: AT_ONCE,
        ..warm_up
    };
    warm_up.at_once = AT_ONCE;
    fleet.run(&warm_up, ms(10_000)).await?;
    let pid = fleet.drivers[0].pid().context("the driver is gone")?;
    let before = Process::of(pid)?;
    let mut job = Job::new("many", size.leases, 1, Duration::ZERO);
    job.keys = size.leases;
    job.hold = None;
    job.at_once = AT_ONCE;
    let stopwatch = Stopwatch::start();
    let driver = &mut fleet.drivers[0];
    driver.begin(&job).await?;
    let all = driver.grants(size.leases as usize, ACQUIRE_LIMIT).await?;
    let acquired_in = stopwatch.elapsed();
    let held = driver.turns().filter(|turn| turn.granted.is_some()).count();
    let acquiring = fleet.proxy.take()?;

    pause(ms(500)).await;
    let rest = Process::of(pid)?;
    pause(size.rest).await;
    let rested = Process::of(pid)?;
    let at_rest = fleet.proxy.take()?;
    // Until the last one is due, and half a second more.
    let due = (renewal + ms(500)).saturating_sub(size.rest);
    let renewing_since = Process::of(pid)?;
    pause(due).await;
    let renewed = Process::of(pid)?;
    let renewing = fleet.proxy.take()?;
    // Events of failed tasks may still come.
    let driver = &mut fleet.drivers[0];
    driver.grants(usize::MAX, ms(300)).await?;
    let failures: Vec<String> = driver.turns().filter_map(|turn| turn.failure).collect();
    let now = monotonic_ns();
    let written = fleet.proxy.written();
    let gaps: Vec<Duration> = written
        .iter()
        .filter(|(key, _)| key.starts_with("many/"))
        .map(|(_, written)| written.gap.max(between(written.last, now)))
        .collect();
    let longest = gaps.iter().copied().max().unwrap_or_default();
    let lost = gaps.iter().filter(|gap| **gap >= size.lease).count();

    #[expect(clippy::cast_precision_loss, reason = "small")]
    let memory = rest.resident_kb.saturating_sub(before.resident_kb) as f64 / held.max(1) as f64;
    let cpu = |from: &Process, to: &Process, over: Duration| {
        (to.cpu.saturating_sub(from.cpu)).as_secs_f64() / over.as_secs_f64() * 100.0
    };
    let rest_cpu = cpu(&rest, &rested, size.rest);
    let renewing_cpu = cpu(&renewing_since, &renewed, due);
    let mut remark = String::new();
    if !all {
        remark = format!("stopped acquiring after {} s", ACQUIRE_LIMIT.as_secs());
    } else if at_rest.requests() > 0 {
        remark = format!("{} requests while at rest", at_rest.requests());
    }
    if let Some(first) = failures.first() {
        let first: String = first.chars().take(80).collect();
        remark = format!("{remark} {} failed: {first}", failures.len());
    }
    report.add(
        vec![
            subject.who.label().to_owned(),
            held.to_string(),
            format!("{:.1} s", acquired_in.as_secs_f64()),
            format!("{memory:.1} KB"),
            format!("{rest_cpu:.1} %"),
            format!("{renewing_cpu:.1} %"),
            renewing.requests().to_string(),
            format!("{:.1} s", longest.as_secs_f64()),
            lost.to_string(),
            remark.clone(),
        ],
        json!({
            "who": who(subject),
            "lease_ms": as_ms(size.lease),
            "leases": held,
            "acquired_in_ms": as_ms(acquired_in),
            "resident_kb_before": before.resident_kb,
            "resident_kb_after": rest.resident_kb,
            "kb_per_lease": memory,
            "cpu_percent_at_rest": rest_cpu,
            "cpu_percent_renewing": renewing_cpu,
            "acquiring": counted(&acquiring),
            "at_rest": counted(&at_rest),
            "renewing": counted(&renewing),
            "longest_between_writes_ms": as_ms(longest),
            "lost": lost,
            "failures": failures.len(),
            "remarks": remark,
        }),
    );
    Ok(())
}

/// The state of a process in `/proc`.
#[derive(Clone, Copy, Debug)]
struct Process {
    resident_kb: u64,
    cpu: Duration,
}

impl Process {
    fn of(pid: u32) -> Result<Process> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Process::parse(&status, &stat).context("/proc says something else than expected")
    }

    fn parse(status: &str, stat: &str) -> Option<Process> {
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        // The name, in parentheses, may hold anything; after it, user and system time are the
        // 12th and 13th, in hundredths of a second on every Linux.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: u64 =
            fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some(Process {
            resident_kb: resident.trim().trim_end_matches(" kB").parse().ok()?,
            cpu: Duration::from_millis(ticks * 10),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 25 5 0 0 20 0 1 0 100 1 1";
        let process = Process::parse("Name:\tx\nVmRSS:\t  2048 kB\n", stat).expect("well-formed");
        assert_eq!(process.resident_kb, 2048);
        assert_eq!(process.cpu, Duration::from_millis(300));
        assert!(Process::of(std::process::id()).is_ok());
    }
}
