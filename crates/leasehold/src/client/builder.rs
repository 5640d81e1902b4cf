//! The builder of a client.

use std::sync::Arc;

use super::LockClient;
use crate::clock::{Clock, Random};
use crate::policy::Policy;
use crate::runtime::poll_limit::PollLimit;
use crate::shared::Core;
use crate::store::Store;

/// Builds a [`LockClient`].
#[derive(Debug)]
pub struct LockClientBuilder {
    pub(super) store: Arc<dyn Store>,
    pub(super) policy: Policy,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) max_polls_per_second: Option<u32>,
}

impl LockClientBuilder {
    /// The client's policy. Default: [`Policy::default`].
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// The clocks. Default: the host's.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The randomness. Default: the operating system's.
    #[cfg(any(test, feature = "test-util"))]
    #[must_use]
    pub fn random(mut self, random: impl Random) -> Self {
        self.random = Arc::new(random);
        self
    }

    /// The most polls a second that all waits of this client send together, after a burst of one
    /// second's worth. At least 1. Default: 100 on DynamoDB, which costs at most $0.55 a day ($5.40
    /// with [`CheckDelay::ByAcquire`](crate::CheckDelay::ByAcquire)), and 2000 on SQLite and in memory.
    /// One waiter polls for each key that another process holds, however many tasks wait for it.
    /// Too small: keys stay free between two polls. Too large: a process that waits for thousands of
    /// keys uses up the table's capacity.
    #[must_use]
    pub fn max_polls_per_second(mut self, polls: u32) -> Self {
        self.max_polls_per_second = Some(polls);
        self
    }

    /// The client.
    pub fn build(self) -> LockClient {
        let hinted = self.store.hints().max_polls_per_second;
        let poll_limit = PollLimit::new(self.max_polls_per_second.unwrap_or(hinted));
        LockClient {
            core: Arc::new(Core::new(
                self.store,
                self.clock,
                self.random,
                self.policy,
                poll_limit,
            )),
            prefix: None,
        }
    }
}
