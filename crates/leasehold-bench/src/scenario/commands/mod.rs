//! `leasehold run` beside the commands that people use for the same: `flock(1)`, `consul lock`, `etcdctl lock`.
//!
//! Every cell of the table is an observation of real processes. A server runs on loopback, for this run alone. A
//! command that is not installed has a column that says so.
//!
//! `flock`, `consul`, `etcdctl` and `etcd` are taken from `PATH`. `go install` refuses the newest ones, whose modules
//! have `replace` lines. They build from a copy of the module without these lines:
//!
//! ```sh
//! from=$(go mod download -json github.com/hashicorp/consul@v1.22.5 | jq -r .Dir) # go.etcd.io/etcd/etcdctl/v3@v3.6.7
//! cp -r "$from" copy && chmod -R u+w copy && cd copy
//! for module in $(awk '$2 == "=>" { print $1 }' go.mod); do go mod edit -dropreplace="$module"; done
//! go build -mod=mod -o ~/peers/ .
//! PATH=~/peers:$PATH cargo xtask bench commands
//! ```

mod case;
mod cut;
mod loss;
mod plain;
mod server;
mod start;
mod tool;

use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use serde_json::json;

use self::tool::{KINDS, Kind, Tool};
use crate::place::{self, Scratch};
use crate::report::Report;
use crate::scenario::ms;

/// What is seen, in the order of the rows.
const ROWS: [&str; 10] = [
    "command ends with 0, 7, by TERM",
    "held, no wait",
    "held, wait of 1 s",
    "grant ended on the server",
    "connection silent",
    "`kill -9` of the wrapper",
    "TERM, INT to the wrapper",
    "fencing token",
    "standard input",
    "time beside `true`",
];

pub(crate) fn run(quick: bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let scratch = Scratch::new("commands")?;
        case::scripts(scratch.path())?;
        let mut tools = Vec::new();
        for kind in KINDS {
            tools.push((kind, Tool::start(kind, scratch.path()).await?));
        }
        let outcome = observe(&tools, quick).await;
        for tool in tools.iter().filter_map(|(_, tool)| tool.as_ref().ok()) {
            tool.tidy().await?;
        }
        outcome
    })
}

async fn observe(tools: &[(Kind, Result<Tool, String>)], quick: bool) -> Result<()> {
    let mut head = vec!["what"];
    head.extend(KINDS.map(Kind::label));
    let mut report = Report::new("commands", &head);
    let there: Vec<&Tool> = tools
        .iter()
        .filter_map(|(_, tool)| tool.as_ref().ok())
        .collect();
    let mut versions: Vec<&str> = there.iter().map(|tool| tool.version.as_str()).collect();
    versions.dedup();
    report.note(format!(
        "{}. Defaults; servers on loopback; file system: {}. Times count from the event; `next` is a waiter whose \
         command starts. A state is looked at for up to {} s.",
        versions.join(", "),
        place::file_system(&there[0].scratch),
        limit(quick).as_secs(),
    ));
    // Alone on the machine, as far as this program is concerned.
    let ratios = start::ratios(&there, quick).await?;
    let columns = try_join_all(there.iter().map(|tool| column(tool, quick))).await?;
    let mut columns = columns.into_iter().zip(ratios);
    let cells: Vec<Vec<String>> = tools
        .iter()
        .map(|(_, tool)| match tool {
            Ok(_) => {
                let (mut column, ratio) = columns.next().unwrap_or_default();
                column.push(ratio);
                column
            }
            Err(why) => vec![why.clone(); ROWS.len()],
        })
        .collect();
    for (number, what) in ROWS.iter().enumerate() {
        let row: Vec<String> = cells.iter().map(|column| column[number].clone()).collect();
        let data = KINDS.iter().map(|kind| kind.label()).zip(&row);
        let data =
            json!({ "what": what, "cells": data.collect::<std::collections::BTreeMap<_, _>>() });
        report.add([vec![(*what).to_owned()], row].concat(), data);
    }
    report.finish()
}

/// The cells of one command, but for the times.
async fn column(tool: &Tool, quick: bool) -> Result<Vec<String>> {
    let limit = limit(quick);
    let cells = async {
        Ok(vec![
            plain::exit(tool).await?,
            plain::busy(tool).await?,
            plain::expired(tool).await?,
            loss::revoked(tool, limit).await?,
            loss::cut_off(tool, limit).await?,
            loss::killed(tool, limit).await?,
            plain::signals(tool).await?,
            plain::token(tool).await?,
            plain::stdin(tool).await?,
        ])
    };
    let cells: Result<Vec<String>> = cells.await;
    cells.with_context(|| tool.kind.label())
}

/// How long the end of a command and the start of the next one are waited for.
const fn limit(quick: bool) -> Duration {
    ms(if quick { 30_000 } else { 150_000 })
}
