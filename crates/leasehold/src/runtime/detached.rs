//! A future that outlives its caller.

use std::fmt::{self, Debug};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// A future that is never cancelled: its owner polls it, and a separate task does after the owner has
/// dropped it.
pub(crate) struct Detached<T: Send + 'static> {
    tasks: TaskTracker,
    work: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    /// The runtime that it began on. Its owner may drop it elsewhere.
    runtime: Handle,
    /// Makes `shutdown` wait for it, also while its owner polls it.
    tracked: TaskTrackerToken,
}

impl<T: Send + 'static> Detached<T> {
    pub(crate) fn new(tasks: &TaskTracker, work: impl Future<Output = T> + Send + 'static) -> Self {
        Detached {
            tasks: tasks.clone(),
            work: Some(Box::pin(work)),
            runtime: Handle::current(),
            tracked: tasks.token(),
        }
    }

    /// Moves it to a separate task, which passes its output to `then`.
    pub(super) fn detach(mut self, then: impl FnOnce(T) + Send + 'static) {
        if let Some(work) = self.work.take() {
            let task = async move { then(work.await) };
            self.tasks.spawn_on(task, &self.runtime);
        }
    }
}

impl<T: Send + 'static> Future for Detached<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        // Taken out, so that work that panics is not polled again.
        let Some(mut work) = self.work.take() else {
            return Poll::Pending;
        };
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Detached<T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            // The output is dropped: the drop of an undelivered lease releases it.
            let task = async move { drop(work.await) };
            self.tasks.spawn_on(task, &self.runtime);
        }
    }
}

impl<T: Send + 'static> Debug for Detached<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detached")
            .field("done", &self.work.is_none())
            .field("tracked", &self.tracked)
            .finish_non_exhaustive()
    }
}
