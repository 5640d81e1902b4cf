//! Cells about a run without an accident: exit codes, a held lock, signals, environment, standard input.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tokio::io::AsyncWriteExt;

use super::case::{Case, PROMPT, Running, code, until};
use super::tool::Tool;
use crate::scenario::ms;
use crate::stopwatch::{Stopwatch, within};

/// The wrapper's codes for a command that ends with 0, with 7, and by TERM.
pub(super) async fn exit(tool: &Tool) -> Result<String> {
    let case = Case::new(&tool.scratch, tool.name(), "exit")?;
    let script = case.file("end.sh");
    fs::write(&script, "[ $1 = TERM ] && kill -TERM $$\nexit $1\n")?;
    let with = async |options: &[&str]| -> Result<String> {
        let mut codes = Vec::new();
        for end in ["0", "7", "TERM"] {
            let child: [OsString; 3] = ["sh".into(), script.clone().into(), end.into()];
            let mut run = Running::start(tool.lock(options, None, &case.key, &child))?;
            let code = run.code(PROMPT).await?;
            codes.push(code.map_or("none".to_owned(), |code| code.to_string()));
        }
        Ok(codes.join(", "))
    };
    let mut cell = with(&[]).await?;
    if let Some(option) = tool.kind.exit_option() {
        cell += &format!("; `{option}`: {}", with(&[option]).await?);
    }
    Ok(cell)
}

/// The wrapper's code for a held lock, when it shall not wait.
pub(super) async fn busy(tool: &Tool) -> Result<String> {
    held(tool, "busy", tool.kind.nonblock(), ms(0)).await
}

/// The wrapper's code for a held lock, when it shall wait for a second.
pub(super) async fn expired(tool: &Tool) -> Result<String> {
    held(tool, "expired", tool.kind.wait_1s(), ms(1_000)).await
}

async fn held(tool: &Tool, name: &str, options: Option<&[&str]>, wait: Duration) -> Result<String> {
    let case = Case::new(&tool.scratch, tool.name(), name)?;
    let _holder = Running::start(tool.lock(&[], None, &case.key, &case.child("child")))?;
    case.up("child").await?;
    let words = options.unwrap_or_default();
    let command = tool.lock(words, None, &case.key, &case.child("next"));
    let stopwatch = Stopwatch::start();
    let mut next = Running::start(command)?;
    let code = next.code(if options.is_some() { PROMPT } else { ms(3_000) });
    let code = code.await?;
    let took = stopwatch.elapsed();
    ensure!(case.alive("child"), "{}: the holder has ended", case.key);
    ensure!(case.pid("next").is_none(), "{}: two at once", case.key);
    let late = if took.abs_diff(wait) > ms(700) {
        format!(", after {:.1} s", took.as_secs_f64())
    } else {
        String::new()
    };
    Ok(match (code, options) {
        (Some(code), Some(_)) => format!("{code}{late}"),
        (Some(code), None) => format!("{code}{late}, without an option"),
        (None, Some(_)) => "waits on".to_owned(),
        (None, None) => "no option, waits".to_owned(),
    })
}

/// What the command gets when the wrapper gets TERM, and when it gets INT.
pub(super) async fn signals(tool: &Tool) -> Result<String> {
    let mut cells = Vec::new();
    for (name, signal) in [("TERM", Signal::TERM), ("INT", Signal::INT)] {
        let case = Case::new(&tool.scratch, tool.name(), name)?;
        let mut holder = Running::start(tool.lock(&[], None, &case.key, &case.child("child")))?;
        case.up("child").await?;
        holder.signal(signal)?;
        until(ms(3_000), async || !case.alive("child")).await;
        let alive = case.alive("child");
        let code = holder.code(if alive { ms(100) } else { PROMPT }).await?;
        let got = case.signals("child");
        let child = match (got.as_str(), alive) {
            (got, _) if got == name => "passed on".to_owned(),
            ("", true) => "not passed on".to_owned(),
            ("", false) => "KILL".to_owned(),
            (got, _) => format!("as {got}"),
        };
        cells.push(match (code, alive) {
            (Some(code), false) => format!("{child}, exit {code}"),
            (Some(_), true) => format!("{child}, only the wrapper ends"),
            (None, false) => format!("{child}, only the command ends"),
            (None, true) => format!("{child}, both run on"),
        });
    }
    cells.dedup();
    Ok(cells.join("; "))
}

/// Variables of an environment as `env -0` writes it.
type Environment = BTreeMap<String, String>;

/// Which of the command's variables is a fencing token, and whose it is in a lock within a lock.
pub(super) async fn token(tool: &Tool) -> Result<String> {
    let case = Case::new(&tool.scratch, tool.name(), "token")?;
    let outer_script = case.file("outer.sh");
    let inner_script = case.file("inner.sh");
    let mut words = String::new();
    for word in tool.words(&[], None, &format!("{}-inner", case.key)) {
        let word = word.into_string().ok().context("a path is not UTF-8")?;
        words += &format!("'{word}' ");
    }
    let script = |file: &str| case.file(file).display().to_string();
    fs::write(
        &inner_script,
        format!("env -0 >'{}'\n", script("inner.env")),
    )?;
    fs::write(
        &outer_script,
        format!(
            "env -0 >'{}'\n{words}sh '{}'\n",
            script("outer.env"),
            inner_script.display()
        ),
    )?;
    let child: [OsString; 2] = ["sh".into(), outer_script.into()];
    let read = |file: &str| -> Result<Environment> {
        let text = fs::read_to_string(case.file(file))?;
        let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
        Ok(pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect())
    };
    let mut grants = Vec::new();
    for _ in 0..3 {
        let mut run = Running::start(tool.lock(&[], None, &case.key, &child))?;
        let code = run.code(PROMPT).await?;
        ensure!(code == Some(0), "{}: {code:?}", case.key);
        grants.push((read("outer.env")?, read("inner.env")?));
    }
    let growing = tokens(&grants);
    if growing.is_empty() {
        return Ok("none".to_owned());
    }
    let (outer, inner) = &grants[0];
    let cells = growing.iter().map(|name| {
        let whose = if inner.get(name) == outer.get(name) {
            "outer"
        } else {
            "inner"
        };
        format!("`{name}`, nested: the {whose} one")
    });
    Ok(cells.collect::<Vec<_>>().join("; "))
}

/// The variables that were a larger number in every grant than in the one before.
fn tokens(grants: &[(Environment, Environment)]) -> Vec<String> {
    let Some((first, _)) = grants.first() else {
        return Vec::new();
    };
    let grows = |name: &&String| {
        let numbers = grants
            .iter()
            .map(|(outer, _)| outer.get(*name)?.parse().ok());
        let numbers: Option<Vec<u64>> = numbers.collect();
        numbers.is_some_and(|numbers| numbers.is_sorted_by(|a, b| a < b))
    };
    first.keys().filter(grows).cloned().collect()
}

/// Whether the command reads the wrapper's standard input.
pub(super) async fn stdin(tool: &Tool) -> Result<String> {
    let case = Case::new(&tool.scratch, tool.name(), "stdin")?;
    let passes = async |options: &[&str]| -> Result<bool> {
        let mut command = tool.lock(options, None, &case.key, &["cat".into()]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut run = command.spawn().context("cannot start it")?;
        let mut input = run.stdin.take().context("it has an input")?;
        // An error means that it has closed its input.
        let _ = input.write_all(b"a line of input\n").await;
        drop(input);
        let output = within(PROMPT, run.wait_with_output()).await??;
        ensure!(code(output.status) == 0, "{}: {output:?}", case.key);
        Ok(String::from_utf8_lossy(&output.stdout).contains("a line of input"))
    };
    let word = |passes| if passes { "inherited" } else { "empty" };
    let mut cell = word(passes(&[]).await?).to_owned();
    if let Some(option) = tool.kind.stdin_option() {
        cell += &format!("; `{option}`: {}", word(passes(&[option]).await?));
    }
    Ok(cell)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_grows_with_every_grant() {
        let grant = |token: &str, pid: &str| {
            let pairs = [("TOKEN", token), ("PID", pid), ("HOME", "/root")];
            let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
            (Environment::from(pairs), Environment::new())
        };
        let grants = [grant("1", "5"), grant("2", "6"), grant("10", "6")];
        assert_eq!(tokens(&grants), ["TOKEN"]);
        assert!(tokens(&[]).is_empty());
    }
}
