//! From a call to a lease: the dispatch of a call that tries, and of one that waits.
//!
//! `wait` waits in the queue. `acquisition` is one acquisition. `ask` sends its requests, and
//! `turn` waits and polls between them.
//! `grant` makes a lease of a grant. `cleanup` releases a grant that no caller receives.

mod acquisition;
mod ask;
mod cleanup;
mod grant;
mod order;
mod step;
mod turn;
mod wait;
mod within;

use std::future::ready;
use std::sync::Arc;

use tokio_util::either::Either;

use self::acquisition::UnderWay;
use self::wait::wait_in_queue;
use self::within::{asked_within, is_within};
use crate::error::Error;
use crate::shared::Core;
use leasehold_protocol::lens::Want;

pub use self::order::TryAcquireOutcome;
pub(crate) use self::order::{
    Adoption, Order, Patience, shut_down, shut_down_while_waiting, wait_expired,
};
pub(crate) use self::within::Within;

/// Carries out an order. Dropping this future signals the acquisition that its caller has left. It
/// is no `async fn` and borrows the order, to keep many waiters small. Await it at once.
pub(crate) fn acquire(
    core: &Arc<Core>,
    order: &Order,
) -> impl Future<Output = Result<TryAcquireOutcome, Error>> + Send {
    if let Some(answer) = answer_at_once(core, order).transpose() {
        return Either::Left(ready(answer));
    }
    let started = core.clocks.elapsed();
    Either::Right(if order.patience == Patience::None {
        let mut under_way = UnderWay::begin(core, order.clone(), started, None);
        Either::Left(async move {
            let acquired = under_way.done().await?;
            acquired.ok_or_else(shut_down_while_waiting)
        })
    } else {
        Either::Right(wait_in_queue(core, order, started))
    })
}

/// Refuses a call that can do nothing for this key.
pub(crate) fn check(core: &Arc<Core>, key: &str) -> Result<(), Error> {
    if core.shut.is_cancelled() {
        return Err(shut_down(key));
    }
    core.check_clock(Some(key))?;
    core.check_cleaning_up(key)?;
    match is_within(core, key) {
        true => Err(asked_within(key)),
        false => Ok(()),
    }
}

/// The answer that needs neither the store nor a wait, if there is one.
fn answer_at_once(core: &Arc<Core>, order: &Order) -> Result<Option<TryAcquireOutcome>, Error> {
    let key = order.key.as_str();
    check(core, key)?;
    // A guard of this client holds the key, as far as the client knows.
    let tries =
        order.patience == Patience::None && order.adopts.is_none() && order.want == Want::Whole;
    let held = tries.then(|| core.queues.holder(key)).flatten();
    Ok(held.map(|held| TryAcquireOutcome::Held(held.describe())))
}
