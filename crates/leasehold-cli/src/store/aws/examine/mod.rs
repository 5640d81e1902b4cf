//! `doctor` for a table: settings, identity, the table, permissions, latency and clocks.
//!
//! If the reads at the start get no answer, no other request is sent. Each later request ends within 5 s, those of the library's
//! check of the table within 20 s.

mod dates;
mod headers;
mod identity;
mod permissions;
mod table;

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use leasehold::clock::{Clock, SystemClock};
use leasehold::store::protocol::Stamp;
use leasehold::store::{Consistency, Store, StoreErrorKind};

use self::dates::Dated;
use self::headers::Headers;
use super::{Opened, open};
use crate::exit_codes;
use crate::finding::Finding;
use crate::panics;
use crate::store::latency::{Latency, SAMPLES};
use crate::store::url::Table;

/// How long a request may take.
const WITHIN: Duration = Duration::from_secs(5);

/// The library sends a second request when an answer takes longer, with the default lease.
const SLOW: Duration = Duration::from_secs(2);

/// Checks a table, which need not exist.
pub(in crate::store) async fn examine(table: &Table) -> Vec<Finding> {
    let opened = match open(table).await {
        Ok(opened) => opened,
        Err(failure) => {
            let check = match failure.code {
                exit_codes::NO_PERMISSION => "credentials",
                _ => "settings",
            };
            return vec![Finding::failed(check, failure)];
        }
    };
    let mut findings = vec![
        identity::region(&opened.origin),
        identity::endpoint(&opened.origin),
        identity::credentials(&opened.origin),
    ];
    findings.extend(identity::proxies());
    let rest = panics::caught(requests(&opened, table)).await;
    findings.extend(rest.unwrap_or_else(|said| {
        vec![Finding::unknown(
            "requests",
            format!("the AWS SDK panicked: {said}"),
        )]
    }));
    findings
}

async fn requests(opened: &Opened, table: &Table) -> Vec<Finding> {
    let client = &quick(&opened.origin.client);
    let reads = Reads::of(&*opened.store, &table.probe()).await;
    // Every other request would fail in the same way, and wait as long.
    if reads.no_way {
        return reads.findings;
    }
    let headers = Headers::default();
    let mut findings = vec![identity::identity(&opened.origin).await];
    let described = table::examine(client, &opened.table, table, &headers).await;
    findings.extend(described.findings);
    if let Some(why) = described.unusable {
        findings.push(Finding::unknown("permission", why));
    } else {
        findings.extend(permissions::examine(client, &opened.table, table, &headers).await);
        findings.extend(reads.findings);
    }
    findings.push(dates::clock(&reads.dated, reads.undated));
    findings.push(dates::way(&headers.all()));
    findings
}

/// The same client with shorter time-outs: a person waits.
fn quick(client: &Client) -> Client {
    let timeouts = TimeoutConfig::builder()
        .operation_timeout(WITHIN)
        .operation_attempt_timeout(WITHIN)
        .build();
    let config = client.config().to_builder().timeout_config(timeouts);
    Client::from_conf(config.build())
}

/// Some strongly consistent reads of a key that no lock has.
#[derive(Default)]
struct Reads {
    findings: Vec<Finding>,
    dated: Vec<Dated>,
    undated: usize,
    no_way: bool,
}

impl Reads {
    async fn of(store: &dyn Store, probe: &str) -> Reads {
        let mut reads = Reads::default();
        let mut samples = Vec::new();
        for _ in 0..SAMPLES {
            let (start, sent_ms) = (SystemClock.elapsed(), SystemClock.wall_unix_ms());
            let answer = store.read(probe, Consistency::Strong).await;
            let (took, received_ms) = (
                SystemClock.elapsed().since(start),
                SystemClock.wall_unix_ms(),
            );
            let stamp = match &answer {
                Ok(reply) => reply.stamp,
                Err(error) => error.stamp,
            };
            match stamp {
                Some(Stamp::WholeSeconds(date)) => reads.dated.push(Dated {
                    sent_ms,
                    received_ms,
                    date,
                }),
                _ => reads.undated += 1,
            }
            match answer {
                // The first one opens the connection.
                Ok(_) => samples.push(took),
                Err(error) => {
                    reads.no_way = matches!(
                        error.kind,
                        StoreErrorKind::Unavailable | StoreErrorKind::Credentials
                    );
                    reads.undated = reads.undated.saturating_sub(usize::from(stamp.is_none()));
                    // A missing permission is reported with the permissions.
                    if error.kind != StoreErrorKind::AccessDenied {
                        reads.findings.push(Finding::failed("read", error.into()));
                    }
                    return reads;
                }
            }
        }
        let connecting = samples.remove(0);
        if let Some(latency) = Latency::of(samples) {
            let text = format!("{latency}; {connecting:.1?} with the connection");
            reads.findings.push(if latency.max > SLOW {
                Finding::warning(
                    "latency",
                    format!("slow: {text}"),
                    "use the table of a nearer Region, or a longer lease: `--lease 1m`",
                )
            } else {
                Finding::ok("latency", text)
            });
        }
        reads
    }
}
