//! The report: one JSON object about a run, however it ended.
//!
//! Field names are stable; new ones may be added. Unknown values are `null`.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use leasehold::clock::{Clock, SystemClock};
use leasehold::{HolderInfo, Usage};
use rustix::fs::{Access, access};
use rustix::process::Signal;
use serde::Serialize;

use crate::args::RunArgs;
use crate::exit_codes;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::plan::{LEASE, RunPlan};
use crate::process::{Status, Survivor, started_as};
use crate::store::url::Location;
use crate::text::duration::{self, millis};
use crate::text::times;
use crate::verbs::shared::command::holding::End;
use crate::verbs::shared::command::survivor::Returned;
use crate::verbs::shared::locks::Locks;
use crate::verbs::shared::release::ReleaseResult;

/// US dollars for a million write units: on demand, us-east-1, as of November 2024.
const WRITE_MILLION: f64 = 0.625;
/// The same for read units.
const READ_MILLION: f64 = 0.125;

/// How long the write of the report may take, including the wait for a FIFO's reader.
const WRITE: Duration = Duration::from_secs(2);

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// The command ran to its end under the lock.
    Completed,
    /// Another held the lock; nothing was run.
    NotAcquired,
    /// The work was done already; nothing was run.
    DoneBefore,
    /// A signal came while we waited; nothing was run.
    Interrupted,
    /// `leasehold` was killed, and killed the command.
    Killed,
    /// The lock was lost while the command ran.
    Lost,
    /// The command took too long and was stopped.
    MaxHold,
    /// Something else was wrong; nothing was run.
    Failed,
}

/// The facts of a run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    name: String,
    /// `null` if there is no location.
    store: Option<String>,
    pid: u32,
    started_at: String,
    pub(super) outcome: Outcome,
    pub(super) exit_code: u8,
    error: Option<String>,
    pub(super) token: Option<u64>,
    lease_ms: u64,
    waited_ms: Option<u64>,
    held_ms: Option<u64>,
    command: Option<CommandEnd>,
    lost: Option<String>,
    release: Option<String>,
    /// Of several locks, each of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    locks: Option<Vec<Lock>>,
    /// The last holder, if the lock was not acquired.
    holder: Option<Holder>,
    #[serde(flatten)]
    usage: Spent,
}

/// What the run asked of the store: all `null` if the worker was killed, which counted it.
#[derive(Debug, Serialize)]
struct Spent {
    requests: Option<u64>,
    renewals: Option<u64>,
    write_units: Option<f64>,
    read_units: Option<f64>,
    /// The price of the units, on demand in us-east-1; 0 on the embedded store.
    dollars: Option<f64>,
    /// Leases that were acquired, and calls that had to wait for one.
    grants: Option<u64>,
    waits: Option<u64>,
    hand_offs: Option<u64>,
}

/// One of several locks.
#[derive(Debug, Serialize)]
struct Lock {
    name: String,
    token: Option<u64>,
}

/// How the command ended: one of the two.
#[derive(Debug, Serialize)]
struct CommandEnd {
    exit_code: Option<u8>,
    signal: Option<i32>,
}

#[derive(Debug, Serialize)]
struct Holder {
    label: String,
    since: Option<String>,
    until: String,
    token: Option<u64>,
    waiting: Option<usize>,
    place: Option<usize>,
}

impl Report {
    /// The report of a run that has not begun.
    pub(super) fn new(args: &RunArgs) -> Self {
        Self {
            name: args.name.clone(),
            store: match &args.store.store {
                Some(location) => Some(location.to_string()),
                None => Location::of_user().ok().map(|own| own.to_string()),
            },
            pid: started_as(),
            started_at: times::utc_ms(SystemClock.wall_unix_ms()),
            outcome: Outcome::Failed,
            exit_code: exit_codes::OWN_FAILURE,
            error: None,
            token: None,
            lease_ms: millis(args.lock.lease.unwrap_or(LEASE)),
            waited_ms: None,
            held_ms: None,
            command: None,
            lost: None,
            release: None,
            locks: (!args.keys.is_empty()).then(Vec::new),
            holder: None,
            usage: Spent {
                requests: Some(0),
                renewals: Some(0),
                write_units: Some(0.0),
                read_units: Some(0.0),
                dollars: Some(0.0),
                grants: Some(0),
                waits: Some(0),
                hand_offs: Some(0),
            },
        }
    }

    /// The report of a run whose worker was killed, with what the guardian knows.
    pub(super) fn of_survivor(args: &RunArgs, survivor: &Survivor) -> Self {
        Self {
            started_at: times::utc_ms(survivor.started_unix_ms),
            outcome: Outcome::Killed,
            exit_code: survivor.status.exit_code(),
            usage: Spent {
                requests: None,
                renewals: None,
                write_units: None,
                read_units: None,
                dollars: None,
                grants: None,
                waits: None,
                hand_offs: None,
            },
            ..Self::new(args)
        }
    }

    /// Records what the guardian did with the locks of the killed worker.
    pub(super) fn given_back(&mut self, returned: Vec<Returned>) {
        // Of several, the one that was not released says why.
        let mut releases = returned.iter().filter_map(|lock| lock.release.as_ref());
        let first = releases.clone().next();
        self.release = releases.find(|how| *how != "released").or(first).cloned();
        self.tokens(returned.iter().map(|lock| (lock.key.as_str(), lock.token)));
    }

    /// Records the token of each lock.
    fn tokens<'a>(&mut self, locks: impl Iterator<Item = (&'a str, Option<u64>)>) {
        let mut all = Vec::new();
        for (name, token) in locks {
            if name == self.name {
                self.token = token;
            }
            let name = name.to_owned();
            all.push(Lock { name, token });
        }
        if let Some(locks) = &mut self.locks {
            *locks = all;
        }
    }

    /// Records a failure: nothing was run.
    pub(super) fn failed(&mut self, failure: &Failure) {
        // A run that is not remembered has run.
        if self.command.is_none() {
            self.outcome = Outcome::Failed;
        }
        self.error = Some(failure.message.clone());
    }

    /// Records a signal during the wait, and returns the exit code.
    pub(super) fn interrupted(&mut self, signal: Signal) -> u8 {
        self.outcome = Outcome::Interrupted;
        exit_codes::signalled(signal.as_raw())
    }

    /// Records the lease of the plan, which may have been adjusted.
    pub(super) fn leased(&mut self, plan: &RunPlan) {
        self.lease_ms = millis(plan.lock.policy.lease_duration());
    }

    /// Records the holder that kept the lock.
    pub(super) fn not_acquired(&mut self, held: &HolderInfo) {
        self.outcome = Outcome::NotAcquired;
        self.holder = Some(Holder {
            label: held.label().to_owned(),
            since: held.since().map(times::utc),
            until: times::utc(held.until()),
            token: held.token().map(leasehold::FencingToken::get),
            waiting: held.waiting(),
            place: held.place(),
        });
    }

    /// Records that the work was done already.
    pub(super) fn done_before(&mut self) {
        self.outcome = Outcome::DoneBefore;
    }

    /// Records the length of the wait.
    pub(super) fn waited(&mut self, waited: Duration) {
        self.waited_ms = Some(millis(waited));
    }

    /// Records the acquired locks.
    pub(super) fn acquired(&mut self, locks: Locks<'_>) {
        let token = |lease: &'_ leasehold::Lease| Some(lease.token().get());
        self.tokens(
            locks
                .iter()
                .map(|lease| (lease.key().as_str(), token(lease))),
        );
    }

    /// Records how long the lock was held.
    pub(super) fn held(&mut self, held: Duration) {
        self.held_ms = Some(millis(held));
    }

    /// Records the end of the command.
    pub(super) fn ended(&mut self, end: &End) {
        let (outcome, status, lost) = match end {
            End::Finished { status, lost, .. } => {
                let outcome = match lost {
                    Some(_) => Outcome::Lost,
                    None => Outcome::Completed,
                };
                (outcome, Some(*status), lost.as_ref())
            }
            End::Lost { loss, stopped } => (Outcome::Lost, stopped.status, Some(loss)),
            End::MaxHold { stopped } => (Outcome::MaxHold, stopped.status, None),
            End::Killed { stopped } => (Outcome::Killed, stopped.status, None),
        };
        self.outcome = outcome;
        self.lost = lost.map(ToString::to_string);
        self.command = status.map(|status| match status {
            Status::Exited(code) => CommandEnd {
                exit_code: Some(code),
                signal: None,
            },
            Status::Signalled(number) => CommandEnd {
                exit_code: None,
                signal: Some(number),
            },
            Status::Unknown => CommandEnd {
                exit_code: None,
                signal: None,
            },
        });
    }

    /// Records that the lease had ended before the command, as only the release has shown.
    pub(super) fn lost_unseen(&mut self) {
        self.outcome = Outcome::Lost;
        self.lost =
            Some("the lease had ended before the command did, which ended by itself".to_owned());
    }

    /// Records the result of the release.
    pub(super) fn released(&mut self, release_result: &ReleaseResult) {
        self.release = Some(release_result.to_string());
    }

    /// Records the usage.
    pub(super) fn usage(&mut self, plan: &RunPlan, usage: Usage) {
        let dollars = match plan.lock.place.location {
            Location::DynamoDb(_) => {
                (usage.write_units * WRITE_MILLION + usage.read_units * READ_MILLION) / 1e6
            }
            Location::Sqlite { .. } => 0.0,
        };
        self.usage = Spent {
            requests: Some(usage.requests),
            renewals: Some(usage.renewals),
            write_units: Some(usage.write_units),
            read_units: Some(usage.read_units),
            dollars: Some(dollars),
            grants: Some(usage.grants),
            waits: Some(usage.waits),
            hand_offs: Some(usage.hand_offs),
        };
    }

    /// Writes the report, and says so if that fails.
    pub(super) fn save(&self, path: &Path, messages: &Messages) {
        if let Err(error) = self.write(path) {
            messages.note(format_args!(
                "could not write the report to `{}`: {error}",
                path.display()
            ));
        }
    }

    /// Writes the report, and replaces an older one. A separate thread writes it, for at most [`WRITE`]: a FIFO
    /// without a reader, or a disk that hangs, must not delay the end.
    ///
    /// # Errors
    ///
    /// The error of the write, or `TimedOut`.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let mut json = serde_json::to_vec(self)?;
        json.push(b'\n');
        let (done, written) = mpsc::channel();
        let path = path.to_owned();
        thread::Builder::new()
            .name("report".to_owned())
            .spawn(move || done.send(fs::write(path, json)))?;
        written.recv_timeout(WRITE).unwrap_or_else(|_| {
            let late = format!("not written within {}", duration::show(WRITE));
            Err(io::Error::new(io::ErrorKind::TimedOut, late))
        })
    }
}

/// Why a report can probably not be written, for an early warning.
pub(super) fn trouble(path: &Path) -> Option<String> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let refused = if path.is_dir() {
        Some("it is a directory".to_owned())
    } else if path.exists() {
        access(path, Access::WRITE_OK).err().map(|e| e.to_string())
    } else {
        let asked = access(directory, Access::WRITE_OK | Access::EXEC_OK);
        asked.err().map(|e| e.to_string())
    };
    refused.map(|why| {
        format!(
            "the report cannot be written to `{}`: {why}; give `--report` a file in a directory that exists",
            path.display()
        )
    })
}
