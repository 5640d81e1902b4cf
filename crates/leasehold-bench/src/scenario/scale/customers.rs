//! A million keys: many short invocations, each under the lock of its customer.

use std::time::Duration;

use anyhow::Result;
use leasehold::Policy;
use serde_json::json;

use super::crowd::{Keys, Load, Outcome, measure};
use super::figures::{SEED, grouped, monthly, rate, s, share, time};
use crate::report::{Report, as_ms};
use crate::scenario::ms;

const CUSTOMERS: u32 = 1_000_000;
/// A new on-demand table: 4,000 write and 12,000 read units a second.
const NEW_TABLE: usize = 4;

pub(super) fn run(quick: bool) -> Result<()> {
    let mut report = Report::new(
        "scale-customers",
        &[
            "processes",
            "customers",
            "partitions",
            "cycles/s",
            "granted by the first request",
            "wait p50",
            "p99",
            "longest",
            "failed: waits that ran out, gave up throttled",
            "throttled requests",
            "write + read units/s",
            "a month",
            "per million cycles",
        ],
    );
    report.note(
        "An invocation takes a second, and holds its customer's lock for 200 ms of it: `acquire`, at most 5 s of \
         waiting, release. So many at once, for ever. Even: every customer is as busy as the next; skewed: the \
         n-th as busy as 1/√n, so that the busiest of a million has a thousandth of all invocations.",
    );
    report.note(
        "Where it bends: at the table's write units, two a cycle; and at customers whose lock is wanted more often \
         than 1 / hold.",
    );
    for (load, keys, window) in loads(quick) {
        let outcome = measure(&load, SEED, s(3), window)?;
        add(&mut report, &load, keys, &outcome);
    }
    report.finish()
}

fn loads(quick: bool) -> Vec<(Load, &'static str, Duration)> {
    let even = (Keys::Even(CUSTOMERS), "even");
    let skewed = (Keys::Skewed(CUSTOMERS), "skewed");
    let load = |processes, keys: (Keys, &'static str), partitions, window| {
        let load = Load {
            processes,
            tasks: 1,
            keys: keys.0,
            hold: ms(200),
            rest: ms(800),
            arrive: s(1),
            policy: Policy::builder().wait(s(5)),
            partitions,
        };
        (load, keys.1, window)
    };
    if quick {
        return vec![
            load(1_000, even, NEW_TABLE, s(5)),
            load(1_000, skewed, NEW_TABLE, s(5)),
        ];
    }
    vec![
        load(1_000, even, NEW_TABLE, s(60)),
        load(1_000, skewed, NEW_TABLE, s(60)),
        load(10_000, even, NEW_TABLE, s(20)),
        load(10_000, even, 10 * NEW_TABLE, s(20)),
        load(10_000, skewed, 10 * NEW_TABLE, s(20)),
        load(100_000, even, 100 * NEW_TABLE, s(3)),
        load(100_000, skewed, 100 * NEW_TABLE, s(3)),
    ]
}

fn add(report: &mut Report, load: &Load, keys: &str, outcome: &Outcome) {
    let Outcome {
        findings,
        tally,
        window,
        took,
    } = outcome;
    let grants = findings.waits.len() as u64;
    let throttled = tally.acquires.throttled
        + tally.polls.throttled
        + tally.renewals.throttled
        + tally.releases.throttled;
    let per_million = tally.dollars() / grants.max(1) as f64 * 1e6;
    report.add(
        vec![
            grouped(f64::from(load.processes)),
            keys.to_owned(),
            load.partitions.to_string(),
            rate(grants as f64, *window),
            share(findings.at_once, grants),
            time(findings.waits.p50()),
            time(findings.waits.p99()),
            time(findings.waits.quantile(1.0)),
            format!(
                "{}, {}",
                grouped(findings.expired as f64),
                grouped(findings.throttled as f64)
            ),
            share(throttled, tally.requests()),
            format!(
                "{} + {}",
                rate(tally.write_units, *window),
                rate(tally.read_units, *window)
            ),
            monthly(tally.dollars_a_month(*window)),
            format!("${per_million:.2}"),
        ],
        json!({
            "processes": load.processes,
            "keys": keys,
            "partitions": load.partitions,
            "window_ms": as_ms(*window),
            "grants": grants,
            "granted_at_once": findings.at_once,
            "wait_p50_ms": as_ms(findings.waits.p50()),
            "wait_p99_ms": as_ms(findings.waits.p99()),
            "wait_longest_ms": as_ms(findings.waits.quantile(1.0)),
            "release_longest_ms": as_ms(findings.releases.quantile(1.0)),
            "expired": findings.expired,
            "failed_throttled": findings.throttled,
            "failed_releases": findings.failed_releases,
            "requests": tally.requests(),
            "throttled_requests": throttled,
            "write_units": tally.write_units,
            "read_units": tally.read_units,
            "dollars_a_month": tally.dollars_a_month(*window),
            "dollars_per_million_cycles": per_million,
            "took_ms": as_ms(*took),
        }),
    );
    eprintln!("      took {:.1} s", took.as_secs_f64());
}
