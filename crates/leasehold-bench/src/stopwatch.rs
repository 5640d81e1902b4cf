//! Real time: the only place of this crate that reads a clock or waits for one.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Measures from where it is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Stopwatch(now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// This instant.
pub(crate) fn now() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark measures real time, and needs the resolution"
    )]
    let now = Instant::now();
    now
}

/// Waits, in real time and to the millisecond.
pub(crate) async fn pause(by: Duration) {
    #[expect(
        clippy::disallowed_methods,
        reason = "other people's programs run in real time"
    )]
    let pause = tokio::time::sleep(by);
    pause.await;
}

/// The work's result, or an error after `limit`.
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = T> + Send) -> Result<T> {
    #[expect(
        clippy::disallowed_methods,
        reason = "other people's programs run in real time and must not run for ever"
    )]
    let bounded = tokio::time::timeout(limit, work);
    bounded
        .await
        .with_context(|| format!("not done after {limit:?}"))
}
