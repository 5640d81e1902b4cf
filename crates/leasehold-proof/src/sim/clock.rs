//! A process's clocks, as the library sees them.

use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use leasehold::clock::Clock;
use leasehold_protocol::time::{Elapsed, Reading};

use super::world::Shared;

/// The clocks of one process.
#[derive(Clone, Debug)]
pub(super) struct ProcessClock {
    pub(super) world: Shared,
    pub(super) process: usize,
}

#[async_trait]
impl Clock for ProcessClock {
    fn elapsed(&self) -> Elapsed {
        self.world.lock().elapsed(self.process)
    }

    fn wall_unix_ms(&self) -> i64 {
        self.world.lock().wall_ms(self.process)
    }

    /// At once: no process is paused between two instructions here.
    fn reading(&self) -> Reading {
        self.world.lock().reading(self.process)
    }

    async fn sleep_until(&self, at: Elapsed) {
        Sleep {
            clock: self,
            at,
            slot: None,
        }
        .await;
    }
}

/// A sleeper. Its timer goes with it.
struct Sleep<'a> {
    clock: &'a ProcessClock,
    at: Elapsed,
    slot: Option<usize>,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let process = self.clock.process;
        let mut world = self.clock.world.lock();
        match self.slot {
            Some(slot) => {
                if world.timer_fired(slot, context.waker()) {
                    return Poll::Ready(());
                }
            }
            None => {
                if world.elapsed(process) >= self.at {
                    return Poll::Ready(());
                }
                let slot = world.add_timer(process, self.at, context.waker().clone());
                drop(world);
                self.slot = Some(slot);
            }
        }
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            let waker = self.clock.world.lock().remove_timer(slot);
            // Outside of the lock: it may be the last handle of a task.
            drop(waker);
        }
    }
}
