//! Computed limits: the requests of a waiting process, the capacity of one item, and so the number of waiters.
//!
//! Nothing is measured here. The settings are the DynamoDB store's defaults and the constants of the poll limit
//! (`docs/protocol.md` section 10). The tables after this one have measurements.

use anyhow::Result;
use serde_json::json;

use super::figures::{grouped, monthly};
use super::service::{READS, WRITES};
use crate::report::Report;

/// The first and the last bound of the delay between two polls, in seconds.
const FIRST: f64 = 0.05;
const MAX: f64 = 1.0;
const ROUND_TRIP: f64 = 0.005;
/// The largest factor by which throttled polls stretch the delays.
const SLOWEST: f64 = 32.0;
/// The factor by which an answered poll shortens the delays.
const RECOVERY: f64 = 0.95;
const LOOKS_PER_SECOND: f64 = 100.0;
const WAIT: f64 = 30.0;
const MONTH: f64 = 730.0 * 3_600.0;
const WRITE_DOLLARS: f64 = 0.625e-6;
const READ_DOLLARS: f64 = 0.125e-6;

/// Polls a second of one waiter whose delays are below `bound`, stretched.
fn polls(bound: f64, stretch: f64) -> f64 {
    1.0 / ((FIRST / 8.0 + bound / 2.0) * stretch + ROUND_TRIP)
}

pub(super) fn run() -> Result<()> {
    let mut report = Report::new("scale-paper", &["what", "sum", "with the defaults"]);
    report.note(
        "On paper. `first` and `max` are the bounds of `check_delay`, 50 ms and 1 s; a round trip is 5 ms; an \
         eventually consistent poll is half a read unit. A key *rests* while its holder keeps it, and *moves* when \
         every poll shows a new holder, so that the delays stay at `first`.",
    );
    let served = READS / 0.5;
    let (rests, moves) = (polls(MAX, 1.0), polls(FIRST, 1.0));
    let (slow_rests, slow_moves) = (polls(MAX, SLOWEST), polls(FIRST, SLOWEST));
    let balance = {
        let (up, down) = (2.0_f64.ln(), -RECOVERY.ln());
        down / (up + down)
    };
    let rows = [
        (
            "polls of one waiter, the key rests",
            "1 / (first/8 + max/2 + round trip)",
            format!("{rests:.1} a second"),
            rests,
        ),
        (
            "the same, the key moves",
            "1 / (first/8 + first/2 + round trip)",
            format!("{moves:.1} a second"),
            moves,
        ),
        (
            "polls that one item serves",
            "3000 / 0.5",
            format!("{} a second", grouped(served)),
            served,
        ),
        (
            "waiters of one item before polls are throttled, it rests",
            "served / polls of one",
            grouped(served / rests),
            served / rests,
        ),
        (
            "the same, it moves",
            "served / polls of one",
            grouped(served / moves),
            served / moves,
        ),
        (
            "throttled share beyond that: a throttled poll doubles the delays, an answered one takes 5 % off",
            "ln(1/0.95) / (ln 2 + ln(1/0.95))",
            format!("{:.1} %", balance * 100.0),
            balance,
        ),
        (
            "waiters until the delays are at 32 times, it rests",
            "served / polls of one at 32 times",
            grouped(served / slow_rests),
            served / slow_rests,
        ),
        (
            "the same, it moves",
            "served / polls of one at 32 times",
            grouped(served / slow_moves),
            served / slow_moves,
        ),
        (
            "waiters whose first requests fit: each `acquire` begins with a write",
            "1000 x `wait`",
            grouped(WRITES * WAIT),
            WRITES * WAIT,
        ),
        (
            "who sees a key free between a release and the next grant, and writes",
            "served x round trip",
            grouped(served * ROUND_TRIP),
            served * ROUND_TRIP,
        ),
        (
            "one waiting process, the key rests",
            "polls x 0.5 x $0.125/M",
            format!("{} a month", monthly(rests * 0.5 * READ_DOLLARS * MONTH)),
            rests * 0.5 * READ_DOLLARS * MONTH,
        ),
        (
            "one process at its bound of `max_polls_per_second`",
            "100 x 0.5 x $0.125/M",
            format!(
                "{} a month",
                monthly(LOOKS_PER_SECOND * 0.5 * READ_DOLLARS * MONTH)
            ),
            LOOKS_PER_SECOND * 0.5 * READ_DOLLARS * MONTH,
        ),
        (
            "one held lease of 20 s: a renewal every 6 s in the mean",
            "$0.625/M / 6 s",
            format!("{} a month", monthly(WRITE_DOLLARS / 6.0 * MONTH)),
            WRITE_DOLLARS / 6.0 * MONTH,
        ),
        (
            "the most that one key can cost",
            "1000 x $0.625/M + 3000 x $0.125/M",
            format!(
                "{} a month",
                monthly((WRITES * WRITE_DOLLARS + READS * READ_DOLLARS) * MONTH)
            ),
            (WRITES * WRITE_DOLLARS + READS * READ_DOLLARS) * MONTH,
        ),
    ];
    for (what, sum, text, number) in rows {
        report.add(
            vec![what.to_owned(), sum.to_owned(), text],
            json!({ "what": what, "sum": sum, "is": number }),
        );
    }
    report.finish()
}
