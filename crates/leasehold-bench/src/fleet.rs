//! Several drivers of one subject behind one counting proxy, and one job for all.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;

use crate::count::{Counted, Counts};
use crate::drive::monotonic_ns;
use crate::driver::{Driver, Job};
use crate::lineup::{Lineup, Subject};
use crate::turns::Turns;

/// Between giving a job and its beginning: all drivers must have read it.
const HEAD_START: Duration = Duration::from_millis(100);
/// Cycles of each task.
const WARM_UP: u32 = 30;
const WARM_UP_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) proxy: Counted,
    pub(crate) drivers: Vec<Driver>,
}

/// The result of a job.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) turns: Turns,
    /// Whether all was done in time.
    pub(crate) complete: bool,
    pub(crate) counts: Counts,
}

impl Fleet {
    /// Starts so many processes, with the service a round trip away.
    pub(crate) async fn start(
        lineup: &Lineup,
        subject: &Subject,
        round_trip: Duration,
        processes: usize,
    ) -> Result<Fleet> {
        let proxy = Counted::at(&lineup.endpoint, round_trip).await?;
        let starting = (0..processes).map(|_| async {
            let command = lineup.command(subject, proxy.url()).await?;
            Driver::start(&subject.label(), command).await
        });
        let drivers = try_join_all(starting).await?;
        // Requests at the creation of a client (does the table exist?) do not count.
        proxy.take()?;
        Ok(Fleet { proxy, drivers })
    }

    /// So many uncontended cycles of each of `tasks` in every driver, on keys of their own: connections are made, and
    /// compilers have run, where a service has run for a while. Nothing of it counts.
    pub(crate) async fn warm_up(&mut self, tasks: u32) -> Result<()> {
        for (process, driver) in self.drivers.iter_mut().enumerate() {
            let mut job = Job::new(
                &format!("warm-up/{}/{process}", self.proxy.url()),
                tasks,
                WARM_UP,
                Duration::ZERO,
            );
            job.keys = tasks;
            driver.begin(&job).await?;
        }
        let finishing = self
            .drivers
            .iter_mut()
            .map(|driver| driver.finish(WARM_UP_LIMIT));
        let done = try_join_all(finishing).await?.into_iter().all(|done| done);
        let failure = self
            .drivers
            .iter()
            .flat_map(Driver::turns)
            .find_map(|turn| turn.failure);
        ensure!(
            done && failure.is_none(),
            "free locks could not be acquired and released: {failure:?}"
        );
        self.proxy.take()?;
        Ok(())
    }

    /// Gives all drivers the same job, to begin at the same time, and waits for it.
    pub(crate) async fn run(&mut self, job: &Job, limit: Duration) -> Result<Outcome> {
        let mut job = job.clone();
        job.start_ns = monotonic_ns() + i64::try_from(HEAD_START.as_nanos())?;
        for driver in &mut self.drivers {
            driver.begin(&job).await?;
        }
        let limit = HEAD_START + limit;
        let finishing = self.drivers.iter_mut().map(|driver| driver.finish(limit));
        let complete = try_join_all(finishing).await?.into_iter().all(|done| done);
        let mut turns = Vec::new();
        for (process, driver) in self.drivers.iter().enumerate() {
            turns.extend(driver.turns().map(|mut turn| {
                turn.process = process;
                turn
            }));
        }
        let counts = self.proxy.take()?;
        Ok(Outcome {
            turns: Turns(turns),
            complete,
            counts,
        })
    }
}
