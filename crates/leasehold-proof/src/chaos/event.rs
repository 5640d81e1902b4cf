//! The events of the processes: one line of text per event, on standard output.
//!
//! A pipe keeps the output of a killed process, and a line shorter than `PIPE_BUF` is never split.
//! All times are nanoseconds of `CLOCK_BOOTTIME`, which is one clock for all processes of the
//! machine, whatever their wall clocks show.

use std::fmt;
use std::io::Write;

use anyhow::{Context, Result, bail};
use leasehold::clock::{Clock, SystemClock};

/// Nanoseconds of the machine's elapsed clock.
pub(super) type At = u64;

/// Now. Not through the C library, so that libfaketime cannot reach it.
pub(super) fn now() -> At {
    u64::try_from(SystemClock.elapsed().0.as_nanos()).unwrap_or(u64::MAX)
}

/// One event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// A process runs, and its wall clock shows this.
    Hello { pid: u32, wall_ms: i64, at: At },
    /// A call of `acquire` that began at `asked` returned before `from`, and its lease was believed
    /// to last until `until` at least.
    Grant {
        key: String,
        token: u64,
        asked: At,
        from: At,
        until: At,
    },
    /// The lease is now believed to last until `until` at least.
    Held { key: String, token: u64, until: At },
    /// The holder is about to let go.
    Ending { key: String, token: u64, at: At },
    /// How that went, or why the lease was lost: one word.
    Ended {
        key: String,
        token: u64,
        how: String,
    },
    /// The command under `leasehold run` is alive.
    Beat { key: String, token: u64, at: At },
    /// A call failed: the kind of its error, one word.
    Failed { kind: String },
    /// A member of the lock-set experiment is between its read and its write.
    Inside { token: u64 },
    /// An element was added, and that was acknowledged.
    Added { element: String },
    /// An element was refused by the fence.
    Refused { element: String },
    /// It is unknown whether an element was added.
    Unsure { element: String },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Hello { pid, wall_ms, at } => write!(f, "hello {pid} {wall_ms} {at}"),
            Event::Grant {
                key,
                token,
                asked,
                from,
                until,
            } => write!(f, "grant {key} {token} {asked} {from} {until}"),
            Event::Held { key, token, until } => write!(f, "held {key} {token} {until}"),
            Event::Ending { key, token, at } => write!(f, "ending {key} {token} {at}"),
            Event::Ended { key, token, how } => write!(f, "ended {key} {token} {how}"),
            Event::Beat { key, token, at } => write!(f, "beat {key} {token} {at}"),
            Event::Failed { kind } => write!(f, "failed {kind}"),
            Event::Inside { token } => write!(f, "inside {token}"),
            Event::Added { element } => write!(f, "added {element}"),
            Event::Refused { element } => write!(f, "refused {element}"),
            Event::Unsure { element } => write!(f, "unsure {element}"),
        }
    }
}

impl Event {
    /// Writes the event to the parent process. A closed pipe ends this process.
    pub(super) fn tell(&self) -> Result<()> {
        let line = format!("{self}\n");
        // One write of the whole line; standard output's own buffer ends at the newline.
        let mut out = std::io::stdout().lock();
        out.write_all(line.as_bytes())
            .and_then(|()| out.flush())
            .context("nobody listens any more")
    }

    /// Reads a line.
    pub(super) fn parse(line: &str) -> Result<Event> {
        let words: Vec<&str> = line.split(' ').collect();
        let n = |word: &str| {
            word.parse::<u64>()
                .with_context(|| format!("bad number in {line:?}"))
        };
        Ok(match words.as_slice() {
            ["hello", pid, wall_ms, at] => Event::Hello {
                pid: pid
                    .parse()
                    .with_context(|| format!("bad pid in {line:?}"))?,
                wall_ms: wall_ms
                    .parse()
                    .with_context(|| format!("bad time in {line:?}"))?,
                at: n(at)?,
            },
            ["grant", key, token, asked, from, until] => Event::Grant {
                key: (*key).to_owned(),
                token: n(token)?,
                asked: n(asked)?,
                from: n(from)?,
                until: n(until)?,
            },
            ["held", key, token, until] => Event::Held {
                key: (*key).to_owned(),
                token: n(token)?,
                until: n(until)?,
            },
            ["ending", key, token, at] => Event::Ending {
                key: (*key).to_owned(),
                token: n(token)?,
                at: n(at)?,
            },
            ["ended", key, token, how] => Event::Ended {
                key: (*key).to_owned(),
                token: n(token)?,
                how: (*how).to_owned(),
            },
            ["beat", key, token, at] => Event::Beat {
                key: (*key).to_owned(),
                token: n(token)?,
                at: n(at)?,
            },
            ["failed", kind] => Event::Failed {
                kind: (*kind).to_owned(),
            },
            ["inside", token] => Event::Inside { token: n(token)? },
            ["added", element] => Event::Added {
                element: (*element).to_owned(),
            },
            ["refused", element] => Event::Refused {
                element: (*element).to_owned(),
            },
            ["unsure", element] => Event::Unsure {
                element: (*element).to_owned(),
            },
            _ => bail!("not an event: {line:?}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_back_as_they_were() {
        let key = || "a".to_owned();
        for event in [
            Event::Hello {
                pid: 7,
                wall_ms: -3,
                at: 9,
            },
            Event::Grant {
                key: key(),
                token: 1,
                asked: 2,
                from: 3,
                until: 4,
            },
            Event::Held {
                key: key(),
                token: 1,
                until: 5,
            },
            Event::Ending {
                key: key(),
                token: 1,
                at: 6,
            },
            Event::Ended {
                key: key(),
                token: 1,
                how: "Released".to_owned(),
            },
            Event::Beat {
                key: key(),
                token: 1,
                at: 7,
            },
            Event::Failed {
                kind: "Lost".to_owned(),
            },
            Event::Inside { token: 8 },
            Event::Added { element: key() },
            Event::Refused { element: key() },
            Event::Unsure { element: key() },
        ] {
            assert_eq!(
                Event::parse(&event.to_string()).expect("its own line"),
                event
            );
        }
        for bad in ["", "hello", "grant a 1 2 3 x", "held a -1 2", "beat a 1"] {
            Event::parse(bad).expect_err(bad);
        }
    }
}
