//! From a call to a lease: the dispatch of a call that tries, and of one that waits.
//!
//! `wait` waits in the queue, `acquisition` is one acquisition, `ask` sends its requests until one is granted, `grant`
//! makes a lease of it, `cleanup` gives back what nobody receives.

mod acquisition;
mod ask;
mod cleanup;
mod grant;
mod order;
mod wait;
mod within;

use std::future::ready;
use std::sync::Arc;

use tokio_util::either::Either;

use self::acquisition::UnderWay;
use self::order::shut_down_while_waiting;
use self::wait::wait_in_queue;
use self::within::{asked_within, is_within};
use crate::error::Error;
use crate::shared::Core;

pub use self::order::TryAcquireOutcome;
pub(crate) use self::order::{Adoption, Order, Patience, shut_down};
pub(crate) use self::within::Within;

/// Carries out an order. Dropping this future tells the acquisition that its caller has left. It is called
/// as it is awaited; a future around the two would keep the order twice, and there may be many waiters.
pub(crate) fn acquire(
    core: &Arc<Core>,
    order: Order,
) -> Result<impl Future<Output = Result<TryAcquireOutcome, Error>>, Error> {
    if core.shut.is_cancelled() {
        return Err(shut_down(order.key.as_str()));
    }
    core.check_clock(Some(order.key.as_str()))?;
    core.check_cleaning_up(order.key.as_str())?;
    if is_within(core, order.key.as_str()) {
        return Err(asked_within(order.key.as_str()));
    }
    let tries = order.patience == Patience::None;
    if tries
        && order.adopts.is_none()
        && let Some(held) = core.queues.holder(order.key.as_str())
    {
        // A guard of this client has it, as far as that knows: the store need not be asked.
        let held = TryAcquireOutcome::Held(held.describe());
        return Ok(Either::Left(ready(Ok(held))));
    }
    let started = core.clocks.elapsed();
    Ok(Either::Right(if tries {
        let mut under_way = UnderWay::begin(core, order, started, None);
        Either::Left(async move {
            let acquired = under_way.done().await?;
            acquired.ok_or_else(shut_down_while_waiting)
        })
    } else {
        Either::Right(wait_in_queue(core, order, started))
    }))
}
