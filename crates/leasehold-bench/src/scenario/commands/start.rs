//! What `true` under a free lock takes, as a ratio to `true`.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::case::PROMPT;
use super::tool::Tool;
use crate::stats::{Times, ratio};
use crate::stopwatch::{Stopwatch, within};

/// The ratio of medians for each, all in turn.
pub(super) async fn ratios(tools: &[&Tool], quick: bool) -> Result<Vec<String>> {
    let rounds = if quick { 5 } else { 50 };
    let mut alone = Times::default();
    let mut locked = vec![Times::default(); tools.len()];
    // The first round warms up.
    for round in 0..=rounds {
        let time = spawn(Command::new("true")).await?;
        if round > 0 {
            alone.add(time);
        }
        for (tool, times) in tools.iter().zip(&mut locked) {
            let key = format!("{}-start", tool.name());
            let time = spawn(tool.plain(&key, &["true".into()])).await?;
            if round > 0 {
                times.add(time);
            }
        }
    }
    eprintln!("   true: {:?}", alone.p50());
    for (tool, times) in tools.iter().zip(&locked) {
        eprintln!("   {}: {:?}", tool.kind.label(), times.p50());
    }
    Ok(locked.iter().map(|times| ratio(times, &alone)).collect())
}

async fn spawn(mut command: Command) -> Result<Duration> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let what = format!("{:?}", command.as_std());
    let stopwatch = Stopwatch::start();
    let status = within(PROMPT, command.status()).await?;
    let time = stopwatch.elapsed();
    let status = status.with_context(|| format!("cannot start {what}"))?;
    ensure!(
        status.success(),
        "{what} failed ({status}): its time means nothing"
    );
    Ok(time)
}
