//! The library's bounds of the service's clock, compared with the truth.
//!
//! Beside each process runs the library's own [`ServiceClock`], with the stamps that reach that process. Invariant of
//! `docs/protocol.md` section 3: `earliest <= service time <= latest`, at every answer and once a second. An error
//! here seldom causes an overlap in a random world, so it is checked directly.

use leasehold_protocol::slot_write::SlotWrite;
use leasehold_protocol::time::{Reading, ServiceTime, Stamp};
use leasehold_protocol::write::Write;

use super::world::{Still, World};

impl World {
    /// Both clocks of a process.
    pub(super) fn reading(&self, process: usize) -> Reading {
        Reading {
            elapsed: self.elapsed(process),
            wall_ms: self.wall_ms(process),
        }
    }

    /// The answer to a request reaches its process, which runs.
    pub(super) fn learn(&mut self, process: usize, stamp: Option<Stamp>, sent: Reading) {
        // What F# clients think of the time is their own affair.
        let foreign = self.shape.processes[process].foreign;
        let Some(stamp) = stamp.filter(|_| !foreign) else {
            return;
        };
        let received = self.reading(process);
        let clock = &mut self.processes[process].service_clock;
        clock.learn(stamp, sent, received);
        self.judge_bounds(process);
    }

    /// The published expiry of a grant or a renewal: at least a lease and the expiry padding after the service's clock.
    /// Before a first answer it depends on the wall clock, and after a machine pause on the last answer.
    pub(super) fn judge_expiry(&mut self, process: usize, write: &Write) {
        let (expires_at, lease) = match write {
            Write::Acquire(grant) | Write::TakeOver(grant, ..) => (grant.expires_at, grant.lease),
            Write::Renew {
                key,
                attempt,
                expires_at,
                ..
            } => {
                let item = &self.service.items[self.service.index(key)];
                let record = item.record.as_ref().filter(|record| attempt.owns(record));
                let Some(native) = record.and_then(|record| record.native) else {
                    return;
                };
                (*expires_at, native.lease)
            }
            Write::Slot(SlotWrite::Enter(entry)) => (entry.grant.expires_at, entry.grant.lease),
            Write::Slot(SlotWrite::Extend { slot, .. }) => (slot.expires_at, slot.lease),
            Write::Slot(SlotWrite::Claim(grant, _)) => (grant.expires_at, grant.lease),
            _ => return,
        };
        let time = ServiceTime(self.service.time_ms(self.now));
        let least = time.plus(lease).plus(self.shape.expiry_padding);
        // Checked last: it takes longest, and seldom decides.
        let known = || {
            let clock = &self.processes[process].service_clock;
            clock.latest_by_elapsed(self.elapsed(process)).is_some()
        };
        let promised = !self.shape.lawless && !self.shape.machine_pauses;
        if promised && expires_at < least && known() {
            let text = format!("p{process}: publishes {expires_at:?}, least {least:?}");
            self.service.violations.push(("section 3", text));
        }
    }

    /// Once a second, for all running processes.
    pub(super) fn judge_all_bounds(&mut self) {
        for process in 0..self.processes.len() {
            self.judge_bounds(process);
        }
    }

    fn judge_bounds(&mut self, process: usize) {
        let runs = self.processes[process].still == Still::Running;
        // Out of bounds nothing is promised.
        if self.shape.lawless || !runs {
            return;
        }
        let now = self.reading(process);
        let clock = &self.processes[process].service_clock;
        let (earliest, latest) = (clock.earliest(now.elapsed), clock.latest(now));
        let time_ms = self.service.time_ms(self.now);
        for (wrong, side, bound) in [
            (
                earliest.is_some_and(|t| t.0 > time_ms),
                "earliest",
                earliest,
            ),
            (latest.is_some_and(|t| t.0 < time_ms), "latest", latest),
        ] {
            if wrong {
                let text = format!("p{process}: {side} is {bound:?}, service time is {time_ms}");
                self.service.violations.push(("section 3", text));
            }
        }
    }
}
