//! The clock of this host against the dates of answers. Pure.
//!
//! A `Date` has whole seconds, rounded down, so each answer gives an interval for the offset; together they narrow to about a round
//! trip. Two things speak of a proxy that writes its own dates (`docs/protocol.md` section 3): headers that the service does not send,
//! and dates that contradict each other or this host's clock. The dates have no second source but this clock: if the
//! two differ, which one is wrong is not known.

use std::time::Duration;

use crate::finding::Finding;

/// Dates may be wrong by less: a holder leaves more than this of its grant unused (`CORROBORATION` of the protocol).
const HARMLESS_MS: i64 = 1_000;

/// How far the service's own hosts may disagree, for two of them.
const DISAGREEMENT_MS: i64 = 400;

/// One answer, by this host's wall clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dated {
    pub(super) sent_ms: i64,
    pub(super) received_ms: i64,
    /// Unix seconds.
    pub(super) date: i64,
}

/// What headers say about who answered.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Answered {
    pub(super) server: Option<String>,
    pub(super) via: Option<String>,
    pub(super) dates: usize,
}

impl Answered {
    /// What is not as the service sends it.
    fn strange(&self) -> Option<String> {
        if let Some(via) = &self.via {
            return Some(format!("`Via: {via}`"));
        }
        if self.dates > 1 {
            return Some(format!("{} `Date` headers", self.dates));
        }
        let server = self.server.as_deref()?;
        // DynamoDB, and DynamoDB Local.
        let known = server == "Server" || server.starts_with("Jetty");
        (!known).then(|| format!("`Server: {server}`"))
    }
}

/// The finding about the clock.
pub(super) fn clock(answers: &[Dated], undated: usize) -> Finding {
    if answers.is_empty() {
        if undated == 0 {
            return Finding::unknown("clock", "there was no answer");
        }
        return Finding::warning(
            "clock",
            "the answers have no date of the service: a dead holder blocks others until they have watched it for a lease",
            "let the proxy pass the headers `Date` and `x-amzn-requestid` on",
        );
    }
    // Host minus service, in milliseconds.
    let low = answers.iter().map(|a| a.sent_ms - a.date * 1_000 - 1_000);
    let high = answers.iter().map(|a| a.received_ms - a.date * 1_000);
    let (low, high) = (low.max().unwrap_or(0), high.min().unwrap_or(0));
    if low > high + DISAGREEMENT_MS {
        return Finding::warning(
            "clock",
            format!(
                "the dates of the answers contradict each other by {}: more than one clock writes them, or this host's was set meanwhile",
                show(low - high)
            ),
            "let proxies pass the service's date on: `proxy_pass_header Date;` in nginx",
        );
    }
    let (low, high) = (low.min(high), low.max(high));
    let sides = [(low, "ahead of"), (-high, "behind")];
    for (by, word) in sides {
        if by > HARMLESS_MS {
            return Finding::warning(
                "clock",
                format!(
                    "this host's clock is at least {} {word} the dates of the answers: that clock is wrong, or a proxy writes its own date",
                    show(by)
                ),
                "compare with another clock: `timedatectl timesync-status`, or `chronyc tracking`",
            );
        }
    }
    Finding::ok(
        "clock",
        format!(
            "this host's clock is right within {}: it minus the service's is {low} to {high} ms",
            show(low.abs().max(high.abs()))
        ),
    )
}

/// The finding about proxies.
pub(super) fn way(answered: &[Answered]) -> Finding {
    let Some(first) = answered.first() else {
        return Finding::unknown("proxy", "there was no answer");
    };
    match answered.iter().find_map(Answered::strange) {
        Some(what) => Finding::warning(
            "proxy",
            format!(
                "a proxy is on the way ({what}): if it writes its own date, a clock of it that is wrong may give a held lock away"
            ),
            "let it pass the service's date on: `proxy_pass_header Date;` in nginx; see docs/protocol.md, section 3",
        ),
        None => Finding::ok(
            "proxy",
            match &first.server {
                Some(server) => {
                    format!("no sign of one that writes dates (`Server: {server}`, no `Via`)")
                }
                None => "no sign of one that writes dates".to_owned(),
            },
        ),
    }
}

fn show(ms: i64) -> String {
    format!("{:?}", Duration::from_millis(ms.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Level;

    /// Answers of a service whose clock is `offset` behind this host's, 230 ms apart.
    fn answers(offset: i64) -> Vec<Dated> {
        let answer = |n: i64| {
            let sent_ms = 1_000_000 + n * 230;
            Dated {
                sent_ms,
                received_ms: sent_ms + 20,
                date: (sent_ms + 10 - offset).div_euclid(1_000),
            }
        };
        (0..20).map(answer).collect()
    }

    #[test]
    fn a_clock_within_a_second_is_right() {
        for offset in [-900, -100, 0, 100, 900] {
            let finding = clock(&answers(offset), 0);
            assert_eq!(finding.level, Level::Ok, "{offset}: {finding:?}");
        }
    }

    #[test]
    fn a_wrong_clock_is_said_with_its_side() {
        for (offset, word) in [(30_000, "ahead of"), (-30_000, "behind")] {
            let finding = clock(&answers(offset), 0);
            assert_eq!(finding.level, Level::Warning);
            assert!(finding.found.contains(word), "{}", finding.found);
            assert!(
                finding.found.contains("29.9") || finding.found.contains("30s"),
                "{}",
                finding.found
            );
        }
    }

    #[test]
    fn dates_of_two_clocks_contradict() {
        let mut mixed = answers(0);
        mixed.extend(answers(3_000));
        let finding = clock(&mixed, 0);
        assert!(finding.found.contains("contradict"), "{}", finding.found);
    }

    #[test]
    fn no_dates_are_said() {
        assert_eq!(clock(&[], 0).level, Level::Unknown);
        assert_eq!(clock(&[], 3).level, Level::Warning);
    }

    #[test]
    fn b7_headers_of_a_proxy() {
        let answered = |server: &str, via: Option<&str>, dates| Answered {
            server: Some(server.to_owned()),
            via: via.map(ToOwned::to_owned),
            dates,
        };
        let fine = answered("Server", None, 1);
        assert_eq!(way(std::slice::from_ref(&fine)).level, Level::Ok);
        assert_eq!(way(&[answered("Jetty(12)", None, 1)]).level, Level::Ok);
        for strange in [
            answered("nginx/1.25", None, 1),
            answered("Server", Some("1.1 squid"), 1),
            answered("Server", None, 2),
        ] {
            assert_eq!(way(&[fine.clone(), strange]).level, Level::Warning);
        }
    }
}
