//! Cells about the end of a lock while its command runs, and about the end of its wrapper.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::case::{Case, PROMPT, Running, until};
use super::cut::Cut;
use super::tool::{Kind, Tool};
use crate::scenario::ms;
use crate::stopwatch::{Stopwatch, pause};

/// What became of a holder that lost its lock, and of the next one. Times are from the loss.
#[derive(Debug, Default)]
struct Loss {
    next: Option<Duration>,
    ended: Option<Duration>,
    signals: String,
    code: Option<i32>,
}

/// The grant is ended on the server, while another waits.
pub(super) async fn revoked(tool: &Tool, limit: Duration) -> Result<String> {
    if tool.kind == Kind::Flock {
        return Ok("n/a".to_owned());
    }
    let case = Case::new(&tool.scratch, tool.name(), "revoked")?;
    let before = tool.grants(&case.key).await?;
    let holder = Running::start(tool.lock(&[], None, &case.key, &case.child("child")))?;
    case.up("child").await?;
    let mut grants = tool.grants(&case.key).await?;
    grants.retain(|grant| !before.contains(grant));
    let grant = grants.first().context("it holds a lock without a grant")?;
    let next = Running::start(tool.lock(&[], None, &case.key, &case.child("next")))?;
    queued().await;
    let loss = lose(&case, holder, limit, async || {
        tool.revoke(&case.key, grant).await
    });
    let loss = loss.await?;
    drop(next);
    Ok(loss.cell())
}

/// The holder's connection falls silent, while another waits that has its own.
pub(super) async fn cut_off(tool: &Tool, limit: Duration) -> Result<String> {
    let Some(address) = &tool.address else {
        return Ok("n/a".to_owned());
    };
    let case = Case::new(&tool.scratch, tool.name(), "cut-off")?;
    let cut = Cut::start(address).await?;
    let via = Some(cut.address.as_str());
    let holder = Running::start(tool.lock(&[], via, &case.key, &case.child("child")))?;
    case.up("child").await?;
    let next = Running::start(tool.lock(&[], None, &case.key, &case.child("next")))?;
    queued().await;
    let loss = lose(&case, holder, limit, async || {
        cut.cut();
        Ok(())
    });
    let loss = loss.await?;
    drop(next);
    Ok(loss.cell())
}

/// Long enough for a contender to have asked for the lock; sooner it would only be granted later.
async fn queued() {
    pause(ms(2_000)).await;
}

async fn lose(
    case: &Case,
    mut holder: Running,
    limit: Duration,
    how: impl AsyncFnOnce() -> Result<()>,
) -> Result<Loss> {
    let stopwatch = Stopwatch::start();
    how().await?;
    let mut loss = Loss::default();
    // Both events, in whichever order they come; then the wrapper's end.
    while loss.next.is_none() || loss.ended.is_none() {
        let now = stopwatch.elapsed();
        if loss.next.is_none() && case.pid("next").is_some() {
            loss.next = Some(now);
        }
        if loss.ended.is_none() && !case.alive("child") {
            loss.ended = Some(now);
        }
        if now > limit {
            break;
        }
        pause(ms(5)).await;
    }
    loss.signals = case.signals("child");
    if loss.ended.is_some() {
        loss.code = holder.code(PROMPT).await?;
    }
    Ok(loss)
}

impl Loss {
    fn cell(&self) -> String {
        let next = next_at(self.next);
        let Some(ended) = self.ended else {
            return format!("runs on; {next}");
        };
        let signals = match self.signals.as_str() {
            "" => "KILL",
            signals => signals,
        };
        let code = self.code.map_or("none".to_owned(), |code| code.to_string());
        format!("{signals} at {}, exit {code}; {next}", seconds(ended))
    }
}

fn next_at(next: Option<Duration>) -> String {
    next.map_or("no next".to_owned(), |next| {
        format!("next at {}", seconds(next))
    })
}

/// KILL of the wrapper, while another waits.
pub(super) async fn killed(tool: &Tool, limit: Duration) -> Result<String> {
    let case = Case::new(&tool.scratch, tool.name(), "killed")?;
    let holder = Running::start(tool.lock(&[], None, &case.key, &case.family()))?;
    let roles = ["child", "grandchild", "daemon"];
    for role in roles {
        case.up(role).await?;
    }
    let next = Running::start(tool.lock(&[], None, &case.key, &case.child("next")))?;
    queued().await;
    let stopwatch = Stopwatch::start();
    holder.signal(Signal::KILL)?;
    // The state a second later; the next one may come before.
    let early = until(ms(1_000), async || case.pid("next").is_some()).await;
    pause(ms(1_000).saturating_sub(stopwatch.elapsed())).await;
    let living: Vec<&str> = roles.into_iter().filter(|role| case.alive(role)).collect();
    let begun = match early {
        Some(early) => Some(early),
        None => {
            let rest = limit.saturating_sub(stopwatch.elapsed());
            let next = until(rest, async || case.pid("next").is_some()).await;
            next.map(|_| stopwatch.elapsed())
        }
    };
    ensure!(
        living.is_empty() || roles.into_iter().any(|role| case.alive(role)),
        "{}: what ran on has ended meanwhile",
        case.key
    );
    drop(next);
    let who = match living.as_slice() {
        [] => "all killed".to_owned(),
        all if all.len() == roles.len() => "all run on".to_owned(),
        some => format!("{} run on", some.join(", ")),
    };
    Ok(format!("{who}; {}", next_at(begun)))
}

fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds >= 10.0 {
        format!("{seconds:.0} s")
    } else {
        format!("{seconds:.1} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_says_when_the_command_ended_and_the_next_began() {
        let loss = |next: Option<u64>, ended: Option<u64>| Loss {
            next: next.map(ms),
            ended: ended.map(ms),
            signals: "TERM".to_owned(),
            code: ended.map(|_| 76),
        };
        let cell = |next, ended| loss(next, ended).cell();
        assert_eq!(
            cell(Some(21_000), Some(13_400)),
            "TERM at 13 s, exit 76; next at 21 s"
        );
        assert_eq!(cell(Some(9_100), None), "runs on; next at 9.1 s");
        assert_eq!(cell(None, None), "runs on; no next");
    }
}
