//! The calls of a client of FSharp.DynamoDbLock.

use std::time::Duration;

use leasehold::clock::Clock;
use leasehold::store::Reply;

use super::clock::ProcessClock;
use super::random::Rng;
use super::request::{Body, Value};
use super::service::{ForeignWrite, foreign_owner};
use super::shape::millis;
use super::wire::Wire;
use super::world::Notice;

/// One client of FSharp.DynamoDbLock at work: PutItem, DeleteItem, its own wall clock, no renewal.
pub(super) struct ForeignScript {
    pub(super) wire: Wire,
    pub(super) clock: ProcessClock,
    pub(super) rng: Rng,
}

impl ForeignScript {
    /// Works until the world ends.
    pub(super) async fn work(mut self) {
        let (world, process) = (self.wire.world.clone(), self.wire.process);
        loop {
            self.sleep(200, 2_500).await;
            let (keys, lease) = {
                let world = world.lock();
                (world.shape.keys as u64, millis(world.shape.lease))
            };
            let key = format!("k{}", self.rng.below(keys));
            let owner = self.rng.bits();
            let now_ms = self.clock.wall_unix_ms();
            let until_ms = now_ms + lease;
            let put = ForeignWrite::Put {
                key: key.clone(),
                owner: foreign_owner(owner),
                expires_ms: until_ms,
                now_ms,
            };
            if !self.ask(put).await {
                continue;
            }
            {
                let mut world = world.lock();
                world.acquisitions += 1;
                let index = world.service.index(&key);
                world.notices.push(Notice::ForeignHeld {
                    process,
                    index,
                    owner,
                    until_ms,
                });
                world.processes[process].holds += 1;
            }
            self.sleep(0, lease.unsigned_abs() * 3 / 2).await;
            world.lock().notices.push(Notice::ForeignDone { owner });
            world.lock().processes[process].holds -= 1;
            if self.rng.chance(70) {
                let owner = foreign_owner(owner);
                self.ask(ForeignWrite::Delete { key, owner }).await;
            }
        }
    }

    async fn sleep(&mut self, least_ms: u64, most_ms: u64) {
        let by = Duration::from_millis(self.rng.within(least_ms, most_ms));
        self.clock.sleep_until(self.clock.elapsed().plus(by)).await;
    }

    async fn ask(&self, write: ForeignWrite) -> bool {
        let answer = self.wire.ask(Body::Foreign(write)).await;
        matches!(
            answer,
            Ok(Reply {
                value: Value::Foreign(true),
                ..
            })
        )
    }
}
