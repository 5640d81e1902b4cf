//! What an acquisition gives back when it has ended: grants that nobody receives, and requests that
//! land after it. Runs in the background; bounded in time by `SETTLE` and the call time-out.

use std::time::Duration;

use tracing::{debug, warn};

use super::Acquisition;
use crate::error::Effect;
use crate::exchange::{Answer, RETRY_FIRST, RETRY_MAX};
use crate::protocol::attempt::Request;
use crate::protocol::write::Write;
use crate::store::Outcome;

/// How long unanswered requests are waited for in the background; a store ends its requests
/// sooner, see the contract of [`Store`](crate::store::Store).
const SETTLE: Duration = Duration::from_secs(40);
impl Acquisition {
    /// Takes back what may have been acquired after all, in the background: at once what is known,
    /// and whatever lands later when its answer comes. An orphan that still escapes ends with its own
    /// lease.
    pub(super) async fn settle(mut self) {
        if self.uncertain {
            self.give_back().await;
        }
        while let Some((request, answer)) = self.late_answer().await {
            let record = match answer.result {
                Ok(Outcome::Applied(Some(record))) => record,
                Ok(Outcome::Refused(Some(record))) if self.attempt.id().owns(&record) => record,
                Ok(Outcome::Refused(_)) => continue,
                Ok(Outcome::Applied(None)) => {
                    self.give_back().await;
                    continue;
                }
                Err(error) => {
                    if error.effect == Effect::Unknown {
                        self.give_back().await;
                    }
                    continue;
                }
            };
            let now = self.core.clock.reading();
            let granted = self
                .core
                .with_service(|service| self.attempt.applied(&request, &record, service, now));
            self.spoiled = granted.impossible_seed.then_some(granted);
            self.give_back().await;
        }
        if self.unanswered > 0 {
            self.give_back().await;
        }
    }

    /// The same beside a lease of this very attempt: only a grant with another token is released.
    pub(super) async fn settle_beside(mut self, leased: u64) {
        while let Some((_, answer)) = self.late_answer().await {
            let Ok(Outcome::Applied(Some(record))) = answer.result else {
                continue;
            };
            let Some(token) = record.token().filter(|token| *token != leased) else {
                continue;
            };
            debug!(key = %self.order.key, token, "a late request landed after its lease was over");
            let core = self.core.clone();
            let attempt = &self.attempt;
            self.insist(|| {
                let now = core.clock.reading();
                core.with_service(|service| attempt.release_late(token, service, now))
            })
            .await;
        }
    }

    /// The answer to a request that is still out, within the bound of settling.
    pub(super) async fn late_answer(&mut self) -> Option<(Request, Answer<Outcome>)> {
        if self.unanswered == 0 {
            return None;
        }
        let limit = self.core.clock.elapsed().plus(SETTLE);
        let clock = self.core.clock.clone();
        let answer = tokio::select! {
            biased;
            answer = self.inbox.next() => Some(answer),
            () = clock.sleep_until(limit) => None,
        }?;
        self.unanswered -= 1;
        Some(answer)
    }

    /// Withdraws a spoiled grant, and one that may be; releases any other by attempt id, whatever its
    /// token.
    pub(super) async fn give_back(&mut self) {
        if let Some(granted) = self.spoiled.take() {
            match self.insist(|| self.attempt.withdraw(&granted)).await {
                Some(Outcome::Applied(_)) => return,
                // Gone already; what is there may be a later grant of ours.
                Some(Outcome::Refused(_)) => {}
                // Not allowed to delete: a token that is off is better than a key that is stuck.
                None => {
                    warn!(key = %self.order.key, "a record with a wrong token could not be withdrawn, it is released");
                }
            }
        }
        let core = self.core.clone();
        let attempt = &self.attempt;
        // Before anything is released: a released record keeps its token, and it may be wrong.
        let unseen =
            core.with_service(|service| attempt.withdraw_unseen(service, core.clock.reading()));
        for write in unseen {
            if let Some(Outcome::Applied(_)) = self.insist(|| write.clone()).await {
                return;
            }
        }
        self.insist(|| {
            let now = core.clock.reading();
            core.with_service(|service| attempt.abandon(service, now))
        })
        .await;
    }

    /// Sends a write until it is answered. Bounded by the call time-out.
    pub(super) async fn insist(&self, write: impl Fn() -> Write) -> Option<Outcome> {
        let started = self.core.clock.elapsed();
        let limit = started.plus(self.order.policy.call_timeout());
        let mut tries = 0;
        loop {
            let now = self.core.clock.reading();
            let timeout = self.order.policy.request_timeout();
            let bill = self.bill();
            let answer = self.core.write_detached(write(), now, timeout, &bill).await;
            match answer.result {
                Ok(outcome) => return Some(outcome),
                Err(error) if !error.kind.is_retryable() => {
                    debug!(key = %self.order.key, %error, "cannot give back what was acquired");
                    return None;
                }
                Err(_) => {}
            }
            tries += 1;
            let next =
                self.core
                    .clock
                    .elapsed()
                    .plus(self.core.backoff(tries, RETRY_FIRST, RETRY_MAX));
            if next >= limit {
                return None;
            }
            self.core.clock.sleep_until(next).await;
        }
    }
}
