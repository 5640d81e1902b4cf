//! The fixture of a case: a store with scripted answers, a clock, and gates at every await.
//!
//! Both clients of a case share the records. Only requests of the client under test have scripted outcomes
//! and gates. Invariants that are checked here: no request is dropped before it has ended, none changes the
//! rival's grant (S4), and no release overtakes a renewal in flight (holder rule 5).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use leasehold::Effect;
use leasehold::clock::{Clock, Random, TokioClock};
use leasehold::store::{
    Consistency, Hints, Outcome, Page, Reply, Store, StoreError, StoreErrorKind, Units,
};
use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::done::Completion;
use leasehold_protocol::record::Record;
use leasehold_protocol::time::{Elapsed, ServiceTime, Stamp};
use leasehold_protocol::write::{Grant, Operation, Write, apply};
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
struct Inner {
    records: BTreeMap<String, Record>,
    /// Outcomes that are given, and how many more may be drawn.
    script: Vec<usize>,
    taken: Vec<usize>,
    depth: usize,
    armed: bool,
    gates: usize,
    cut_at: Option<usize>,
    /// Renewals of ours on their way: which grant, since when.
    renewing: Vec<(u64, AttemptId, Elapsed)>,
    rivals: Vec<String>,
    /// The attempts of ours that have joined a queue.
    places: Vec<AttemptId>,
    /// Whether ours were granted anything since the case was armed.
    granted: bool,
    no_grant: bool,
    no_renewals: bool,
    /// Time that passed while nothing ran: clocks show it, timers do not.
    stopped_for: Duration,
    /// Stop for so long when the answer to the next renewal arrives.
    stop_at_renewal: Option<Duration>,
    /// Whether the last grant or renewal of ours ties it to the process.
    bound: Option<bool>,
    /// Work that runs once.
    runs: Runs,
    next: u64,
    violations: Vec<String>,
}

/// The fixture of one case. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    inner: Arc<Mutex<Inner>>,
    /// Whether the gate of the cut has been reached, and whether gates are open again.
    reached: Arc<watch::Sender<bool>>,
    open: Arc<watch::Sender<bool>>,
    clock: TokioClock,
    request_timeout: Duration,
    /// By how much the wall clock of the client under test is ahead.
    wall_ahead_ms: i64,
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

    fn lock(&self) -> MutexGuard<'_, Inner> {
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
    async fn gate(&self, party: Party) {
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

    fn draw(&self, party: Party) -> Fortune {
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

    fn elapsed(&self) -> Elapsed {
        let stopped_for = self.lock().stopped_for;
        self.clock.elapsed().plus(stopped_for)
    }

    async fn sleep_until(&self, at: Elapsed) {
        let stopped_for = self.lock().stopped_for;
        self.clock.sleep_until(at.minus(stopped_for)).await;
    }

    async fn sleep(&self, by: Duration) {
        self.sleep_until(self.elapsed().plus(by)).await;
    }

    /// The process will be stopped for so long at the moment at which a renewal is answered: when it
    /// goes on, the answer is there before any timer.
    pub(super) fn stop_at_renewal(&self, by: Duration) {
        self.lock().stop_at_renewal = Some(by);
    }

    fn apply(&self, party: Party, write: &Write) -> Outcome {
        let now = self.now();
        let mut inner = self.lock();
        let current = inner.records.get(write.key()).cloned();
        let Ok(after) = apply(current.as_ref(), write) else {
            return Outcome::Refused(current);
        };
        if let Some(text) = inner.runs.judge(current.as_ref(), write, now) {
            inner.violations.push(text.to_owned());
        }
        if let Write::Acquire(grant) | Write::TakeOver(grant, ..) = write {
            match party {
                Party::Rival => inner.rivals.push(grant.attempt.to_string()),
                Party::Ours => inner.granted |= inner.armed,
            }
        }
        if let (
            Party::Ours,
            Write::Acquire(Grant {
                bound_to_process, ..
            })
            | Write::TakeOver(
                Grant {
                    bound_to_process, ..
                },
                ..,
            )
            | Write::Renew {
                bound_to_process, ..
            },
        ) = (party, write)
        {
            inner.bound = Some(*bound_to_process);
        }
        if let (Write::HandOver { .. }, Some(next)) = (write, &after) {
            match party_of(&inner, next) {
                Party::Rival => inner.rivals.extend(next.owner.clone()),
                Party::Ours => inner.granted |= inner.armed,
            }
        }
        if let Write::Join { place, .. } = write
            && party == Party::Ours
        {
            inner.places.push(place.attempt());
        }
        let same_grant = match (&current, &after) {
            (Some(before), Some(after)) => {
                let queue = after.queue.clone();
                matches!(write, Write::Join { .. } | Write::Leave { .. })
                    && *after
                        == Record {
                            queue,
                            ..before.clone()
                        }
            }
            _ => false,
        };
        let owner = current.and_then(|record| record.owner);
        let of_rival = owner.is_some_and(|owner| inner.rivals.contains(&owner));
        if party == Party::Ours && of_rival && !same_grant {
            let text = format!("S4: {} changed the rival's grant", write.operation());
            inner.violations.push(text);
        }
        match &after {
            Some(record) => inner.records.insert(record.key.clone(), record.clone()),
            None => inner.records.remove(write.key()),
        };
        Outcome::Applied(after)
    }

    /// Whether a place of ours is left in a queue.
    pub(super) fn has_place(&self) -> bool {
        let inner = self.lock();
        let left = |record: &Record| {
            inner
                .places
                .iter()
                .any(|place| record.place_of(*place).is_some())
        };
        inner.records.values().any(left)
    }

    fn reply<T>(&self, value: T) -> Reply<T> {
        Reply::new(value, Some(Stamp::Exact(self.now()))).with_units(Units {
            write: 1.0,
            read: 0.0,
        })
    }

    /// What happens to a request on its way; `carry_out` is its arrival.
    async fn pass<T>(
        &self,
        party: Party,
        operation: Operation,
        carry_out: impl FnOnce() -> T,
    ) -> Result<Reply<T>, StoreError> {
        let mut flight = Flight {
            stage: self,
            operation,
            ended: false,
        };
        let fortune = self.draw(party);
        self.gate(party).await;
        let broken = || {
            Err(StoreError::new(
                StoreErrorKind::Unavailable,
                Effect::Unknown,
                format!("{fortune:?} (planned)"),
            ))
        };
        let answer = match fortune {
            Fortune::ErrorBefore => broken(),
            Fortune::NeverBefore => {
                self.sleep(STORE_BOUND).await;
                broken()
            }
            _ => {
                if fortune == Fortune::Slow {
                    self.sleep(SLOW).await;
                }
                let value = carry_out();
                self.gate(party).await;
                match fortune {
                    Fortune::Error => broken(),
                    Fortune::Never => {
                        self.sleep(STORE_BOUND).await;
                        broken()
                    }
                    Fortune::Slow => {
                        let reply = self.reply(value);
                        self.sleep(SLOW).await;
                        Ok(reply)
                    }
                    _ => Ok(self.reply(value)),
                }
            }
        };
        self.gate(party).await;
        if operation == Operation::Renew && party == Party::Ours {
            let mut inner = self.lock();
            let stop = inner.stop_at_renewal.take().unwrap_or_default();
            inner.stopped_for += stop;
        }
        flight.ended = true;
        answer
    }

    /// Takes note of what holder rule 5 is about; gives the number of a renewal.
    fn depart(&self, write: &Write) -> Option<u64> {
        let now = self.elapsed();
        let mut inner = self.lock();
        match write {
            Write::Renew { attempt, .. } => {
                if inner.no_renewals {
                    let text = "rule 4: a lost lease is renewed".to_owned();
                    inner.violations.push(text);
                }
                inner.next += 1;
                let number = inner.next;
                inner.renewing.push((number, *attempt, now));
                Some(number)
            }
            Write::Complete(Completion { attempt, .. })
            | Write::Release {
                attempt,
                token: Some(_),
                ..
            }
            | Write::HandOver {
                attempt,
                token: Some(_),
                ..
            } => {
                let waits = self.request_timeout;
                let overtaken = inner
                    .renewing
                    .iter()
                    .any(|(_, renewing, since)| renewing == attempt && now.since(*since) < waits);
                if overtaken {
                    let text = "rule 5: a release overtakes a renewal in flight".to_owned();
                    inner.violations.push(text);
                }
                None
            }
            _ => None,
        }
    }

    fn shows(&self, record: Option<&Record>) {
        let now = self.now();
        self.lock().runs.shows(record, now);
    }

    fn land(&self, renewal: Option<u64>) {
        self.lock()
            .renewing
            .retain(|(number, ..)| Some(*number) != renewal);
    }
}

/// Whose attempt holds a record that was handed over.
fn party_of(inner: &Inner, record: &Record) -> Party {
    match inner.places.iter().any(|place| place.owns(record)) {
        true => Party::Ours,
        false => Party::Rival,
    }
}

/// A request in flight, which must never be cancelled.
struct Flight<'a> {
    stage: &'a Stage,
    operation: Operation,
    ended: bool,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let text = format!("a request was cancelled in flight: {}", self.operation);
            self.stage.accuse(text);
        }
    }
}

/// The fixture for one client: its store, its clock, its random bits.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) stage: Stage,
    pub(super) party: Party,
}

#[async_trait]
impl Store for Seat {
    fn describe(&self) -> String {
        "stage".into()
    }

    fn hints(&self) -> Hints {
        let mut hints = Hints::default();
        hints.expiry_padding = Duration::ZERO;
        hints.check_delay = Duration::from_millis(100);
        hints.check_delay_max = Duration::from_millis(400);
        hints.max_polls_per_second = 100;
        hints
    }

    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        let stage = &self.stage;
        let ours = self.party == Party::Ours;
        let renewal = ours.then(|| stage.depart(&write)).flatten();
        let answer = stage
            .pass(self.party, write.operation(), || {
                stage.apply(self.party, &write)
            })
            .await;
        stage.land(renewal);
        if let Ok(Reply {
            value: Outcome::Applied(record) | Outcome::Refused(record),
            ..
        }) = &answer
        {
            stage.shows(record.as_ref());
        }
        answer
    }

    async fn read(
        &self,
        key: &str,
        _consistency: Consistency,
    ) -> Result<Reply<Option<Record>>, StoreError> {
        let look = || self.stage.record(key);
        let answer = self.stage.pass(self.party, Operation::Read, look).await;
        if let Ok(reply) = &answer {
            self.stage.shows(reply.value.as_ref());
        }
        answer
    }

    /// Two pages: all records, and none.
    async fn list(&self, prefix: &str, after: Option<String>) -> Result<Reply<Page>, StoreError> {
        let look = || match after {
            None => {
                let inner = self.stage.lock();
                let of_prefix = |record: &&Record| record.key.starts_with(prefix);
                let records = inner.records.values().filter(of_prefix).cloned().map(Ok);
                Page::new(records.collect(), Some("the second".to_owned()))
            }
            Some(_) => Page::new(Vec::new(), None),
        };
        self.stage.pass(self.party, Operation::List, look).await
    }
}

#[async_trait]
impl Clock for Seat {
    fn elapsed(&self) -> Elapsed {
        self.stage.elapsed()
    }

    fn wall_unix_ms(&self) -> i64 {
        let ahead_ms = match self.party {
            Party::Ours => self.stage.wall_ahead_ms,
            Party::Rival => 0,
        };
        let passed = i64::try_from(self.stage.elapsed().0.as_millis()).unwrap_or(i64::MAX);
        START_MS.saturating_add(passed).saturating_add(ahead_ms)
    }

    async fn sleep_until(&self, at: Elapsed) {
        self.stage.gate(self.party).await;
        self.stage.sleep_until(at).await;
        self.stage.gate(self.party).await;
    }
}

impl Random for Seat {
    fn attempt_bits(&self) -> [u8; 16] {
        let mut inner = self.stage.lock();
        inner.next += 1;
        u128::from(inner.next).to_be_bytes()
    }

    /// The middle: every run of a case is the same.
    fn fraction(&self) -> f64 {
        0.5
    }
}
