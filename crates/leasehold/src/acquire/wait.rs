//! A wait in the queue of a key. The leader runs an acquisition; the other waiters only sleep.
//!
//! Invariants: the wait bound counts from the call, for leader and waiters alike. A waiter may leave
//! at any time, and the queue keeps its invariants ([`queue`](crate::queue)).

use std::sync::Arc;

use super::acquisition::UnderWay;
use super::order::{Order, TryAcquireOutcome, shut_down_while_waiting, store_failed, wait_expired};
use crate::error::{Effect, Error};
use crate::meter::CallUsage;
use crate::queue::{Next, Stop, Waiter};
use crate::shared::Core;
use leasehold_protocol::time::Elapsed;
use leasehold_protocol::write::Operation;

/// Waits in the queue of the key. The call acquires the key as leader, or gets it by a hand-off. It has
/// joined the queue when this returns.
pub(crate) fn wait_in_queue(
    core: &Arc<Core>,
    order: &Order,
    started: Elapsed,
) -> impl Future<Output = Result<TryAcquireOutcome, Error>> {
    let queue = core.queues.of(&order.queue());
    let place = Waiter::join(&queue, &order.policy, order.data.as_ref(), started);
    // Not an `async fn`, which would store its arguments twice.
    async move {
        // Boxed, since most waiters have none.
        let mut under_way: Option<Box<UnderWay>> = None;
        // Every round but the last ends with the leader's role or a guard, which other waiters give up.
        loop {
            let limit = match &under_way {
                None => Some(order.patience.limit(&order.policy, started)),
                Some(_) => None,
            };
            let next = tokio::select! {
                biased;
                next = place.next(&core.clocks, &core.shut, limit) => next,
                answer = done(&mut under_way) => match answer? {
                    Some(acquired) => return Ok(acquired),
                    None => {
                        under_way = None;
                        continue;
                    }
                },
            };
            match next {
                Next::Lead(leader) => {
                    // No acquisition begins after a shutdown has begun.
                    if core.shut.is_cancelled() {
                        return Err(gave_up(core, order, &place, started, Stop::CallerGone));
                    }
                    let begun = UnderWay::begin(core, order.clone(), started, Some(leader));
                    under_way = Some(Box::new(begun));
                }
                Next::Failed(error) => {
                    let error = error.into_error(Operation::Acquire, Some(order.key.as_str()));
                    let passed = core.clocks.elapsed().since(started);
                    core.meter.wait(passed, &CallUsage::default());
                    return Err(store_failed(error, &order.policy)
                        .with_effect(Effect::NotApplied)
                        .with_held(place.held())
                        .with_effort(place.requests(), passed));
                }
                Next::Given(lease) => {
                    // A grant of the running acquisition is released.
                    under_way = None;
                    // If no time is left (this task did not run), the guard is released and the wait goes on.
                    if let Some(lease) = lease.deliver_if_held() {
                        let passed = core.clocks.elapsed().since(started);
                        core.meter.wait(passed, &lease.call_usage());
                        return Ok(TryAcquireOutcome::Acquired(lease));
                    }
                }
                Next::Over(stop) => return Err(gave_up(core, order, &place, started, stop)),
            }
        }
    }
}

/// The error of a wait that ends without a request in flight.
fn gave_up(core: &Core, order: &Order, place: &Waiter, started: Elapsed, stop: Stop) -> Error {
    let passed = core.clocks.elapsed().since(started);
    core.meter.wait(passed, &CallUsage::default());
    let held = place.held();
    let error = match stop {
        Stop::CallerGone => shut_down_while_waiting(),
        Stop::Deadline => match place.trouble() {
            Some(error) => error.into_error(Operation::Acquire, Some(order.key.as_str())),
            None => wait_expired(core, &order.key, passed, held.as_ref()),
        },
    };
    error
        .with_key(order.key.as_str())
        .with_effect(Effect::NotApplied)
        .with_held(held)
        .with_effort(place.requests(), passed)
}

/// The answer of the running acquisition, if there is one.
async fn done(under_way: &mut Option<Box<UnderWay>>) -> Result<Option<TryAcquireOutcome>, Error> {
    match under_way {
        Some(under_way) => under_way.done().await,
        None => std::future::pending().await,
    }
}
