//! The step from one guard of a grant to the next (`docs/protocol.md` section 9).
//!
//! Invariants: the old guard is over before the new one exists, both within the same deadline; never
//! after a fence, a loss or a shutdown; bounded by count and by the time that the process keeps the key.

use std::sync::Arc;

use leasehold_protocol::time::Elapsed;
use tokio::runtime::Handle;
use tracing::debug;

use super::task::{EndOnDrop, IN_FLIGHT, RenewalTask};
use crate::lease::end::{EndReason, ReleaseOutcome};
use crate::lease::guard::Undelivered;
use crate::lease::guard::{Finish, Finished, guard};
use crate::lease::state::{LeaseState, Terms};
use crate::policy::DropPolicy;
use crate::queue::{PATIENCE, Turns};
use crate::runtime::request::Mailbox;

/// How often a grant is handed off at most, where no other process is known to want the key: with 5 ms to the table
/// and holds of no length it makes twice as many turns as with 64. Below the 1023 for which the token has room.
const PASSES_ALONE: u16 = 256;
/// The same, where another process has had the key lately.
const PASSES_SHARED: u16 = 64;
/// A process keeps a key for at most so many of its longest check delays, and for half a lease, while others may wait.
const HOLD_LIMIT: u32 = 10;
/// Then it pauses for one check delay, but for no more than this part of the limit: nobody may be waiting.
const PAUSE: u32 = 8;

impl RenewalTask {
    /// Hands the grant on to the next who waits, if that wants just this grant: where the next guard is, and
    /// where it is heard. Otherwise gives back what is to be done with the grant.
    pub(super) async fn hand_off(
        &mut self,
        finish: Finish,
        started: Elapsed,
    ) -> Result<(Handle, Finished), Finish> {
        let released = matches!(
            finish,
            Finish::Release(_) | Finish::Dropped(DropPolicy::Release)
        );
        // Looked at again after a wait: the next waiter may have left.
        let ready =
            released && self.has_next() && self.has_enough_left(started).await && self.has_next();
        // From the mark on no condition check can be made for the old guard, and none was made before.
        if !ready || !self.lease_state.id.mark_handed_off() {
            return Err(finish);
        }
        // Over, before the next one begins.
        self.lease_state.lose(EndReason::Released);
        let next = LeaseState::new(
            self.core.leases.clone(),
            self.lease_state.id.next_pass(),
            &self.kept,
            Terms {
                policy: self.policy.clone(),
                data: self.lease_state.data.clone(),
                call_usage: Arc::default(),
            },
        );
        self.lease_state = Arc::new(next);
        self.end_on_drop = EndOnDrop(self.lease_state.clone());
        self.waiting = None;
        let (lease, finished) = guard(&self.lease_state);
        let data = self.lease_state.data.clone();
        let lease = Undelivered::new(lease);
        let given = self
            .holding
            .give(lease, &self.lease_state, &self.policy, data.as_ref());
        let runtime = match given {
            Ok(runtime) => runtime,
            Err(lease) => {
                // It has left in this moment: nobody has seen the new guard, and its grant is released.
                lease.unmake();
                return Err(finish);
            }
        };
        if runtime.id() != Handle::current().id() {
            // Answers to requests of this runtime may never come, if it ends: nobody waits for them.
            self.mailbox = Mailbox::new(IN_FLIGHT);
            self.unanswered = 0;
            self.schedule();
        }
        self.place = None;
        self.deliver_by = Some(self.core.clocks.elapsed().plus(PATIENCE));
        let next = &self.lease_state;
        self.core.meter.hand_off(&Some(next.call_usage.clone()));
        debug!(key = %next.id.key(), token = %next.id.token(), "handed off");
        if let Finish::Release(sender) = finish {
            drop(sender.send(Ok(ReleaseOutcome::HandedOff)));
        }
        Ok((runtime, finished))
    }

    /// Whether this grant may be handed off, and somebody wants it.
    pub(super) fn has_next(&mut self) -> bool {
        let core = self.core.clone();
        let now = core.clocks.reading();
        self.watch_the_deadline(now);
        self.policy.is_handing_off()
            && !core.shut.is_cancelled()
            && self.lease_state.id.token().pass() < self.most_passes()
            && self.lease_state.loss().is_none()
            && self.holding.has_next(
                &self.policy,
                self.lease_state.data.as_ref(),
                now.elapsed,
                self.turns().hold_limit,
            )
    }

    fn most_passes(&self) -> u16 {
        if self.holding.is_shared() {
            PASSES_SHARED
        } else {
            PASSES_ALONE
        }
    }

    /// How this process shares the key with others.
    pub(super) fn turns(&self) -> Turns {
        let (shortest, longest) = self.policy.check_delays(&self.core.hints);
        let hold_limit = (self.policy.lease_duration() / 2).min(longest.saturating_mul(HOLD_LIMIT));
        Turns {
            hold_limit,
            pause: longest.min(hold_limit / PAUSE),
            short_pause: shortest.min(hold_limit / PAUSE),
        }
    }

    /// Whether enough of the lease is left for another; renews it first if not.
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
