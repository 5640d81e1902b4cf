//! Watching over the command while the lock is held: its end, signals, the loss of the lock, `--max-hold`, Ctrl-Z.
//!
//! Invariant: when [`Watch::over`] returns, nothing of the command is left, except what `--detach-ok` lets live and what
//! [`End::survivors`] counts. The policy has seen to it that after a loss there is time for the grace before anyone else may begin.

use std::future::pending;
use std::pin::pin;

use leasehold::clock::{Clock, SystemClock};
use leasehold::protocol::time::Elapsed;
use leasehold::{Lease, LockClient, Loss};
use rustix::process::Signal;

use crate::args::OnLost;
use crate::duration;
use crate::exit_codes;
use crate::failure::Failure;
use crate::plan::RunPlan;
use crate::process::{Group, Signals, Status, Stopped};
use crate::voice::Voice;

/// How the command came to its end.
#[derive(Debug)]
pub(super) enum End {
    /// By itself.
    Finished {
        /// How it ended.
        status: Status,
        /// There was time left of the lease when we saw it: it had the lock to the last.
        protected: bool,
        /// The loss, if it ran on without the lock (`--on-lost warn`).
        lost: Option<Loss>,
    },
    /// The lock was lost, and we stopped it.
    Lost {
        /// Why.
        loss: Loss,
        /// What came of it.
        stopped: Stopped,
    },
    /// It took too long, and we stopped it.
    MaxHold {
        /// What came of it.
        stopped: Stopped,
    },
}

impl End {
    /// Processes that could not be stopped.
    pub(super) fn survivors(&self) -> usize {
        match self {
            End::Finished { .. } => 0,
            End::Lost { stopped, .. } | End::MaxHold { stopped } => stopped.survivors,
        }
    }
}

/// Why the command is not left alone.
enum Stop {
    Lost(Loss),
    MaxHold,
}

/// What is watched.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    pub(super) plan: &'a RunPlan,
    pub(super) voice: &'a Voice,
    pub(super) client: &'a LockClient,
    pub(super) lease: &'a Lease,
    pub(super) acquired: Elapsed,
}

impl Watch<'_> {
    /// Returns when the command is gone.
    pub(super) async fn over(&self, group: &mut Group, signals: &mut Signals) -> End {
        let mut ran_on: Option<Loss> = None;
        let mut too_long = pin!(self.too_long());
        let stop = loop {
            let received = tokio::select! {
                // A command that has ended is not stopped, whatever else happened at the same time.
                biased;
                status = group.finished() => return self.finished(status, ran_on),
                loss = self.lease.lost(), if ran_on.is_none() => {
                    if self.plan.on_lost == OnLost::Kill {
                        break Stop::Lost(loss);
                    }
                    if group.finished_already().is_none() {
                        self.warn_of(&loss);
                        ran_on = Some(loss);
                    }
                    continue;
                }
                () = &mut too_long => break Stop::MaxHold,
                received = signals.next() => received,
            };
            match received.signal {
                Signal::TSTP => {
                    // Its CONT comes next, and is dealt with below.
                    group.suspend(&received).await;
                }
                Signal::CONT => {
                    // We may have been stopped for longer than the lease: look before the command goes on.
                    if !self.lease.is_held() && self.plan.on_lost == OnLost::Kill {
                        break Stop::Lost(self.lease.lost().await);
                    }
                    group.resume();
                }
                _ => group.forward(&received),
            }
        };
        // News of its end may come last though it was first, most of all when we were stopped ourselves.
        if let Some(status) = group.finished_already() {
            return self.finished(status, ran_on);
        }
        self.stop(group, stop).await
    }

    fn finished(&self, status: Status, lost: Option<Loss>) -> End {
        End::Finished {
            status,
            protected: self.lease.is_held(),
            lost,
        }
    }

    async fn too_long(&self) {
        match self.plan.max_hold {
            Some(most) => SystemClock.sleep_until(self.acquired.plus(most)).await,
            None => pending().await,
        }
    }

    async fn stop(&self, group: &mut Group, stop: Stop) -> End {
        let name = &self.plan.key;
        let store = self.client.describe_store();
        let failure = match &stop {
            Stop::Lost(loss) => Failure::new(
                exit_codes::LOST,
                format!("lost the lock `{name}` ({store}), stopping the command: {loss}"),
            )
            .hint("give what the lock protects LEASEHOLD_TOKEN to check; a longer `--lease` outlives longer failures and pauses"),
            Stop::MaxHold => Failure::new(
                exit_codes::MAX_HOLD,
                format!(
                    "held the lock `{name}` ({store}) for {}, stopping the command",
                    self.plan.max_hold.map_or_else(String::new, duration::show)
                ),
            )
            .hint("raise `--max-hold` if it needs longer"),
        };
        self.voice.failure(&failure);
        let stopped = group.stop(self.plan.signal, self.plan.grace).await;
        if stopped.survivors > 0 {
            self.voice.failure(&Failure::new(
                failure.code,
                format!(
                    "{} processes of the command could not be killed: they hang in the system, or are another user's",
                    stopped.survivors
                ),
            ));
        }
        match stop {
            Stop::Lost(loss) => End::Lost { loss, stopped },
            Stop::MaxHold => End::MaxHold { stopped },
        }
    }

    fn warn_of(&self, loss: &Loss) {
        self.voice.note(format_args!(
            "lost the lock `{}` ({}), the command runs on without it: {loss}",
            self.plan.key,
            self.client.describe_store()
        ));
    }
}
