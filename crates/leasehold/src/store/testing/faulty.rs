//! A store wrapper that breaks requests, to test clients.
//!
//! Each operation has a list of planned faults, one per request. Other requests succeed, unless there is
//! an [outage](FaultyStore::start_outage). [`FaultyStore::unused`] counts planned faults that no
//! request has met, so that a test does not pass without its fault.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::Clock;
use crate::error::Effect;
use crate::store::{Consistency, Hints, Outcome, Page, Reply, Store, StoreError, StoreErrorKind};
use leasehold_protocol::record::Record;
use leasehold_protocol::write::{Operation, Write};

/// The fault of one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// No fault.
    None,
    /// It never reaches the store, and fails with an unknown effect.
    LoseRequest,
    /// It is applied, the answer is lost.
    LoseAnswer,
    /// It is applied, and no answer ever comes.
    Hang,
    /// It never reaches the store, and no answer ever comes.
    BlackHole,
    /// It reaches the store after this delay.
    DelayRequest(Duration),
    /// It is applied at once, and the answer comes after this delay.
    DelayAnswer(Duration),
    /// It is applied twice, and the second answer counts, like a retry inside the service.
    Duplicate,
    /// It is refused as throttled.
    Throttle,
    /// It is refused because of another transaction on the record.
    Conflict,
    /// It is not applied, and fails with an unknown effect, like a failure inside the store.
    ServerError,
    /// It is refused, and a retry does not help.
    AccessDenied,
}

#[derive(Debug, Default)]
struct Plan {
    faults: HashMap<Operation, VecDeque<Fault>>,
    /// The fault of every request without a planned fault.
    outage: Option<Fault>,
}

/// Breaks requests to `inner` as planned. Clones share the plan.
#[derive(Clone, Debug)]
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    plan: Arc<Mutex<Plan>>,
}

impl FaultyStore {
    /// A wrapper of `inner` without faults yet. `clock` measures delays.
    pub fn new(inner: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        FaultyStore {
            inner,
            clock,
            plan: Arc::default(),
        }
    }

    /// Plans faults for the next requests of an operation.
    pub fn plan(&self, operation: Operation, faults: impl IntoIterator<Item = Fault>) {
        self.lock(|plan| plan.faults.entry(operation).or_default().extend(faults));
    }

    /// From now on every request without a planned fault gets `fault`.
    pub fn start_outage(&self, fault: Fault) {
        self.lock(|plan| plan.outage = Some(fault));
    }

    /// Ends the outage.
    pub fn end_outage(&self) {
        self.lock(|plan| plan.outage = None);
    }

    /// How many planned faults no request has met.
    pub fn unused(&self) -> usize {
        self.lock(|plan| plan.faults.values().map(VecDeque::len).sum())
    }

    fn lock<T>(&self, f: impl FnOnce(&mut Plan) -> T) -> T {
        f(&mut self.plan.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn next(&self, operation: Operation) -> Fault {
        self.lock(|plan| {
            let planned = plan.faults.get_mut(&operation);
            let planned = planned.and_then(VecDeque::pop_front);
            planned.or(plan.outage).unwrap_or(Fault::None)
        })
    }

    async fn sleep(&self, by: Duration) {
        self.clock.sleep_until(self.clock.elapsed().plus(by)).await;
    }

    /// The part of a fault before the request reaches the store.
    async fn before(&self, fault: Fault) -> Result<(), StoreError> {
        let refused = |kind, effect, what| Err(StoreError::new(kind, effect, what));
        match fault {
            Fault::LoseRequest => refused(
                StoreErrorKind::Unavailable,
                Effect::Unknown,
                "request lost (planned)",
            ),
            Fault::ServerError => refused(
                StoreErrorKind::Unavailable,
                Effect::Unknown,
                "server error (planned)",
            ),
            Fault::BlackHole => std::future::pending().await,
            Fault::DelayRequest(by) => {
                self.sleep(by).await;
                Ok(())
            }
            Fault::Throttle => refused(
                StoreErrorKind::Throttled,
                Effect::NotApplied,
                "throttled (planned)",
            ),
            Fault::Conflict => refused(
                StoreErrorKind::Conflict,
                Effect::NotApplied,
                "conflict (planned)",
            ),
            Fault::AccessDenied => refused(
                StoreErrorKind::AccessDenied,
                Effect::NotApplied,
                "access denied (planned)",
            ),
            _ => Ok(()),
        }
    }

    /// The part of a fault after the store has answered.
    async fn after(&self, fault: Fault) -> Result<(), StoreError> {
        match fault {
            Fault::LoseAnswer => Err(StoreError::new(
                StoreErrorKind::Unavailable,
                Effect::Unknown,
                "answer lost (planned)",
            )),
            Fault::Hang => std::future::pending().await,
            Fault::DelayAnswer(by) => {
                self.sleep(by).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Store for FaultyStore {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn hints(&self) -> Hints {
        self.inner.hints()
    }

    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        let fault = self.next(write.operation());
        self.before(fault).await?;
        if fault == Fault::Duplicate {
            self.inner.write(write.clone()).await?;
        }
        let reply = self.inner.write(write).await?;
        self.after(fault).await?;
        Ok(reply)
    }

    async fn read(
        &self,
        key: &str,
        consistency: Consistency,
    ) -> Result<Reply<Option<Record>>, StoreError> {
        let fault = self.next(Operation::Read);
        self.before(fault).await?;
        let reply = self.inner.read(key, consistency).await?;
        self.after(fault).await?;
        Ok(reply)
    }

    async fn list(&self, prefix: &str, after: Option<String>) -> Result<Reply<Page>, StoreError> {
        let fault = self.next(Operation::List);
        self.before(fault).await?;
        let reply = self.inner.list(prefix, after).await?;
        self.after(fault).await?;
        Ok(reply)
    }
}
