//! The time while the command runs under the lock: its end, signals, the loss of the lock, `--max-hold`,
//! Ctrl-Z.
//!
//! Invariant: when [`Watch::over`] returns, no process of the command is left, except with `--detach-ok`
//! or [`End::has_survivors`]. The policy reserves time after a loss for the grace and for KILL, before
//! another holder may begin. Nothing here waits for a reader of messages.

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use leasehold::clock::Elapsed;
use leasehold::clock::{Clock, SystemClock};
use leasehold::{EndReason, Key, LockClient};
use rustix::process::Signal;

use crate::args::OnLost;
use crate::exit_codes;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::plan::RunPlan;
use crate::process::{Change, Group, Remaining, Signals, Status, Stopped};
use crate::text::duration;
use crate::verbs::shared::locks::Locks;

/// How the command ended.
#[derive(Debug)]
pub(crate) enum End {
    /// It ended by itself.
    Finished {
        /// How it ended.
        status: Status,
        /// Whether time was left of the lease when we saw the end, so that it had the lock throughout.
        protected: bool,
        /// The loss, if it ran on without the lock (`--on-lost warn`).
        lost: Option<EndReason>,
    },
    /// The lock was lost, and we stopped it.
    Lost {
        /// Why.
        loss: EndReason,
        /// The result of the stop.
        stopped: Stopped,
    },
    /// It took too long, and we stopped it.
    MaxHold {
        /// The result of the stop.
        stopped: Stopped,
    },
    /// The guardian was killed, and we killed the command.
    Killed {
        /// The result of the stop.
        stopped: Stopped,
    },
}

impl End {
    /// Whether there are processes that could not be stopped.
    pub(crate) fn has_survivors(&self) -> bool {
        match self {
            End::Finished { .. } => false,
            End::Lost { stopped, .. } | End::MaxHold { stopped } | End::Killed { stopped } => {
                !stopped.survivors.is_empty()
            }
        }
    }
}

/// How long KILL may take at `--max-hold`, where the lock is still renewed.
const KILL_WAIT: Duration = Duration::from_secs(2);

/// How long left-over processes may take to end before a message.
const WORTH_A_MESSAGE: Duration = Duration::from_millis(300);

/// The pause before the second message, and the longest pause. Each pause is twice the one before.
const REMIND: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));

/// The time of the next message about left-over processes.
#[derive(Debug, Default)]
struct Reminder {
    at: Option<Elapsed>,
    pause: Duration,
}

impl Reminder {
    fn begin(&mut self) {
        self.at = Some(SystemClock.elapsed().plus(WORTH_A_MESSAGE));
    }

    /// Returns when a message is due. Cancel safe.
    async fn due(&mut self) {
        match self.at {
            Some(at) => SystemClock.sleep_until(at).await,
            None => pending().await,
        }
        self.pause = (self.pause * 2).clamp(REMIND.0, REMIND.1);
        self.at = Some(SystemClock.elapsed().plus(self.pause));
    }
}

fn stopped_late(status: Status) -> End {
    let stopped = Stopped {
        status: Some(status),
        survivors: Remaining::default(),
    };
    End::MaxHold { stopped }
}

/// A running command and its lock.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    pub(crate) plan: &'a RunPlan,
    pub(crate) messages: &'a Messages,
    pub(crate) client: &'a LockClient,
    pub(crate) locks: Locks<'a>,
    pub(crate) acquired: Elapsed,
}

impl Watch<'_> {
    /// Returns when the command has ended.
    pub(crate) async fn over(&self, group: &mut Group, signals: &mut Signals) -> End {
        let mut ran_on: Option<EndReason> = None;
        // `--max-hold` was reached, and a process outlived KILL.
        let mut overtime = false;
        let mut too_long = pin!(self.too_long());
        let mut reminder = Reminder::default();
        let (key, loss) = loop {
            let received = tokio::select! {
                // A command that has ended is not stopped, even if the lock was lost at the same time.
                biased;
                change = group.change() => {
                    match change {
                        Change::Gone(status) if overtime => return stopped_late(status),
                        Change::Gone(status) => return self.finished(status, ran_on),
                        Change::Left => reminder.begin(),
                        Change::WantsTerminal => self.wants_terminal(),
                    }
                    continue;
                }
                (key, loss) = self.locks.lost(), if ran_on.is_none() => {
                    if self.plan.on_lost == OnLost::Kill {
                        break (key, loss);
                    }
                    if group.finished_already().is_none() {
                        self.warn_of(key, &loss);
                        ran_on = Some(loss);
                    }
                    continue;
                }
                () = &mut too_long, if !overtime => {
                    if let Some(status) = group.finished_already() {
                        return self.finished(status, ran_on);
                    }
                    let stopped = self.stop_after_max_hold(group).await;
                    if stopped.survivors.is_empty() {
                        return End::MaxHold { stopped };
                    }
                    // The left-over processes still work under the lock, so the lock is kept.
                    overtime = true;
                    continue;
                }
                () = reminder.due() => {
                    self.remind(group);
                    continue;
                }
                received = signals.next() => received,
            };
            match received.signal {
                _ if received.suspends() => {
                    // Its CONT comes next, and is handled below.
                    self.messages.pause();
                    group.suspend(&received).await;
                }
                Signal::KILL => {
                    let stopped = self.kill_after_death(group).await;
                    return End::Killed { stopped };
                }
                Signal::CONT => {
                    // The stop may have lasted longer than the lease: check before the command goes on.
                    if !self.locks.are_held() && self.plan.on_lost == OnLost::Kill {
                        break self.locks.lost().await;
                    }
                    group.resume();
                }
                _ => group.forward(&received),
            }
        };
        // The end of the command may come first but be reported last, for example after a stop of this
        // process.
        if let Some(status) = group.finished_already() {
            return self.finished(status, ran_on);
        }
        let stopped = self.stop_after_loss(group, key, &loss).await;
        End::Lost { loss, stopped }
    }

    fn finished(&self, status: Status, lost: Option<EndReason>) -> End {
        End::Finished {
            status,
            protected: self.locks.are_held(),
            lost,
        }
    }

    async fn too_long(&self) {
        match self.plan.max_hold {
            Some(most) => SystemClock.sleep_until(self.acquired.plus(most)).await,
            None => pending().await,
        }
    }

    async fn stop_after_loss(&self, group: &mut Group, name: &Key, loss: &EndReason) -> Stopped {
        let store = self.client.describe_store();
        let failure = Failure::new(
            exit_codes::LOST,
            format!("lost the lock `{name}` ({store}), stopping the command: {loss}"),
        )
        .hint("have the protected resource check LEASEHOLD_TOKEN; a longer `--lease` survives longer failures and pauses");
        let then = format!("the next holder of `{name}` may begin beside them");
        self.stop(group, &failure, self.plan.kill_wait(), &then)
            .await
    }

    async fn stop_after_max_hold(&self, group: &mut Group) -> Stopped {
        let (name, store) = (&self.plan.lock.keys, self.client.describe_store());
        let most = self.plan.max_hold.map_or_else(String::new, duration::show);
        let failure = Failure::new(
            exit_codes::MAX_HOLD,
            format!("held the lock `{name}` ({store}) for {most}, stopping the command"),
        )
        .hint("raise `--max-hold` if it needs longer");
        let then = format!("`{name}` is kept until they are gone");
        self.stop(group, &failure, KILL_WAIT, &then).await
    }

    /// `leasehold` was killed: the sender of a KILL wants no grace.
    async fn kill_after_death(&self, group: &mut Group) -> Stopped {
        let (name, store) = (&self.plan.lock.keys, self.client.describe_store());
        let failure = Failure::new(
            exit_codes::OWN_FAILURE,
            format!("leasehold was killed: killing the command under the lock `{name}` ({store})"),
        )
        .hint("use TERM, which the command gets, too");
        self.messages.failure(&failure);
        let stopped = group.stop(Signal::KILL, Duration::ZERO, KILL_WAIT).await;
        let then = format!("the lease of `{name}` expires");
        self.warn_of_survivors(&failure, &stopped, &then);
        stopped
    }

    async fn stop(
        &self,
        group: &mut Group,
        failure: &Failure,
        kill_wait: Duration,
        then: &str,
    ) -> Stopped {
        // Into a queue: the stop does not wait for a reader.
        self.messages.failure(failure);
        let stopped = group
            .stop(self.plan.signal, self.plan.grace, kill_wait)
            .await;
        self.warn_of_survivors(failure, &stopped, then);
        stopped
    }

    fn warn_of_survivors(&self, failure: &Failure, stopped: &Stopped, then: &str) {
        if !stopped.survivors.is_empty() {
            let message = format!(
                "KILL did not end all processes of the command, {then}: {}",
                stopped.survivors
            );
            self.messages.failure(&Failure::new(failure.code, message).hint(
                "they hang in the kernel, or belong to another user, as under sudo: end them as that user",
            ));
        }
    }

    fn wants_terminal(&self) {
        let message = format!(
            "the command under `{}` is stopped: it needs the terminal, and was started in its background",
            self.plan.lock.keys
        );
        self.messages.note_failure(&Failure::new(exit_codes::OWN_FAILURE, message).hint(
            "start it in the foreground, or give it another standard input; the lock is kept meanwhile",
        ));
    }

    /// Names the processes that are still waited for after the end of the command.
    fn remind(&self, group: &Group) {
        let message = format!(
            "the command has ended, but processes that it started have not: `{}` is kept until they are gone: {}",
            self.plan.lock.keys,
            group.remaining()
        );
        self.messages
            .note_failure(&Failure::new(exit_codes::OWN_FAILURE, message).hint(
                "end them with TERM to leasehold or Ctrl-C; `--detach-ok` does not wait for them",
            ));
    }

    fn warn_of(&self, name: &Key, loss: &EndReason) {
        self.messages.note(format_args!(
            "lost the lock `{name}` ({}), the command runs on without it: {loss}",
            self.client.describe_store()
        ));
    }
}
