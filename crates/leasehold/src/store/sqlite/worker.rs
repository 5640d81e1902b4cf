//! The thread that owns the connection.
//!
//! Callers send it jobs over a bounded channel, and get answers by oneshot. So no executor thread waits
//! for a disk, and every runtime is suitable. The thread ends with the last handle, and so do the
//! connection and its descriptors. Invariants:
//!
//! - A transaction that has begun is finished, even if its caller has left.
//! - A job is skipped if its caller left before it began, unless it releases or withdraws a grant.
//! - A job that waited too long is refused, and is not applied.
//! - If the disk does not answer, the thread blocks in a system call. No caller waits for longer than
//!   [`LONGEST`], and at most [`MOST`] wait at once. After that time new callers are refused at once.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::database::Database;
use super::error::exhausted;
use crate::clock::{Clock, SystemClock};
use crate::error::Effect;
use crate::store::{Outcome, Page, Reply, StoreError, StoreErrorKind};
use leasehold_protocol::record::Record;
use leasehold_protocol::slot_write::SlotWrite;
use leasehold_protocol::time::Elapsed;
use leasehold_protocol::write::Write;

/// The capacity of the channel. Further callers wait for a place in it.
const QUEUE: usize = 64;

/// How long a job may wait for its turn, and for a file that is locked. A leasehold process locks it for
/// less than a millisecond, so only another program with an open transaction exceeds this.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How long a call takes at most, even if the disk does not answer.
const LONGEST: Duration = Duration::from_secs(10);

/// The most calls that wait at once.
const MOST: usize = 4_096;

pub(super) type Answer<T> = oneshot::Sender<Result<Reply<T>, StoreError>>;

/// One call of the store.
#[derive(Debug)]
pub(super) enum Job {
    Write(Box<Write>, Answer<Outcome>),
    Read {
        key: String,
        units: f64,
        answer: Answer<Option<Record>>,
    },
    List {
        prefix: String,
        after: Option<String>,
        answer: Answer<Page>,
    },
}

/// A job, and until when it may wait.
#[derive(Debug)]
struct Order {
    job: Job,
    until: Elapsed,
    /// Set by the thread that begins the job, or by the caller that gives it up, whichever is first.
    decided: Arc<AtomicBool>,
}

/// The state of the thread, for callers.
#[derive(Debug, Default)]
struct State {
    /// Calls that wait for it.
    waiting: AtomicUsize,
    /// When the present job began, in microseconds of the elapsed clock; 0 without a job.
    busy_since: AtomicU64,
}

/// Counts one waiting call until it is dropped.
struct Place<'a>(&'a State);

impl State {
    fn enter(&self) -> Option<Place<'_>> {
        let place = Place(self);
        (self.waiting.fetch_add(1, Ordering::Relaxed) < MOST).then_some(place)
    }

    /// How long the present job has run.
    fn busy_for(&self) -> Duration {
        match self.busy_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => SystemClock
                .elapsed()
                .since(Elapsed(Duration::from_micros(since))),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The handle to the thread.
#[derive(Debug)]
pub(super) struct Desk {
    orders: mpsc::Sender<Order>,
    state: Arc<State>,
    file: String,
}

impl Desk {
    /// Runs a job. It ends within [`LONGEST`], and needs a runtime with timers.
    pub(super) async fn ask<T>(
        &self,
        job: impl FnOnce(Answer<T>) -> Job,
    ) -> Result<Reply<T>, StoreError> {
        let file = &self.file;
        let refused = |kind, message: String| StoreError::new(kind, Effect::NotApplied, message);
        let Some(_place) = self.state.enter() else {
            let message = format!("more than {MOST} calls wait for the lock file `{file}`");
            return Err(refused(StoreErrorKind::Throttled, message)
                .with_hint("use fewer keys at once, or a faster disk"));
        };
        if self.state.busy_for() >= LONGEST {
            let error = refused(StoreErrorKind::Unavailable, self.no_answer());
            return Err(error.with_hint(LOOK_AT_THE_DISK));
        }
        let begun = SystemClock.elapsed();
        let until = begun.plus(PATIENCE);
        let (answer, answered) = oneshot::channel();
        let job = job(answer);
        let gives_back = job.gives_back();
        let writes = matches!(job, Job::Write(..));
        let decided = Arc::new(AtomicBool::new(false));
        let turn = tokio::select! {
            biased;
            turn = self.orders.reserve() => turn,
            () = SystemClock.sleep_until(until) => return Err(too_late(file)),
        };
        let ended = |effect| {
            let message = format!("the thread of the lock file `{file}` has ended");
            StoreError::new(StoreErrorKind::Other, effect, message)
        };
        turn.map_err(|_| ended(Effect::NotApplied))?.send(Order {
            job,
            until,
            decided: decided.clone(),
        });
        tokio::select! {
            biased;
            answer = answered => answer.map_err(|_| ended(Effect::Unknown))?,
            () = SystemClock.sleep_until(begun.plus(LONGEST)) => {
                // A release or withdrawal is still carried out later.
                let given_up = !gives_back && !decided.swap(true, Ordering::AcqRel);
                let effect = match writes && !given_up {
                    true => Effect::Unknown,
                    false => Effect::NotApplied,
                };
                let error = StoreError::new(StoreErrorKind::Unavailable, effect, self.no_answer());
                Err(error.with_hint(LOOK_AT_THE_DISK))
            }
        }
    }

    fn no_answer(&self) -> String {
        format!(
            "the disk of the lock file `{}` has not answered for {:.0?}",
            self.file,
            self.state.busy_for()
        )
    }
}

const LOOK_AT_THE_DISK: &str =
    "check whether other programs can write there, and the kernel's messages (`dmesg`)";

fn too_late(file: &str) -> StoreError {
    StoreError::new(
        StoreErrorKind::Unavailable,
        Effect::NotApplied,
        format!("the request waited too long behind others for the lock file `{file}`"),
    )
    .with_hint("use fewer keys at once, or a faster disk")
}

/// Starts the thread.
pub(super) fn start(database: Database, path: &Path) -> Result<Desk, StoreError> {
    let (orders, mut received) = mpsc::channel::<Order>(QUEUE);
    let file = path.display().to_string();
    let state = Arc::new(State::default());
    let mut worker = Worker {
        database,
        file: file.clone(),
        state: state.clone(),
    };
    thread::Builder::new()
        .name("leasehold-sqlite".into())
        .spawn(move || {
            while let Some(order) = received.blocking_recv() {
                worker.carry_out(order);
            }
        })
        .map_err(|error| {
            let unnamed = || {
                StoreError::new(
                    StoreErrorKind::Unavailable,
                    Effect::NotApplied,
                    format!("no thread could be started for the lock file `{file}`"),
                )
            };
            exhausted(path, &error)
                .unwrap_or_else(unnamed)
                .with_source(error)
        })?;
    Ok(Desk {
        orders,
        state,
        file,
    })
}

struct Worker {
    database: Database,
    file: String,
    state: Arc<State>,
}

impl Worker {
    fn carry_out(&mut self, order: Order) {
        let now = SystemClock.elapsed();
        let since = u64::try_from(now.0.as_micros()).unwrap_or(u64::MAX).max(1);
        self.state.busy_since.store(since, Ordering::Relaxed);
        self.begin(order, now);
        self.state.busy_since.store(0, Ordering::Relaxed);
    }

    fn begin(&mut self, order: Order, now: Elapsed) {
        let Order { job, until, .. } = order;
        if order.decided.swap(true, Ordering::AcqRel) {
            return;
        }
        let in_time = match now < until || job.gives_back() {
            true => Ok(()),
            false => Err(too_late(&self.file)),
        };
        let database = &mut self.database;
        // A caller that has left does not need the answer.
        match job {
            Job::Write(ref write, ref answer) if answer.is_closed() && !gives_back(write) => {}
            Job::Write(write, answer) => {
                let _ = answer.send(in_time.and_then(|()| database.write(*write, until)));
            }
            Job::Read { answer, .. } if answer.is_closed() => {}
            Job::Read { key, units, answer } => {
                let _ = answer.send(in_time.and_then(|()| database.read(&key, units, until)));
            }
            Job::List { answer, .. } if answer.is_closed() => {}
            Job::List {
                prefix,
                after,
                answer,
            } => {
                let done = in_time.and_then(|()| database.list(&prefix, after.as_deref(), until));
                let _ = answer.send(done);
            }
        }
    }
}

impl Job {
    fn gives_back(&self) -> bool {
        matches!(self, Job::Write(write, _) if gives_back(write))
    }
}

fn gives_back(write: &Write) -> bool {
    matches!(
        write,
        Write::Release { .. }
            | Write::HandOver { .. }
            | Write::Complete(_)
            | Write::Leave { .. }
            | Write::Withdraw { .. }
            | Write::Slot(SlotWrite::Exit { .. } | SlotWrite::Open { .. })
    )
}

#[cfg(test)]
mod tests {
    use leasehold_protocol::attempt::AttemptId;
    use leasehold_protocol::write::Left;

    use super::*;

    #[test]
    fn at_most_so_many_calls_wait() {
        let state = State::default();
        let waiting: Vec<_> = (0..MOST).map_while(|_| state.enter()).collect();
        assert_eq!(waiting.len(), MOST);
        assert!(state.enter().is_none());
        drop(waiting);
        assert!(state.enter().is_some());
    }

    /// The answer to a job that has waited for too long.
    fn too_late<T>(
        worker: &mut Worker,
        job: impl FnOnce(Answer<T>) -> Job,
    ) -> Result<Reply<T>, StoreError> {
        let (answer, mut answered) = oneshot::channel();
        let order = Order {
            job: job(answer),
            until: Elapsed::default(),
            decided: Arc::default(),
        };
        worker.begin(order, SystemClock.elapsed());
        answered.try_recv().expect("answered")
    }

    #[test]
    fn what_gives_back_is_carried_out_however_late() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("locks.db");
        let soon = SystemClock.elapsed().plus(PATIENCE);
        let mut worker = Worker {
            database: Database::open(&path, soon).expect("opens"),
            file: path.display().to_string(),
            state: Arc::default(),
        };
        let read = |answer| Job::Read {
            key: "k".into(),
            units: 1.0,
            answer,
        };
        let error = too_late(&mut worker, read).expect_err("too late");
        assert_eq!(error.kind, StoreErrorKind::Unavailable);
        let release = Write::Release {
            key: "k".into(),
            attempt: AttemptId::from_random([1; 16]),
            token: None,
            ttl_seconds: None,
            passed: Vec::new(),
            held: None,
            left: Left::Nothing,
        };
        let release = |answer| Job::Write(Box::new(release), answer);
        let answer = too_late(&mut worker, release).expect("carried out");
        assert_eq!(answer.value, Outcome::Refused(None));
    }
}
