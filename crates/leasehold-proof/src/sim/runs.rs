//! S7: runs of work that runs once, by the service's log of completions, and by what callers were told.
//!
//! A run begins when an answer first shows its grant to its process. A keep is judged where clocks keep within bounds;
//! who may change what is done, and what callers are told, everywhere.

use std::time::Duration;

use leasehold_protocol::record::Record;
use leasehold_protocol::write::Write;

/// A run that was completed.
#[derive(Clone, Debug)]
struct Run {
    token: u64,
    result: Option<Vec<u8>>,
    /// Until when it is remembered: its keep after its beginning, in service time.
    until_ms: i64,
}

/// The runs of a key.
#[derive(Debug, Default)]
pub(super) struct Runs {
    completed: Vec<Run>,
    /// Runs that are not remembered, as their callers were told.
    unrecorded: Vec<u64>,
    /// Callers that were told of a run of another, and of their own.
    pub(super) told: u64,
    pub(super) told_own: u64,
}

impl Runs {
    /// How many runs were completed.
    pub(super) fn completed(&self) -> u64 {
        self.completed.len() as u64
    }

    /// Judges a write that was carried out. `began_ms` is when the grant before it was first seen.
    pub(super) fn judge(
        &mut self,
        write: &Write,
        before: Option<&Record>,
        (began_ms, time_ms): (i64, i64),
        bounded: bool,
    ) -> Option<String> {
        let done = before.is_some_and(|record| record.done.is_some());
        let until_ms = self.completed.last().map_or(i64::MIN, |run| run.until_ms);
        let kept = bounded && time_ms <= until_ms;
        let found = match write {
            Write::TakeOver(..) if done && kept => Some(format!(
                "at {time_ms}, what is done until {until_ms} was taken over"
            )),
            Write::TakeOver(..) => None,
            _ if done => Some(format!("what is done was changed: {write:?}")),
            Write::Complete(_) if kept => Some(format!(
                "at {time_ms}, a run was completed, the one before is kept until {until_ms}"
            )),
            _ => None,
        };
        let Write::Complete(work) = write else {
            return found;
        };
        let until_ms =
            began_ms.saturating_add(i64::try_from(work.keep.as_millis()).unwrap_or(i64::MAX));
        self.completed.push(Run {
            token: work.token,
            result: work.result.as_deref().map(<[u8]>::to_vec),
            until_ms,
        });
        let early = bounded && work.until.0 < until_ms;
        found.or_else(|| early.then(|| format!("a keep ends before {until_ms}: {work:?}")))
    }

    /// S7, for a deletion by TTL.
    pub(super) fn judge_deletion(&self, record: &Record, time_ms: i64) -> Option<String> {
        let last = self.completed.last().filter(|_| record.done.is_some())?;
        (time_ms <= last.until_ms).then(|| format!("deleted within its keep: {record:?}"))
    }

    /// A caller was told of a run and its result.
    pub(super) fn tell(&mut self, token: u64, result: Option<&[u8]>, own: bool) -> Option<String> {
        self.told += u64::from(!own);
        self.told_own += u64::from(own);
        let run = self.completed.iter().find(|run| run.token == token);
        let same = run.is_some_and(|run| run.result.as_deref() == result);
        (!same)
            .then(|| format!("a caller was told {result:?} of the run {token}, which is {run:?}"))
    }

    /// A caller was told that its run is not remembered.
    pub(super) fn deny(&mut self, token: u64) {
        self.unrecorded.push(token);
    }

    /// At the end: whether a run is remembered of which its caller was told that it is not.
    pub(super) fn judge_denied(&self) -> Option<String> {
        let denied = |run: &&Run| self.unrecorded.contains(&run.token);
        let run = self.completed.iter().find(denied)?;
        Some(format!(
            "remembered, and its caller was told that it is not: {run:?}"
        ))
    }
}

/// How long work is remembered in a world of this kind.
pub(super) const KEEPS: [Duration; 4] = [
    Duration::from_secs(3),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(25),
];
