//! A wait in the queue of a key: as its leader by an acquisition, behind it by nothing at all.
//!
//! Invariants: the wait bound counts from the call, wherever in the queue it is spent; leaving, in any
//! way, leaves the queue with everything in order ([`queue`](crate::queue)).

use std::sync::Arc;

use super::acquisition::UnderWay;
use super::order::{Order, TryAcquireOutcome, shut_down_while_waiting, store_failed, wait_expired};
use crate::error::{Effect, Error};
use crate::meter::CallUsage;
use crate::queue::{Next, Stop, Waiter};
use crate::shared::Core;
use leasehold_protocol::time::Elapsed;
use leasehold_protocol::write::Operation;

/// Waits in the queue of the key; acquires it as its leader, or is given it by the one before. It has joined
/// when this returns.
pub(crate) fn wait_in_queue(
    core: &Arc<Core>,
    order: &Order,
    started: Elapsed,
) -> impl Future<Output = Result<TryAcquireOutcome, Error>> {
    let queue = core.queues.of(&order.key.shared());
    let place = Waiter::join(&queue, &order.policy, order.data.as_ref(), started);
    // Not an `async fn`: that would keep its arguments twice.
    async move {
        // Boxed, since nearly all who wait have none.
        let mut under_way: Option<Box<UnderWay>> = None;
        // Every round but the last ends with a role or a guard that was given: bounded by what the others do.
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
                    // Nothing new begins after a shutdown has.
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
                    // What the acquisition under way turns out to get is given back.
                    under_way = None;
                    // Without time left (this task did not run for a while) it goes back, and the wait on.
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

/// The end of a wait in the queue, without any request of its own under way.
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

/// The answer of the acquisition that is under way, if one is.
async fn done(under_way: &mut Option<Box<UnderWay>>) -> Result<Option<TryAcquireOutcome>, Error> {
    match under_way {
        Some(under_way) => under_way.done().await,
        None => std::future::pending().await,
    }
}
