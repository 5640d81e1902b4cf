//! The fixture of a case: a store with scripted answers, a clock, and gates at every await.
//!
//! Both clients of a case share the records. Only requests of the client under test have scripted outcomes
//! and gates.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use leasehold::clock::{Clock, TokioClock};
use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::record::Record;
use leasehold_protocol::time::{Elapsed, ServiceTime};
use tokio::sync::watch;

use super::call::Call;
use super::runs::Runs;

/// The wall clock and the service's when a case begins.
pub(super) const START_MS: i64 = 1_800_000_000_000;
/// Half of the time of a slow request. It lands late, and its answer comes after the request time-out.
pub(super) const SLOW: Duration = Duration::from_millis(700);
/// How long the store itself waits for an answer (see the contract of `Store`).
pub(super) const STORE_BOUND: Duration = Duration::from_secs(8);

/// What becomes of one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fortune {
    Ok,
    /// Applied, and the connection breaks before the answer.
    Error,
    /// Late there, late back.
    Slow,
    /// Applied, and no answer comes.
    Never,
    /// The connection breaks before it arrives.
    ErrorBefore,
    /// It never arrives, and no answer comes.
    NeverBefore,
}

/// In the order in which they are tried: first those of the issue, then what else they may mean.
pub(super) const FORTUNES: [Fortune; 6] = [
    Fortune::Ok,
    Fortune::Error,
    Fortune::Slow,
    Fortune::Never,
    Fortune::ErrorBefore,
    Fortune::NeverBefore,
];

/// Whose requests these are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Party {
    /// The client under test.
    Ours,
    /// Another one, whose requests succeed.
    Rival,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) records: BTreeMap<String, Record>,
    /// Outcomes that are given, and how many more may be drawn.
    script: Vec<usize>,
    taken: Vec<usize>,
    depth: usize,
    pub(super) armed: bool,
    gates: usize,
    cut_at: Option<usize>,
    /// Renewals of ours on their way: which grant, since when.
    pub(super) renewing: Vec<(u64, AttemptId, Elapsed)>,
    pub(super) rivals: Vec<String>,
    /// The attempts of ours that have joined a queue.
    pub(super) places: Vec<AttemptId>,
    /// Those that have taken a slot.
    pub(super) entered: Vec<AttemptId>,
    /// Whether ours were granted anything since the case was armed.
    pub(super) granted: bool,
    no_grant: bool,
    pub(super) no_renewals: bool,
    /// Time that passed while nothing ran: clocks show it, timers do not.
    pub(super) stopped_for: Duration,
    /// Stop for so long when the answer to the next renewal arrives.
    pub(super) stop_at_renewal: Option<Duration>,
    /// Whether the last grant or renewal of ours ties it to the process.
    pub(super) bound: Option<bool>,
    /// Work that runs once.
    pub(super) runs: Runs,
    pub(super) next: u64,
    pub(super) violations: Vec<String>,
}

/// The fixture of one case. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    inner: Arc<Mutex<Inner>>,
    /// Whether the gate of the cut has been reached, and whether gates are open again.
    reached: Arc<watch::Sender<bool>>,
    open: Arc<watch::Sender<bool>>,
    clock: TokioClock,
    pub(super) request_timeout: Duration,
    /// By how much the wall clock of the client under test is ahead.
    pub(super) wall_ahead_ms: i64,
}

impl Stage {
    /// An empty store. At most `depth` requests meet an outcome: those of `script`, then `Ok`.
    pub(super) fn new(script: Vec<usize>, depth: usize, call: Call) -> Stage {
        Stage {
            inner: Arc::new(Mutex::new(Inner {
                script,
                depth,
                ..Inner::default()
            })),
            reached: Arc::new(watch::Sender::new(false)),
            open: Arc::new(watch::Sender::new(false)),
            clock: TokioClock::new(START_MS),
            request_timeout: call.request_timeout(),
            wall_ahead_ms: call.wall_ahead_ms(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on requests get their outcomes, and the gate `cut_at` stops a task that reaches it.
    pub(super) fn arm(&self, cut_at: Option<usize>) {
        let mut inner = self.lock();
        inner.armed = true;
        inner.cut_at = cut_at;
    }

    /// The rival's grant of now is to be ended by force; one after it may not be.
    pub(super) fn give_up_grant(&self) {
        self.lock().rivals.clear();
    }

    /// Waits until a task has reached the gate of the cut.
    pub(super) async fn reached(&self) {
        let mut reached = self.reached.subscribe();
        // The sender lives as long as the stage.
        let _ = reached.wait_for(|reached| *reached).await;
    }

    /// Opens all gates.
    pub(super) fn open(&self) {
        self.lock().cut_at = None;
        self.open.send_replace(true);
    }

    /// An await of the library.
    pub(super) async fn gate(&self, party: Party) {
        let stop = {
            let mut inner = self.lock();
            if party == Party::Rival || !inner.armed {
                return;
            }
            inner.gates += 1;
            inner.cut_at == Some(inner.gates - 1)
        };
        if stop {
            let mut open = self.open.subscribe();
            self.reached.send_replace(true);
            let _ = open.wait_for(|open| *open).await;
        }
    }

    pub(super) fn draw(&self, party: Party) -> Fortune {
        let mut inner = self.lock();
        if party == Party::Rival || !inner.armed || inner.taken.len() == inner.depth {
            return Fortune::Ok;
        }
        let place = inner.taken.len();
        let choice = inner.script.get(place).copied().unwrap_or(0);
        inner.taken.push(choice);
        FORTUNES[choice]
    }

    /// The outcomes that requests have met.
    pub(super) fn taken(&self) -> Vec<usize> {
        self.lock().taken.clone()
    }

    /// The same as words.
    pub(super) fn fortunes(&self) -> Vec<Fortune> {
        self.taken().into_iter().map(|n| FORTUNES[n]).collect()
    }

    pub(super) fn accuse(&self, text: impl Into<String>) {
        self.lock().violations.push(text.into());
    }

    pub(super) fn violations(&self) -> Vec<String> {
        let inner = self.lock();
        let mut all = inner.violations.clone();
        if inner.no_grant && inner.granted {
            all.push("an error said that nothing was applied, and it was".to_owned());
        }
        let ours = |result: &Option<Vec<u8>>| result.as_deref() == Some(b"ours");
        let landed = inner
            .runs
            .completed()
            .iter()
            .any(|(_, result)| ours(result));
        if inner.runs.unrecorded && landed {
            all.push("S7: a run was said not to be remembered, and it is".to_owned());
        }
        all
    }

    /// A call has said that it applied nothing: nothing of it may land now or later.
    pub(super) fn expect_no_grant(&self) {
        self.lock().no_grant = true;
    }

    /// A lease was lost: none of its renewals may be sent from here on.
    pub(super) fn forbid_renewals(&self) {
        self.lock().no_renewals = true;
    }

    /// A call returned that its run is not remembered: no completion of it may land now or later.
    pub(super) fn expect_no_completion(&self) {
        self.lock().runs.unrecorded = true;
    }

    /// From here on somebody makes the key forget what is done.
    pub(super) fn may_forget(&self) {
        self.lock().runs.forgets = true;
    }

    /// The attempts whose runs were completed, and their results.
    pub(super) fn completed(&self) -> Vec<(String, Option<Vec<u8>>)> {
        self.lock().runs.completed().to_vec()
    }

    /// Whether the grant ends with its process, as far as was last written.
    pub(super) fn is_bound(&self) -> bool {
        self.lock().bound == Some(true)
    }

    /// In whose names records are left.
    pub(super) fn owners(&self) -> Vec<String> {
        let inner = self.lock();
        let owners = inner.records.values().filter_map(|r| r.owner.clone());
        owners.collect()
    }

    /// How many slots are held.
    pub(super) fn slots(&self) -> usize {
        let inner = self.lock();
        let slots = inner.records.values().filter_map(|r| r.slots.as_ref());
        slots.map(|slots| slots.held.len()).sum()
    }

    pub(super) fn record(&self, key: &str) -> Option<Record> {
        self.lock().records.get(key).cloned()
    }

    /// Puts a record as it is.
    pub(super) fn plant(&self, record: Record) {
        self.lock().records.insert(record.key.clone(), record);
    }

    /// Service time: exact, as the memory store's.
    pub(super) fn now(&self) -> ServiceTime {
        ServiceTime(START_MS).plus_floor(self.elapsed().0)
    }

    pub(super) fn elapsed(&self) -> Elapsed {
        let stopped_for = self.lock().stopped_for;
        self.clock.elapsed().plus(stopped_for)
    }

    pub(super) async fn sleep_until(&self, at: Elapsed) {
        let stopped_for = self.lock().stopped_for;
        self.clock.sleep_until(at.minus(stopped_for)).await;
    }

    pub(super) async fn sleep(&self, by: Duration) {
        self.sleep_until(self.elapsed().plus(by)).await;
    }

    /// The process will be stopped for so long at the moment at which a renewal is answered: when it
    /// goes on, the answer is there before any timer.
    pub(super) fn stop_at_renewal(&self, by: Duration) {
        self.lock().stop_at_renewal = Some(by);
    }
}
