//! One request and its answer: the client calls its store only here.
//!
//! Invariants: the clocks are read *before* a request is made (the caller passes the reading). Every
//! answer's stamp feeds the service clock. A request in flight is never cancelled, because it is an
//! [`InFlight`]. Every request is metered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use leasehold_protocol::attempt::Shown;
use leasehold_protocol::record::Record;
use leasehold_protocol::time::{Elapsed, Reading};
use leasehold_protocol::write::{Operation, Write};
use tracing::warn;

use super::Core;
use super::retry::Retry;
use crate::error::Effect;
use crate::meter::CallUsage;
use crate::runtime::request::{Answer, InFlight};
use crate::store::{Consistency, Outcome, Page, Reply, StoreError, StoreErrorKind};
use crate::usage::Units;

/// The shortest time-out of a request.
const LEAST: Duration = Duration::from_millis(10);

impl Core {
    /// Sends a write. `sent` is the clock reading from before it was made.
    pub(crate) fn launch(
        self: &Arc<Self>,
        write: Write,
        sent: Reading,
        call_usage: &CallUsage,
    ) -> InFlight<Outcome> {
        let (core, call_usage) = (self.clone(), call_usage.clone());
        self.in_flight(Effect::Unknown, sent, async move {
            core.write(write, sent, &call_usage).await
        })
    }

    fn in_flight<T: Send + 'static>(
        self: &Arc<Self>,
        effect: Effect,
        sent: Reading,
        work: impl Future<Output = Answer<T>> + Send + 'static,
    ) -> InFlight<T> {
        let core = self.clone();
        let why = "the request ended without an answer";
        InFlight::new(&self.tasks, work, move || core.no_answer(effect, sent, why))
    }

    fn no_answer<T>(&self, effect: Effect, sent: Reading, why: &str) -> Answer<T> {
        Answer {
            result: Err(StoreError::new(
                StoreErrorKind::Unavailable,
                effect,
                format!("{}: {why}", self.store.describe()),
            )),
            sent,
            received: self.clocks.elapsed(),
        }
    }

    /// Sends a write and waits for its answer, at most for `timeout`. The request goes on when the
    /// time is over or this future is dropped.
    pub(crate) async fn write_detached(
        self: &Arc<Self>,
        write: Write,
        sent: Reading,
        timeout: Duration,
        call_usage: &CallUsage,
    ) -> Answer<Outcome> {
        let flight = self.launch(write, sent, call_usage);
        self.within(flight, sent, timeout, Effect::Unknown).await
    }

    /// Reads a record, with retries within the call time-out.
    pub(crate) async fn read_retrying(
        self: &Arc<Self>,
        key: Arc<str>,
        consistency: Consistency,
    ) -> Result<Option<Record>, StoreError> {
        let (policy, now) = (&self.policy, self.clocks.elapsed());
        let limit = now.plus(policy.call_timeout());
        let (record, _) = self
            .poll_retrying(key, consistency, policy.request_timeout(), limit)
            .await?;
        Ok(record)
    }

    /// The same within these bounds, with how it was shown.
    pub(crate) async fn poll_retrying(
        self: &Arc<Self>,
        key: Arc<str>,
        consistency: Consistency,
        longest: Duration,
        limit: Elapsed,
    ) -> Result<(Option<Record>, Shown), StoreError> {
        let consistent = consistency == Consistency::Strong;
        let call_usage = CallUsage::default();
        self.retrying(consistent, limit, |left| {
            self.read(key.clone(), consistency, longest.min(left), &call_usage)
        })
        .await
    }

    /// Reads a page of the listing of this prefix, with retries within the call time-out.
    pub(crate) async fn list_retrying(
        self: &Arc<Self>,
        prefix: Option<Arc<str>>,
        after: Option<String>,
    ) -> Result<Page, StoreError> {
        // A page is much larger than a record, and may take all the time that is left.
        let limit = self.clocks.elapsed().plus(self.policy.call_timeout());
        let page = self.retrying(false, limit, |left| {
            let (core, prefix, after) = (self.clone(), prefix.clone(), after.clone());
            let sent = self.clocks.reading();
            let call_usage = CallUsage::default();
            self.meter.request(Operation::List, &call_usage);
            let flight = self.in_flight(Effect::NotApplied, sent, async move {
                let prefix = prefix.as_deref().unwrap_or_default();
                let result = core.store.list(prefix, after).await;
                core.answer(result, sent, &call_usage)
            });
            self.within(flight, sent, left, Effect::NotApplied)
        });
        let (page, _) = page.await?;
        Ok(page)
    }

    /// Retries until there is an answer. `ask` gets the rest of the time until `limit`.
    async fn retrying<T, F>(
        &self,
        consistent: bool,
        limit: Elapsed,
        mut ask: impl FnMut(Duration) -> F,
    ) -> Result<(T, Shown), StoreError>
    where
        F: Future<Output = Answer<T>>,
    {
        let mut retry = Retry::until(limit);
        loop {
            // After a late back-off there is still one short request.
            let left = limit.since(self.clocks.elapsed()).max(LEAST);
            let answer = ask(left).await;
            let shown = answer.shown(consistent);
            let error = match answer.result {
                Ok(value) => return Ok((value, shown)),
                Err(error) => error,
            };
            if !retry.again(self, &error).await {
                return Err(error);
            }
        }
    }

    /// Waits for a request, at most for `timeout` from its send.
    async fn within<T: Send + 'static>(
        &self,
        flight: InFlight<T>,
        sent: Reading,
        timeout: Duration,
        effect: Effect,
    ) -> Answer<T> {
        tokio::select! {
            biased;
            answer = flight => answer,
            () = self.clocks.sleep_until(sent.elapsed.plus(timeout)) => {
                self.no_answer(effect, sent, &no_answer_within(timeout))
            }
        }
    }

    /// Sends a write and waits for its answer.
    async fn write(
        self: &Arc<Self>,
        write: Write,
        sent: Reading,
        call_usage: &CallUsage,
    ) -> Answer<Outcome> {
        let operation = write.operation();
        self.meter.request(operation, call_usage);
        let result = self.store.write(write).await;
        if matches!(&result, Ok(reply) if matches!(reply.value, Outcome::Refused(_)) && reply.units.write == 0.0)
        {
            // Refused conditions cost a unit that DynamoDB does not report.
            let refused = Units {
                write: 1.0,
                read: 0.0,
            };
            self.meter.units(refused, call_usage);
        }
        self.answer(result, sent, call_usage)
    }

    /// Reads a record and waits for it, at most for `timeout`.
    pub(crate) async fn read(
        self: &Arc<Self>,
        key: Arc<str>,
        consistency: Consistency,
        timeout: Duration,
        call_usage: &CallUsage,
    ) -> Answer<Option<Record>> {
        let (core, call_usage) = (self.clone(), call_usage.clone());
        let sent = self.clocks.reading();
        self.meter.request(Operation::Read, &call_usage);
        let flight = self.in_flight(Effect::NotApplied, sent, async move {
            let result = core.store.read(&key, consistency).await;
            core.answer(result, sent, &call_usage)
        });
        self.within(flight, sent, timeout, Effect::NotApplied).await
    }

    /// Learns the service's clock from an answer.
    pub(crate) fn answer<T>(
        &self,
        result: Result<Reply<T>, StoreError>,
        sent: Reading,
        call_usage: &CallUsage,
    ) -> Answer<T> {
        let received = self.clocks.reading();
        let stamp = match &result {
            Ok(reply) => {
                self.meter.units(reply.units, call_usage);
                reply.stamp
            }
            Err(error) => error.stamp,
        };
        if let Some(stamp) = stamp {
            self.clocks.learn(stamp, sent, received, &self.leases.store);
        } else if result.is_ok() && !self.warned_stamp.swap(true, Ordering::Relaxed) {
            warn!(
                store = self.store.describe(),
                "answers carry no service time: a key is taken from a dead holder only after watching it for a \
                lease; every client of this store must see no service time, either"
            );
        }
        Answer {
            result: result.map(|reply| reply.value),
            sent,
            received: received.elapsed,
        }
    }
}

pub(crate) fn no_answer_within(limit: Duration) -> String {
    format!("no answer within {limit:.1?}")
}
