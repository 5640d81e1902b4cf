//! A wait in the queue of a key: as its leader by an acquisition, behind it by nothing at all.
//!
//! Invariants: the wait bound counts from the call, wherever in the queue it is spent; leaving, in any
//! way, leaves the queue with everything in order ([`queue`](crate::queue)).

use std::sync::Arc;
use std::time::Duration;

use crate::acquire::{Acquired, Order, Stop, UnderWay};
use crate::error::{Effect, Error, ErrorKind};
use crate::exchange::Core;
use crate::held::Held;
use crate::key::Key;
use crate::meter::Bill;
use crate::policy::Policy;
use crate::protocol::time::Elapsed;
use crate::protocol::write::Operation;
use crate::queue::{Next, Place};

/// Waits in the queue of the key; acquires it as its leader, or is given it by the one before. It has joined
/// when this returns.
pub(crate) fn wait_in_queue(
    core: &Arc<Core>,
    order: Order,
    started: Elapsed,
) -> impl Future<Output = Result<Acquired, Error>> {
    let queue = core.queues.of(&order.key.shared());
    let place = queue.join(&order.policy, order.data.as_ref(), started);
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
                next = place.next(core, limit) => next,
                answer = done(&mut under_way) => match answer? {
                    Some(acquired) => return Ok(acquired),
                    None => {
                        under_way = None;
                        continue;
                    }
                },
            };
            match next {
                Next::Lead(leading) => {
                    // Nothing new begins after a shutdown has.
                    if core.shut.is_cancelled() {
                        return Err(gave_up(core, &order, &place, started, Stop::CallerGone));
                    }
                    let begun = UnderWay::begin(core, order.clone(), started, Some(leading));
                    under_way = Some(Box::new(begun));
                }
                Next::Failed(error) => {
                    let error = error.into_error(Operation::Acquire, Some(order.key.as_str()));
                    let passed = core.clock.elapsed().since(started);
                    core.meter.wait(passed, &Bill::default());
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
                        let passed = core.clock.elapsed().since(started);
                        core.meter.wait(passed, &lease.bill());
                        return Ok(Acquired::Lease(lease));
                    }
                }
                Next::Over(stop) => return Err(gave_up(core, &order, &place, started, stop)),
            }
        }
    }
}

/// The end of a wait in the queue, without any request of its own under way.
fn gave_up(core: &Core, order: &Order, place: &Place, started: Elapsed, stop: Stop) -> Error {
    let passed = core.clock.elapsed().since(started);
    core.meter.wait(passed, &Bill::default());
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

pub(crate) fn shut_down_while_waiting() -> Error {
    Error::new(
        ErrorKind::ShutDown,
        "the client was shut down while this call waited",
    )
}

/// The error of a wait that ends because the store has failed for as long as it puts up with that.
pub(crate) fn store_failed(error: Error, policy: &Policy) -> Error {
    let most = policy.call_timeout();
    let hint = match error.hint() {
        Some(hint) => hint.to_owned(),
        None => "check the endpoint and the network".to_owned(),
    };
    error.with_hint(format!(
        "{hint}; a wait ends once the store has failed for `call_timeout` ({most:?}): acquire again in a loop, or raise it"
    ))
}

pub(crate) fn wait_expired(core: &Core, key: &Key, waited: Duration, held: Option<&Held>) -> Error {
    let store = core.store.describe();
    match held {
        Some(held) => Error::new(
            ErrorKind::WaitExpired,
            format!("gave up after {waited:.1?}: {held} ({store})"),
        )
        .with_hint(if held.is_ours() {
            "release the lease that this client has first, or wait longer where another task of it works under the lock"
        } else {
            "wait longer, or look at what the holder is doing"
        }),
        None => Error::new(
            ErrorKind::Unreachable,
            format!("cannot acquire `{key}`: {store} did not answer within {waited:.1?}"),
        )
        .with_hint("check the endpoint and the network, or allow for a longer wait"),
    }
}

/// The answer of the acquisition that is under way, if one is.
async fn done(under_way: &mut Option<Box<UnderWay>>) -> Result<Option<Acquired>, Error> {
    match under_way {
        Some(under_way) => under_way.done().await,
        None => std::future::pending().await,
    }
}
