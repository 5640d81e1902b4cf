//! Waiters of one client, polled by hand.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Lab;
use leasehold::{CheckDelay, Error, Lease, LockClient, Policy, PolicyBuilder, ReleaseOutcome};

pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A lease of 20 s and polls up to a second apart.
pub(crate) fn policy() -> PolicyBuilder {
    Policy::builder().check_delay(CheckDelay::Backoff {
        first: ms(50),
        max: ms(1_000),
    })
}

pub(crate) fn client(lab: &Lab) -> LockClient {
    lab.client(policy().build().expect("adds up"))
}

pub(crate) type Waiting = Pin<Box<dyn Future<Output = Result<Lease, Error>> + Send>>;

/// A waiter that waits in the queue: it has been polled once.
pub(crate) fn waiter(locks: &LockClient, change: fn(PolicyBuilder) -> PolicyBuilder) -> Waiting {
    let locks = locks.clone();
    let mut waiting: Waiting = Box::pin(async move {
        let policy = change(locks.policy().to_builder()).build()?;
        locks.request("k")?.policy(policy).acquire().await
    });
    assert!(poll(&mut waiting).is_pending());
    waiting
}

pub(crate) fn same(policy: PolicyBuilder) -> PolicyBuilder {
    policy
}

pub(crate) fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Lets every other task run until all of them wait.
pub(crate) async fn settle(lab: &Lab) {
    lab.sleep(ms(1)).await;
}

pub(crate) async fn released(lease: Lease) -> ReleaseOutcome {
    lease.release().await.expect("works")
}

/// Drives several futures at once and gives their values in order.
pub(crate) async fn futures<F: Future + Unpin>(mut all: Vec<F>) -> Vec<F::Output> {
    let mut values: Vec<Option<F::Output>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, value) in all.iter_mut().zip(&mut values) {
            if value.is_none()
                && let Poll::Ready(done) = Pin::new(future).poll(context)
            {
                *value = Some(done);
            }
        }
        if values.iter().all(Option::is_some) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    values.into_iter().flatten().collect()
}
