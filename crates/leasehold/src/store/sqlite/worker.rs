//! The thread that owns the connection.
//!
//! Callers hand it jobs over a bounded channel and get their answers by oneshot, so that no
//! executor thread ever waits for a disk, and any runtime will do. Invariants: a transaction that
//! was begun is carried through, whoever still waits for it; a job whose caller is gone before it
//! was begun is left out, unless it gives something back; a job that waited too long is refused
//! unapplied. The thread ends when the last handle is dropped.

use std::path::Path;
use std::thread;

use tokio::sync::{mpsc, oneshot};

use super::database::Database;
use crate::clock::{Clock, SystemClock};
use crate::error::Effect;
use crate::protocol::record::Record;
use crate::protocol::time::Elapsed;
use crate::protocol::write::Write;
use crate::store::{Outcome, Page, Reply, StoreError, StoreErrorKind};

/// Jobs that may wait for the thread; whoever comes then waits for a place among them.
const QUEUE: usize = 64;

pub(super) type Answer<T> = oneshot::Sender<Result<Reply<T>, StoreError>>;

/// One call of the store.
#[derive(Debug)]
pub(super) enum Job {
    Write(Write, Answer<Outcome>),
    Read {
        key: String,
        units: f64,
        answer: Answer<Option<Record>>,
    },
    List {
        after: Option<String>,
        answer: Answer<Page>,
    },
}

/// A job and until when it may wait.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) job: Job,
    pub(super) until: Elapsed,
}

/// Starts the thread.
pub(super) fn start(database: Database, path: &Path) -> Result<mpsc::Sender<Order>, StoreError> {
    let (orders, mut received) = mpsc::channel::<Order>(QUEUE);
    let file = path.display().to_string();
    let mut worker = Worker { database, file };
    thread::Builder::new()
        .name("leasehold-sqlite".into())
        .spawn(move || {
            while let Some(order) = received.blocking_recv() {
                worker.carry_out(order);
            }
        })
        .map_err(|e| {
            StoreError::new(
                StoreErrorKind::Unavailable,
                Effect::NotApplied,
                format!(
                    "no thread could be started for the lock file `{}`",
                    path.display()
                ),
            )
            .with_source(e)
        })?;
    Ok(orders)
}

struct Worker {
    database: Database,
    file: String,
}

impl Worker {
    fn carry_out(&mut self, Order { job, until }: Order) {
        // Nobody can hear an answer that is not received; that is no failure.
        match job {
            Job::Write(write, answer) => {
                let gives_back = matches!(write, Write::Release { .. } | Write::Withdraw { .. });
                if gives_back || !answer.is_closed() {
                    let done = match self.too_late(until) {
                        Some(error) if !gives_back => Err(error),
                        _ => self.database.write(write, until),
                    };
                    let _ = answer.send(done);
                }
            }
            Job::Read { key, units, answer } => {
                if !answer.is_closed() {
                    let _ = answer.send(match self.too_late(until) {
                        Some(error) => Err(error),
                        None => self.database.read(&key, units, until),
                    });
                }
            }
            Job::List { after, answer } => {
                if !answer.is_closed() {
                    let _ = answer.send(match self.too_late(until) {
                        Some(error) => Err(error),
                        None => self.database.list(after.as_deref(), until),
                    });
                }
            }
        }
    }

    fn too_late(&self, until: Elapsed) -> Option<StoreError> {
        (SystemClock.elapsed() >= until).then(|| {
            StoreError::new(
                StoreErrorKind::Unavailable,
                Effect::NotApplied,
                format!(
                    "the request waited too long behind others for the lock file `{}`",
                    self.file
                ),
            )
            .with_hint("use fewer keys at once, or a faster disk")
        })
    }
}
