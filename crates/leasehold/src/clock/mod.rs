//! Time and randomness, injected.
//!
//! The rest of the library reads clocks, sleeps and draws random bits only through [`Clock`] and `Random`. So tests
//! run in virtual time, and a simulation gives every process its own skew. Invariant: [`Clock::elapsed`] never goes
//! back and counts through suspend.

mod elapsed;
#[cfg(any(test, feature = "test-util"))]
mod manual;
mod random;
mod system;
#[cfg(any(test, feature = "test-util"))]
mod tokio;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

pub use leasehold_protocol::time::{Elapsed, Reading};

#[cfg(any(test, feature = "test-util"))]
pub use self::manual::ManualClock;
#[cfg(any(test, feature = "test-util"))]
pub use self::random::{OsRandom, Random};
#[cfg(not(any(test, feature = "test-util")))]
pub(crate) use self::random::{OsRandom, Random};
pub use self::system::SystemClock;
#[cfg(any(test, feature = "test-util"))]
pub use self::tokio::TokioClock;

/// A host's clocks. `sleep_until` is async by `async_trait`; implementations use it, too.
///
/// # Contract
///
/// `elapsed` is monotonic, also across suspend, with a rate error of at most
/// [`drift`](crate::PolicyBuilder::clock_bounds). `wall_unix_ms` may be arbitrarily wrong.
/// `sleep_until` returns at or after the given moment, and is cancel safe. It returns late only while
/// the host does not run.
#[async_trait]
pub trait Clock: Send + Sync + Debug + 'static {
    /// The elapsed clock.
    fn elapsed(&self) -> Elapsed;

    /// The wall clock, milliseconds since the Unix epoch.
    fn wall_unix_ms(&self) -> i64;

    /// Whether [`elapsed`](Clock::elapsed) is the host's own clock, as [`SystemClock`] reads it. On
    /// a store of the same host (SQLite) a lease then does not depend on the wall clock at all.
    fn is_of_host(&self) -> bool {
        false
    }

    /// Waits until the elapsed clock has reached `at`.
    async fn sleep_until(&self, at: Elapsed);

    /// Whether this clock can sleep here. A client calls it at the start of every call.
    ///
    /// # Errors
    ///
    /// When a sleep would panic or never end, with the problem and what to change. Default: never.
    fn check(&self) -> Result<(), ClockTrouble> {
        Ok(())
    }

    /// Both clocks. The wall clock is read first: a pause of the virtual machine between the two is
    /// then seen (holder rule 2).
    fn reading(&self) -> Reading {
        let wall_ms = self.wall_unix_ms();
        Reading {
            elapsed: self.elapsed(),
            wall_ms,
        }
    }
}

#[async_trait]
impl<T: Clock + ?Sized> Clock for Arc<T> {
    fn elapsed(&self) -> Elapsed {
        (**self).elapsed()
    }

    fn wall_unix_ms(&self) -> i64 {
        (**self).wall_unix_ms()
    }

    fn is_of_host(&self) -> bool {
        (**self).is_of_host()
    }

    async fn sleep_until(&self, at: Elapsed) {
        (**self).sleep_until(at).await;
    }

    fn check(&self) -> Result<(), ClockTrouble> {
        (**self).check()
    }

    fn reading(&self) -> Reading {
        (**self).reading()
    }
}

/// Why a [`Clock`] cannot sleep on this thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ClockTrouble {
    /// The problem.
    pub problem: &'static str,
    /// What to change.
    pub hint: &'static str,
}

impl ClockTrouble {
    /// A problem, and what to change.
    pub const fn new(problem: &'static str, hint: &'static str) -> Self {
        ClockTrouble { problem, hint }
    }
}
