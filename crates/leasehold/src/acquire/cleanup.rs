//! The clean-up of an acquisition that has ended: it releases grants that no caller receives, and
//! grants of requests that land later.
//!
//! It runs in the background, within these bounds: [`LATE_ANSWERS`] for late answers, two searches
//! for a grant, and [`CHANGES`] writes for each late answer that shows a grant or a place. Each search
//! and write has [`GIVE_BACK`] and [`TRIES`] requests; all but the first count in the client's retry budget. A
//! grant that is missed expires.

use std::time::Duration;

use tracing::{debug, warn};

use super::acquisition::Acquisition;
use super::step::{Asked, Seat};
use crate::error::Effect;
use crate::runtime::request::Answer;
use crate::shared::Retry;
use crate::store::{Consistency, Outcome, StoreError};
use leasehold_protocol::record::Record;
use leasehold_protocol::write::Write;

/// How long it waits for unanswered requests. A store ends its requests sooner: see the contract of
/// [`Store`](crate::store::Store).
const LATE_ANSWERS: Duration = Duration::from_secs(40);
/// How long one search or write is retried.
const GIVE_BACK: Duration = Duration::from_secs(10);
/// The most requests of one search or write.
const TRIES: u32 = 10;
/// The most writes that give back one grant or place, while the queue changes.
const CHANGES: u32 = 8;

impl Acquisition {
    /// Gives back what the acquisition has got or may have got: grants, and its place in the queue. Known
    /// ones at once, others when an answer shows them.
    pub(super) async fn clean_up(mut self) {
        if self.uncertain {
            self.search().await;
        } else if let Seat::Taken(index) = self.waiting.seat {
            self.leave(index).await;
        }
        let mut uncertain = false;
        while let Some((_, answer)) = self.late_answer().await {
            match answer.result {
                Ok(Outcome::Applied(Some(record)) | Outcome::Refused(Some(record))) => {
                    self.give_back(record, None).await;
                }
                Ok(Outcome::Applied(None)) => uncertain = true,
                Ok(Outcome::Refused(None)) => {}
                Err(error) => uncertain |= error.effect == Effect::Unknown,
            }
        }
        if uncertain || self.unanswered > 0 {
            self.search().await;
        }
    }

    /// The same beside a lease of this attempt: only grants with another token are released.
    pub(super) async fn clean_up_beside(mut self, leased: u64) {
        while let Some((_, answer)) = self.late_answer().await {
            if let Ok(Outcome::Applied(Some(record))) = answer.result {
                self.give_back(record, Some(leased)).await;
            }
        }
    }

    /// Gives up a place. A refusal shows where it is now, or that it has become a grant.
    async fn leave(&self, index: usize) {
        if let Some(leave) = self.attempt.leave(index) {
            self.give_back_by(|| leave.clone()).await;
        }
    }

    /// Sends a write that gives back what this attempt has. A refusal shows what is left of it.
    async fn give_back_by(&self, write: impl Fn() -> Write + Send + Sync) {
        if let Ok(Outcome::Refused(Some(record))) = self.write(write).await {
            self.give_back(record, None).await;
        }
    }

    /// The answer to a request in flight, within the bound of the clean-up.
    async fn late_answer(&mut self) -> Option<(Asked, Answer<Outcome>)> {
        if self.unanswered == 0 {
            return None;
        }
        let limit = self.core.clocks.elapsed().plus(LATE_ANSWERS);
        let clock = self.core.clocks.clone();
        let answer = tokio::select! {
            biased;
            answer = self.mailbox.next() => Some(answer),
            () = clock.sleep_until(limit) => None,
        }?;
        self.unanswered -= 1;
        Some(answer)
    }

    /// Reads the record after requests with an unknown effect, and releases a grant that is ours.
    async fn search(&self) {
        let key = self.order.key.shared();
        let timeout = self.order.policy.request_timeout();
        let call_usage = self.call_usage();
        let read = || {
            self.core
                .read(key.clone(), Consistency::Strong, timeout, &call_usage)
        };
        match self.insist(read).await {
            Ok(Some(record)) => self.give_back(record, None).await,
            Ok(None) => {}
            Err(error) if error.kind.is_retryable() => {
                debug!(%key, %error, "a possible grant of an ended call is not released: its lease expires");
            }
            // Without permission to read, release without a read.
            Err(_) => {
                let abandon = || {
                    let now = self.core.clocks.reading();
                    let attempt = &self.attempt;
                    self.core
                        .clocks
                        .with_service(|service| attempt.abandon(service, now))
                };
                self.give_back_by(abandon).await;
            }
        }
    }

    /// Ends our grant in a record, but for the one with the token `leased`, or gives up our place in its
    /// queue. A refusal shows the record as it is now: the queue has changed, or our place has become a
    /// grant.
    async fn give_back(&self, mut record: Record, leased: Option<u64>) {
        for _ in 0..CHANGES {
            if leased.is_some() && self.attempt.view(&record).token() == leased {
                return;
            }
            let now = self.core.clocks.reading();
            let attempt = &self.attempt;
            let clocks = &self.core.clocks;
            let ends = clocks.with_service(|service| attempt.give_back(&record, service, now));
            let Some(write) = ends.or_else(|| attempt.leave(record.place_of(attempt.id())?)) else {
                return;
            };
            let withdraws = matches!(write, Write::Withdraw { .. });
            let error = match self.write(|| write.clone()).await {
                // Its end may leave a place that has come late.
                Ok(Outcome::Refused(Some(changed)) | Outcome::Applied(Some(changed))) => {
                    record = changed;
                    continue;
                }
                Ok(_) => return,
                Err(error) => error,
            };
            debug!(key = %self.order.key, %error, "cannot give back what an ended call has got");
            if withdraws && !error.kind.is_retryable() {
                // Without permission to delete: a wrong token is better than a stuck key.
                warn!(key = %self.order.key, "a record with a wrong token could not be deleted and is released");
                self.release_late(record.token().unwrap_or(0)).await;
            }
            return;
        }
        debug!(key = %self.order.key, "the queue has changed each time: a place or grant of an ended call expires");
    }

    /// Releases a grant of this attempt by its token. A grant that is missed expires.
    async fn release_late(&self, token: u64) {
        let release = || {
            let now = self.core.clocks.reading();
            let attempt = &self.attempt;
            self.core
                .clocks
                .with_service(|service| attempt.release_late(token, service, now))
        };
        let _ = self.write(release).await;
    }

    async fn write(&self, write: impl Fn() -> Write + Send + Sync) -> Result<Outcome, StoreError> {
        let timeout = self.order.policy.request_timeout();
        let call_usage = self.call_usage();
        self.insist(|| {
            let now = self.core.clocks.reading();
            self.core.write_detached(write(), now, timeout, &call_usage)
        })
        .await
    }

    /// Sends a request until it is answered, within the bounds of the clean-up.
    async fn insist<T, F>(&self, send: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Answer<T>>,
    {
        let limit = self.core.clocks.elapsed().plus(GIVE_BACK);
        let mut retry = Retry::until(limit).at_most(TRIES);
        loop {
            let error = match send().await.result {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if !retry.again(&self.core, &error).await {
                return Err(error);
            }
        }
    }
}
