//! The way to a run, or to what is remembered of one.
//!
//! Invariants: a call runs the work only under a grant of its own. A remembered run is returned without a
//! write, and no lock is taken for it. A wait ends at its bound.

use std::sync::Arc;
use std::time::Duration;

use leasehold_protocol::attempt::Shown;
use leasehold_protocol::deadline::service_now;
use leasehold_protocol::record::Record;
use leasehold_protocol::takeover::Verdict;
use leasehold_protocol::time::{Elapsed, Reading};
use leasehold_protocol::write::Operation;

use super::pace::Seen;
use super::request::OnceRequest;
use super::run::OnceRun;
use crate::acquire::{
    Order, Patience, TryAcquireOutcome, acquire, check, shut_down_while_waiting, wait_expired,
};
use crate::done::Done;
use crate::error::{Error, ErrorKind};
use crate::holder::HolderInfo;
use crate::queue::Looker;
use crate::shared::Core;
use crate::store::Consistency;

/// The answer of [`OnceRequest::start`]. A `match` on it is exhaustive.
#[derive(Debug)]
#[must_use]
pub enum Started {
    /// The caller is to do the work.
    Run(OnceRun),
    /// The work is done.
    Done(Done),
}

impl OnceRequest {
    /// Begins a run for a caller that does the work elsewhere, unless a run is remembered: of success or, if that was
    /// asked for, of failure ([`Done::is_failed`]). It waits for a run of another as [`run`](OnceRequest::run) does.
    ///
    /// # Errors
    ///
    /// [`WaitExpired`](ErrorKind::WaitExpired) while another runs the work; others by [`ErrorKind`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the call: requests in flight go on, and a grant that they acquire is
    /// released.
    pub async fn start(self) -> Result<Started, Error> {
        let core = self.request.core.clone();
        core.meter.counted(self.begin(&core).await)
    }

    async fn begin(self, core: &Arc<Core>) -> Result<Started, Error> {
        self.check()?;
        let order = self.request.clone().order(|_| Patience::None)?;
        let patience = Patience::of(&order.policy);
        let key = order.key.shared();
        check(core, &key)?;
        let started = core.clocks.elapsed();
        let mut wait = Wait {
            core,
            order: &order,
            patient: self.patient,
            started,
            limit: patience.limit(&order.policy, started),
            waits: patience != Patience::None,
            refused: None,
            rounds: 0,
            held: None,
            looker: None,
        };
        let mut polls = !self.acquires_first;
        loop {
            let mut order = order.clone();
            if std::mem::replace(&mut polls, true) {
                let (record, shown) = wait.poll().await?;
                if let Some(record) = record {
                    let now = core.clocks.reading();
                    let mut observation = core.observed(&key);
                    let rules = order.policy.rules(&core.hints);
                    let verdict = core.clocks.with_service(|service| {
                        observation.judge(None, Some(&record), shown.received, now, service, &rules)
                    });
                    core.remember(&key, &observation);
                    match verdict {
                        Verdict::Done { .. } => return self.remembered(Done::of(&record)),
                        Verdict::Wait { ends } => {
                            wait.until_look(&record, ends, now).await?;
                            continue;
                        }
                        // It has taken longer than its keep, and this call has waited for it.
                        Verdict::TakeOver(..) if wait.has_waited_for(&record) => {
                            return self.remembered(Done::of(&record));
                        }
                        Verdict::Free | Verdict::TakeOver(..) => {
                            order.polled = Some(Box::new((record, shown)));
                        }
                    }
                }
            }
            match acquire(core, &order).await {
                Ok(TryAcquireOutcome::Acquired(lease)) => {
                    let run = OnceRun::new(lease, self.keep, self.remember_failures, self.input);
                    return Ok(Started::Run(run));
                }
                Ok(TryAcquireOutcome::Held(held)) => wait.after_refusal(held).await?,
                Err(error) if error.done().is_some() => {
                    return self.remembered(error.done().cloned());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The answer for work that is done, if it was done for the same input.
    fn remembered(&self, done: Option<Done>) -> Result<Started, Error> {
        let key = self.request.key.as_str();
        let Some(done) = done else {
            let message = format!("`{key}` is done, and its record does not say how");
            return Err(Error::new(ErrorKind::Unexpected, message).with_key(key));
        };
        match (done.input(), self.input.as_deref()) {
            (Some(theirs), Some(ours)) if theirs != ours => Err(Error::new(
                ErrorKind::InvalidInput,
                format!("{done}, for another input than this call has"),
            )
            .with_key(key)
            .with_setting("input", None)
            .with_hint("use another key for other input")),
            _ => Ok(Started::Done(done)),
        }
    }
}

/// A wait for a run of another.
struct Wait<'a> {
    core: &'a Arc<Core>,
    order: &'a Order,
    patient: bool,
    started: Elapsed,
    limit: Elapsed,
    waits: bool,
    /// When an acquire was refused the first time.
    refused: Option<Elapsed>,
    rounds: u32,
    held: Option<HolderInfo>,
    /// From the first run of another that it sees.
    looker: Option<Looker>,
}

impl Wait<'_> {
    /// Reads the record, by the bounds of the call.
    async fn poll(&self) -> Result<(Option<Record>, Shown), Error> {
        let (core, policy) = (self.core, &self.order.policy);
        let key = self.order.key.shared();
        let now = core.clocks.elapsed();
        let limit = now.plus(policy.call_timeout()).min(self.limit);
        let poll = core.poll_retrying(
            key.clone(),
            Consistency::Eventual,
            policy.request_timeout(),
            limit,
        );
        let polled = tokio::select! {
            biased;
            () = core.shut.cancelled() => {
                return Err(shut_down_while_waiting().with_key(&key));
            }
            polled = poll => polled,
        };
        let took = core.clocks.elapsed().since(now);
        polled.map_err(|error| {
            let error = error.into_error(Operation::Read, Some(&key));
            error.with_effort(1, took)
        })
    }

    /// Whether the run of this record is the one that the call has waited for.
    fn has_waited_for(&self, record: &Record) -> bool {
        let waited = self.held.as_ref().and_then(HolderInfo::token);
        let stored = waited.map(leasehold_protocol::token::FencingToken::stored);
        record.done.is_some() && stored.is_some() && stored == record.token()
    }

    /// Waits until the run in this record is to be looked at again.
    async fn until_look(
        &mut self,
        record: &Record,
        ends: Option<Elapsed>,
        now: Reading,
    ) -> Result<(), Error> {
        let service = self
            .core
            .clocks
            .with_service(|service| service_now(service, now));
        let lease = record.native.map(|native| native.lease);
        let seen = Seen {
            age: record
                .acquired_at
                .map(|began| service.since(began))
                .unwrap_or_default(),
            last: record.last_hold,
            ends: ends.map(|ends| ends.since(now.elapsed)),
            lease: lease.unwrap_or_else(|| self.order.policy.lease_duration()),
        };
        self.sees(HolderInfo::of(record));
        let delay = self.delay(seen);
        self.sleep(delay).await
    }

    /// Waits after a refused acquire: the run has just begun, or others wait for the key of a dead one.
    async fn after_refusal(&mut self, held: HolderInfo) -> Result<(), Error> {
        let lease = held.lease_duration();
        self.sees(held);
        let now = self.core.clocks.elapsed();
        let since = *self.refused.get_or_insert(now);
        let delay = self.delay(Seen {
            age: now.since(since),
            last: None,
            ends: None,
            lease: lease.unwrap_or_else(|| self.order.policy.lease_duration()),
        });
        self.sleep(delay).await
    }

    fn sees(&mut self, held: HolderInfo) {
        let queue = || self.core.queues.of(&self.order.key.shared());
        let looker = self.looker.get_or_insert_with(|| Looker::new(queue()));
        looker.saw(&held);
        self.held = Some(held);
    }

    fn delay(&mut self, seen: Seen) -> Duration {
        self.rounds += 1;
        let (core, policy) = (self.core, &self.order.policy);
        if policy.has_check_delay() {
            return core.check_delay(policy, self.rounds);
        }
        seen.next_look(self.patient, core.hints.check_delay, core.random.fraction())
    }

    async fn sleep(&self, delay: Duration) -> Result<(), Error> {
        let (core, key) = (self.core, &self.order.key);
        let now = core.clocks.elapsed();
        if !self.waits || now >= self.limit {
            return Err(
                wait_expired(core, key, now.since(self.started), self.held.as_ref())
                    .with_key(key.as_str())
                    .with_held(self.held.clone()),
            );
        }
        let due = async {
            core.clocks
                .sleep_until(now.plus(delay).min(self.limit))
                .await;
            let turn = core.poll_limit.take(core.clocks.elapsed());
            core.clocks.sleep_until(turn.min(self.limit)).await;
        };
        tokio::select! {
            biased;
            () = core.shut.cancelled() => Err(shut_down_while_waiting().with_key(key.as_str())),
            () = due => Ok(()),
        }
    }
}
