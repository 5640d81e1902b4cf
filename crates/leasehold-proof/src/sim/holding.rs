//! What a process does while it holds a lease: renewals, writes to the fenced register, and the end of it.

use std::time::Duration;

use leasehold::clock::Clock;
use leasehold::{EndReason, Lease, LeaseWatch};

use super::shape::{CALL_TIMEOUT, MILLI, Nanos, millis};
use super::workload::{REQUEST, Script, count};
use super::world::{Event, Notice};

impl Script {
    /// Works under a lease, and lets go of it in one way or another.
    pub(super) async fn hold(&mut self, lease: Lease) {
        let handed_on = lease.token().pass() > 0;
        let slot = self.has_slot(&lease);
        self.holds(true, handed_on, slot);
        self.work_under(&lease).await;
        let patience = self.patience();
        let settled = CALL_TIMEOUT + REQUEST * 2;
        // A crowd seldom detaches: nothing is handed on then.
        let way = if self.crowd && self.rng.chance(80) {
            self.rng.below(7)
        } else {
            self.rng.below(10)
        };
        match way {
            0..5 => {
                let call = self.timed("release", settled, lease.release());
                drop(self.perhaps(patience, call).await);
            }
            5..7 => drop(lease),
            _ => {
                let call = self.timed("detach", REQUEST * 4, lease.detach());
                if let Some(Ok(id)) = self.perhaps(patience, call).await {
                    self.world.lock().mail.push(id.to_string());
                }
            }
        }
        self.holds(false, handed_on, slot);
    }

    async fn work_under(&mut self, lease: &Lease) {
        let longest = if self.crowd && self.rng.chance(85) {
            250
        } else {
            self.lease_ms() * 3
        };
        let end = self.rng.within(0, longest);
        let end = self.clock.elapsed().plus(Duration::from_millis(end));
        while self.clock.elapsed() < end {
            let step = Duration::from_millis(self.rng.within(10, 1_500));
            tokio::select! {
                biased;
                _ = lease.lost() => {
                    // Some writers do not check their lease; the register checks the token.
                    let delay = self.rng.below(4_000) * MILLI;
                    self.write_register(&lease.watch(), delay);
                    return;
                }
                () = self.sleep(step) => {}
            }
            if lease.is_held() || self.rng.chance(20) {
                let delay = self.rng.below(1 + self.lease_ms()) * MILLI;
                self.write_register(&lease.watch(), delay);
            }
            if self.rng.chance(25) {
                let (patience, bound) = (self.patience(), self.lease_bound());
                let call = self.timed("renew", bound, lease.renew());
                drop(self.perhaps(patience, call).await);
            }
        }
    }

    /// `renew` ends within the lease; an adopted lease may be longer than ours.
    fn lease_bound(&self) -> Duration {
        self.locks.policy().lease_duration() * 2
    }

    fn has_slot(&self, lease: &Lease) -> bool {
        let service = &self.world.lock().service;
        let item = &service.items[service.index(lease.key())];
        let attempt = lease.id().attempt();
        let grant = item
            .grants
            .iter()
            .rfind(|grant| grant.attempt == Some(attempt));
        grant.is_some_and(|grant| grant.limit.is_some())
    }

    fn holds(&self, more: bool, handed_on: bool, slot: bool) {
        let process = &mut self.world.lock().processes[self.process];
        count(&mut process.holds, more);
        if handed_on {
            count(&mut process.handed_on, more);
        }
        if slot {
            count(&mut process.slots, more);
        }
    }

    pub(super) fn write_register(&self, signal: &LeaseWatch, delay: Nanos) {
        let id = signal.id();
        let token = id.token().stored();
        let mut world = self.world.lock();
        let index = world.service.index(id.key().as_str());
        let grants = &world.service.items[index].grants;
        let place = grants
            .iter()
            .rposition(|g| g.attempt == Some(id.attempt()) && g.token == token);
        let token = id.token().get();
        if let Some(place) = place {
            let at = world.now + delay;
            world.enter(
                at,
                Event::Register {
                    index,
                    place,
                    token,
                },
            );
        }
    }

    /// Tells the driver of a grant, and watches for its loss.
    #[expect(
        clippy::disallowed_methods,
        reason = "a task of the simulated process, which ends with it"
    )]
    pub(super) fn granted(&self, signal: &LeaseWatch, called: Nanos) {
        let id = signal.id().clone();
        let token = id.token().get();
        let left = signal.remaining();
        {
            let mut world = self.world.lock();
            world.acquisitions += 1;
            world.hand_offs += u64::from(id.token().pass() > 0);
            let place = world
                .service
                .show(id.key().as_str(), id.attempt(), id.token());
            let index = world.service.index(id.key().as_str());
            let grant = place.map(|place| world.service.items[index].grants[place].clone());
            let now = world.now;
            let numbers = [self.process as u64, token, place.unwrap_or(0) as u64];
            world.trace.note(now, "granted", numbers, || {
                format!("p{} got {} token {token}", self.process, id.key())
            });
            world.notices.push(Notice::Granted {
                process: self.process,
                place,
                grant,
                called,
                left,
                signal: signal.clone(),
            });
        }
        let (world, process, signal) = (self.world.clone(), self.process, signal.clone());
        let lead_ms = millis(self.locks.policy().safety_margin());
        drop(tokio::spawn(async move {
            let loss = signal.ended().await;
            let expired = matches!(loss, EndReason::Expired { .. });
            let mut world = world.lock();
            let now = world.now;
            world.hand_offs_lost += u64::from(expired && signal.id().token().pass() > 0);
            let numbers = [process as u64, token, u64::from(expired)];
            world.trace.note(now, "lost", numbers, || {
                format!("p{process} {}: {loss}", signal.id().key())
            });
            world.notices.push(Notice::Lost {
                attempt: signal.id().attempt(),
                token,
                expired,
                lead_ms,
                process,
            });
        }));
    }
}
