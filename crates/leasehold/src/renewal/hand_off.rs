//! The step from one guard of a grant to the next (`docs/protocol.md` section 9).
//!
//! Invariants: the old guard ends before the new one exists, both within the same deadline. No hand-off
//! follows a fence, a loss or a shutdown. Hand-offs are bounded by count, and while others are known to
//! wait in the queue of the record also by time.

use std::sync::Arc;
use std::time::Duration;

use leasehold_protocol::time::Elapsed;
use tokio::runtime::Handle;
use tracing::debug;

use super::task::{EndOnDrop, IN_FLIGHT, RenewalTask};
use crate::lease::end::{EndReason, ReleaseOutcome};
use crate::lease::guard::Undelivered;
use crate::lease::guard::{Finish, Finished, guard};
use crate::lease::state::{LeaseState, Terms};
use crate::policy::DropPolicy;
use crate::queue::PATIENCE;
use crate::runtime::request::Mailbox;

/// The most hand-offs of a grant, if nobody else is known to wait. With 5 ms to the table and empty
/// holds, this gives twice the throughput of 64. The token has bits for 1023.
const PASSES_ALONE: u16 = 256;
/// The most hand-offs after the first that found others in the queue of the record.
const PASSES_SHARED: u16 = 8;
/// No hand-off begins later than that after it.
const SHARED_FOR: Duration = Duration::from_secs(1);
/// While a grant is handed off, the queue of the record is looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl RenewalTask {
    /// Hands the grant off to the next waiter, if that asks for the same grant. Returns the runtime of the
    /// next guard and the receiver for its end, or else `finish`.
    pub(super) async fn hand_off(
        &mut self,
        finish: Finish,
        started: Elapsed,
    ) -> Result<(Handle, Finished), Finish> {
        let released = matches!(
            finish,
            Finish::Release(..) | Finish::Dropped(DropPolicy::Release)
        );
        // Checked again after the wait: the next waiter may have left.
        let ready =
            released && self.has_next() && self.has_enough_left(started).await && self.has_next();
        // After the mark no condition check for the old guard is possible, and none was made before.
        if !ready || !self.lease_state.id.mark_handed_off() {
            return Err(finish);
        }
        // The old guard ends before the next one begins.
        self.lease_state.lose(EndReason::Released);
        let next = LeaseState::new(
            self.core.leases.clone(),
            self.lease_state.id.next_pass(),
            &self.kept,
            Terms {
                policy: self.policy.clone(),
                data: self.lease_state.data(),
                // The waiter asks for the same payload, so it finds no other.
                previous: None,
                call_usage: Arc::default(),
            },
        );
        self.lease_state = Arc::new(next);
        self.end_on_drop = EndOnDrop(self.lease_state.clone());
        self.waiting = None;
        let (lease, finished) = guard(&self.lease_state);
        let data = self.lease_state.data();
        let lease = Undelivered::new(lease);
        let given = self
            .holding
            .give(lease, &self.lease_state, &self.policy, data.as_ref());
        let runtime = match given {
            Ok(runtime) => runtime,
            Err(lease) => {
                // The waiter has just left: no caller has seen the new guard, and the grant is released.
                lease.unmake();
                return Err(finish);
            }
        };
        if runtime.id() != Handle::current().id() {
            // If this runtime ends, answers to its requests may never come, so they are not awaited.
            self.mailbox = Mailbox::new(IN_FLIGHT);
            self.looks.clear();
            self.unanswered = 0;
            self.schedule();
        }
        self.look_between_guards(started);
        self.place = None;
        self.deliver_by = Some(self.core.clocks.elapsed().plus(PATIENCE));
        let next = &self.lease_state;
        self.core.meter.hand_off(&Some(next.call_usage.clone()));
        debug!(key = %next.id.key(), token = %next.id.token(), "handed off");
        if let Finish::Release(_, sender) = finish {
            drop(sender.send(Ok(ReleaseOutcome::HandedOff)));
        }
        Ok((runtime, finished))
    }

    /// Whether this grant may be handed off, and a waiter asks for it.
    pub(super) fn has_next(&mut self) -> bool {
        let core = self.core.clone();
        let now = core.clocks.reading();
        self.watch_the_deadline(now);
        self.policy.is_handing_off()
            && !core.shut.is_cancelled()
            && self.lease_state.loss().is_none()
            && self.has_turns_left(now.elapsed)
            && self
                .holding
                .has_next(&self.policy, self.lease_state.data().as_ref())
    }

    /// Whether this process may keep the key for another turn. It is bounded while others wait for it.
    fn has_turns_left(&mut self, now: Elapsed) -> bool {
        let pass = self.lease_state.id.token().pass();
        if self.kept.queue().is_empty() {
            self.others_since = None;
            return pass < PASSES_ALONE;
        }
        let (since, first) = *self.others_since.get_or_insert((now, pass));
        let last = first.saturating_add(PASSES_SHARED).min(PASSES_ALONE);
        pass < last && now.since(since) < SHARED_FOR.min(self.policy.lease_duration() / 2)
    }

    /// Looks at the queue of the record once in a while, without waiting for the answer.
    fn look_between_guards(&mut self, now: Elapsed) {
        if now.since(self.looked) >= LOOK_EVERY {
            self.look(now);
        }
    }

    /// Whether half of the lease is left for the next guard. If not, it renews the lease first.
    pub(super) async fn has_enough_left(&mut self, started: Elapsed) -> bool {
        let core = self.core.clone();
        let limit = self.renewals_until(started).min(self.lost_at());
        let mut sent = false;
        loop {
            let terms = self.kept.terms();
            let whole = terms
                .bounds
                .at_least(terms.lease)
                .saturating_sub(terms.safety_margin);
            let now = core.clocks.reading();
            self.watch_the_deadline(now);
            if self.lease_state.loss().is_some() {
                return false;
            }
            if self.lease_state.observe(now) >= whole / 2 {
                return true;
            }
            if !sent && self.unanswered < IN_FLIGHT {
                self.send_renewal();
                sent = true;
            }
            tokio::select! {
                biased;
                answer = self.mailbox.next() => self.take_answer(answer),
                () = core.clocks.sleep_until(limit) => return false,
            }
        }
    }
}
