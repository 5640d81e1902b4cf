//! The end of a world: faults stop, all processes die, and a new process must get every key in time (L1, L2).

use std::time::Duration;

use leasehold::LockClient;
use leasehold::clock::Clock;
use leasehold_protocol::queue::{PLACES, Place};
use leasehold_protocol::record::Record;

use super::clock::ProcessClock;
use super::driver::Driver;
use super::host::Host;
use super::random::{ProcessRandom, Rng};
use super::shape::{CHECK_DELAY_MAX, Nanos, SECOND, Shape, millis};
use super::wire;
use super::world::Still;

impl Driver {
    /// Faults stop, and all processes are dead: a new process must get every key in time (L1, L2).
    pub(super) fn finale(&mut self, end: Nanos) -> anyhow::Result<()> {
        self.believers.clear();
        for host in &mut self.hosts {
            *host = None;
        }
        let (process, tasks, longest) = {
            let mut world = self.world.lock();
            let world = &mut *world;
            world.now = world.now.max(end);
            world.still();
            world.service.judge_next_life(world.now);
            self.runs = world.service.forget(world.now);
            world.service.turn = None;
            for process in &mut world.processes {
                process.still = Still::Dead;
                process.incarnation += 1;
            }
            // A process of ours, with sane clocks and no hurry.
            let mut newcomer = world.shape.processes[0].clone();
            newcomer.skew_ms = world.rng.around(500);
            newcomer.drift_ppm = world.rng.around(1_000);
            newcomer.foreign = false;
            world.shape.processes.push(newcomer);
            let process = world.processes.len();
            world.add_process(process);
            let shape = &world.shape;
            let slots = shape.slots.is_some() && world.rng.chance(50);
            let tasks: Vec<(String, Option<u32>, Duration)> = (0..shape.keys)
                .filter_map(|index| {
                    let record = world.service.items[index].record.as_ref();
                    let time_ms = world.service.time_ms(world.now);
                    let bound = longest_wait(shape, record, time_ms)?;
                    let limit = record
                        .and_then(|record| record.slots.as_ref())
                        .map(|s| s.limit);
                    Some((format!("k{index}"), limit.filter(|_| slots), bound))
                })
                .collect();
            // Where the service's hosts contradict each other by seconds, nothing is promised.
            let tasks = if world.shape.lawless {
                Vec::new()
            } else {
                tasks
            };
            world.finale_left = tasks.len();
            let bounds = tasks.iter().map(|(.., bound)| *bound);
            let longest = bounds.max().unwrap_or_default();
            (process, tasks, longest.as_nanos() as Nanos)
        };
        let host = Host::new()?;
        let clock = ProcessClock {
            world: self.world.clone(),
            process,
        };
        let policy = self.world.lock().shape.processes[process].policy.clone();
        let ids = Rng::new(self.seed, 9);
        let locks = LockClient::builder(wire::store(&self.world, process))
            .policy(policy)
            .clock(std::sync::Arc::new(clock.clone()))
            .random(std::sync::Arc::new(ProcessRandom::new(
                ids.clone(),
                Rng::new(self.seed, 10),
            )))
            .build();
        for (key, limit, bound) in tasks {
            let (world, clock, locks) = (self.world.clone(), clock.clone(), locks.clone());
            host.spawn(async move {
                let started = clock.elapsed();
                let call = match limit {
                    Some(limit) => locks.slots(&key, limit),
                    None => locks.request(&key),
                };
                let call = call.map(|request| request.wait(bound));
                let answer = match call {
                    Ok(request) => request.acquire().await,
                    Err(error) => Err(error),
                };
                world.lock().finale_left -= 1;
                match answer {
                    // It stays as it is: the world ends.
                    Ok(lease) => {
                        let passed = clock.elapsed().since(started);
                        let mut world = world.lock();
                        let numbers = [lease.token().stored(), 0, 0];
                        let now = world.now;
                        world
                            .trace
                            .note(now, "finale", numbers, || format!("{key} after {passed:?}"));
                        let (id, token) = (lease.id().attempt(), lease.token());
                        world.service.show(&key, id, token);
                        world.acquisitions += 1;
                    }
                    Err(error) => {
                        let text = format!("nobody could acquire {key} within {bound:?}: {error}");
                        world.lock().service.violations.push(("L2", text));
                    }
                }
            });
        }
        self.hosts.push(Some(host));
        self.run_process(process);
        let limit = end + 40 * SECOND + longest;
        while self.next_at() <= limit
            && self.violations.is_empty()
            && self.world.lock().finale_left > 0
        {
            self.step()?;
        }
        Ok(())
    }
}

/// L2: how long a new process may have to wait for a record whose holder is dead; `None`: for ever.
fn longest_wait(shape: &Shape, record: Option<&Record>, time_ms: i64) -> Option<Duration> {
    // A poll, the certain part of its backoff, some slow round trips, and old reads: a read that shows
    // the key free starts the observation again.
    let poll = CHECK_DELAY_MAX
        + CHECK_DELAY_MAX / 8
        + Duration::from_nanos(shape.latency) * 60
        + Duration::from_nanos(shape.staleness);
    let record = match record {
        Some(record) if record.owner.is_some() => record,
        Some(record) if record.slots.is_some() => {
            let held = record.held_slots().filter_map(|slot| slot.native);
            // A client sees the slot that ends first. It may watch one after the other, with the places before it.
            let claims: Duration = record.queue.iter().map(Place::claim).sum();
            let rest = claims + shape.expiry_padding + Duration::from_secs(1) + poll;
            let each = held.map(|slot| slot.lease + rest);
            return Some(each.sum::<Duration>() + claims + CHECK_DELAY_MAX * 9 + poll);
        }
        _ => return Some(poll),
    };
    match record.native {
        // By observation at the latest: the stored expiry may be far ahead.
        // Each place of its queue has its time first.
        Some(native) => {
            let claims: Duration = record.queue.iter().map(Place::claim).sum();
            // Without a place its delays are eight times as long, and the last poll may have to be repeated.
            let full = match record.queue.len() < PLACES {
                true => Duration::ZERO,
                false => CHECK_DELAY_MAX * 9,
            };
            Some(
                native.lease + claims + full + shape.expiry_padding + Duration::from_secs(1) + poll,
            )
        }
        None if shape.strict => None,
        None => {
            let left = record.expires_at.0 + millis(shape.expiry_padding) - time_ms;
            let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
            Some(left + Duration::from_millis(1_500) + poll)
        }
    }
}
