//! Judges the beliefs in grants after every step: S1, S6, S8, and losses.

use leasehold_protocol::attempt::AttemptId;

use super::shape::{MILLI, millis};
use super::world::Still;

use super::believer::{Believer, Kind, describe, same_grant, undisturbed};
use super::driver::Driver;
use super::slots::fit;

impl Driver {
    /// S6: where `lost` fires because time runs out, it leads the stored expiry by its lead.
    pub(super) fn lost(
        &mut self,
        attempt: AttemptId,
        token: u64,
        process: usize,
        lead_ms: Option<i64>,
    ) {
        let found = self.believers.iter().position(|b| {
            b.process == process
                && matches!(&b.kind, Kind::Ours { attempt: a, token: t, .. } if *a == attempt && *t == token)
        });
        let Some(found) = found else { return };
        let believer = self.believers.swap_remove(found);
        let (Some(lead_ms), Kind::Ours { place, .. }) = (lead_ms, &believer.kind) else {
            return;
        };
        let world = self.world.lock();
        let grant = &world.service.items[believer.index].grants[*place];
        // Without a `Date` the published expiry is a wall clock's; the lease bounds the belief.
        let expires_ms = if world.shape.dateless {
            grant.ends_ms
        } else {
            grant.ends_ms.min(grant.expires_ms)
        };
        let leads = world.service.time_ms(world.now) + lead_ms * 998 / 1_000 - 3 <= expires_ms;
        let promised = world.shape.promises().exclusion && !world.shape.machine_pauses;
        if !leads && promised && undisturbed(&world, process) {
            let text = format!(
                "p{process}: lost fired at {}, its grant's expiry is {expires_ms}, its lead {lead_ms} ms",
                world.service.time_ms(world.now)
            );
            drop(world);
            self.violations.push(("S6", text));
        }
    }

    /// S6 once a second: no live lease is over without its signal.
    pub(super) fn look(&mut self) {
        for believer in &mut self.believers {
            let Kind::Ours { signal, .. } = &believer.kind else {
                continue;
            };
            // Rule 4: a lost lease stays lost. One check may fall between two steps of a wall clock.
            let none_left = signal.remaining().is_zero();
            if believer.over > 1 && !none_left {
                let text = format!("p{}: {} is held again", believer.process, signal.id());
                self.violations.push(("rule 4", text));
            }
            believer.over = if none_left { believer.over + 1 } else { 0 };
            let over = none_left && undisturbed(&self.world.lock(), believer.process);
            believer.late = if over { believer.late + 1 } else { 0 };
            if believer.late == 4 {
                let text = format!(
                    "p{}: {} is over, and no signal",
                    believer.process,
                    signal.id()
                );
                self.violations.push(("S6", text));
            }
        }
    }

    /// The basis of S1: no holder believes in a grant past its expiry less the expiry padding, at which others may act.
    pub(super) fn judge_belief(&mut self) {
        for believer in &self.believers {
            let Kind::Ours { place, .. } = &believer.kind else {
                continue;
            };
            let (end_ms, time_ms, pad_ms) = {
                let world = self.world.lock();
                // Without a `Date` the lease bounds the belief, not the expiry.
                if !world.shape.promises().exclusion || world.shape.dateless {
                    return;
                }
                let grant = &world.service.items[believer.index].grants[*place];
                let time_ms = world.service.time_ms(world.now);
                (
                    grant.expires_ms,
                    time_ms,
                    millis(world.shape.expiry_padding),
                )
            };
            if time_ms > end_ms - pad_ms && self.believes(believer) {
                let text = format!(
                    "{} believes at {time_ms} in an expiry of {end_ms}, expiry_padding {pad_ms} ms",
                    describe(believer)
                );
                self.violations.push(("S1", text));
                return;
            }
        }
    }

    /// S1: of each key, at most one grant is believed in. S8: or as many slots as its limit says.
    pub(super) fn judge_exclusion(&mut self) {
        if self.believers.len() < 2 {
            return;
        }
        for (first, a) in self.believers.iter().enumerate() {
            let mut together = vec![];
            for b in &self.believers[first + 1..] {
                let known = |c: &&Believer| same_grant(b, c);
                if a.index != b.index || same_grant(a, b) || together.iter().any(known) {
                    continue;
                }
                if together.is_empty() && !self.believes(a) {
                    break;
                }
                if self.believes(b) {
                    together.push(b);
                }
            }
            together.push(a);
            let limits: Vec<Option<u32>> = together.iter().map(|b| b.limit()).collect();
            if fit(&limits) {
                continue;
            }
            let (promised, now) = {
                let world = self.world.lock();
                (world.shape.promises().exclusion, world.now)
            };
            if !promised {
                self.lawless_overlaps += 1;
                return;
            }
            // Not under the lock: describing a grant reads its clocks.
            let all: Vec<String> = together.iter().map(|b| describe(b)).collect();
            let text = format!(
                "k{} at {} ms: all of these believe in it: {}",
                a.index,
                now / MILLI,
                all.join(", ")
            );
            let slots = limits.iter().any(Option::is_some);
            self.violations
                .push((if slots { "S8" } else { "S1" }, text));
            return;
        }
    }

    pub(super) fn believes(&self, believer: &Believer) -> bool {
        let world = self.world.lock();
        let process = &world.processes[believer.process];
        let steps = !matches!(process.still, Still::Dead | Still::MachinePaused { .. });
        if !steps || process.incarnation != believer.incarnation {
            return false;
        }
        match &believer.kind {
            Kind::Foreign { owner, until_ms } => {
                !world.service.deposed.contains(owner)
                    && world.wall_ms(believer.process) <= *until_ms
            }
            Kind::Ours { signal, .. } => {
                drop(world);
                !signal.remaining().is_zero()
            }
        }
    }
}
