//! What an acquisition gives back when it has ended: grants that nobody receives, and requests that
//! land after it.
//!
//! Runs in the background. Bounds of one cleaning up: [`LATE_ANSWERS`] for late answers; twice a search for what may have
//! been granted, and one write for each late answer that shows a grant, each within [`GIVE_BACK`] and [`TRIES`]
//! requests, of which all but the first take a place in the client's retry budget. An orphan that still escapes ends
//! with its own lease.

use std::time::Duration;

use tracing::{debug, warn};

use super::acquisition::Acquisition;
use crate::error::Effect;
use crate::runtime::request::Answer;
use crate::shared::Retry;
use crate::store::{Consistency, Outcome, StoreError};
use leasehold_protocol::attempt::Request;
use leasehold_protocol::record::Record;
use leasehold_protocol::write::Write;

/// How long unanswered requests are waited for in the background; a store ends its requests
/// sooner, see the contract of [`Store`](crate::store::Store).
const LATE_ANSWERS: Duration = Duration::from_secs(40);
/// How long one thing is tried to be given back.
const GIVE_BACK: Duration = Duration::from_secs(10);
/// How often.
const TRIES: u32 = 10;

impl Acquisition {
    /// Takes back what may have been acquired after all: what is known at once, and what lands later when its answer
    /// comes.
    pub(super) async fn clean_up(mut self) {
        if self.uncertain {
            self.search().await;
        }
        let mut uncertain = false;
        while let Some((_, answer)) = self.late_answer().await {
            match answer.result {
                Ok(Outcome::Applied(Some(record)) | Outcome::Refused(Some(record))) => {
                    self.give_back(&record).await;
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

    /// The same beside a lease of this very attempt: only a grant with another token is released.
    pub(super) async fn clean_up_beside(mut self, leased: u64) {
        while let Some((_, answer)) = self.late_answer().await {
            let Ok(Outcome::Applied(Some(record))) = answer.result else {
                continue;
            };
            let Some(token) = record.token().filter(|token| *token != leased) else {
                continue;
            };
            debug!(key = %self.order.key, token, "a late request landed after its lease was over");
            self.release_late(token).await;
        }
    }

    /// The answer to a request that is still out, within the bound of cleaning up.
    async fn late_answer(&mut self) -> Option<(Request, Answer<Outcome>)> {
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

    /// Reads what became of requests whose effect is unknown, and gives back what is ours.
    async fn search(&self) {
        let key = self.order.key.shared();
        let timeout = self.order.policy.request_timeout();
        let call_usage = self.call_usage();
        let read = || {
            self.core
                .read(key.clone(), Consistency::Strong, timeout, &call_usage)
        };
        match self.insist(read).await {
            Ok(Some(record)) => self.give_back(&record).await,
            Ok(None) => {}
            Err(error) if error.kind.is_retryable() => {
                debug!(%key, %error, "what an acquisition may have got is left to end by itself");
            }
            // Not allowed to read: blindly, then.
            Err(_) => {
                let abandon = || {
                    let now = self.core.clocks.reading();
                    let attempt = &self.attempt;
                    self.core
                        .clocks
                        .with_service(|service| attempt.abandon(service, now))
                };
                let _ = self.write(abandon).await;
            }
        }
    }

    /// Gives back what a record shows to be ours.
    async fn give_back(&self, record: &Record) {
        let write = || {
            let now = self.core.clocks.reading();
            let attempt = &self.attempt;
            self.core
                .clocks
                .with_service(|service| attempt.give_back(record, service, now))
        };
        let Some(write) = write() else { return };
        let withdraws = matches!(write, Write::Withdraw { .. });
        let Err(error) = self.write(|| write.clone()).await else {
            return;
        };
        debug!(key = %self.order.key, %error, "cannot give back what was acquired");
        if withdraws && !error.kind.is_retryable() {
            // Not allowed to delete: a token that is off is better than a key that is stuck.
            warn!(key = %self.order.key, "a record with a wrong token could not be withdrawn, it is released");
            let token = record.token().unwrap_or(0);
            self.release_late(token).await;
        }
    }

    /// Releases a grant of this attempt by its token; an orphan that escapes ends with its lease.
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

    /// Sends a request until it is answered, within the bounds of cleaning up.
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
